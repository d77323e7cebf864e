//! The public keys of our own tokens, for everybody who verifies them.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{
        HeaderName,
        header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa::ToSchema;

use crate::{auth, config::AuthSettings};

/// How long others may keep the set. Who changes the key waits for as long before the old one goes.
const KEPT: &str = "public, max-age=300";
/// Nobody should remember that there was no key.
const NOT_KEPT: &str = "no-store";

/// A JSON Web Key Set (RFC 7517)
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes what is made where the key is")]
pub(super) struct KeySet {
    /// The key that signs our tokens; none when there is no such key.
    keys: Vec<PublicKey>,
}

/// A public key; which members it has depends on its kind
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes what is made where the key is")]
struct PublicKey {
    /// `RSA`, `EC` or `OKP`.
    kty: String,
    /// Its name, as tokens have it in their header.
    kid: String,
    /// `RS256`, `ES256` or `EdDSA`.
    alg: String,
    /// `sig`.
    r#use: String,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// `/.well-known/jwks.json` and `/api/.well-known/jwks.json`: the key set, empty without a signing key.
pub fn keys_router(settings: &AuthSettings) -> Router {
    let cache = if settings.signing_key.is_some() { KEPT } else { NOT_KEPT };
    let published = Published { set: auth::published(settings).into(), cache };
    let routes =
        Router::new().route("/.well-known/jwks.json", get(show)).route("/api/.well-known/jwks.json", get(show));
    routes.with_state(published)
}

/// The set, and how long it may be kept.
#[derive(Clone)]
pub(super) struct Published {
    set: Bytes,
    cache: &'static str,
}

/// Shows the public keys of tokens that this server signs
#[utoipa::path(
    get, path = "/api/.well-known/jwks.json", tag = "status", operation_id = "keys", security(()),
    responses((status = 200, description = "The keys", body = KeySet))
)]
pub(super) async fn show(State(published): State<Published>) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, published.cache),
        // Nothing here depends on who asks.
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    (headers, published.set).into_response()
}
