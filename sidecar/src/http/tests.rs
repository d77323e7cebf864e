//! The routes without a network.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
    routing::get,
};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{HttpState, admin_router, public_router};
use crate::metrics::Metrics;

fn router(metrics: &Arc<Metrics>, origins: &[&str]) -> Router {
    let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    let own = Router::new().route("/own", get(async || ([("content-security-policy", "default-src 'self'")], "own")));
    public_router(HttpState { metrics: Arc::clone(metrics), origins }, own)
}

async fn ask(router: Router, method: &str, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn json_of(metrics: &Arc<Metrics>, path: &str) -> (StatusCode, Value) {
    let (status, _, body) = ask(router(metrics, &[]), "GET", path, &[]).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn ping_and_health_answer_while_the_database_is_down() {
    let metrics = Arc::new(Metrics::new());
    let (status, _, body) = ask(router(&metrics, &[]), "GET", "/ping", &[]).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "pong"));
    let (status, body) = json_of(&metrics, "/health").await;
    assert_eq!((status, &body["status"], &body["database"]), (StatusCode::OK, &json!("degraded"), &json!("down")));
    assert_eq!(json_of(&metrics, "/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn ready_and_healthy_once_the_log_was_read() {
    let metrics = Arc::new(Metrics::new());
    metrics.database_up.set(1);
    metrics.caught_up.set(1);
    assert_eq!(json_of(&metrics, "/ready").await.0, StatusCode::OK);
    assert_eq!(json_of(&metrics, "/health").await.1["listener"], "down");
    metrics.listener_up.set(1);
    assert_eq!(json_of(&metrics, "/health").await.1["status"], "ok");
}

#[tokio::test]
async fn stats_are_two_numbers() {
    let metrics = Arc::new(Metrics::new());
    metrics.connections.set(3);
    metrics.channels.set(2);
    assert_eq!(json_of(&metrics, "/api/realtime/stats").await.1, json!({ "connections": 3, "channels": 2 }));
}

#[tokio::test]
async fn what_is_not_there_is_told_in_json() {
    let metrics = Arc::new(Metrics::new());
    for path in ["/", "/nope", "/realtime/x", "/metrics", "/%ff"] {
        let (status, body) = json_of(&metrics, path).await;
        assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")), "{path}");
    }
    let (status, _, body) = ask(router(&metrics, &[]), "POST", "/ping", &[]).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["code"], "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn every_answer_is_guarded_but_routes_may_know_better() {
    let metrics = Arc::new(Metrics::new());
    for path in ["/ping", "/health", "/nope", "/own"] {
        let (_, headers, _) = ask(router(&metrics, &[]), "GET", path, &[]).await;
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
    }
    let (_, headers, _) = ask(router(&metrics, &[]), "GET", "/own", &[]).await;
    assert_eq!(headers["content-security-policy"], "default-src 'self'");
    assert_eq!(headers.get_all("content-security-policy").iter().count(), 1);
}

#[tokio::test]
async fn only_listed_origins_may_read_answers() {
    let metrics = Arc::new(Metrics::new());
    let listed = "https://app.example";
    let origin_of = async |origin: &str, origins: &[&str]| {
        let (_, headers, _) = ask(router(&metrics, origins), "GET", "/health", &[("origin", origin)]).await;
        assert!(headers.get("access-control-allow-credentials").is_none());
        headers.get("access-control-allow-origin").map(|origin| origin.to_str().unwrap().to_owned())
    };
    assert_eq!(origin_of(listed, &[listed]).await.as_deref(), Some(listed));
    assert_eq!(origin_of("https://else", &["*"]).await.as_deref(), Some("https://else"));
    for stranger in [
        "https://app.example.evil",
        "https://evil.app.example",
        "http://app.example",
        "https://app.example:443",
        "https://APP.example",
        "https://app.example/",
        "null",
        "*",
        "",
    ] {
        assert_eq!(origin_of(stranger, &[listed]).await, None, "{stranger}");
    }
    assert_eq!(origin_of(listed, &[]).await, None);
}

#[tokio::test]
async fn preflights_are_answered_for_listed_origins_only() {
    let metrics = Arc::new(Metrics::new());
    let preflight = async |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        ask(router(&metrics, &["https://a"]), "OPTIONS", "/health", &headers).await
    };
    let (status, headers, _) = preflight("https://a").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    let (status, headers, _) = preflight("https://b").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(headers.get("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn metrics_are_at_the_admin_address() {
    let metrics = Arc::new(Metrics::new());
    let (status, headers, body) = ask(admin_router(Arc::clone(&metrics)), "GET", "/metrics", &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(body.contains("realtime_connections 0"));
    let (status, _, body) = ask(admin_router(metrics), "GET", "/ping", &[]).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "pong"));
}
