//! The state of a client that follows one channel: frames in, steps out. Pure.

use std::{fmt, str::FromStr, time::Duration};

use serde::Deserialize;
use serde_json::{json, value::RawValue};

/// The `ref` of the one command that is sent.
const SUBSCRIBE_REF: &str = "tail";

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With the oldest event that the log still has.
    Oldest,
    /// After this offset.
    Offset(i64),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oldest" => Ok(Self::Oldest),
            number => number.parse().map(Self::Offset).map_err(|_| "give an offset or oldest".to_owned()),
        }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oldest => f.write_str("the oldest event"),
            Self::Offset(offset) => write!(f, "offset {offset}"),
        }
    }
}

/// What to do about a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Print an event.
    Event(String),
    /// Print a gap and say it loudly.
    Gap(String, String),
    /// Tell the person at the terminal.
    Note(String),
    /// Try again on a new line.
    Again(String),
    /// Trying again would be refused again.
    Refused(String),
}

/// Knows what was printed, so that a new line begins right behind it.
#[derive(Debug)]
pub(super) struct Follower {
    channel: String,
    since: Option<Since>,
    is_subscribed: bool,
    made_progress: bool,
    heartbeat: Duration,
}

/// The members of any frame that matter here.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    offset: Option<i64>,
    recovered: Option<bool>,
    from: Option<i64>,
    to: Option<i64>,
    reason: Option<String>,
    database: Option<String>,
    code: Option<String>,
    error: Option<String>,
    #[serde(rename = "final")]
    is_final: Option<bool>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    heartbeat_ms: Option<u64>,
}

impl Follower {
    pub(super) fn new(channel: &str, since: Option<Since>) -> Self {
        let heartbeat = Duration::from_secs(30);
        Self { channel: channel.to_owned(), since, is_subscribed: false, made_progress: false, heartbeat }
    }

    /// The command that begins a line.
    pub(super) fn subscribe(&mut self) -> String {
        self.is_subscribed = false;
        let mut frame = json!({ "type": "subscribe", "ref": SUBSCRIBE_REF, "channel": self.channel });
        match self.since {
            Some(Since::Oldest) => frame["since"] = json!("oldest"),
            Some(Since::Offset(offset)) => frame["since"] = json!(offset),
            None => (),
        }
        frame.to_string()
    }

    /// Where a new line would begin.
    pub(super) fn position(&self) -> String {
        self.since.map_or_else(|| "now".to_owned(), |since| since.to_string())
    }

    /// How long a line may be silent.
    pub(super) fn silence_max(&self) -> Duration {
        self.heartbeat * 5 / 2
    }

    /// Whether anything worked since this was asked last.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.made_progress)
    }

    /// Takes one message, which may be an array of frames.
    pub(super) fn take(&mut self, message: &str) -> Vec<Step> {
        match serde_json::from_str::<Vec<&RawValue>>(message) {
            Ok(frames) => frames.into_iter().filter_map(|frame| self.take_one(frame.get())).collect(),
            Err(_) => self.take_one(message).into_iter().collect(),
        }
    }

    fn take_one(&mut self, text: &str) -> Option<Step> {
        let Ok(frame) = serde_json::from_str::<Frame<'_>>(text) else {
            return Some(Step::Note("a frame that is not of this protocol came and was passed over".to_owned()));
        };
        match frame.kind {
            "hello" => self.hello(&frame),
            "ack" => Some(self.ack(&frame)),
            "broadcast" => {
                self.advance(frame.offset);
                Some(Step::Event(text.to_owned()))
            }
            "gap" => Some(self.gap(&frame, text)),
            "heartbeat" if self.is_subscribed => {
                self.advance(frame.offset);
                None
            }
            "status" => frame.database.map(|state| Step::Note(format!("the database is {state}"))),
            "error" => Some(error(&frame)),
            // The protocol grows; unknown types are nothing to us.
            _ => None,
        }
    }

    fn hello(&mut self, frame: &Frame<'_>) -> Option<Step> {
        self.heartbeat = frame.heartbeat_ms.map_or(self.heartbeat, Duration::from_millis);
        None
    }

    fn ack(&mut self, frame: &Frame<'_>) -> Step {
        self.is_subscribed = true;
        self.made_progress = true;
        let position = self.position();
        // With a position of our own, the replay from there has yet to come.
        if self.since.is_none() {
            self.since = frame.offset.map(Since::Offset);
        }
        let broken = if frame.recovered == Some(false) { ", not everything can be had" } else { "" };
        Step::Note(format!("subscribed to {} from {position}{broken}", self.channel))
    }

    /// What comes next lies behind the gap, even when its end lies before its begin: then numbers start over.
    fn gap(&mut self, frame: &Frame<'_>, text: &str) -> Step {
        self.since = frame.to.map(Since::Offset).or(self.since);
        let offset = |offset: Option<i64>| offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
        let reason = frame.reason.as_deref().unwrap_or("unknown");
        let told = format!("events from {} to {} cannot be had ({reason})", offset(frame.from), offset(frame.to));
        Step::Gap(text.to_owned(), told)
    }

    fn advance(&mut self, offset: Option<i64>) {
        let Some(offset) = offset else {
            return;
        };
        self.made_progress = true;
        // A heartbeat may be older than an event that overtook it.
        let known = match self.since {
            Some(Since::Offset(known)) => known,
            Some(Since::Oldest) | None => i64::MIN,
        };
        self.since = Some(Since::Offset(known.max(offset)));
    }
}

