//! The OpenAPI document, made of the routes' own types.

use utoipa::{
    IntoResponses, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::error::ErrorBody;

/// What every route may answer, whoever asks.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "the variants are descriptions")]
pub(super) enum CallerAnswers {
    /// The token or the key is missing or cannot be trusted
    #[response(status = 401)]
    Unauthenticated(ErrorBody),
    /// The path is not served with this method
    #[response(status = 405)]
    NoMethod(ErrorBody),
    /// Too many requests
    #[response(status = 429)]
    TooMany(ErrorBody),
    /// The database cannot be asked now
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// What routes of administrators may answer.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "the variants are descriptions")]
pub(super) enum AdminAnswers {
    /// The token or the key is missing or cannot be trusted
    #[response(status = 401)]
    Unauthenticated(ErrorBody),
    /// The caller is no administrator
    #[response(status = 403)]
    NoAdministrator(ErrorBody),
    /// The path is not served with this method
    #[response(status = 405)]
    NoMethod(ErrorBody),
    /// Too many requests
    #[response(status = 429)]
    TooMany(ErrorBody),
    /// The database cannot be asked now
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// What routes that take a body may answer.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "the variants are descriptions")]
pub(super) enum BodyAnswers {
    /// The path, the query or the body cannot be used
    #[response(status = 400)]
    Invalid(ErrorBody),
    /// The body was not sent in time
    #[response(status = 408)]
    TooSlow(ErrorBody),
    /// The body is too large
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// The body is not JSON
    #[response(status = 415)]
    NoJson(ErrorBody),
}

#[derive(OpenApi)]
#[openapi(
    info(title = "realtime", description = "Channels, messages and permissions of a sidecar, and publishing without a socket."),
    tags(
        (name = "channels", description = "Patterns of channels, for administrators"),
        (name = "messages", description = "Published messages, for administrators"),
        (name = "settings", description = "Policies and retention, for administrators"),
        (name = "publish", description = "Publishing, under the policies of the caller's role"),
        (name = "status", description = "For everybody"),
    ),
    paths(crate::http::public::stats, crate::http::keys::show),
    security(("token" = []), ("key" = []))
)]
struct Described;

/// The document without the routes.
pub(super) fn begin() -> Document {
    let mut document = Described::openapi();
    let schemes = &mut document.components.get_or_insert_default().security_schemes;
    schemes.insert("token".to_owned(), SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)).into());
    let header = ApiKeyValue::new("X-API-Key");
    schemes.insert("key".to_owned(), SecurityScheme::ApiKey(ApiKey::Header(header)).into());
    document
}
