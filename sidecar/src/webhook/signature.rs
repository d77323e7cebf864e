//! The signature of Standard Webhooks: HMAC-SHA256 over id, time and body, with each key.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::config::SigningKey;

/// Signs requests.
pub(super) struct Signer {
    keys: Vec<hmac::Key>,
}

impl Signer {
    /// Signs with these keys, the newest first; `None` when there is none.
    pub(super) fn new(keys: &[SigningKey]) -> Option<Self> {
        let keys: Vec<_> = keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose())).collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// The value of `webhook-signature`: one signature for each key, so that receivers can change over in their own time.
    pub(super) fn sign(&self, id: &str, at_s: u64, body: &str) -> String {
        let signed = format!("{id}.{at_s}.{body}");
        let sign = |key| format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(key, signed.as_bytes())));
        self.keys.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_specification_s_example_comes_out() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("24 bytes");
        let signer = Signer::new(&[key]).expect("a key");
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_key_signs() {
        let key = || SigningKey::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("24 bytes");
        let signer = Signer::new(&[key(), key()]).expect("keys");
        assert_eq!(signer.sign("a", 1, "{}").split(' ').count(), 2);
        assert!(Signer::new(&[]).is_none());
    }
}
