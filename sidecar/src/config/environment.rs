//! Environment variables: the regular names, the short ones, and what looks like a slip.

use super::{
    Fault, Origin,
    fault::nearest,
    layer::{Flat, Given, parse_as},
};

/// Short names that people write in compose files.
const ALIASES: [(&str, &str); 12] = [
    ("REALTIME_DIRECT_URL", "database.direct_url"),
    ("REALTIME_DIRECT_URL_FILE", "database.direct_url_file"),
    ("REALTIME_JWT_SECRET", "auth.jwt_secret"),
    ("REALTIME_JWT_SECRET_FILE", "auth.jwt_secret_file"),
    ("REALTIME_JWT_SIGNING_KEY", "auth.signing_key"),
    ("REALTIME_JWT_SIGNING_KEY_FILE", "auth.signing_key_file"),
    ("REALTIME_JWT_SIGNING_KEY_ID", "auth.signing_key_id"),
    ("REALTIME_JWKS_FILE", "auth.jwks_file"),
    ("REALTIME_JWKS_URL", "auth.jwks_url"),
    ("REALTIME_JWT_ISSUER", "auth.issuer"),
    ("REALTIME_JWT_AUDIENCE", "auth.audience"),
    ("REALTIME_LOG", "log.level"),
];

/// What an empty variable closes: left open, it would admit those whom somebody meant to keep out.
const CLOSED_WHEN_EMPTY: &str = "auth.anonymous_role";

/// Names beginning with REALTIME_ that are not settings.
const OTHERS: [&str; 2] = ["REALTIME_CONFIG", "REALTIME_TOKEN"];

/// What the environment says.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) given: Flat,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<String>,
}

/// Takes the settings out of the environment. An empty variable counts as not set, but for the one that closes a door.
pub(super) fn read(environment: &[(String, String)], defaults: &Flat, rank: usize) -> Reading {
    let names = names(defaults);
    let mut reading = Reading::default();
    // Regular names last, so that they win over short ones.
    for regular in [false, true] {
        let of_turn = |(name, _): &&(String, String)| is_alias(name) != regular && name.starts_with("REALTIME_");
        for (name, text) in environment.iter().filter(of_turn) {
            match names.iter().find(|(known, _)| known == name) {
                Some((_, key)) if text.is_empty() && key != CLOSED_WHEN_EMPTY => (),
                Some((_, key)) => reading.take(name, key, text, defaults, rank),
                None if text.is_empty() => (),
                None => reading.unknown(name, &names),
            }
        }
    }
    reading
}

impl Reading {
    fn take(&mut self, name: &str, key: &str, text: &str, defaults: &Flat, rank: usize) {
        let origin = Origin::Environment(name.to_owned());
        let Some(default) = defaults.get(key) else {
            return;
        };
        match parse_as(&default.value, text) {
            Ok(value) => {
                self.given.insert(key.to_owned(), Given { value, origin, rank });
            }
            Err(wanted) => self.faults.push(Fault {
                setting: key.to_owned(),
                origin,
                what: "it cannot be read".to_owned(),
                remedy: format!("give {wanted}"),
            }),
        }
    }

    /// A near miss is a fault: it was meant, and would be ignored. Anything else may belong to another program.
    fn unknown(&mut self, name: &str, names: &[(String, String)]) {
        if OTHERS.contains(&name) || is_service_link(name) {
            return;
        }
        match nearest(name, names.iter().map(|(known, _)| known.as_str())) {
            Some(known) => self.faults.push(Fault {
                setting: String::new(),
                origin: Origin::Environment(name.to_owned()),
                what: "there is no such setting".to_owned(),
                remedy: format!("did you mean {known}?"),
            }),
            None => self.warnings.push(format!("environment variable {name} is no setting and is ignored")),
        }
    }
}

/// Every variable that is understood, with its setting.
pub(super) fn names(defaults: &Flat) -> Vec<(String, String)> {
    let regular = defaults.keys().map(|key| (regular_name(key), key.clone()));
    let short = ALIASES.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned()));
    regular.chain(short).collect()
}

fn regular_name(key: &str) -> String {
    format!("REALTIME_{}", key.replace('.', "_").to_ascii_uppercase())
}

fn is_alias(name: &str) -> bool {
    ALIASES.iter().any(|(alias, _)| *alias == name)
}

/// Kubernetes and Docker set these when a service is called `realtime`.
fn is_service_link(name: &str) -> bool {
    let rest = name.trim_start_matches("REALTIME_");
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_") || rest.contains("_SERVICE_")
}
