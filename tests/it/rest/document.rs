//! What describes the API: the OpenAPI document, and the page.

use std::collections::BTreeSet;
use std::fs;

use realtime_tests::http;
use serde_json::Value;

use super::builder;

/// Method and path of every route that the document names.
fn routes(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |(path, item): (&String, &Value)| -> Vec<String> {
        let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
        methods.map(|method| format!("{} {path}", method.to_uppercase())).collect()
    };
    paths.iter().flat_map(methods).collect()
}

#[tokio::test]
async fn the_page_names_every_route_and_every_code() {
    let stack = builder().start().await;
    let answer = http::get(stack.sidecar.address(), "/api/openapi.json").await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let root = xtask::workspace::root();
    let page = fs::read_to_string(root.join("docs/rest.md")).unwrap();
    let routes = routes(&document);
    assert!(routes.len() >= 13, "{routes:?}");
    for route in &routes {
        assert!(page.contains(&format!("| `{route}` |")), "docs/rest.md does not name {route}");
    }
    let code = fs::read_to_string(root.join("sidecar/src/http/api/error.rs")).unwrap();
    let is_code = |word: &&str| word.len() > 5 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let codes: BTreeSet<&str> = code.split('"').filter(is_code).collect();
    assert!(codes.len() >= 16, "{codes:?}");
    for code in codes {
        assert!(page.contains(&format!("| `{code}` |")), "docs/rest.md does not name {code}");
    }
}
