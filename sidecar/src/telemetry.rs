//! Logs: text for people or one JSON object a line, without tokens and payloads.
//!
//! The program never logs a token on purpose. [`redact`] is the second wall: everything that came with a request and
//! is logged passes through it.

use std::{borrow::Cow, str::FromStr};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    fmt,
    layer::SubscriberExt,
    registry,
    util::{SubscriberInitExt, TryInitError},
};

use crate::config::{LogFormat, LogSettings};

/// Names of query parameters and headers whose values are secret.
const SECRET_NAMES: [&str; 8] =
    ["token", "apikey", "api_key", "access_token", "authorization", "secret", "password", "jwt"];

/// What stands in a secret's place.
const HIDDEN: &str = "[hidden]";

/// Starts logging for the whole process, to standard error.
///
/// # Errors
///
/// When logging was started before.
pub fn start(settings: &LogSettings) -> Result<(), TryInitError> {
    let filter = Targets::from_str(&settings.level).unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match settings.format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let filter = filter.and(filter_fn(is_discreet));
    registry().with(layer.with_filter(filter)).try_init()
}

/// Whether a line may be written at all. Drivers and HTTP libraries show parameters, headers and frames when they are
/// asked for details; ours are written with care.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    is_ours(metadata.target()) || *metadata.level() <= Level::WARN
}

fn is_ours(target: &str) -> bool {
    target == "realtime_sidecar" || target.starts_with("realtime_sidecar::")
}

/// A request's path and query with secrets hidden: by name, and whatever looks like a token.
#[must_use]
pub fn redact(target: &str) -> Cow<'_, str> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if query.is_empty() && !path.split('/').any(looks_like_token) {
        return Cow::Borrowed(target);
    }
    let path: Vec<&str> = path.split('/').map(|part| if looks_like_token(part) { HIDDEN } else { part }).collect();
    let query: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(redact_pair).collect();
    let separator = if query.is_empty() { "" } else { "?" };
    Cow::Owned(format!("{}{separator}{}", path.join("/"), query.join("&")))
}

fn redact_pair(pair: &str) -> String {
    let Some((name, value)) = pair.split_once('=') else {
        return if looks_like_token(pair) { HIDDEN.to_owned() } else { pair.to_owned() };
    };
    // Escapes in the name could hide it from the list; nobody writes them honestly.
    let secret = name.contains('%') || SECRET_NAMES.contains(&name.to_ascii_lowercase().as_str());
    if secret || looks_like_token(value) { format!("{name}={HIDDEN}") } else { pair.to_owned() }
}

/// The shape of a JSON Web Token, whole or cut: base64url of `{"` is `eyJ`.
fn looks_like_token(text: &str) -> bool {
    text.contains("eyJ") || text.split('.').filter(|part| part.len() >= 16).count() >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_by_name_and_by_shape() {
        let cases = [
            ("/realtime?v=1&token=abc", "/realtime?v=1&token=[hidden]"),
            ("/realtime?TOKEN=abc&v=1", "/realtime?TOKEN=[hidden]&v=1"),
            ("/realtime?to%6ben=abc", "/realtime?to%6ben=[hidden]"),
            ("/realtime?x=eyJhbGciOi.eyJz.c2ln", "/realtime?x=[hidden]"),
            ("/realtime?eyJhbGciOi", "/realtime?[hidden]"),
            ("/a/eyJhbGciOi.eyJz.c2ln/b", "/a/[hidden]/b"),
            ("/x?q=aaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbb.cccccccccccccccc", "/x?q=[hidden]"),
        ];
        for (given, wanted) in cases {
            assert_eq!(redact(given), wanted);
        }
    }

    #[test]
    fn libraries_are_not_asked_for_details() {
        assert!(is_ours("realtime_sidecar") && is_ours("realtime_sidecar::reader"));
        for target in ["tokio_postgres::prepare", "tungstenite::protocol", "hyper", "realtime_sidecar_fake", ""] {
            assert!(!is_ours(target), "{target}");
        }
    }

    #[test]
    fn the_rest_is_left_alone() {
        for target in ["/ping", "/realtime?v=1", "/realtime?v=1&numbers=string", "/", ""] {
            assert_eq!(redact(target), target);
        }
    }
}
