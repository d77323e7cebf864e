//! The page's files, part of the binary.

use axum::{
    Router,
    http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    response::{Html, IntoResponse},
    routing::get,
};

const PAGE: &str = include_str!("page/index.html");

/// Path, type and text of what the page loads.
const FILES: [(&str, &str, &str); 7] = [
    ("/demo/page.css", CSS, include_str!("page/page.css")),
    ("/demo/panels.css", CSS, include_str!("page/panels.css")),
    ("/demo/client.js", JAVASCRIPT, include_str!("page/client.js")),
    ("/demo/orders.js", JAVASCRIPT, include_str!("page/orders.js")),
    ("/demo/page.js", JAVASCRIPT, include_str!("page/page.js")),
    ("/demo/room.js", JAVASCRIPT, include_str!("page/room.js")),
    ("/demo/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page is its own files and nothing else: no inline code, no other host, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the page offers to run, `psql` being the way into the database.
const STATEMENT: &str = "update demo.orders set status = 'ready'";

/// `/` and its files.
pub(super) fn router<S: Clone + Send + Sync + 'static>(psql: &str) -> Router<S> {
    let page = page(psql);
    let router = Router::new().route("/", get(async move || ([(CONTENT_SECURITY_POLICY, POLICY)], Html(page.clone()))));
    FILES.into_iter().fold(router, |router, (path, kind, text)| {
        router.route(path, get(async move || ([(CONTENT_TYPE, kind)], text).into_response()))
    })
}

fn page(psql: &str) -> String {
    let command = format!("{psql} -c \"{STATEMENT}\"");
    PAGE.replace("{psql}", &escaped(&command))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_into_the_database_is_shown_and_is_only_text() {
        let page = page("psql '<b>&'");
        assert!(page.contains("psql '&lt;b&gt;&amp;' -c &quot;update demo.orders set status = 'ready'&quot;"));
        assert!(!page.contains("{psql}"));
    }

    #[test]
    fn the_statement_is_the_one_that_the_demos_script_suggests() {
        let hint = format!("-- try sql: {STATEMENT}\n");
        assert!(include_str!("demo.sql").contains(&hint));
    }

    #[test]
    fn the_policy_on_the_page_is_the_one_in_force() {
        let dense = |text: &str| text.split_whitespace().collect::<String>();
        let shown = PAGE.split("<pre>create policy").nth(1).and_then(|rest| rest.split("</pre>").next()).unwrap();
        assert!(dense(include_str!("demo.sql")).contains(&dense(shown)));
    }

    #[test]
    fn no_file_names_another_host() {
        for text in FILES.iter().map(|(_, _, text)| *text).chain([PAGE]) {
            let foreign = text.match_indices("://").filter(|(at, _)| {
                let rest = &text[at + 3..];
                !rest.starts_with("127.0.0.1") && !rest.starts_with("www.w3.org/2000/svg")
            });
            assert_eq!(foreign.count(), 0);
        }
    }

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        assert!(!PAGE.contains("style=") && !PAGE.contains("<style") && !PAGE.contains(" onclick"));
        assert!(PAGE.matches("<script").count() == PAGE.matches("<script type=\"module\" src=\"/demo/").count());
    }
}
