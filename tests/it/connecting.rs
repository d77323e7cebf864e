//! The way to the database: TLS, passwords, several hosts.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use realtime_tests::{Server, Stack, server};
use tokio::task::spawn_blocking;
use xtask::cluster::Options;

use crate::fixtures::TABLE;

/// A folder with a certificate for 127.0.0.1 and its key, made by and for the server's account.
struct Certificate {
    folder: PathBuf,
    tree: xtask::cluster::Tree,
}

impl Certificate {
    /// Makes one that says `extensions` of itself.
    fn new(tree: xtask::cluster::Tree, extensions: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("realtime-tests-{}", uuid::Uuid::new_v4()));
        let certificate = Self { folder, tree };
        certificate.run("mkdir", &["-m", "755", &certificate.path("")]);
        let (key, cert) = (certificate.path("key.pem"), certificate.path("cert.pem"));
        let words = format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost {extensions} -keyout {key} -out {cert}"
        );
        certificate.run("openssl", &words.split(' ').collect::<Vec<_>>());
        certificate.run("chmod", &["600", &key]);
        certificate
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn run(&self, program: &str, words: &[&str]) {
        let mut command = self.tree.account.command(program);
        let output =
            command.args(words).stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn options(&self) -> Options {
        server::options()
            .set("ssl", "on")
            .set("ssl_cert_file", &self.path("cert.pem"))
            .set("ssl_key_file", &self.path("key.pem"))
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.run("rm", &["-rf", &self.path("")]);
    }
}

const SESSIONS: &str = "select count(*) filter (where ssl), count(*) from pg_stat_ssl join pg_stat_activity using (pid)
                         where datname = current_database() and application_name like 'realtime-sidecar%'";

/// All or none of the sidecar's sessions use TLS.
async fn uses_tls(stack: &Stack) -> bool {
    let row = stack.rows(SESSIONS).await.remove(0);
    let count = |index: usize| row[index].as_ref().unwrap().parse::<i32>().unwrap();
    assert!(count(1) >= 2 && [0, count(1)].contains(&count(0)), "{row:?}");
    count(0) > 0
}

/// Starts a server with a certificate that says `extensions` of itself, and checks who connects how: with TLS, without,
/// or not at all. `{good}` in the parameters names that certificate as the trusted one, `{wrong}` another.
async fn check_tls(extensions: &'static str, cases: &[(&str, Option<bool>)]) {
    let builds_with_tls =
        spawn_blocking(|| !Server::shared().psql("postgres", "show ssl_library").is_empty()).await.unwrap();
    if !builds_with_tls {
        println!("this Postgres was built without TLS");
        return;
    }
    let (certificate, other, server) = spawn_blocking(|| {
        let tree = Server::shared().tree();
        let certificate = Certificate::new(tree.clone(), extensions);
        let server = Server::start(&certificate.options());
        (certificate, Certificate::new(tree, extensions), server)
    })
    .await
    .unwrap();
    let mut stack = Stack::builder().server(&server).sql(TABLE).start().await;
    let url = stack.sidecar_url(server.port());
    for (parameters, expected) in cases {
        let parameters = parameters
            .replace("{good}", &format!("sslrootcert={}", certificate.path("cert.pem")))
            .replace("{wrong}", &format!("sslrootcert={}", other.path("cert.pem")));
        stack.sidecar.kill();
        stack.sidecar.set("REALTIME_DATABASE_URL", &format!("{url}?{parameters}"));
        if let Some(expected) = expected {
            stack.sidecar.start_again();
            stack.sidecar.ready().await;
            let mut client = stack.native().await;
            client.subscribe("table:t").await;
            stack.exec("delete from t; insert into t values (1)").await;
            client.find("the row", |frame| frame["payload"]["type"] == "INSERT").await;
            assert_eq!(uses_tls(&stack).await, *expected, "{parameters}");
        } else {
            let mut check = stack.sidecar.command(&["check"]);
            let output = spawn_blocking(move || check.output().unwrap()).await.unwrap();
            assert!(!output.status.success(), "{parameters} was accepted");
        }
    }
}

