//! The admin address: metrics, and the life signs again for probes that only reach this side.

use std::sync::Arc;

use axum::{Router, extract::State, http::header::CONTENT_TYPE, middleware, response::IntoResponse, routing::get};

use super::{
    guard,
    public::{HttpState, life_signs, method_not_allowed, not_found},
};
use crate::metrics::Metrics;

/// `/metrics` and the life signs. No authentication: the address it is served at must not be public.
pub fn admin_router(metrics: Arc<Metrics>) -> Router {
    let state = HttpState { metrics: Arc::clone(&metrics), origins: Arc::from([]) };
    Router::new()
        .route("/metrics", get(page))
        .with_state(metrics)
        .merge(life_signs(state))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(guard::headers))
}

async fn page(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.encode())
}
