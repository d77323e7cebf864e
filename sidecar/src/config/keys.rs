//! Keys that stand for a role without being tokens.

use secrecy::SecretString;

use super::values::Values;

/// What a key is used for, told by how it begins.
const PREFIXES: [&str; 2] = ["ik_", "anon_"];
/// A shorter key can be guessed.
const KEY_BYTES_MIN: usize = 24;
/// Longer ones are a mistake.
const KEY_BYTES_MAX: usize = 1024;

/// A key, and the role of whoever shows it.
#[derive(Clone, Debug)]
pub struct KeySetting {
    /// The database role.
    pub role: String,
    /// The key.
    pub key: SecretString,
}

/// All keys of the list and of the file, each as `role=key`.
pub(super) fn keys(values: &mut Values) -> Vec<KeySetting> {
    let listed = values.list("auth.keys");
    let filed = values.lines("auth.keys_file");
    let mut keys: Vec<KeySetting> = listed.iter().filter_map(|entry| key(values, "auth.keys", entry)).collect();
    keys.extend(filed.iter().filter_map(|entry| key(values, "auth.keys_file", entry)));
    keys
}

/// The entry is not quoted in faults: it holds a secret.
fn key(values: &mut Values, setting: &str, entry: &str) -> Option<KeySetting> {
    let Some((role, key)) = entry.split_once('=') else {
        values.fault(
            setting,
            "an entry is not role=key",
            "write entries such as project_admin=ik_... or anon=anon_...",
        );
        return None;
    };
    let (role, key) = (role.trim(), key.trim());
    super::auth::judge_role(values, setting, role);
    if !PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
        let remedy = "begin keys of servers with ik_ and keys that browsers may have with anon_";
        values.fault(setting, format!("the key of role {role} begins with neither ik_ nor anon_"), remedy);
    }
    if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
        let what = format!("the key of role {role} has fewer than {KEY_BYTES_MIN} or more than {KEY_BYTES_MAX} bytes");
        values.fault(setting, what, "make a new one: echo ik_$(openssl rand -hex 32)");
    }
    Some(KeySetting { role: role.to_owned(), key: SecretString::from(key) })
}
