//! Webhooks over https: whose certificates are accepted, and what is written down of the others.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use realtime_tests::{Builder, Catcher};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::webhooks::{hooked, outcome};

/// An authority of nobody but us; its folder goes with this value.
struct Authority(PathBuf);

impl Authority {
    fn new() -> Self {
        let authority = Self(std::env::temp_dir().join(format!("realtime-tests-{}", uuid::Uuid::new_v4())));
        std::fs::create_dir(&authority.0).unwrap();
        let name = uuid::Uuid::new_v4();
        authority.request("ca", &format!("-subj /CN={name} -addext keyUsage=critical,keyCertSign"));
        authority
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// Makes `<name>.pem` and `<name>.key`.
    fn request(&self, name: &str, words: &str) {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        let words = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 {words} -keyout {key} -out {cert}"
        );
        let output = Command::new("openssl").args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A receiver with a certificate of this authority for such a name (`IP:…` or `DNS:…`).
    async fn receiver(&self, name: &str) -> Catcher {
        let (ca, key) = (self.path("ca.pem"), self.path("ca.key"));
        let extensions = format!("-addext subjectAltName={name} -addext basicConstraints=critical,CA:FALSE");
        self.request("receiver", &format!("-subj /CN=receiver -CA {ca} -CAkey {key} {extensions}"));
        let certificate = CertificateDer::from_pem_file(self.path("receiver.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("receiver.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key).unwrap();
        Catcher::start_tls(TlsAcceptor::from(Arc::new(config))).await
    }

    /// A sidecar that trusts this authority.
    fn trusted(&self, builder: Builder) -> Builder {
        builder.set("REALTIME_WEBHOOKS_CA_FILE", &self.path("ca.pem"))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const PUBLISH: &str = r#"select realtime.publish('room:1', 'said', '{"text": "für alle"}')"#;

#[tokio::test]
async fn a_receiver_of_a_named_authority_gets_what_others_get() {
    let authority = Authority::new();
    let by_address = authority.receiver("IP:127.0.0.1").await;
    let by_name = authority.receiver("DNS:localhost").await;
    let urls = [by_address.url("/hook"), format!("https://localhost:{}/hook", by_name.port())];
    let stack = authority.trusted(hooked(&urls)).start().await;
    stack.exec(PUBLISH).await;
    assert_eq!(outcome(&stack).await, ["delivered 1 200", "delivered 1 200"]);
    for receiver in [by_address, by_name] {
        let caught = receiver.wait("/hook", 1).await.remove(0);
        assert_eq!(caught.body, r#"{"text": "für alle"}"#);
        assert_eq!((&*caught.headers["x-insforge-channel"], &*caught.headers["x-insforge-event"]), ("room:1", "said"));
        assert_eq!(receiver.all().len(), 1);
    }
}

/// What a delivery to a receiver whose certificate is not accepted has written down.
async fn refusal(builder: Builder, receiver: &Catcher) -> String {
    let stack = builder.set("REALTIME_WEBHOOKS_RETRY_MS", "20").set("REALTIME_WEBHOOKS_RETRY", "network").start().await;
    stack.exec(PUBLISH).await;
    let mut outcome = outcome(&stack).await;
    assert!(receiver.all().is_empty(), "no payload was sent to somebody else");
    let retried = stack.sidecar.metric("realtime_webhooks_total{outcome=\"retried\"}").await;
    assert_eq!((outcome.len(), retried), (1, 2.0), "tried again as whoever is not reached");
    outcome.remove(0)
}

#[tokio::test]
async fn a_receiver_of_an_unknown_authority_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let receiver = authority.receiver("IP:127.0.0.1").await;
    for builder in [hooked(&[receiver.url("/hook")]), other.trusted(hooked(&[receiver.url("/hook")]))] {
        let told = refusal(builder, &receiver).await;
        assert!(told.starts_with("failed 3 invalid peer certificate: UnknownIssuer"), "{told}");
        assert!(told.ends_with("name its authority in webhooks.ca_file"), "{told}");
    }
}

#[tokio::test]
async fn a_receiver_with_another_name_gets_nothing() {
    let authority = Authority::new();
    for name in ["DNS:elsewhere.example", "IP:127.0.0.2"] {
        let receiver = authority.receiver(name).await;
        let told = refusal(authority.trusted(hooked(&[receiver.url("/hook")])), &receiver).await;
        assert!(told.starts_with("failed 3 invalid peer certificate: certificate not valid for name"), "{told}");
        assert!(told.contains("ask it by a name of its certificate"), "{told}");
    }
}
