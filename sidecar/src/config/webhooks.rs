//! Whether and how webhooks are sent.

use std::{fmt, net::IpAddr, path::Path, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use ipnet::IpNet;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::ExposeSecret;

use super::values::Values;

/// Bytes that a key has, as Standard Webhooks wants it.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The `[webhooks]` section.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Whether this sidecar may send.
    pub enabled: bool,
    /// Networks that may be asked although they are not public.
    pub allow: Vec<IpNet>,
    /// Authorities that receivers' certificates may be from, besides those of the machine.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Keys that each request is signed with, the newest first; none: not signed.
    pub keys: Vec<SigningKey>,
    /// How the names of our headers begin.
    pub header_prefix: String,
    /// Time of one request.
    pub timeout: Duration,
    /// What is tried again.
    pub retry: Retry,
    /// How often it is tried again.
    pub retries_max: u32,
    /// Wait before the first retry, in milliseconds; each further one is twice as long.
    pub retry_ms: u32,
    /// Requests at once.
    pub concurrency_max: usize,
    /// Requests at once to one host.
    pub host_concurrency_max: usize,
    /// Bytes of an answer's body that are read.
    pub answer_bytes_max: usize,
    /// How often it is looked for what is due.
    pub poll: Duration,
    /// Who is silent for longer loses the election.
    pub silence_max: Duration,
    /// Time after which what was begun is tried again.
    pub lease: Duration,
}

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Requests without an answer, and those whose answer says that the receiver is in trouble.
    All,
    /// Requests without an answer.
    Network,
}

/// A key that requests are signed with. Never shown.
#[derive(Clone)]
pub struct SigningKey(Arc<[u8]>);

impl SigningKey {
    /// Reads `whsec_` and Base64, or Base64 alone; `None` when it is not that, or too short or too long.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok()?;
        KEY_BYTES.contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl WebhookSettings {
    pub(super) fn build(values: &mut Values) -> Option<Self> {
        let keys = [key(values, "webhooks.secret"), key(values, "webhooks.previous_secret")];
        let retry = retry(values);
        let timeout = milliseconds(values, "webhooks.timeout_ms", 10, 600_000);
        let lease = milliseconds(values, "webhooks.lease_ms", 20, 3_600_000);
        if lease <= timeout {
            let remedy = "make it longer than webhooks.timeout_ms: a request that still runs must not be begun again";
            values.fault("webhooks.lease_ms", "it is too short", remedy);
        }
        Some(Self {
            enabled: values.flag("webhooks.enabled"),
            allow: networks(values),
            authorities: authorities(values),
            keys: keys.into_iter().flatten().collect(),
            header_prefix: header_prefix(values),
            timeout,
            retry: retry?,
            retries_max: small(values, "webhooks.retries_max", 0, 20),
            retry_ms: small(values, "webhooks.retry_ms", 1, 3_600_000),
            concurrency_max: values.count("webhooks.concurrency_max", 1, 1000),
            host_concurrency_max: values.count("webhooks.host_concurrency_max", 1, 1000),
            answer_bytes_max: values.count("webhooks.answer_bytes_max", 0, 16 << 20),
            poll: milliseconds(values, "webhooks.poll_ms", 10, 60_000),
            silence_max: milliseconds(values, "webhooks.silence_ms", 1000, 600_000),
            lease,
        })
    }
}

fn milliseconds(values: &mut Values, key: &str, min: u64, max: u64) -> Duration {
    Duration::from_millis(values.number(key, min, max))
}

fn small(values: &mut Values, key: &str, min: u64, max: u64) -> u32 {
    u32::try_from(values.number(key, min, max)).unwrap_or(u32::MAX)
}

fn key(values: &mut Values, name: &str) -> Option<SigningKey> {
    let secret = values.secret(name)?;
    let key = SigningKey::parse(secret.expose_secret());
    if key.is_none() {
        values.fault(
            name,
            "it is not 24 to 64 bytes in Base64",
            "make a new one: echo whsec_$(openssl rand -base64 32)",
        );
    }
    key
}

fn retry(values: &mut Values) -> Option<Retry> {
    match values.text("webhooks.retry").as_str() {
        "all" => Some(Retry::All),
        "network" => Some(Retry::Network),
        _ => {
            values.fault("webhooks.retry", "it is not a kind of failures", "give all or network");
            None
        }
    }
}

fn networks(values: &mut Values) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in values.list("webhooks.allow") {
        match text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network),
            Err(_) => values.fault(
                "webhooks.allow",
                format!("`{text}` is not a network"),
                "give address/bits, such as 10.0.0.0/8",
            ),
        }
    }
    networks
}

fn authorities(values: &mut Values) -> Vec<CertificateDer<'static>> {
    let Some(path) = values.path("webhooks.ca_file") else {
        return Vec::new();
    };
    certificates(&path).unwrap_or_else(|why| {
        let remedy = "name a PEM file of certificates (`BEGIN CERTIFICATE`) that this user may read";
        values.fault("webhooks.ca_file", format!("{} cannot be used: {why}", path.display()), remedy);
        Vec::new()
    })
}

/// The certificates of a PEM file, each good to vouch for others.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| error.to_string())?;
    let mut store = RootCertStore::empty();
    for certificate in &found {
        store.add(certificate.clone()).map_err(|error| error.to_string())?;
    }
    if found.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(found) }
}

fn header_prefix(values: &mut Values) -> String {
    let prefix = values.text("webhooks.header_prefix");
    let is_name = !prefix.is_empty() && prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !is_name {
        values.fault(
            "webhooks.header_prefix",
            "it cannot begin the name of a header",
            "give letters, digits and -, such as X-InsForge",
        );
    }
    prefix
}
