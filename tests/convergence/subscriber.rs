//! A client that follows one table or some of its rows, leaves and comes back.

use realtime_tests::random::Random;
use realtime_tests::{Client, Stack, token};
use serde_json::json;
use tokio::sync::watch;

use crate::state::{Next, State};
use crate::world::{Identity, View};

/// A client and what it has.
pub(crate) struct Subscriber {
    /// Who it is.
    pub(crate) identity: Identity,
    /// What it follows.
    pub(crate) view: View,
    /// What it has.
    pub(crate) state: State,
    /// How many times it came back with an offset, and how many times it had to start over.
    pub(crate) resumed: u64,
    /// How many times it had to start over.
    pub(crate) started_over: u64,
    client: Option<Client>,
    random: Random,
}

impl Subscriber {
    /// One that is not connected yet.
    pub(crate) fn new(identity: Identity, view: View, random: Random) -> Self {
        let state = State::default();
        Self { identity, view, state, resumed: 0, started_over: 0, client: None, random }
    }

    /// Follows its rows until everything up to the offset that it is told has come.
    pub(crate) async fn follow(&mut self, stack: &Stack, mut quiet: watch::Receiver<i64>) {
        loop {
            let mut client = match self.client.take() {
                Some(client) => client,
                None => self.connect(stack).await,
            };
            if self.listen(&mut client, &mut quiet).await {
                self.client = Some(client);
                return;
            }
        }
    }

    async fn connect(&mut self, stack: &Stack) -> Client {
        let mut claims = self.identity.claims.clone();
        claims["exp"] = json!(token::in_seconds(3600));
        let mut client = stack.connect().token(&stack.signer.sign(&claims)).open().await;
        let mut frame = json!({"channel": format!("table:{}", self.view.table), "snapshot": true});
        if let Some(filter) = self.view.filter {
            frame["filter"] = json!(filter);
        }
        if let Some(offset) = self.state.offset {
            frame["since"] = json!(offset);
            self.resumed += 1;
        }
        let ack = client.subscribe_with(frame).await;
        self.state.begin(&ack);
        client
    }

    /// Takes frames until the quiet point is reached (true), or the connection is given up (false).
    async fn listen(&mut self, client: &mut Client, quiet: &mut watch::Receiver<i64>) -> bool {
        let mut patience = 1 + self.random.below(60);
        loop {
            let head = *quiet.borrow_and_update();
            if head > 0 {
                return self.reach(client, head).await;
            }
            let frame = tokio::select! {
                frame = client.next() => frame,
                changed = quiet.changed() => { changed.unwrap(); continue }
            };
            if self.take(&frame) == Next::StartOver || patience == 0 {
                return false;
            }
            patience -= 1;
        }
    }

    /// Pings until the cursor of the connection has passed everything.
    async fn reach(&mut self, client: &mut Client, head: i64) -> bool {
        loop {
            client.send(json!({"type": "ping", "ref": "quiet"})).await;
            loop {
                let frame = client.next().await;
                if frame.kind() == "pong" {
                    if frame.offset() >= head && self.state.has_rows() {
                        return true;
                    }
                    break;
                }
                if self.take(&frame) == Next::StartOver {
                    return false;
                }
            }
        }
    }

    fn take(&mut self, frame: &realtime_tests::Frame) -> Next {
        let next = self.state.take(frame);
        if next == Next::StartOver {
            self.started_over += 1;
            self.state.forget();
        }
        next
    }
}
