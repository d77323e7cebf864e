//! `/api/realtime/channels`.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;

use super::{
    Api,
    caller::Administrator,
    document::{AdminAnswers, BodyAnswers},
    error::ApiError,
    input::{Body, Id, Input, storable},
};
use crate::{
    model::{ChannelName, ChannelRecord},
    postgres::admin::ChannelChange,
};

/// Channels in one answer.
const CHANNELS_MAX: i32 = 10_000;
/// Webhooks of one channel, and bytes of each address.
const URLS_MAX: usize = 20;
const URL_BYTES_MAX: usize = 2048;

/// A channel to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateChannel {
    /// Segments of letters, digits, `-` and `%`, joined by `:`; no `%` in the first one.
    #[schema(min_length = 1, max_length = 255, pattern = "^[A-Za-z0-9-]+(:[A-Za-z0-9%-]+)*$", example = "order:%")]
    pattern: String,
    /// What it is for.
    #[serde(default)]
    #[schema(pattern = "^[^\\x00]*$")]
    description: Option<String>,
    /// Where its messages are posted: http or https.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 20)]
    webhook_urls: Option<Vec<Address>>,
    /// Whether anybody may enter it.
    #[serde(default)]
    #[schema(default = true)]
    enabled: Option<bool>,
}

/// A channel's changes; what is missing or null stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateChannel {
    /// Segments of letters, digits, `-` and `%`, joined by `:`; no `%` in the first one.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255, pattern = "^[A-Za-z0-9-]+(:[A-Za-z0-9%-]+)*$")]
    pattern: Option<String>,
    /// What it is for.
    #[serde(default)]
    #[schema(pattern = "^[^\\x00]*$")]
    description: Option<String>,
    /// Where its messages are posted: http or https.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 20)]
    webhook_urls: Option<Vec<Address>>,
    /// Whether anybody may enter it.
    #[serde(default)]
    enabled: Option<bool>,
}

/// What was done.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {
    /// In words.
    pub(super) message: &'static str,
}

/// The address of a webhook.
#[derive(Debug, Deserialize)]
struct Address(String);

impl Input for CreateChannel {
    const CODE: &'static str = "REALTIME_INVALID_CHANNEL_REQUEST";
}

impl Input for UpdateChannel {
    const CODE: &'static str = "REALTIME_INVALID_CHANNEL_REQUEST";
}

/// Lists channels
///
/// With their webhooks, newest first; the newest 10,000.
#[utoipa::path(
    get, path = "/api/realtime/channels", tag = "channels", operation_id = "listChannels",
    responses((status = 200, description = "The channels", body = Vec<ChannelRecord>), AdminAnswers)
)]
pub(super) async fn list(State(api): State<Api>, _: Administrator) -> Result<Json<Vec<ChannelRecord>>, ApiError> {
    Ok(Json(api.admin().await?.channels(CHANNELS_MAX).await?))
}

/// Shows a channel
#[utoipa::path(
    get, path = "/api/realtime/channels/{id}", tag = "channels", operation_id = "getChannel",
    params(("id" = String, Path, format = Uuid, description = "The channel's id")),
    responses(
        (status = 200, description = "The channel", body = ChannelRecord),
        (status = 400, description = "The id is no uuid", body = super::error::ErrorBody),
        (status = 404, description = "There is no such channel", body = super::error::ErrorBody),
        AdminAnswers
    )
)]
pub(super) async fn show(
    State(api): State<Api>,
    _: Administrator,
    Id(id): Id,
) -> Result<Json<ChannelRecord>, ApiError> {
    api.admin().await?.channel(&id).await?.map(Json).ok_or_else(ApiError::no_channel)
}

/// Makes a channel
#[utoipa::path(
    post, path = "/api/realtime/channels", tag = "channels", operation_id = "createChannel",
    request_body = CreateChannel,
    responses(
        (status = 201, description = "The channel", body = ChannelRecord),
        (status = 409, description = "There is a channel with this pattern", body = super::error::ErrorBody),
        BodyAnswers, AdminAnswers
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    Administrator(who): Administrator,
    Body(wanted): Body<CreateChannel>,
) -> Result<(StatusCode, Json<ChannelRecord>), ApiError> {
    let change = change(None, wanted.description, wanted.webhook_urls, wanted.enabled)?;
    check_pattern(&wanted.pattern)?;
    let channel = api.admin().await?.create_channel(&wanted.pattern, &change).await?;
    info!(channel = channel.id, user = who.user.as_deref(), "an administrator made a channel");
    Ok((StatusCode::CREATED, Json(channel)))
}

