//! One request: what is in it, and what it is answered.

use std::{
    error::Error,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use reqwest::{
    Certificate, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};

use super::{
    SenderError,
    address::{AddressPolicy, GuardedResolver, Lookup, Refused},
    outcome::Answer,
    signature::Signer,
};
use crate::{
    config::WebhookSettings,
    postgres::webhook::{Claimed, Content},
};

/// How long an idle connection is kept for the next request.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long is waited for the rest of an answer whose status is known.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// What to do about a certificate that is not accepted.
const CERTIFICATE_REMEDY: &str = "ask it by a name of its certificate, or name its authority in webhooks.ca_file";

/// Sends requests.
pub(super) struct Poster {
    client: reqwest::Client,
    policy: Arc<AddressPolicy>,
    signer: Option<Signer>,
    names: Names,
    timeout: Duration,
    answer_bytes_max: usize,
}

/// The names of our own headers.
struct Names {
    event: HeaderName,
    channel: HeaderName,
    message_id: HeaderName,
}

impl Names {
    fn new(prefix: &str) -> Result<Self, SenderError> {
        let name = |word: &str| {
            HeaderName::from_bytes(format!("{prefix}-{word}").as_bytes()).map_err(|_| SenderError::HeaderPrefix)
        };
        Ok(Self { event: name("Event")?, channel: name("Channel")?, message_id: name("Message-Id")? })
    }
}

impl Poster {
    /// Prepares the client: no redirects, no proxy, no address that the policy refuses.
    pub(super) fn new(settings: &WebhookSettings, lookup: Box<dyn Lookup>) -> Result<Self, SenderError> {
        let policy = Arc::new(AddressPolicy::new(settings.allow.clone()));
        let client = reqwest::Client::builder()
            .tls_certs_merge(authorities(settings)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(settings.timeout)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(settings.host_concurrency_max)
            .dns_resolver(GuardedResolver::new(lookup, Arc::clone(&policy)))
            .user_agent("realtime-sidecar")
            .build()?;
        Ok(Self {
            client,
            policy,
            signer: Signer::new(&settings.keys),
            names: Names::new(&settings.header_prefix)?,
            timeout: settings.timeout,
            answer_bytes_max: settings.answer_bytes_max,
        })
    }

    /// Sends a delivery once.
    pub(super) async fn post(&self, delivery: &Claimed) -> Answer {
        let content = match &delivery.content {
            Ok(content) => content,
            Err(fault) => return Answer::Refused(fault.to_string()),
        };
        let url = match self.judge_url(&delivery.url) {
            Ok(url) => url,
            Err(why) => return Answer::Refused(why),
        };
        let headers = self.headers(&delivery.message_id, content);
        let request = self.client.post(url).headers(headers).body(content.payload.clone());
        match request.send().await {
            Ok(response) => self.take(response).await,
            Err(error) => self.failure(error),
        }
    }

    /// An address in the url passes no resolver, so it is judged here; `2130706433` and `0x7f.1` are addresses to the parser.
    fn judge_url(&self, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("the url cannot be read: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the url is no http or https address".to_owned());
        }
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            self.policy.judge(address).map_err(|refused| refused.to_string())?;
        }
        Ok(url)
    }

    fn headers(&self, message_id: &str, content: &Content) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(self.names.event.clone(), header_value(&content.event));
        headers.insert(self.names.channel.clone(), header_value(&content.channel));
        headers.insert(self.names.message_id.clone(), header_value(message_id));
        if let Some(signer) = &self.signer {
            let at_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let signature = signer.sign(message_id, at_s, &content.payload);
            headers.insert("webhook-id", header_value(message_id));
            headers.insert("webhook-timestamp", HeaderValue::from(at_s));
            headers.insert("webhook-signature", header_value(&signature));
        }
        headers
    }

    /// The status is the answer. Of the body so much is read that a well-behaved receiver's connection can be used again.
    async fn take(&self, mut response: reqwest::Response) -> Answer {
        let status = response.status().as_u16();
        let drain = async {
            let mut left = self.answer_bytes_max;
            while let Ok(Some(chunk)) = response.chunk().await {
                left = left.saturating_sub(chunk.len());
                if left == 0 {
                    return;
                }
            }
        };
        // A body without end costs its own connection: it is closed when the response is dropped.
        let _ = tokio::time::timeout(DRAIN_MAX, drain).await;
        Answer::Status(status)
    }

    fn failure(&self, error: reqwest::Error) -> Answer {
        let timed_out = error.is_timeout();
        // The url may hold a password.
        let error = error.without_url();
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        if let Some(refused) = causes.clone().find_map(|cause| cause.downcast_ref::<Refused>()) {
            return Answer::Refused(refused.to_string());
        }
        if timed_out {
            return Answer::None(format!("no answer within {} ms", self.timeout.as_millis()));
        }
        let why = causes.clone().last().map_or_else(|| error.to_string(), ToString::to_string);
        Answer::None(if causes.clone().any(is_of_certificate) { format!("{why}; {CERTIFICATE_REMEDY}") } else { why })
    }
}

/// Whether the receiver showed a certificate that is not accepted. Errors of IO hide what they are made of.
fn is_of_certificate(cause: &(dyn Error + 'static)) -> bool {
    match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => is_of_certificate(inner),
        None => matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))),
    }
}

fn authorities(settings: &WebhookSettings) -> Result<Vec<Certificate>, SenderError> {
    let certificates = settings.authorities.iter().map(|certificate| Certificate::from_der(certificate));
    Ok(certificates.collect::<Result<_, _>>()?)
}

/// Names are free text, headers are not: whatever is no visible ASCII, and `%` itself, is percent-encoded.
fn header_value(text: &str) -> HeaderValue {
    let mut value = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        let is_outer = index == 0 || index + 1 == text.len();
        if byte.is_ascii_graphic() && byte != b'%' || byte == b' ' && !is_outer {
            value.push(char::from(byte));
        } else {
            value.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
