//! What callers are told when something was not done.

use std::{borrow::Cow, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tracing::warn;
use utoipa::ToSchema;

use crate::{
    auth::AuthError,
    postgres::{admin::AdminError, publish::PublishError},
};

/// Why a request was not served. The text is a sentence with a remedy, safe for the caller.
#[derive(Debug)]
pub(in crate::http) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    next_actions: Option<&'static str>,
    retry_after: Option<Duration>,
}

/// An error as it is sent.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// What programs decide by; the set is open.
    #[schema(example = "REALTIME_CHANNEL_NOT_FOUND")]
    error: &'static str,
    /// What people read.
    message: Cow<'static, str>,
    /// The status of the answer.
    status_code: u16,
    /// What may be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_actions: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), next_actions: None, retry_after: None }
    }

    fn next(mut self, actions: &'static str) -> Self {
        self.next_actions = Some(actions);
        self
    }

    fn again_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The path, the query or the body breaks a rule.
    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::refused("INVALID_INPUT", message)
    }

    /// The body breaks a rule that has a code of its own.
    pub(super) fn refused(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message).next("compare the request with /api/openapi.json")
    }

    /// Nobody has shown who they are.
    pub(super) fn unknown_caller() -> Self {
        let text = "this needs a token or an API key; give it in the Authorization header, or the key in X-API-Key";
        Self::new(StatusCode::UNAUTHORIZED, "AUTH_UNAUTHORIZED", text)
    }

    /// What was shown is good for nothing.
    pub(super) fn unauthenticated(error: &AuthError) -> Self {
        let code = match error {
            AuthError::Expired => "AUTH_TOKEN_EXPIRED",
            AuthError::Missing => return Self::unknown_caller(),
            AuthError::UnknownApiKey | AuthError::UnknownAnonymousKey => "AUTH_INVALID_API_KEY",
            _ => "AUTH_INVALID_CREDENTIALS",
        };
        Self::new(StatusCode::UNAUTHORIZED, code, error.to_string())
    }

    /// The caller is no administrator.
    pub(super) fn no_administrator() -> Self {
        let text = "this is for administrators: use a token whose role is auth.admin_role, or an API key of that role";
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", text)
    }

    /// It does not fit what there is.
    pub(super) fn conflict(message: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    /// No channel has this id.
    pub(super) fn no_channel() -> Self {
        let text = "there is no channel with this id: look for it in /api/realtime/channels";
        Self::new(StatusCode::NOT_FOUND, "REALTIME_CHANNEL_NOT_FOUND", text)
    }

    /// There is nothing at this path.
    pub(in crate::http) fn no_path() -> Self {
        let text = "there is nothing here: /api/openapi.json lists what there is";
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", text)
    }

    /// The path is there, but not with this method.
    pub(in crate::http) fn no_method() -> Self {
        let text = "this method is not served here: the header Allow names those that are";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", text)
    }

    /// The body took too long.
    pub(super) fn too_slow() -> Self {
        let text = "the body was not sent in time: send it at once";
        Self::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", text)
    }

    /// The body is too large.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        let text = format!("the body is larger than {bytes_max} bytes: send a reference instead of the content");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", text)
    }

    /// The body is not JSON.
    pub(super) fn no_json() -> Self {
        let text = "bodies are JSON: send it with the header Content-Type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", text)
    }

    /// The caller asks too often.
    pub(super) fn too_many(wait: Duration) -> Self {
        let text = "too many requests: wait as long as the header Retry-After says";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", text).again_after(wait)
    }

    /// Nobody can say, now.
    pub(super) fn unavailable(message: &'static str) -> Self {
        const RETRY: Duration = Duration::from_secs(1);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message).again_after(RETRY)
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Duplicate => {
                let text = "there is a channel with this pattern already: change that one";
                Self::new(StatusCode::CONFLICT, "ALREADY_EXISTS", text)
            }
            AdminError::Invalid => Self::invalid("the database does not accept these values"),
            AdminError::TooLarge => {
                Self::invalid("these messages are too large for one answer: ask for fewer with limit")
            }
            AdminError::Unavailable(cause) => {
                warn!(error = cause.chain(), "a request of the API could not be served");
                Self::unavailable("the database cannot be asked now: try again shortly")
            }
        }
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Forbidden(_) => {
                let text = "no such channel, or your role may not publish on it: check its name and policies";
                Self::new(StatusCode::FORBIDDEN, "REALTIME_UNAUTHORIZED", text)
            }
            PublishError::BadName => Self::refused(
                "REALTIME_INVALID_EVENT",
                "the channel or event name is not accepted: both have 1 to 255 bytes",
            ),
            PublishError::BadPayload => {
                Self::invalid("the payload cannot be stored: Postgres accepts neither \\u0000 nor lone surrogates")
            }
            PublishError::TooLarge => {
                let text = "the payload is larger than an event may be: send a reference instead of the content";
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", text)
            }
            PublishError::BadId => Self::invalid("message_id names another message: make a new uuid for each"),
            PublishError::Failed(cause) => {
                warn!(error = cause.chain(), "a policy or trigger failed: message not published");
                let text = "a policy or trigger on realtime.messages failed: ask the owner of the database";
                Self::new(StatusCode::FORBIDDEN, "REALTIME_UNAUTHORIZED", text)
            }
            PublishError::Unavailable(cause) => {
                warn!(error = cause.chain(), "a message could not be published");
                Self::unavailable("the database cannot be asked now: try again shortly, with the same message_id")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: self.code,
            message: self.message,
            status_code: self.status.as_u16(),
            next_actions: self.next_actions,
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds as u64));
        }
        response
    }
}
