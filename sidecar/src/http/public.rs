//! The public routes beside `/realtime`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{api::ApiError, guard};
use crate::metrics::Metrics;

/// What the routes know.
#[derive(Clone)]
pub struct HttpState {
    /// Counts, and whether the database answers.
    pub metrics: Arc<Metrics>,
    /// Origins whose pages may read the answers.
    pub origins: Arc<[String]>,
}

/// `/ping`, `/health`, `/ready` and `/api/realtime/stats` around the caller's own routes, and JSON for everything that
/// is not there. All get the same guard headers unless they set their own.
pub fn public_router(state: HttpState, own: Router) -> Router {
    let origins = Arc::clone(&state.origins);
    let stats = Router::new().route("/api/realtime/stats", get(stats)).with_state(state.clone());
    life_signs(state)
        .merge(stats)
        .merge(own)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(move |request, next| guard::cors(Arc::clone(&origins), request, next)))
        .layer(middleware::from_fn(guard::headers))
}

/// `/ping`, `/health` and `/ready`.
pub(super) fn life_signs(state: HttpState) -> Router {
    Router::new()
        .route("/ping", get(async || "pong"))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .with_state(state)
}

/// Always 200 while the process can answer: an outage of the database is told, not punished with a restart.
async fn health(State(state): State<HttpState>) -> Json<Value> {
    let metrics = &state.metrics;
    let (database, listener) = (metrics.database_up.get() == 1, metrics.listener_up.get() == 1);
    Json(json!({
        "status": if database && listener { "ok" } else { "degraded" },
        "database": up_or_down(database),
        "listener": up_or_down(listener),
        "mode": if metrics.worker_up.get() == 1 { "worker" } else { "poll" },
        "ready": metrics.is_ready(),
        "offset": metrics.cursor_offset.get(),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

async fn ready(State(state): State<HttpState>) -> impl IntoResponse {
    let ready = state.metrics.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "database": up_or_down(state.metrics.database_up.get() == 1) })))
}

/// What there is now.
#[derive(Serialize, ToSchema)]
pub(super) struct Counts {
    /// Open connections.
    #[schema(minimum = 0)]
    connections: i64,
    /// Channels with at least one subscriber.
    #[schema(minimum = 0)]
    channels: i64,
}

/// Counts connections and channels
#[utoipa::path(
    get, path = "/api/realtime/stats", tag = "status", operation_id = "stats", security(()),
    responses((status = 200, description = "The counts", body = Counts))
)]
pub(super) async fn stats(State(state): State<HttpState>) -> Json<Counts> {
    let metrics = &state.metrics;
    Json(Counts { connections: metrics.connections.get(), channels: metrics.channels.get() })
}

fn up_or_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

pub(super) async fn not_found(uri: Uri) -> Response {
    if is_api(&uri) {
        return ApiError::no_path().into_response();
    }
    // The path is not repeated: it may hold anything.
    let hint = if uri.path().starts_with("/realtime/") { "; the WebSocket is at /realtime" } else { "" };
    let body = json!({ "error": format!("there is nothing here{hint}"), "code": "NOT_FOUND" });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

pub(super) async fn method_not_allowed(uri: Uri) -> Response {
    if is_api(&uri) {
        return ApiError::no_method().into_response();
    }
    let body = json!({ "error": "this method is not served here; use GET", "code": "METHOD_NOT_ALLOWED" });
    (StatusCode::METHOD_NOT_ALLOWED, Json(body)).into_response()
}

/// Errors of the API have a form of their own.
fn is_api(uri: &Uri) -> bool {
    uri.path().starts_with("/api/")
}
