//! Plays the conversations of a page with a sidecar, and compares what it answers.
//!
//! * `> {…}` is what the client sends,
//! * `< {…}` is what the server sends: all of it but members whose value is `"…"`, or that follow a `…`; of lines that
//!   follow each other those of different types may come in another order,
//! * `# …` is SQL that somebody runs,
//! * `~` cuts the line and connects again.
//!
//! Offsets are those of a log that somebody else has; what is compared is their distance from each other.

use realtime_tests::{Client, Connect, Stack};
use serde_json::{Map, Value};

use super::page::Block;

const ANY: &str = "…";
const OFFSETS: [&str; 5] = ["offset", "txn", "since", "from", "to"];

/// A conversation that goes on over several blocks of a page.
pub(crate) struct Conversation<'a> {
    stack: &'a Stack,
    connect: Connect,
    client: Client,
    /// Our offsets minus those of the page.
    distance: Option<i64>,
}

impl<'a> Conversation<'a> {
    /// Begins with a connection.
    pub(crate) async fn begin(stack: &'a Stack, connect: Connect) -> Self {
        let client = connect.open().await;
        Self { stack, connect, client, distance: None }
    }

    /// Plays a block.
    pub(crate) async fn play(&mut self, block: &Block) {
        let mut expected = Vec::new();
        for line in block.text.lines().filter(|line| !line.is_empty()) {
            let place = format!("{}: {line}", block.place);
            let (mark, rest) = line.split_at(1);
            if mark == "<" {
                expected.push((pattern(rest).unwrap_or_else(|error| panic!("{place}: {error}")), place));
                continue;
            }
            self.expect(&mut expected).await;
            match mark {
                ">" => self.send(rest, &place).await,
                "#" => self.stack.exec(rest).await,
                "~" => self.client = self.connect.open().await,
                _ => panic!("{place}: begin the line with one of > < # ~"),
            }
        }
        self.expect(&mut expected).await;
    }

    async fn send(&mut self, text: &str, place: &str) {
        let mut frame: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}"));
        if let Some(distance) = self.distance {
            shift(&mut frame, distance);
        }
        self.client.send(frame).await;
    }

    async fn expect(&mut self, expected: &mut Vec<(Value, String)>) {
        while !expected.is_empty() {
            let came = self.client.next().await;
            let is_it = |(wanted, _): &(Value, String)| wanted["type"] == came["type"];
            let index =
                expected.iter().position(is_it).unwrap_or_else(|| panic!("{came} came instead of {expected:?}"));
            let (mut wanted, place) = expected.remove(index);
            let ours = first_offset(came.value()).zip(first_offset(&wanted)).map(|(ours, theirs)| ours - theirs);
            if let Some(distance) = self.distance.or(ours) {
                self.distance = Some(distance);
                shift(&mut wanted, distance);
            }
            assert!(fits(&wanted, came.value()), "{place}\nbut it is {came}");
        }
    }
}

/// A frame in which `, …}` stands for members that are not shown.
fn pattern(text: &str) -> Result<Value, serde_json::Error> {
    let open = text.replace("{…}", &format!("{{\"{ANY}\": 0}}")).replace(", …}", &format!(", \"{ANY}\": 0}}"));
    serde_json::from_str(&open)
}

fn shift(frame: &mut Value, distance: i64) {
    if let Value::Object(members) = frame {
        for (name, value) in members {
            match value.as_i64() {
                Some(number) if OFFSETS.contains(&name.as_str()) => *value = (number + distance).into(),
                _ => (),
            }
        }
    }
}

fn first_offset(frame: &Value) -> Option<i64> {
    frame["offset"].as_i64()
}

fn fits(wanted: &Value, came: &Value) -> bool {
    match (wanted, came) {
        (Value::Object(wanted), Value::Object(came)) => members_fit(wanted, came),
        (Value::Array(wanted), Value::Array(came)) => {
            wanted.len() == came.len() && wanted.iter().zip(came).all(|(wanted, came)| fits(wanted, came))
        }
        (Value::String(text), _) if text == ANY => true,
        _ => wanted == came,
    }
}

fn members_fit(wanted: &Map<String, Value>, came: &Map<String, Value>) -> bool {
    let is_open = wanted.contains_key(ANY);
    let named = || wanted.iter().filter(|(name, _)| *name != ANY);
    (is_open || named().count() == came.len())
        && named().all(|(name, value)| came.get(name).is_some_and(|came| fits(value, came)))
}