/// Errors that pass are tried again, final ones and refusals are not, the rest is told.
fn error(frame: &Frame<'_>) -> Step {
    let code = frame.code.as_deref().unwrap_or("ERROR");
    let text = format!("{code}: {}", frame.error.as_deref().unwrap_or("no reason given"));
    let is_ours = frame.is_final == Some(true) || frame.reference.as_deref() == Some(SUBSCRIBE_REF);
    match code {
        "UNAVAILABLE" | "RATE_LIMITED" | "INTERNAL_ERROR" if is_ours => Step::Again(text),
        _ if is_ours => Step::Refused(text),
        _ => Step::Note(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribed(since: Option<Since>) -> Follower {
        let mut follower = Follower::new("room:1", since);
        follower.subscribe();
        follower.take(r#"{"type":"hello","offset":5,"heartbeat_ms":1000}"#);
        follower.take(r#"{"type":"ack","ref":"tail","id":"room:1","channel":"room:1","offset":10,"recovered":true}"#);
        follower
    }

    #[test]
    fn a_new_line_begins_behind_the_last_event() {
        let mut follower = subscribed(None);
        let event = r#"{"type":"broadcast","offset":12,"payload":{"n":12345678901234567890}}"#;
        assert_eq!(follower.take(event), [Step::Event(event.to_owned())]);
        assert_eq!(follower.subscribe(), r#"{"channel":"room:1","ref":"tail","since":12,"type":"subscribe"}"#);
    }

    #[test]
    fn without_events_a_new_line_begins_where_the_first_one_did() {
        assert_eq!(subscribed(None).position(), "offset 10");
        assert_eq!(subscribed(Some(Since::Oldest)).position(), "the oldest event");
        // The ack says where the log ends, not what was delivered.
        assert_eq!(subscribed(Some(Since::Offset(3))).position(), "offset 3");
    }

    #[test]
    fn heartbeats_move_the_position_only_once_subscribed_and_never_back() {
        let mut follower = Follower::new("c", Some(Since::Offset(3)));
        follower.subscribe();
        follower.take(r#"{"type":"heartbeat","offset":9}"#);
        assert_eq!(follower.position(), "offset 3");
        let mut follower = subscribed(Some(Since::Offset(3)));
        follower.take(r#"{"type":"heartbeat","offset":9}"#);
        follower.take(r#"{"type":"heartbeat","offset":8}"#);
        assert_eq!(follower.position(), "offset 9");
    }

    #[test]
    fn messages_may_hold_several_frames() {
        let mut follower = subscribed(None);
        let steps = follower.take(r#"[{"type":"broadcast","offset":11},{"type":"broadcast","offset":12}]"#);
        assert_eq!(steps.len(), 2);
        assert_eq!(follower.position(), "offset 12");
    }

    #[test]
    fn gaps_are_loud_and_may_lead_back() {
        let mut follower = subscribed(Some(Since::Offset(100)));
        let steps = follower.take(r#"{"type":"gap","id":"c","reason":"ahead","from":100,"to":7}"#);
        assert!(matches!(&steps[..], [Step::Gap(_, text)] if text.contains("100 to 7") && text.contains("ahead")));
        assert_eq!(follower.position(), "offset 7");
    }

    #[test]
    fn errors_are_final_passing_or_told() {
        let mut follower = subscribed(None);
        let mut step = |text: &str| follower.take(text).remove(0);
        let refused = step(r#"{"type":"error","code":"UNAUTHORIZED","error":"no","ref":"tail"}"#);
        assert!(matches!(refused, Step::Refused(_)));
        let ended = step(r#"{"type":"error","code":"TABLE_DROPPED","error":"gone","id":"c","final":true}"#);
        assert!(matches!(ended, Step::Refused(_)));
        let passing = step(r#"{"type":"error","code":"UNAVAILABLE","error":"later","ref":"tail"}"#);
        assert!(matches!(passing, Step::Again(_)));
        assert!(matches!(step(r#"{"type":"error","code":"SCHEMA_CHANGED","error":"x","id":"c"}"#), Step::Note(_)));
        assert!(matches!(step("nonsense"), Step::Note(_)));
        assert_eq!(follower.take(r#"{"type":"presence","members":[]}"#), []);
    }
}
