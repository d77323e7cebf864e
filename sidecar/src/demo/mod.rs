//! The demonstration: a page with two people, their tokens, and a button that changes a row.
//!
//! Mounted only when the setting `demo` is on, because it gives a token to whoever asks. The page's part of the
//! database is `demo.sql`; nothing that a visitor sends reaches SQL here.

mod assets;
mod guard;
mod sql;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tracing::warn;

use crate::{
    auth::{self, MintError, MintRequest},
    config::AuthSettings,
    postgres::{self, Database},
};

/// Short, so that the page shows how a client renews its token.
const TOKEN_TTL: Duration = Duration::from_secs(10 * 60);

/// Who is in the demo. Ada and Grace are members of `room:lobby` in `demo.sql`; Mallory is a member of nothing.
const PEOPLE: [&str; 3] = ["ada", "grace", "mallory"];

/// What the demo needs.
#[derive(Clone)]
pub struct DemoState {
    /// Where the demo's schema is.
    pub database: Arc<Database>,
    /// Holds the secret that signs the tokens.
    pub auth: AuthSettings,
    /// Origins beside numeric addresses and localhost that the page may be served at.
    pub origins: Arc<[String]>,
    /// How people get into the database with psql, such as `psql -h localhost shop`; shown on the page.
    pub psql: String,
}

/// `/`, and below `/demo/` what the page needs.
pub fn router(state: DemoState) -> Router {
    let origins = Arc::clone(&state.origins);
    Router::new()
        .route("/demo/token", get(token))
        .route("/demo/orders", get(orders))
        .route("/demo/change", post(change))
        .layer(middleware::from_fn(move |request, next| guard::own_page_only(Arc::clone(&origins), request, next)))
        .merge(assets::router(&state.psql))
        .with_state(state)
}

/// Why the demo cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("the people of the demo are ada, grace and mallory: ask for one of them")]
    NoSuchPerson,
    #[error("{0}")]
    Token(#[from] MintError),
    #[error("the demo is not in this database: run sidecar/src/demo/demo.sql in it")]
    NotInstalled,
    #[error("the database cannot be reached now: try again shortly")]
    Database,
}

impl From<postgres::Error> for DemoError {
    fn from(error: postgres::Error) -> Self {
        warn!(error = error.chain(), "the demo cannot use the database");
        if sql::is_not_installed(&error) { Self::NotInstalled } else { Self::Database }
    }
}

impl IntoResponse for DemoError {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::NoSuchPerson => (StatusCode::BAD_REQUEST, "NO_SUCH_PERSON"),
            Self::Token(_) => (StatusCode::SERVICE_UNAVAILABLE, "NO_SECRET"),
            Self::NotInstalled => (StatusCode::SERVICE_UNAVAILABLE, "NOT_INSTALLED"),
            Self::Database => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        };
        (status, Json(json!({ "error": self.to_string(), "code": code }))).into_response()
    }
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    person: String,
}

async fn token(State(state): State<DemoState>, Query(wanted): Query<Wanted>) -> Result<Response, DemoError> {
    let request = request(&wanted.person).ok_or(DemoError::NoSuchPerson)?;
    let token = auth::mint(&state.auth, request, SystemTime::now())?;
    Ok(Json(json!({ "token": token })).into_response())
}

fn request(person: &str) -> Option<MintRequest> {
    PEOPLE.contains(&person).then(|| MintRequest {
        sub: Some(person.to_owned()),
        role: "authenticated".to_owned(),
        ttl: TOKEN_TTL,
        claims: Vec::new(),
    })
}

async fn orders(State(state): State<DemoState>) -> Result<Json<Box<RawValue>>, DemoError> {
    Ok(Json(sql::board(&state.database).await?))
}

async fn change(State(state): State<DemoState>) -> Result<Json<serde_json::Value>, DemoError> {
    sql::next_step(&state.database).await?;
    Ok(Json(json!({ "changed": true })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_demos_people_get_a_token() {
        assert_eq!(request("ada").and_then(|it| it.sub).as_deref(), Some("ada"));
        for stranger in ["", "Ada", "ada ", "root"] {
            assert!(request(stranger).is_none(), "{stranger}");
        }
    }
}
