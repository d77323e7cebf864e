//! `/api/realtime/config` and `/api/realtime/permissions`.

use axum::{Json, extract::State};
use serde::{Deserialize, Deserializer, Serialize};
use tracing::info;
use utoipa::ToSchema;

use super::{
    Api,
    caller::Administrator,
    channels::Done,
    document::{AdminAnswers, BodyAnswers},
    error::{ApiError, ErrorBody},
    input::{Body, Input},
};
use crate::{model::PolicyRecord, postgres::admin::AdminError};

/// A hundred years.
const DAYS_MAX: i32 = 36_500;

/// How long messages are kept.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    /// For how many days messages are kept, not shorter than the log; null: for ever.
    #[serde(deserialize_with = "there")]
    #[schema(required, minimum = 1, maximum = 36500)]
    retention_days: Option<i32>,
}

/// Who may subscribe and publish, as the policies say it.
#[derive(Serialize, ToSchema)]
pub(super) struct Permissions {
    /// Policies of `realtime.channels`.
    subscribe: Policies,
    /// Policies of `realtime.messages`.
    publish: Policies,
}

/// Some policies.
#[derive(Serialize, ToSchema)]
pub(super) struct Policies {
    /// In the order of their names.
    policies: Vec<PolicyRecord>,
}

impl Input for Settings {
    const CODE: &'static str = "INVALID_INPUT";
}

/// Null says something here, so leaving it out is a mistake.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    Option::deserialize(deserializer)
}

/// Shows the policies
#[utoipa::path(
    get, path = "/api/realtime/permissions", tag = "settings", operation_id = "getPermissions",
    responses((status = 200, description = "The policies", body = Permissions), AdminAnswers)
)]
pub(super) async fn permissions(State(api): State<Api>, _: Administrator) -> Result<Json<Permissions>, ApiError> {
    let policies = api.admin().await?.policies().await?;
    let (subscribe, publish) = policies.into_iter().partition(|policy| policy.table_name == "channels");
    Ok(Json(Permissions { subscribe: Policies { policies: subscribe }, publish: Policies { policies: publish } }))
}

/// Shows how long messages are kept
#[utoipa::path(
    get, path = "/api/realtime/config", tag = "settings", operation_id = "getConfig",
    responses((status = 200, description = "The retention", body = Settings), AdminAnswers)
)]
pub(super) async fn config(State(api): State<Api>, _: Administrator) -> Result<Json<Settings>, ApiError> {
    Ok(Json(Settings { retention_days: api.admin().await?.retention_days().await? }))
}

/// Changes how long messages are kept
#[utoipa::path(
    patch, path = "/api/realtime/config", tag = "settings", operation_id = "updateConfig",
    request_body = Settings,
    responses(
        (status = 200, description = "It holds", body = Done),
        (status = 409, description = "The log is kept for longer", body = ErrorBody),
        BodyAnswers, AdminAnswers
    )
)]
pub(super) async fn configure(
    State(api): State<Api>,
    Administrator(who): Administrator,
    Body(wanted): Body<Settings>,
) -> Result<Json<Done>, ApiError> {
    if wanted.retention_days.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
        return Err(ApiError::invalid("retentionDays is a number from 1 to 36500, or null to keep messages for ever"));
    }
    api.admin().await?.keep_messages(wanted.retention_days).await.map_err(|error| match error {
        AdminError::Invalid => {
            ApiError::conflict("retentionDays is shorter than the log is kept: lower the setting log_retention first")
        }
        error => error.into(),
    })?;
    info!(
        days = wanted.retention_days,
        user = who.user.as_deref(),
        "an administrator changed the retention of messages"
    );
    Ok(Json(Done { message: "Realtime config updated" }))
}