#[tokio::test]
async fn tls_to_postgres_is_used_and_verified_as_asked() {
    let cases = [
        ("sslmode=disable", Some(false)),
        ("sslmode=prefer", Some(true)),
        ("sslmode=require", Some(true)),
        ("sslmode=verify-ca&{good}", Some(true)),
        ("sslmode=verify-full&{good}", Some(true)),
        ("sslmode=verify-full&{wrong}", None),
        ("sslmode=verify-ca&{wrong}", None),
        ("sslmode=verify-full", None),
    ];
    check_tls("-addext basicConstraints=CA:FALSE -addext subjectAltName=IP:127.0.0.1", &cases).await;
}

/// What `openssl req -x509` makes by itself, and most people have.
#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_trusted_when_it_is_named() {
    let cases = [
        ("sslmode=verify-full&{good}", Some(true)),
        ("sslmode=verify-ca&{good}", Some(true)),
        ("sslmode=verify-full&{wrong}", None),
        ("sslmode=verify-ca&{wrong}", None),
    ];
    check_tls("-addext subjectAltName=IP:127.0.0.1", &cases).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_trusted_only_when_names_do_not_matter() {
    let cases = [("sslmode=verify-full&{good}", None), ("sslmode=verify-ca&{good}", Some(true))];
    check_tls("-addext subjectAltName=DNS:elsewhere.example", &cases).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let mut stack = Stack::with(TABLE).await;
    stack.sidecar.stop().await;
    let url = stack.sidecar_url(stack.server().port());
    stack.sidecar.set("REALTIME_DATABASE_URL", &format!("{url}?sslmode=require"));
    let mut check = stack.sidecar.command(&["check"]);
    let output = spawn_blocking(move || check.output().unwrap()).await.unwrap();
    assert!(!output.status.success());
    stack.sidecar.set("REALTIME_DATABASE_URL", &format!("{url}?sslmode=prefer"));
    stack.sidecar.start_again();
    stack.sidecar.ready().await;
}

#[tokio::test]
async fn passwords_are_sent_and_never_shown() {
    let server =
        spawn_blocking(|| Server::start(&Options { password: Some("secret-super".into()), ..server::options() }));
    let server: Arc<Server> = server.await.unwrap();
    let database = server.create_database();
    server.psql(&database, "alter role realtime_sidecar password 'canary-pa:ss@word'");
    let url = |password: &str| format!("postgres://realtime_sidecar:{password}@127.0.0.1:{}/{database}", server.port());
    let secret = realtime_tests::Signer::random();
    let settings = [
        ("REALTIME_DATABASE_URL".to_owned(), url("canary-pa%3Ass%40word")),
        ("REALTIME_JWT_SECRET".to_owned(), secret.secret().to_owned()),
        ("REALTIME_LOG".to_owned(), "trace".to_owned()),
    ];
    let mut sidecar = realtime_tests::Sidecar::start(&settings);
    sidecar.ready().await;
    assert!(!sidecar.log().contains("canary"), "{}", sidecar.log());
    sidecar.stop().await;
    sidecar.set("REALTIME_DATABASE_URL", &url("canary-wrong"));
    let mut check = sidecar.command(&["check"]);
    let output = spawn_blocking(move || check.output().unwrap()).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && said.contains("password") && !said.contains("canary"), "{said}");
}

#[tokio::test]
async fn of_several_hosts_the_one_that_can_write_is_taken() {
    let mut stack = Stack::with(TABLE).await;
    stack.sidecar.stop().await;
    let dead = realtime_tests::port::free().port();
    let url = stack.sidecar_url(stack.server().port());
    let several = url.replace("@127.0.0.1:", &format!("@127.0.0.1:{dead},127.0.0.1:"));
    stack.sidecar.set("REALTIME_DATABASE_URL", &format!("{several}?target_session_attrs=read-write"));
    stack.sidecar.start_again();
    stack.sidecar.ready().await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1);
}
