//! `/api/realtime/publish` and `/api/realtime/broadcast`: what a client's frame does, for those who hold no socket.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Api,
    caller::Caller,
    document::{BodyAnswers, CallerAnswers},
    error::{ApiError, ErrorBody},
    input::{Body, Input, storable},
};
use crate::{
    denials::What,
    model::{Channel, Identity},
    postgres::publish::publish_as,
};

/// What topics of some clients begin with.
const TOPIC_PREFIX: &str = "realtime:";

/// A message to be published.
#[derive(Deserialize, ToSchema)]
pub(super) struct Publish {
    /// The channel's name.
    #[schema(min_length = 1, max_length = 255, example = "order:42")]
    channel: String,
    /// The event's name.
    #[schema(min_length = 1, max_length = 255, example = "status_changed")]
    event: String,
    /// Any JSON.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
    /// A uuid of the caller's choice: the same again makes no second message.
    #[serde(default, alias = "messageId")]
    #[schema(format = Uuid)]
    message_id: Option<String>,
}

/// A message to be published on a topic.
#[derive(Deserialize, ToSchema)]
pub(super) struct Broadcast {
    /// The channel's name, with or without `realtime:` before it.
    #[schema(min_length = 1, max_length = 255, example = "realtime:order:42")]
    topic: String,
    /// The event's name.
    #[schema(min_length = 1, max_length = 255, example = "status_changed")]
    event: String,
    /// Any JSON.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
}

/// A message that was published.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Published {
    /// The message's id.
    #[schema(format = Uuid)]
    message_id: String,
    /// It had been published before, with the same id.
    duplicate: bool,
}

impl Input for Publish {
    const CODE: &'static str = "INVALID_INPUT";
}

impl Input for Broadcast {
    const CODE: &'static str = "INVALID_INPUT";
}

/// Publishes a message
///
/// As the bearer's role, under the INSERT policies of `realtime.messages`. Answered when it is committed.
#[utoipa::path(
    post, path = "/api/realtime/publish", tag = "publish", operation_id = "publish",
    request_body = Publish,
    responses(
        (status = 200, description = "It is committed", body = Published),
        (status = 403, description = "No such channel, or the role may not publish on it", body = ErrorBody),
        BodyAnswers, CallerAnswers
    )
)]
pub(super) async fn publish(
    State(api): State<Api>,
    Caller(identity): Caller,
    Body(it): Body<Publish>,
) -> Result<Json<Published>, ApiError> {
    let id = it.message_id.as_deref().map(super::input::uuid).transpose()?;
    api.publish(&identity, &it.channel, &it.event, &it.payload, id.as_deref()).await
}

/// Publishes a message on a topic
///
/// The same for clients that speak of topics.
#[utoipa::path(
    post, path = "/api/realtime/broadcast", tag = "publish", operation_id = "broadcast",
    request_body = Broadcast,
    responses(
        (status = 200, description = "It is committed", body = Published),
        (status = 403, description = "No such channel, or the role may not publish on it", body = ErrorBody),
        BodyAnswers, CallerAnswers
    )
)]
pub(super) async fn broadcast(
    State(api): State<Api>,
    Caller(identity): Caller,
    Body(it): Body<Broadcast>,
) -> Result<Json<Published>, ApiError> {
    let channel = it.topic.strip_prefix(TOPIC_PREFIX).unwrap_or(&it.topic);
    api.publish(&identity, channel, &it.event, &it.payload, None).await
}

impl Api {
    async fn publish(
        &self,
        identity: &Identity,
        channel: &str,
        event: &str,
        payload: &RawValue,
        message_id: Option<&str>,
    ) -> Result<Json<Published>, ApiError> {
        let channel = Channel::parse(channel).map_err(|error| ApiError::invalid(error.to_string()))?;
        let Channel::Messages(channel) = channel else {
            return Err(ApiError::invalid("nobody publishes to a table channel: change the table instead"));
        };
        storable("event", Some(event))?;
        let payload = payload.get();
        if payload.len() > self.services.limits.event_bytes_max {
            return Err(ApiError::too_large(self.services.limits.event_bytes_max));
        }
        let published = publish_as(&self.services.database, identity, &channel, event, payload, message_id).await;
        let outcome = match &published {
            Ok(it) if it.duplicate => "duplicate",
            Ok(_) => "ok",
            Err(_) => "refused",
        };
        self.services.metrics.publishes.inc(outcome);
        let published = published.map_err(|error| {
            if let Some(refusal) = error.refusal() {
                self.services.denied(identity, What::Publish, channel.as_str(), &refusal);
            }
            ApiError::from(error)
        })?;
        Ok(Json(Published { message_id: published.message_id, duplicate: published.duplicate }))
    }
}
