//! Who asks: a token or an API key, as for sockets; administrators by their role.

use std::{
    net::SocketAddr,
    time::{Instant, SystemTime},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
};

use super::{Api, error::ApiError, input::BodyMax};
use crate::{
    auth::AuthError,
    connection::frame_bytes_max,
    model::{Credential, Identity},
};

/// Header for API keys alone.
const API_KEY: &str = "x-api-key";

/// Somebody whom we know, or who may ask without being known.
pub(super) struct Caller(pub(super) Identity);

/// Somebody whose role is that of administrators.
pub(super) struct Administrator(pub(super) Identity);

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let identity = api.identify(&parts.headers).await?;
        api.count(&identity, parts)?;
        parts.extensions.insert(BodyMax(frame_bytes_max(&api.services.limits, &identity)));
        Ok(Self(identity))
    }
}

impl FromRequestParts<Api> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Caller(identity) = Caller::from_request_parts(parts, api).await?;
        match identity.credential {
            Credential::Nothing => Err(ApiError::unknown_caller()),
            _ if api.admin_role.as_deref() == Some(&*identity.role) => Ok(Self(identity)),
            _ => Err(ApiError::no_administrator()),
        }
    }
}

impl Api {
    async fn identify(&self, headers: &HeaderMap) -> Result<Identity, ApiError> {
        let identified = match headers.get(API_KEY) {
            Some(key) => self.services.authenticator.identify_api_key(key.to_str().unwrap_or_default()),
            None => self.services.authenticator.authenticate(bearer(headers)?, SystemTime::now()).await,
        };
        identified.map_err(|error| self.refuse(&error))
    }

    fn refuse(&self, error: &AuthError) -> ApiError {
        self.services.metrics.auth_failures.inc(error.label());
        ApiError::unauthenticated(error)
    }

    fn count(&self, identity: &Identity, parts: &Parts) -> Result<(), ApiError> {
        let Some(ConnectInfo(address)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
            return Ok(());
        };
        let counted = self.throttle.take(identity, address.ip(), Instant::now());
        counted.map_err(|wait| {
            self.services.metrics.limits_reached.inc("requests");
            ApiError::too_many(wait)
        })
    }
}

/// The bearer's token. Without the header there is none; another scheme is a mistake, not a caller without token.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let words = value.to_str().ok().and_then(|text| text.split_once(' '));
    let token = words.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    token.filter(|token| !token.is_empty()).map(Some).ok_or_else(ApiError::unknown_caller)
}
