//! Who is let in.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use super::{
    keys::{KeySetting, keys},
    token_key::{TokenKey, token_key},
    values::Values,
};

/// The shortest secret that HS256 is safe with (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// The `[auth]` section.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Secret of HS256 tokens.
    pub jwt_secret: Option<SecretString>,
    /// Key that signs our own tokens; its public half is published.
    pub signing_key: Option<TokenKey>,
    /// Keys that stand for a role.
    pub keys: Vec<KeySetting>,
    /// Where public keys come from, a file first.
    pub jwks: Vec<JwksSource>,
    /// What `iss` must be; empty: not looked at.
    pub issuer: String,
    /// What `aud` must have one of; empty: not looked at.
    pub audience: Vec<String>,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// The claim that names the role.
    pub role_claim: String,
    /// Roles that a token may name.
    pub roles: Vec<String>,
    /// Role of a token that names none.
    pub default_role: Option<String>,
    /// Role of a connection without token.
    pub anonymous_role: Option<String>,
    /// Role of administrators, for the API alone.
    pub admin_role: Option<String>,
    /// How often keys are fetched.
    pub jwks_refresh: Duration,
    /// Shortest time between two fetches that unknown keys cause.
    pub jwks_cooldown: Duration,
    /// How long keys stay good while they cannot be fetched.
    pub jwks_stale_max: Duration,
    /// Time of one fetch.
    pub jwks_timeout: Duration,
    /// Size of one fetch.
    pub jwks_bytes_max: usize,
}

/// Where a JSON Web Key Set comes from. Only ever from the settings, never from a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JwksSource {
    /// A file.
    File(PathBuf),
    /// An http or https address.
    Url(String),
}

impl AuthSettings {
    pub(super) fn build(values: &mut Values) -> Option<Self> {
        let jwt_secret = secret(values);
        let signing_key = token_key(values);
        let jwks = sources(values);
        let anonymous_role = role(values, "auth.anonymous_role");
        let keys = keys(values);
        let has_key = jwt_secret.is_some() || signing_key.is_some() || !jwks.is_empty();
        some_way_in(values, has_key, anonymous_role.is_some() || !keys.is_empty());
        Some(Self {
            jwt_secret,
            signing_key,
            keys,
            jwks,
            issuer: values.text("auth.issuer"),
            audience: values.list("auth.audience"),
            leeway: seconds(values, "auth.leeway_s", 0, 300),
            role_claim: role_claim(values),
            roles: roles(values),
            default_role: role(values, "auth.default_role"),
            anonymous_role,
            admin_role: role(values, "auth.admin_role"),
            jwks_refresh: seconds(values, "auth.jwks_refresh_s", 1, 86_400),
            jwks_cooldown: seconds(values, "auth.jwks_cooldown_s", 1, 3600),
            jwks_stale_max: seconds(values, "auth.jwks_stale_max_s", 0, 86_400 * 30),
            jwks_timeout: Duration::from_millis(values.number("auth.jwks_timeout_ms", 50, 60_000)),
            jwks_bytes_max: values.count("auth.jwks_bytes_max", 1024, 16 << 20),
        })
    }

    /// Every role that the sidecar may be asked to assume: allowed, default, anonymous and of keys but
    /// those of administrators, each once.
    #[must_use]
    pub fn roles_in_use(&self) -> Vec<&str> {
        let mut roles: Vec<&str> = self.roles.iter().map(String::as_str).collect();
        roles.extend(self.default_role.as_deref());
        roles.extend(self.anonymous_role.as_deref());
        // Who only administrates assumes no role.
        let of_keys = self.keys.iter().map(|key| key.role.as_str());
        roles.extend(of_keys.filter(|role| self.admin_role.as_deref() != Some(*role)));
        roles.sort_unstable();
        roles.dedup();
        roles
    }
}

fn secret(values: &mut Values) -> Option<SecretString> {
    let secret = values.secret("auth.jwt_secret")?;
    if secret.expose_secret().len() < SECRET_BYTES_MIN {
        let what = format!("it is shorter than {SECRET_BYTES_MIN} bytes");
        values.fault("auth.jwt_secret", what, "make a new one: openssl rand -base64 48");
    }
    Some(secret)
}

fn sources(values: &mut Values) -> Vec<JwksSource> {
    let file = values.path("auth.jwks_file").map(JwksSource::File);
    let url = values.text("auth.jwks_url");
    if !url.is_empty() && !is_http_url(&url) {
        values.fault("auth.jwks_url", "it is not an http or https address", "give https://host/path");
    }
    if url.starts_with("http://") && !is_loopback_url(&url) {
        values.warn("auth.jwks_url is not https: whoever can change its answer can sign tokens");
    }
    let url = Some(url).filter(|url| !url.is_empty()).map(JwksSource::Url);
    file.into_iter().chain(url).collect()
}

fn is_http_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
}

fn is_loopback_url(url: &str) -> bool {
    let host = url.trim_start_matches("http://").split(['/', ':']).next().unwrap_or_default();
    matches!(host, "localhost" | "127.0.0.1")
}

fn some_way_in(values: &mut Values, has_key: bool, has_anonymous: bool) {
    if has_key {
        return;
    }
    if has_anonymous {
        values.warn("no key for tokens is set: only connections without token or with a key of auth.keys are accepted");
    } else {
        let remedy =
            "set auth.jwt_secret, auth.signing_key_file, auth.jwks_file or auth.jwks_url, or auth.anonymous_role";
        values.fault("auth.jwt_secret", "there is no key for tokens and no role without token", remedy);
    }
}

fn role_claim(values: &mut Values) -> String {
    let claim = values.text("auth.role_claim");
    if claim.is_empty() {
        values.fault("auth.role_claim", "it is empty", "name the claim, such as role");
    }
    claim
}

fn roles(values: &mut Values) -> Vec<String> {
    let roles = values.list("auth.roles");
    for name in &roles {
        judge_role(values, "auth.roles", name);
    }
    roles
}

fn role(values: &mut Values, key: &str) -> Option<String> {
    // `none` is for the environment, where empty means not set. No role can be called so.
    let name = Some(values.text(key)).filter(|name| !name.is_empty() && name != "none")?;
    judge_role(values, key, &name);
    Some(name)
}

/// A name that Postgres would cut or read as a keyword of SET ROLE cannot be meant.
pub(super) fn judge_role(values: &mut Values, key: &str, name: &str) {
    if name.is_empty() || name.len() > 63 || name == "none" || name.contains('\0') {
        values.fault(key, "it holds a name that no role can have", "give names of 1 to 63 bytes, not none");
    }
}

fn seconds(values: &mut Values, key: &str, min: u64, max: u64) -> Duration {
    Duration::from_secs(values.number(key, min, max))
}
