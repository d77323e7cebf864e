//! Keys that stand for a role: those of servers (`ik_…`), and those that browsers may have (`anon_…`).

use std::sync::Arc;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use secrecy::ExposeSecret;

use super::error::AuthError;
use crate::{
    config::KeySetting,
    model::{Credential, Identity},
};

/// How a key of a server begins.
const API: &str = "ik_";
/// How a key begins that browsers may have.
const ANONYMOUS: &str = "anon_";
/// Longer ones are refused unread.
const KEY_BYTES_MAX: usize = 1024;

/// All keys, kept as their digests only.
#[derive(Default)]
pub(super) struct ApiKeys(Vec<Entry>);

struct Entry {
    digest: digest::Digest,
    role: Arc<str>,
}

/// Which kind of key a text is, told by how it begins; `None` for anything else, such as a token.
pub(super) fn kind(text: &str) -> Option<Credential> {
    if text.starts_with(API) {
        Some(Credential::ApiKey)
    } else if text.starts_with(ANONYMOUS) {
        Some(Credential::AnonymousKey)
    } else {
        None
    }
}

impl ApiKeys {
    pub(super) fn new(settings: &[KeySetting]) -> Self {
        let entry =
            |it: &KeySetting| Entry { digest: digest_of(it.key.expose_secret()), role: it.role.as_str().into() };
        Self(settings.iter().map(entry).collect())
    }

    /// Who shows this key. It is said to be of this kind, and nothing else is tried.
    pub(super) fn identify(&self, key: &str, credential: Credential) -> Result<Identity, AuthError> {
        let unknown =
            if credential == Credential::ApiKey { AuthError::UnknownApiKey } else { AuthError::UnknownAnonymousKey };
        if key.len() > KEY_BYTES_MAX || kind(key) != Some(credential) {
            return Err(unknown);
        }
        let role = self.role(key).ok_or(unknown)?;
        let claims = serde_json::json!({ "role": &*role }).to_string();
        Ok(Identity { role, claims: claims.into(), user: None, expires_at: None, credential })
    }

    /// Takes the same time whichever key it is, and whether there is one.
    fn role(&self, key: &str) -> Option<Arc<str>> {
        let digest = digest_of(key);
        let mut role = None;
        for entry in &self.0 {
            if verify_slices_are_equal(entry.digest.as_ref(), digest.as_ref()).is_ok() {
                role = Some(Arc::clone(&entry.role));
            }
        }
        role
    }
}

fn digest_of(key: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, key.as_bytes())
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    const SERVER: &str = "ik_0123456789abcdef0123456789abcdef";
    const BROWSER: &str = "anon_0123456789abcdef0123456789abcdef";

    fn keys() -> ApiKeys {
        let setting = |role: &str, key: &str| KeySetting { role: role.to_owned(), key: SecretString::from(key) };
        ApiKeys::new(&[setting("project_admin", SERVER), setting("anon", BROWSER)])
    }

    #[test]
    fn a_key_stands_for_its_role_and_names_no_user() {
        let identity = keys().identify(SERVER, Credential::ApiKey).expect("known");
        assert_eq!((&*identity.role, &*identity.claims), ("project_admin", r#"{"role":"project_admin"}"#));
        assert!(identity.user.is_none() && identity.expires_at.is_none());
        assert_eq!(&*keys().identify(BROWSER, Credential::AnonymousKey).expect("known").role, "anon");
    }

    #[test]
    fn a_key_of_one_kind_is_none_of_the_other() {
        let refused = |key: &str, credential| keys().identify(key, credential).err();
        assert_eq!(refused(BROWSER, Credential::ApiKey), Some(AuthError::UnknownApiKey));
        assert_eq!(refused(SERVER, Credential::AnonymousKey), Some(AuthError::UnknownAnonymousKey));
        assert_eq!(refused(&SERVER[..SERVER.len() - 1], Credential::ApiKey), Some(AuthError::UnknownApiKey));
        assert_eq!(refused(&format!("{SERVER}0"), Credential::ApiKey), Some(AuthError::UnknownApiKey));
        assert_eq!(refused("", Credential::ApiKey), Some(AuthError::UnknownApiKey));
        assert!(ApiKeys::default().identify(SERVER, Credential::ApiKey).is_err());
    }
}
