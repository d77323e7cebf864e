//! Why a request to a session is refused: the numbers and texts that clients know from the reference server.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::transport::admission::Full;

/// Why a request to a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("Transport unknown")]
    Transport,
    #[error("Session ID unknown")]
    Session,
    #[error("Bad handshake method")]
    Method,
    #[error("Bad request")]
    Request,
    #[error("pages of this origin may not connect: add it to the setting origins")]
    Origin,
    #[error("{0}")]
    Full(Full),
    #[error("the server is stopping: connect again")]
    Stopping,
    #[error("Unsupported protocol version")]
    Revision,
    #[error("a session has one request of a kind at a time: the session has ended, open another one")]
    Overlap,
    #[error("bodies are UTF-8 text and come whole: the session has ended, open another one")]
    Content,
    #[error("the body is too large: send smaller ones")]
    TooLarge,
    #[error("the body did not come in time: the session has ended, open another one")]
    TooSlow,
}

impl Refusal {
    /// One word for counters.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Session => "session",
            Self::Method => "method",
            Self::Request => "request",
            Self::Origin => "origin",
            Self::Full(full) => full.label(),
            Self::Stopping => "stopping",
            Self::Revision => "revision",
            Self::Overlap => "overlap",
            Self::Content => "content",
            Self::TooLarge => "payload_bytes",
            Self::TooSlow => "slow_body",
        }
    }

    /// The reference server's number.
    fn code(self) -> u8 {
        match self {
            Self::Transport => 0,
            Self::Session => 1,
            Self::Method => 2,
            Self::Request | Self::Overlap | Self::Content | Self::TooLarge | Self::TooSlow => 3,
            Self::Origin | Self::Full(_) | Self::Stopping => 4,
            Self::Revision => 5,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Full(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), Json(json!({ "code": self.code(), "message": self.to_string() }))).into_response()
    }
}
