//! Addresses that are judged where they are connected to.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    address::{AddressPolicy, Looking, Lookup},
    outcome::Answer,
    request::Poster,
};
use crate::{
    config::{Config, Sources, WebhookSettings},
    postgres::webhook::{Claimed, Content},
};

fn settings(allow: &[&str]) -> WebhookSettings {
    let set = |name: &str, value: String| (name.to_owned(), value);
    let environment = vec![
        set("REALTIME_DATABASE_URL", "postgres://u@h/d".to_owned()),
        set("REALTIME_WEBHOOKS_ALLOW", allow.join(",")),
    ];
    Config::load(&Sources { environment, ..Sources::default() }).expect("good settings").webhooks
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn public_addresses_are_asked_and_all_others_are_not() {
    let policy = AddressPolicy::new(Vec::new());
    for public in [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "169.253.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00::1",
        "2001:4860:4860::8888",
    ] {
        assert!(policy.judge(address(public)).is_ok(), "{public}");
    }
    for inner in [
        "0.0.0.0",
        "0.1.2.3",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(policy.judge(address(inner)).is_err(), "{inner}");
    }
}

#[test]
fn what_is_allowed_is_allowed_and_nothing_beside_it() {
    let policy = AddressPolicy::new(settings(&["10.0.0.0/8", "::1", "127.0.0.2"]).allow);
    for good in ["10.9.9.9", "::1", "127.0.0.2"] {
        assert!(policy.judge(address(good)).is_ok(), "{good}");
    }
    for bad in ["192.168.0.1", "127.0.0.1", "127.0.0.3", "::ffff:10.0.0.1", "::2"] {
        assert!(policy.judge(address(bad)).is_err(), "{bad}");
    }
}

/// Says something else each time it is asked, the last for ever.
struct Flipping {
    answers: Vec<Vec<IpAddr>>,
    asked: Arc<AtomicUsize>,
}

impl Lookup for Flipping {
    fn lookup(&self, _host: &str) -> Looking {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let answer: io::Result<Vec<IpAddr>> = Ok(self.answers[turn].clone());
        Box::pin(async move { answer })
    }
}

fn delivery(url: String) -> Claimed {
    let content = Content { channel: "c".into(), event: "e".into(), payload: "{}".into() };
    Claimed { id: "1".into(), url, host: "h".into(), attempts: 0, message_id: "2".into(), content: Ok(content) }
}

/// Answers every request with 200 on a connection of its own, and counts them.
async fn receiver(listener: TcpListener, count: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_leads_nowhere_else() {
    // 127.0.0.2 stands for the public address, 127.0.0.1 for what only we can reach: something listens on both.
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = Arc::new(AtomicUsize::new(0));
    let answers = vec![
        vec![address("127.0.0.2")],
        vec![address("127.0.0.1")],
        vec![address("127.0.0.1"), address("127.0.0.2")],
        vec![address("::ffff:127.0.0.1"), address("169.254.169.254")],
        vec![],
    ];
    let lookup = Flipping { answers, asked: Arc::clone(&asked) };
    let poster = Poster::new(&settings(&["127.0.0.2/32"]), Box::new(lookup)).expect("a client");
    let count = Arc::new(AtomicUsize::new(0));
    let post = async {
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(poster.post(&delivery(format!("http://flip.example:{port}/"))).await);
        }
        answers
    };
    let answers = tokio::select! {
        answers = post => answers,
        () = receiver(listener, Arc::clone(&count)) => panic!("the receiver ended"),
    };
    let is_refused = |answer: &Answer| matches!(answer, Answer::Refused(why) if why.contains("not a public address"));
    assert_eq!(answers[0], Answer::Status(200));
    assert!(is_refused(&answers[1]), "{answers:?}");
    assert_eq!(answers[2], Answer::Status(200), "what is not allowed among its addresses is passed over");
    assert!(is_refused(&answers[3]), "{answers:?}");
    assert!(matches!(answers[4], Answer::None(_)), "{answers:?}");
    assert_eq!((count.load(Ordering::SeqCst), asked.load(Ordering::SeqCst)), (2, 5));
}
