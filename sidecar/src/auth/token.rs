//! Tokens to identities. Pure but for the key cache: the time is an argument.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::ExposeSecret;

use super::{
    api_keys::{self, ApiKeys},
    error::{AuthError, Reason, SetupError},
    jwks::Jwks,
    keys::{self, Key},
    members::Members,
    own_key,
};
use crate::{
    config::AuthSettings,
    model::{Credential, Identity, USER_CLAIMS},
};

/// Longer tokens are refused unread.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// `exp` is taken as at most this, so that every clock can count to it: the year 9999.
const EXPIRY_S_MAX: f64 = 253_402_300_799.0;
/// How long a caller with a new key waits for it to be fetched.
const KEY_WAIT: Duration = Duration::from_secs(2);

/// Turns tokens and keys into identities.
pub struct Authenticator {
    rules: AuthSettings,
    secret: Option<Key>,
    /// The public half of the key that signs our own tokens.
    own: Option<Key>,
    jwks: Arc<Jwks>,
    keys: ApiKeys,
}

impl Authenticator {
    /// Takes the keys that the settings name. Files are read now, addresses by [`Jwks::run`].
    ///
    /// # Errors
    ///
    /// A key file or a signing key that cannot be used.
    pub fn new(settings: &AuthSettings) -> Result<Self, SetupError> {
        let secret = settings.jwt_secret.as_ref().map(|secret| Key::hs256(secret.expose_secret().as_bytes()));
        let own = own_key::verifying(settings);
        if own.is_none() && settings.signing_key.is_some() {
            return Err(SetupError::SigningKey);
        }
        let keys = ApiKeys::new(&settings.keys);
        Ok(Self { rules: settings.clone(), secret, own, jwks: Arc::new(Jwks::new(settings)?), keys })
    }

    /// The cache of public keys, whose [`Jwks::run`] must run for as long as identities are asked for.
    #[must_use]
    pub fn jwks(&self) -> Arc<Jwks> {
        Arc::clone(&self.jwks)
    }

    /// As [`Authenticator::identify`], but waits up to two seconds for a key that has to be fetched first.
    ///
    /// # Errors
    ///
    /// As [`Authenticator::identify`].
    pub async fn authenticate(&self, token: Option<&str>, now: SystemTime) -> Result<Identity, AuthError> {
        match self.identify(token, now) {
            Err(AuthError::Invalid(Reason::UnknownKey)) if self.jwks.refetch(KEY_WAIT).await => {
                self.identify(token, now)
            }
            result => result,
        }
    }

