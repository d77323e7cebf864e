//! What requests bring: bodies, queries and ids, each refused with the rule that it breaks.

use std::time::Duration;

use axum::{
    body::to_bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header::CONTENT_TYPE, request::Parts},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Api, error::ApiError};

/// The largest body of this caller, in bytes.
#[derive(Clone, Copy)]
pub(super) struct BodyMax(pub(super) usize);

/// What a body can be read as.
pub(super) trait Input: DeserializeOwned {
    /// The code when it cannot.
    const CODE: &'static str;
}

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

/// What stands behind the `?`.
pub(super) struct Asked<T>(pub(super) T);

/// An id in the path.
pub(super) struct Id(pub(super) String);

impl<T: Input> FromRequest<Api> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::no_json());
        }
        // Callers are known before their bodies are read; whoever is not may send least.
        let bytes_max =
            request.extensions().get().map_or(api.services.limits.anonymous_frame_bytes_max, |BodyMax(max)| *max);
        let deadline = Duration::from_millis(api.services.timing.handshake_ms);
        let bytes = tokio::time::timeout(deadline, to_bytes(request.into_body(), bytes_max)).await;
        let bytes = bytes.map_err(|_| ApiError::too_slow())?.map_err(|_| ApiError::too_large(bytes_max))?;
        // Read as a list of its members, an object could be given without their names.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::refused(T::CODE, "the body is no JSON object"));
        }
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| ApiError::refused(T::CODE, format!("the body cannot be used: {error}")))
    }
}

impl<T: DeserializeOwned> FromRequestParts<Api> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let asked = Query::try_from_uri(&parts.uri);
        asked
            .map(|Query(asked)| Self(asked))
            .map_err(|error| ApiError::invalid(format!("the query cannot be used: {}", error.body_text())))
    }
}

impl FromRequestParts<Api> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let text = Path::<String>::from_request_parts(parts, api).await;
        uuid(&text.map(|Path(text)| text).unwrap_or_default()).map(Self)
    }
}

/// A uuid in the form that Postgres writes.
pub(super) fn uuid(text: &str) -> Result<String, ApiError> {
    let parsed = Uuid::try_parse(text).map(|uuid| uuid.hyphenated().to_string());
    parsed.map_err(|_| ApiError::invalid("an id is a uuid, such as 6f8c3c1e-9c5b-4f0e-8f5d-2f8f3c1e9c5b"))
}

/// Postgres stores no zero character.
pub(super) fn storable(what: &str, text: Option<&str>) -> Result<(), ApiError> {
    match text {
        Some(text) if text.contains('\0') => {
            Err(ApiError::invalid(format!("{what} holds a zero character: leave it out")))
        }
        _ => Ok(()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
