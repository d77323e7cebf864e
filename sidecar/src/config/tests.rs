//! Layers, faults and hints.

use secrecy::ExposeSecret;

use super::{Config, DEFAULTS, Faults, LogFormat, Sources, environment, values};

const URL: &str = "postgres://u:hidden@h/d";

/// A file that is gone when the test ends.
struct TempFile(std::path::PathBuf);

impl TempFile {
    fn new(content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("realtime-test-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(file: Option<&TempFile>, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, Faults> {
    let file = file.map(|file| file.0.clone());
    Config::load(&Sources { file, environment: pairs(environment), flags: pairs(flags) })
}

fn faults(environment: &[(&str, &str)]) -> Vec<String> {
    load(None, environment, &[]).unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn a_url_is_all_that_is_needed() {
    let config = load(None, &[("REALTIME_DATABASE_URL", URL)], &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:4000");
    assert_eq!(config.database.direct.to_string(), "u@h:5432/d");
    assert_eq!((config.limits.queue_frames_max, config.timing.poll_ms), (1000, 250));
    assert_eq!((config.deliver, config.demo), (true, false));
    assert_eq!(config.auth.roles_in_use(), ["anon", "authenticated", "service_role"]);
}

#[test]
fn later_layers_win() {
    let file = TempFile::new(
        "listen = '127.0.0.1:1'\n[timing]\npoll_ms = 11\nping_ms = 1111\n[database]\nurl = 'postgres://f@h/d'",
    );
    let environment =
        [("REALTIME_TIMING_POLL_MS", "12"), ("REALTIME_LISTEN", "127.0.0.1:2"), ("POSTGRES_HOST", "seed")];
    let config = load(Some(&file), &environment, &[("listen", "127.0.0.1:3")]).unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!((config.timing.poll_ms, config.timing.ping_ms), (12, 1111));
    assert_eq!(config.database.pool.to_string(), "f@h:5432/d");
}

#[test]
fn short_and_regular_names_mean_the_same() {
    let long = [("REALTIME_DATABASE_URL", URL), ("REALTIME_AUTH_AUDIENCE", "a, b"), ("REALTIME_LOG_LEVEL", "debug")];
    let short = [("REALTIME_DATABASE_URL", URL), ("REALTIME_JWT_AUDIENCE", "a,b,"), ("REALTIME_LOG", "debug")];
    for environment in [long, short] {
        let config = load(None, &environment, &[]).unwrap();
        assert_eq!(config.auth.audience, ["a", "b"]);
        assert_eq!(config.log.level, "debug");
    }
}

#[test]
fn all_faults_are_told_at_once_with_remedies() {
    let environment = [
        ("REALTIME_LISTEN", "nowhere"),
        ("REALTIME_LIMITS_QUEUE_FRAMES_MAX", "0"),
        ("REALTIME_TIMING_POLL_MS", "soon"),
        ("REALTIME_JWT_SECRET", "short secret"),
        ("REALTIME_ORIGINS", "https://good.example,bad.example,https://x/"),
        ("REALTIME_LOG_FORMAT", "xml"),
        ("REALTIME_JWKS_URL", "ftp://x"),
        ("REALTIME_DEMO", "perhaps"),
    ];
    let faults = faults(&environment);
    assert_eq!(faults.len(), 10, "{faults:#?}");
    assert!(faults.iter().all(|fault| fault.contains("; ")), "{faults:#?}");
    assert!(
        faults.iter().any(|fault| fault.starts_with("database.url: it is not set; set database.url")),
        "{faults:#?}"
    );
}

#[test]
fn unknown_keys_are_faults_with_the_nearest_name() {
    let file = TempFile::new("listn = '127.0.0.1:1'\n[timings]\npoll_ms = 3\n[zzz]\ny = 1");
    let faults = load(Some(&file), &[("REALTIME_DATABASE_URL", URL)], &[]).unwrap_err().0;
    let remedies: Vec<&str> = faults.iter().map(|fault| fault.remedy.as_str()).collect();
    let wanted =
        ["did you mean listen?", "did you mean timing.poll_ms?", "remove it; config.default.toml lists what there is"];
    assert_eq!(remedies, wanted);
    let faults = self::faults(&[("REALTIME_DATABASE_URL", URL), ("REALTIME_JWT_SECRETS", "x")]);
    assert_eq!(
        faults,
        ["environment REALTIME_JWT_SECRETS: there is no such setting; did you mean REALTIME_JWT_SECRET?"]
    );
}

#[test]
fn an_empty_variable_is_not_set_but_closes_the_door_for_those_without_token() {
    let environment = [
        ("REALTIME_DATABASE_URL", URL),
        ("REALTIME_JWT_SECRET", "a secret that is long enough for HS256"),
        ("REALTIME_LISTEN", ""),
        ("REALTIME_AUTH_ANONYMOUS_ROLE", ""),
    ];
    let config = load(None, &environment, &[]).unwrap();
    assert_eq!(config.listen.port(), 4000);
    assert_eq!(config.auth.anonymous_role, None);
}

#[test]
fn other_peoples_variables_are_left_alone() {
    let environment = [
        ("REALTIME_DATABASE_URL", URL),
        ("REALTIME_PORT_4000_TCP", "tcp://10.0.0.1:4000"),
        ("REALTIME_SERVICE_HOST", "10.0.0.1"),
        ("REALTIME_CONFIG", ""),
        ("REALTIME_SOMETHING_OF_SOMEBODY_ELSE", "x"),
        ("PATH", "/bin"),
    ];
    let config = load(None, &environment, &[]).unwrap();
    let told = config.warnings.iter().filter(|warning| warning.contains("REALTIME_")).count();
    assert_eq!(told, 1, "{:?}", config.warnings);
}

#[test]
fn wrong_types_and_broken_files_are_told_without_quoting_them() {
    let file = TempFile::new("listen = 4000\n[limits]\nqueue_frames_max = 'many'");
    assert_eq!(load(Some(&file), &[("REALTIME_DATABASE_URL", URL)], &[]).unwrap_err().0.len(), 2);
    let broken = TempFile::new("[auth]\njwt_secret = 'hidden and\n");
    let text = load(Some(&broken), &[("REALTIME_DATABASE_URL", URL)], &[]).unwrap_err().to_string();
    assert!(text.contains("line 2") && !text.contains("hidden"), "{text}");
    let missing = Sources { file: Some("/nowhere/realtime.toml".into()), ..Sources::default() };
    assert!(Config::load(&missing).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn secrets_come_from_files_and_stay_out_of_texts() {
    let secret = TempFile::new("a secret from a file, longer than 32 bytes\n");
    let path = secret.0.to_str().unwrap();
    let config = load(None, &[("REALTIME_DATABASE_URL", URL), ("REALTIME_JWT_SECRET_FILE", path)], &[]).unwrap();
    let read = config.auth.jwt_secret.as_ref().unwrap().expose_secret();
    assert_eq!(read, "a secret from a file, longer than 32 bytes");
    let debug = format!("{config:?}");
    assert!(!debug.contains("hidden") && !debug.contains("longer than 32"), "{debug}");
    // Faults about secrets do not quote them either.
    let environment =
        [("REALTIME_DATABASE_URL", "postgres://u:hidden@h/d?nonsense=hidden"), ("REALTIME_JWT_SECRET", "hidden")];
    let faults = faults(&environment);
    assert!(faults.len() == 2 && !faults.concat().contains("hidden"), "{faults:?}");
}

#[test]
fn of_a_secret_and_its_file_the_stronger_layer_wins() {
    let url = TempFile::new("postgres://file@h/d");
    let path = url.0.to_str().unwrap();
    let weak = TempFile::new("[database]\nurl = 'postgres://toml@h/d'");
    let config = load(Some(&weak), &[("REALTIME_DATABASE_URL_FILE", path)], &[]).unwrap();
    assert_eq!(config.database.pool.user(), "file");
    let config = load(None, &[("REALTIME_DATABASE_URL_FILE", path)], &[("database.url", URL)]).unwrap();
    assert_eq!(config.database.pool.user(), "u");
    let faults = faults(&[("REALTIME_DATABASE_URL_FILE", path), ("REALTIME_DATABASE_URL", URL)]);
    assert!(faults[0].contains("keep one of the two"), "{faults:?}");
}

#[test]
fn the_seeds_variables_make_a_database() {
    let postgis = [
        ("POSTGIS_HOST", "db"),
        ("POSTGIS_PORT", "6432"),
        ("POSTGIS_USER", "gc2"),
        ("POSTGIS_PW", "it's \\hidden"),
        ("POSTGIS_DB", "maps"),
        ("POSTGIS_PGBOUNCER", "true"),
        ("POSTGRES_HOST", "other"),
    ];
    let config = load(None, &postgis, &[]).unwrap();
    assert_eq!(config.database.pool.to_string(), "gc2@db:6432/maps");
    assert_eq!(config.database.pool.postgres().get_password(), Some(b"it's \\hidden".as_slice()));
    assert!(config.warnings.iter().any(|warning| warning.contains("REALTIME_DIRECT_URL")), "{:?}", config.warnings);
    let postgres =
        [("POSTGRES_USER", "u"), ("POSTGRES_PASSWORD", "p"), ("POSTGRES_DB", "d"), ("RECONNECT_DELAY", "1000")];
    let config = load(None, &postgres, &[]).unwrap();
    assert_eq!(config.database.pool.to_string(), "u@localhost:5432/d");
    assert_eq!((config.database.reconnect_ms, config.database.reconnect_max_ms), (1000, 5000));
    // A password alone belongs to the database container beside us.
    assert_eq!(faults(&[("POSTGRES_PASSWORD", "p")]).len(), 1);
}

#[test]
fn the_seeds_switches_mean_what_they_meant() {
    let environment = [
        ("REALTIME_DATABASE_URL", URL),
        ("ENABLE_DB_EVENTS", "false"),
        ("ENABLE_EVENT_BUFFERING", "false"),
        ("PG_NOTIFY_CHANNEL", "app_events"),
        ("MAX_RECONNECT_ATTEMPTS", "5"),
        ("POSTGRES_HOST", "elsewhere"),
        ("POSTGRES_USER", "other"),
    ];
    let config = load(None, &environment, &[]).unwrap();
    assert_eq!((config.deliver, config.limits.recent_bytes_max), (false, 0));
    assert_eq!(config.database.pool.to_string(), "u@h:5432/d");
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
    let faults = faults(&[("REALTIME_DATABASE_URL", URL), ("SSH_HOST", "bastion"), ("SSH_USER", "me")]);
    assert!(faults.len() == 1 && faults[0].contains("ssh -N -L"), "{faults:?}");
}

#[test]
fn minting_needs_no_database_and_serving_needs_a_way_in() {
    let flags = pairs(&[("auth.jwt_secret", "a secret for tests that is longer than 32 bytes")]);
    assert!(Config::load_auth(&Sources { flags, ..Sources::default() }).is_ok());
    let faults = faults(&[("REALTIME_DATABASE_URL", URL), ("REALTIME_AUTH_ANONYMOUS_ROLE", "none")]);
    assert!(faults.len() == 1 && faults[0].contains("no key for tokens"), "{faults:?}");
}

#[test]
fn json_logs_and_filters() {
    let level = "info,realtime_sidecar::reader=debug";
    let environment = [("REALTIME_DATABASE_URL", URL), ("REALTIME_LOG", level), ("REALTIME_LOG_FORMAT", "json")];
    let config = load(None, &environment, &[]).unwrap();
    assert_eq!((config.log.level.as_str(), config.log.format), (level, LogFormat::Json));
}

#[test]
fn every_default_is_explained_and_named_once() {
    let defaults = values::defaults();
    let names = environment::names(&defaults);
    let unique: std::collections::BTreeSet<_> = names.iter().map(|(name, _)| name).collect();
    assert_eq!(unique.len(), names.len());
    let lines: Vec<&str> = DEFAULTS.lines().collect();
    let mut explained = false;
    for line in lines {
        match line {
            "" => explained = false,
            comment if comment.starts_with('#') => explained = true,
            section if section.starts_with('[') => (),
            setting => assert!(explained, "{setting} is not explained"),
        }
    }
}

#[test]
fn keys_come_from_the_list_and_the_file_and_are_never_told() {
    let secret = "ik_0123456789abcdef0123456789";
    let file = TempFile::new("# of browsers\n\nanon = anon_0123456789abcdef0123\n");
    let listed = format!("project_admin={secret},robot={secret}");
    let path = file.0.display().to_string();
    let environment =
        [("REALTIME_DATABASE_URL", URL), ("REALTIME_AUTH_KEYS", &*listed), ("REALTIME_AUTH_KEYS_FILE", &*path)];
    let config = load(None, &environment, &[]).unwrap();
    let keys: Vec<(&str, &str)> =
        config.auth.keys.iter().map(|it| (it.role.as_str(), it.key.expose_secret())).collect();
    assert_eq!(keys, [("project_admin", secret), ("robot", secret), ("anon", "anon_0123456789abcdef0123")]);
    assert!(config.auth.roles_in_use().contains(&"robot"), "the sidecar must be able to assume it");
    assert!(!config.auth.roles_in_use().contains(&"project_admin"), "administrators assume none");
    assert!(!config.auth.roles.contains(&"robot".to_owned()), "no token may name it because of that");
    for wrong in
        ["ik_hidden", "anon=hidden0123456789abcdef0123", "anon=anon_hidden", "none=ik_hidden0123456789abcdef01"]
    {
        let faults = faults(&[("REALTIME_DATABASE_URL", URL), ("REALTIME_AUTH_KEYS", wrong)]);
        assert_eq!(faults.len(), 1, "{wrong}: {faults:#?}");
        assert!(faults[0].starts_with("auth.keys (environment") && !faults[0].contains("hidden"), "{faults:#?}");
    }
}

#[test]
fn webhooks_have_their_faults_told() {
    let wrong = faults(&[
        ("REALTIME_DATABASE_URL", URL),
        ("REALTIME_WEBHOOKS_SECRET", "whsec_dG9vLXNob3J0"),
        ("REALTIME_WEBHOOKS_ALLOW", "10.0.0.0/8,intranet"),
        ("REALTIME_WEBHOOKS_RETRY", "always"),
        ("REALTIME_WEBHOOKS_LEASE_MS", "5000"),
        ("REALTIME_WEBHOOKS_CA_FILE", "/nowhere/ca.pem"),
        ("REALTIME_WEBHOOKS_HEADER_PREFIX", "X Own"),
    ]);
    for setting in ["secret", "allow", "retry", "lease_ms", "ca_file", "header_prefix"] {
        assert!(wrong.iter().any(|fault| fault.starts_with(&format!("webhooks.{setting} "))), "{setting}: {wrong:?}");
    }
    assert!(!wrong.iter().any(|fault| fault.contains("dG9vLXNob3J0")), "{wrong:?}");
}

#[test]
fn a_file_without_certificates_vouches_for_nobody() {
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for content in ["", "no PEM", certificate, "-----BEGIN CERTIFICATE-----\n"] {
        let file = TempFile::new(content);
        let told = faults(&[("REALTIME_DATABASE_URL", URL), ("REALTIME_WEBHOOKS_CA_FILE", file.0.to_str().unwrap())]);
        assert!(told.len() == 1 && told[0].starts_with("webhooks.ca_file ("), "{content}: {told:?}");
    }
}

#[test]
fn webhooks_are_what_the_seed_says_unless_somebody_says_otherwise() {
    let webhooks = load(None, &[("REALTIME_DATABASE_URL", URL)], &[]).unwrap().webhooks;
    assert_eq!((webhooks.timeout.as_secs(), webhooks.retries_max, webhooks.retry_ms), (10, 2, 1000));
    assert!(webhooks.enabled && webhooks.allow.is_empty() && webhooks.keys.is_empty());
    let key = "whsec_bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleSE=";
    let environment = [
        ("REALTIME_DATABASE_URL", URL),
        ("REALTIME_WEBHOOKS_SECRET", key),
        ("REALTIME_WEBHOOKS_ALLOW", "10.0.0.0/8, ::1"),
    ];
    let webhooks = load(None, &environment, &[]).unwrap().webhooks;
    assert_eq!((webhooks.keys.len(), webhooks.allow.len()), (1, 2));
    assert!(!format!("{webhooks:?}").contains("new-key"), "keys are not shown");
}