    /// Verifies a token with the keys at hand. No token, or an empty one, is an anonymous caller; one that begins as a key
    /// does is that key or nothing.
    ///
    /// # Errors
    ///
    /// Why the caller has no identity; the text is safe for the client.
    pub fn identify(&self, token: Option<&str>, now: SystemTime) -> Result<Identity, AuthError> {
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return self.anonymous();
        };
        match api_keys::kind(token) {
            Some(credential) => self.keys.identify(token, credential),
            None => self.verified(token).and_then(|claims| self.identity(&claims, now)),
        }
    }

    /// Looks up the key of a server, as headers and handshakes that are for such keys alone have it.
    ///
    /// # Errors
    ///
    /// There is no such key; the text is safe for the client.
    pub fn identify_api_key(&self, key: &str) -> Result<Identity, AuthError> {
        self.keys.identify(key, Credential::ApiKey)
    }

    fn anonymous(&self) -> Result<Identity, AuthError> {
        let role = self.rules.anonymous_role.as_deref().ok_or(AuthError::Missing)?;
        let claims = serde_json::json!({ "role": role }).to_string();
        let credential = Credential::Nothing;
        Ok(Identity { role: role.into(), claims: claims.into(), user: None, expires_at: None, credential })
    }

    /// The claims of a token whose signature is right.
    fn verified(&self, token: &str) -> Result<Members, AuthError> {
        let malformed = AuthError::Invalid(Reason::Malformed);
        let (message, signature) = split(token).ok_or_else(|| malformed.clone())?;
        let (header, payload) = message.split_once('.').ok_or_else(|| malformed.clone())?;
        let header = decode(header).ok_or_else(|| malformed.clone())?;
        self.judge_signature(&header, message, signature)?;
        decode(payload).ok_or(malformed)
    }

    fn judge_signature(&self, header: &Members, message: &str, signature: &str) -> Result<(), AuthError> {
        // `b64` changes what is signed; like everything that `crit` lists, it must be understood or refused.
        if header.has("crit") || header.has("b64") {
            return Err(AuthError::Invalid(Reason::Extension));
        }
        let name: String = header.get("alg").ok_or(AuthError::Invalid(Reason::Algorithm))?;
        let algorithm = keys::algorithm(&name).ok_or(AuthError::Invalid(Reason::Algorithm))?;
        let id: Option<String> = header.get("kid");
        if header.has("kid") && id.is_none() {
            return Err(AuthError::Invalid(Reason::Malformed));
        }
        let verifies = |key: &Key| key.verifies(message, signature);
        let right = match &self.secret {
            Some(secret) if algorithm == jsonwebtoken::Algorithm::HS256 => Some(verifies(secret)),
            _ => self.of_public_key(algorithm, id.as_deref(), verifies)?,
        };
        match right {
            Some(true) => Ok(()),
            Some(false) => Err(AuthError::Invalid(Reason::Signature)),
            None => Err(AuthError::Invalid(Reason::UnknownKey)),
        }
    }

    /// Applies `check` to the public key that a token means; `None` when there is no such key. Our own has to be named: that
    /// it signs as others do says nothing.
    fn of_public_key(
        &self,
        algorithm: jsonwebtoken::Algorithm,
        id: Option<&str>,
        check: impl Fn(&Key) -> bool,
    ) -> Result<Option<bool>, AuthError> {
        let of_own = self.own.as_ref().is_some_and(|own| own.algorithm == algorithm);
        if algorithm == jsonwebtoken::Algorithm::HS256 || (self.rules.jwks.is_empty() && !of_own) {
            return Err(AuthError::Invalid(Reason::Algorithm));
        }
        let own = self.own.as_ref().filter(|own| own.is_named(algorithm, id)).map(&check);
        if own == Some(true) {
            return Ok(own);
        }
        Ok(self.jwks.with_key(algorithm, id, check).or(own))
    }

    fn identity(&self, claims: &Members, now: SystemTime) -> Result<Identity, AuthError> {
        let expires_at = self.judge_times(claims, now)?;
        self.judge_issuer(claims)?;
        self.judge_audience(claims)?;
        let role = self.role(claims)?;
        Ok(Identity {
            claims: claims.to_json_with("role", &role).into(),
            role: role.into(),
            user: user(claims),
            expires_at: Some(expires_at),
            credential: Credential::Token,
        })
    }

    fn judge_times(&self, claims: &Members, now: SystemTime) -> Result<SystemTime, AuthError> {
        let expires_at = time(claims, "exp").ok_or(AuthError::Invalid(Reason::NoExpiry))?;
        if now >= expires_at + self.rules.leeway {
            return Err(AuthError::Expired);
        }
        if claims.has("nbf") {
            let begins_at = time(claims, "nbf").ok_or(AuthError::Invalid(Reason::NotYet))?;
            if now + self.rules.leeway < begins_at {
                return Err(AuthError::Invalid(Reason::NotYet));
            }
        }
        Ok(expires_at)
    }

    fn judge_issuer(&self, claims: &Members) -> Result<(), AuthError> {
        let wanted = &self.rules.issuer;
        if wanted.is_empty() || claims.get::<String>("iss").as_ref() == Some(wanted) {
            return Ok(());
        }
        Err(AuthError::Invalid(Reason::Issuer))
    }

    fn judge_audience(&self, claims: &Members) -> Result<(), AuthError> {
        let wanted = &self.rules.audience;
        let one = claims.get::<String>("aud").map(|audience| vec![audience]);
        let named = one.or_else(|| claims.get::<Vec<String>>("aud")).unwrap_or_default();
        if wanted.is_empty() || named.iter().any(|audience| wanted.contains(audience)) {
            return Ok(());
        }
        Err(AuthError::Invalid(Reason::Audience))
    }

    fn role(&self, claims: &Members) -> Result<String, AuthError> {
        if !claims.has(&self.rules.role_claim) {
            return self.rules.default_role.clone().ok_or(AuthError::Invalid(Reason::NoRole));
        }
        let role: String = claims.get(&self.rules.role_claim).ok_or(AuthError::Invalid(Reason::NoRole))?;
        let is_known = self.rules.roles.contains(&role) || self.rules.admin_role.as_ref() == Some(&role);
        if is_known { Ok(role) } else { Err(AuthError::UnknownRole) }
    }
}

/// The claims that policies would see of a token with these, the role in force among them; `None` when no token could have
/// them. Whether a token may name the role is not looked at: keys and anonymous callers have roles of their own.
#[must_use]
pub fn claims_in_force(rules: &AuthSettings, claims: &str) -> Option<String> {
    let claims = Members::parse(claims.as_bytes())?;
    let role = match claims.has(&rules.role_claim) {
        true => claims.get::<String>(&rules.role_claim)?,
        false => rules.default_role.clone()?,
    };
    Some(claims.to_json_with("role", &role))
}

/// What is signed, and the signature. An empty signature is none.
fn split(token: &str) -> Option<(&str, &str)> {
    let parts = token.split('.').count();
    let (message, signature) = token.rsplit_once('.')?;
    (token.len() <= TOKEN_BYTES_MAX && parts == 3 && !signature.is_empty()).then_some((message, signature))
}

fn decode(part: &str) -> Option<Members> {
    Members::parse(&URL_SAFE_NO_PAD.decode(part).ok()?)
}

/// A NumericDate of RFC 7519. A number in quotes is none.
fn time(claims: &Members, name: &str) -> Option<SystemTime> {
    let seconds: f64 = claims.get(name)?;
    let seconds = Duration::try_from_secs_f64(seconds.clamp(0.0, EXPIRY_S_MAX)).ok()?;
    UNIX_EPOCH.checked_add(seconds)
}

/// The user's name: text, or a whole number as some issuers have it.
fn user(claims: &Members) -> Option<Arc<str>> {
    USER_CLAIMS.iter().find_map(|name| {
        let text = claims.get::<String>(name).or_else(|| claims.get::<i64>(name).map(|number| number.to_string()));
        text.filter(|text| !text.is_empty()).map(Arc::from)
    })
}