/// Changes a channel
#[utoipa::path(
    put, path = "/api/realtime/channels/{id}", tag = "channels", operation_id = "updateChannel",
    params(("id" = String, Path, format = Uuid, description = "The channel's id")),
    request_body = UpdateChannel,
    responses(
        (status = 200, description = "The channel", body = ChannelRecord),
        (status = 404, description = "There is no such channel", body = super::error::ErrorBody),
        (status = 409, description = "Another channel has this pattern", body = super::error::ErrorBody),
        BodyAnswers, AdminAnswers
    )
)]
pub(super) async fn update(
    State(api): State<Api>,
    Administrator(who): Administrator,
    Id(id): Id,
    Body(wanted): Body<UpdateChannel>,
) -> Result<Json<ChannelRecord>, ApiError> {
    let change = change(wanted.pattern, wanted.description, wanted.webhook_urls, wanted.enabled)?;
    change.pattern.as_deref().map(check_pattern).transpose()?;
    let channel = api.admin().await?.update_channel(&id, &change).await?.ok_or_else(ApiError::no_channel)?;
    info!(channel = channel.id, user = who.user.as_deref(), "an administrator changed a channel");
    Ok(Json(channel))
}

/// Deletes a channel
///
/// Its messages stay, with a channelId of null.
#[utoipa::path(
    delete, path = "/api/realtime/channels/{id}", tag = "channels", operation_id = "deleteChannel",
    params(("id" = String, Path, format = Uuid, description = "The channel's id")),
    responses(
        (status = 200, description = "It is gone", body = Done),
        (status = 400, description = "The id is no uuid", body = super::error::ErrorBody),
        (status = 404, description = "There is no such channel", body = super::error::ErrorBody),
        AdminAnswers
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Administrator(who): Administrator,
    Id(id): Id,
) -> Result<Json<Done>, ApiError> {
    if !api.admin().await?.delete_channel(&id).await? {
        return Err(ApiError::no_channel());
    }
    info!(channel = id, user = who.user.as_deref(), "an administrator deleted a channel");
    Ok(Json(Done { message: "Channel deleted" }))
}

fn change(
    pattern: Option<String>,
    description: Option<String>,
    urls: Option<Vec<Address>>,
    enabled: Option<bool>,
) -> Result<ChannelChange, ApiError> {
    storable("description", description.as_deref())?;
    if urls.as_ref().is_some_and(|urls| urls.len() > URLS_MAX) {
        return Err(ApiError::refused(CreateChannel::CODE, format!("a channel has at most {URLS_MAX} webhookUrls")));
    }
    let webhook_urls = urls.map(|urls| urls.into_iter().map(Address::checked).collect()).transpose()?;
    Ok(ChannelChange { pattern, description, webhook_urls, enabled })
}

/// Segments joined by `:`. What SQL may write goes further; here patterns are kept to what every client can spell.
fn check_pattern(pattern: &str) -> Result<(), ApiError> {
    let is_segment = |(place, segment): (usize, &str)| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '%' && place > 0;
        !segment.is_empty() && segment.chars().all(is_allowed)
    };
    if pattern.len() <= ChannelName::BYTES_MAX && pattern.split(':').enumerate().all(is_segment) {
        return Ok(());
    }
    let text =
        "a pattern is segments of letters, digits, - and %, joined by :, without % in the first one, such as order:%";
    Err(ApiError::refused("REALTIME_INVALID_CHANNEL_PATTERN", text))
}

impl Address {
    /// Whether it may be called at all is found out when it is called: names change what they stand for.
    fn checked(self) -> Result<String, ApiError> {
        let is_http =
            reqwest::Url::parse(&self.0).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if is_http && self.0.len() <= URL_BYTES_MAX && !self.0.contains(char::is_control) {
            return Ok(self.0);
        }
        Err(ApiError::refused(CreateChannel::CODE, "webhookUrls are http or https addresses of at most 2048 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_segments_and_the_first_is_plain() {
        for pattern in ["orders", "order:%", "a-b:c:%", "order:%:x%", "A1:2"] {
            assert!(check_pattern(pattern).is_ok(), "{pattern}");
        }
        for pattern in ["", "%", "%:a", "a_b", "a:", ":a", "a::b", "a b", "a:b_c", "größe", "table:public.t"] {
            assert!(check_pattern(pattern).is_err(), "{pattern}");
        }
        assert!(check_pattern(&"a".repeat(255)).is_ok());
        assert!(check_pattern(&"a".repeat(256)).is_err());
    }

    #[test]
    fn webhooks_are_http_addresses() {
        let check = |text: &str| Address(text.to_owned()).checked().is_ok();
        assert!(check("https://example.com/hook?x=1") && check("http://127.0.0.1:8080"));
        for text in ["", "example.com", "ftp://example.com", "file:///etc/passwd", "https://", "javascript:alert(1)"] {
            assert!(!check(text), "{text}");
        }
    }
}
