//! Who may ask for tokens: the page that this server delivered, and programs of people who can reach it.

use std::sync::Arc;

use axum::{
    Json,
    extract::Request,
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{HOST, ORIGIN},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::transport::is_allowed_origin;

/// Refuses what another site's page makes a browser ask.
pub(super) async fn own_page_only(origins: Arc<[String]>, request: Request, next: Next) -> Response {
    if is_own(request.headers(), &origins) {
        return next.run(request).await;
    }
    let error = "the demo is for its own page, under a numeric address, localhost or one of the setting origins";
    (StatusCode::FORBIDDEN, Json(json!({ "error": error, "code": "ORIGIN" }))).into_response()
}

/// A name may be anybody's, made to point here, so the name that was asked must be trusted too; and `*`, which lets
/// every page connect with a token of its own, does not let every page have one of ours.
fn is_own(headers: &HeaderMap, origins: &[String]) -> bool {
    let Some(host) = text(headers, &HOST) else {
        return false;
    };
    let named: Vec<String> = origins.iter().filter(|origin| *origin != "*").cloned().collect();
    let under_host = [format!("http://{host}"), format!("https://{host}")];
    let same_origin = text(headers, &ORIGIN).is_none_or(|origin| under_host.iter().any(|it| it == origin));
    let trusted = |origin: &String| is_allowed_origin(Some(origin.as_bytes()), Some(host.as_bytes()), &named);
    same_origin && under_host.iter().any(trusted)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(host: &str, origin: Option<&str>, listed: &[&str], expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        let listed: Vec<String> = listed.iter().map(|&it| it.to_owned()).collect();
        assert_eq!(is_own(&headers, &listed), expected, "{origin:?} at {host} with {listed:?}");
    }

    #[test]
    fn the_page_at_a_number_or_localhost_is_our_own() {
        check("127.0.0.1:4000", None, &[], true);
        check("localhost:4000", Some("http://localhost:4000"), &[], true);
        check("[::1]:4000", Some("http://[::1]:4000"), &[], true);
    }

    #[test]
    fn other_sites_pages_are_not_even_when_every_origin_may_connect() {
        check("127.0.0.1:4000", Some("https://evil.example"), &[], false);
        check("127.0.0.1:4000", Some("https://evil.example"), &["*"], false);
        check("127.0.0.1:4000", Some("null"), &[], false);
    }

    #[test]
    fn a_name_counts_when_it_is_listed() {
        let listed = ["https://demo.example.com"];
        check("evil.example:4000", None, &listed, false);
        check("evil.example:4000", Some("http://evil.example:4000"), &["*"], false);
        check("demo.example.com", Some("https://demo.example.com"), &listed, true);
        check("demo.example.com", None, &listed, true);
    }
}
