//! The variables of the systems that the sidecar replaces, so that their compose files work as they are.

use toml::Value;

use super::{
    Fault, Origin,
    dsn::quote,
    environment::Reading,
    layer::{Flat, Given, parse_as},
};

/// One variable, one setting, same meaning.
const PLAIN: [(&str, &str); 2] = [("RECONNECT_DELAY", "database.reconnect_ms"), ("ENABLE_DB_EVENTS", "deliver")];

/// Takes what the seeds' variables say.
pub(super) fn read(environment: &[(String, String)], defaults: &Flat, rank: usize) -> Reading {
    let seeds = Seeds { environment, rank };
    let mut reading = Reading::default();
    for (name, key) in PLAIN {
        seeds.plain(&mut reading, name, key, defaults);
    }
    seeds.database(&mut reading);
    seeds.buffering(&mut reading);
    seeds.without_equal(&mut reading);
    reading
}

struct Seeds<'a> {
    environment: &'a [(String, String)],
    rank: usize,
}

impl Seeds<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// The first of several names that is set.
    fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    fn given(&self, value: Value, name: &str) -> Given {
        Given { value, origin: Origin::Environment(name.to_owned()), rank: self.rank }
    }

    fn plain(&self, reading: &mut Reading, name: &str, key: &str, defaults: &Flat) {
        let (Some(text), Some(default)) = (self.get(name), defaults.get(key)) else {
            return;
        };
        match parse_as(&default.value, text) {
            Ok(value) => {
                reading.given.insert(key.to_owned(), self.given(value, name));
            }
            Err(wanted) => reading.faults.push(fault(name, "it cannot be read", &format!("give {wanted}"))),
        }
    }

    /// Makes a connection string of the parts. A password alone is the database container's, not ours.
    fn database(&self, reading: &mut Reading) {
        let host = self.first(&["POSTGIS_HOST", "POSTGRES_HOST"]);
        let user = self.first(&["POSTGIS_USER", "POSTGRES_USER"]);
        let database = self.first(&["POSTGIS_DB", "POSTGRES_DB", "POSTGRES_DATABASE"]);
        let (Some(user), true) = (user, host.is_some() || database.is_some()) else {
            return;
        };
        let port = self.first(&["POSTGIS_PORT", "POSTGRES_PORT"]).unwrap_or("5432");
        let mut dsn = format!("host={} port={} user={}", quote(host.unwrap_or("localhost")), quote(port), quote(user));
        if let Some(database) = database {
            dsn.push_str(&format!(" dbname={}", quote(database)));
        }
        if let Some(password) = self.password(reading) {
            dsn.push_str(&format!(" password={}", quote(&password)));
        }
        let name = if self.get("POSTGIS_HOST").is_some() { "POSTGIS_*" } else { "POSTGRES_*" };
        reading.given.insert("database.url".to_owned(), self.given(Value::String(dsn), name));
        if self.get("POSTGIS_PGBOUNCER").is_some_and(|text| !matches!(text, "false" | "0" | "off")) {
            let warning = "POSTGIS_PGBOUNCER is set: give REALTIME_DIRECT_URL, a way around the pooler for LISTEN";
            reading.warnings.push(warning.to_owned());
        }
    }

    fn password(&self, reading: &mut Reading) -> Option<String> {
        if let Some(password) = self.first(&["POSTGIS_PW", "POSTGRES_PASSWORD", "POSTGRES_PW"]) {
            return Some(password.to_owned());
        }
        let path = self.get("POSTGRES_PASSWORD_FILE")?;
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                let what = format!("{path} cannot be read: {error}");
                reading.faults.push(fault("POSTGRES_PASSWORD_FILE", &what, "name a file that this user may read"));
                None
            }
        }
    }

    /// Buffering is here the ring of recent events; without it, resuming clients are served from the log.
    fn buffering(&self, reading: &mut Reading) {
        if self.get("ENABLE_EVENT_BUFFERING").is_some_and(|text| matches!(text, "false" | "0" | "off" | "no")) {
            let none = self.given(Value::Integer(0), "ENABLE_EVENT_BUFFERING");
            reading.given.insert("limits.recent_bytes_max".to_owned(), none);
        }
    }

    /// What is understood, but has nothing to set here.
    fn without_equal(&self, reading: &mut Reading) {
        if let Some(name) =
            ["SSH_HOST", "SSH_KEY_PATH", "SSH_TUNNEL_HOST"].into_iter().find(|name| self.get(name).is_some())
        {
            // Going on without the tunnel would send the password over the open network.
            let remedy = "open the tunnel with `ssh -N -L 5433:db:5432 user@host`, point POSTGRES_HOST and \
                          POSTGRES_PORT at it and unset the SSH_* variables";
            reading.faults.push(fault(name, "the sidecar opens no SSH tunnels", remedy));
        }
        if self.get("PG_NOTIFY_CHANNEL").is_some_and(|channel| channel != "realtime") {
            let warning =
                "PG_NOTIFY_CHANNEL is ignored: events come from the log, and its wake-up channel is always `realtime`";
            reading.warnings.push(warning.to_owned());
        }
        if self.get("MAX_RECONNECT_ATTEMPTS").is_some_and(|attempts| attempts != "0") {
            let warning =
                "MAX_RECONNECT_ATTEMPTS is ignored: the sidecar reconnects for ever (reliability has no last attempt)";
            reading.warnings.push(warning.to_owned());
        }
    }
}

fn fault(name: &str, what: &str, remedy: &str) -> Fault {
    Fault {
        setting: String::new(),
        origin: Origin::Environment(name.to_owned()),
        what: what.to_owned(),
        remedy: remedy.to_owned(),
    }
}
