//! Transcripts in `tests/golden/<dialect>/*.txt`, each line one step:
//!
//! * `> frame` comes from a client, `+ bytes` as a frame of bytes, `? command` is what it means;
//! * `~ join`, `~ change` and `~ leave` happen to somebody on a channel;
//! * `! notice` is told to a client, `@ event [columns]` happens, and `< frame` is what the client gets (`-` for nothing).
//!
//! A file is one connection: its steps go through one codec.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes the answers anew; read the difference before you commit it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    Address, Announced, Attendee, ClientLimits, Codec, Command, Credentials, DecodeError, DialectId, Form, Hello,
    Insforge, Notice, Published, Reference, Roster, Since,
};
use crate::{
    error::{Code, CommandError},
    model::{
        ChannelName, Columns, Credential, Event, EventKind, Gap, GapReason, Identity, Member, Message, Move, Offset,
        Op, PresenceChange, Relation, RowChange, SenderType, TableGrant, Timestamp, View, Who,
    },
};

const RELATION: u32 = 10;

#[test]
fn native_transcripts() {
    check_folder("native", DialectId::NATIVE);
}

#[test]
fn seed_transcripts() {
    check_folder("seed", DialectId::SEED);
}

#[test]
fn insforge_transcripts() {
    check_folder("insforge", DialectId::INSFORGE);
    let live = Insforge { live_codes: true, prefixes_channel: true };
    check_folder("insforge_live", DialectId::insforge(live));
}

fn check_folder(name: &str, dialect: DialectId) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    let entries = fs::read_dir(&folder).expect("the folder of transcripts");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files.iter().for_each(|file| check_file(file, dialect));
}

fn check_file(file: &Path, dialect: DialectId) {
    let expected = fs::read_to_string(file).expect("a transcript");
    let steps = expected.lines().filter(|line| !line.starts_with(['?', '<']));
    let mut codec = dialect.dialect().codec();
    let lines: Vec<String> = steps.flat_map(|step| play(step, &mut *codec, dialect)).collect();
    let actual = lines.join("\n") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file, actual).expect("the transcript can be written");
        return;
    }
    assert_eq!(actual, expected, "{} differs", file.display());
}

/// A step and its answer.
fn play(step: &str, codec: &mut dyn Codec, dialect: DialectId) -> Vec<String> {
    let answer = match step.split_once(' ') {
        Some((">", frame)) => format!("? {}", decoded(codec.decode(frame))),
        Some(("+", "bytes")) => format!("? {}", decoded(codec.decode_binary())),
        Some(("!", name)) => format!("< {}", told(name, codec, dialect)),
        Some(("~", step)) => format!("< {}", moved(step, dialect)),
        Some(("@", event)) => format!("< {}", happened(event, dialect)),
        _ => return vec![step.to_owned()],
    };
    vec![step.to_owned(), answer]
}

fn decoded(decoded: Result<Command, DecodeError>) -> String {
    match decoded {
        Ok(command) => format!("{}{}", describe(&command), referred(command_reference(&command))),
        Err(DecodeError { ends: true, .. }) => "no packet: the connection ends".to_owned(),
        Err(DecodeError { error, reference, .. }) => {
            format!("refused {}: {}{}", error.code.label(), error.text, referred(reference.as_ref()))
        }
    }
}

fn referred(reference: Option<&Reference>) -> String {
    reference.map_or(String::new(), |reference| format!(" (ref {})", reference.0))
}

fn command_reference(command: &Command) -> Option<&Reference> {
    match command {
        Command::Subscribe(it) => it.reference.as_ref(),
        Command::Publish(it) => it.reference.as_ref(),
        Command::Unsubscribe { reference, .. }
        | Command::Presence { reference, .. }
        | Command::AccessToken { reference, .. }
        | Command::Ping { reference } => reference.as_ref(),
        Command::Heartbeat | Command::Connect { .. } | Command::Leave | Command::Reply { .. } => None,
    }
}

fn describe(command: &Command) -> String {
    match command {
        Command::Subscribe(it) => {
            let since = match it.since {
                None => "now".to_owned(),
                Some(Since::Oldest) => "oldest".to_owned(),
                Some(Since::After(offset)) => format!("after {offset}"),
            };
            format!(
                "subscribe {} as {} from {since} events {:?} columns {:?}{}{}",
                it.channel,
                it.id,
                it.events,
                it.columns,
                it.filter.as_ref().map(|filter| format!(" filter {filter}")).unwrap_or_default(),
                if it.snapshot { " with a snapshot" } else { "" }
            )
        }
        Command::Unsubscribe { id, .. } => format!("unsubscribe {id}"),
        Command::Publish(it) => {
            format!("publish {} on {}: {} id {:?}", it.event, it.channel, it.payload, it.message_id)
        }
        Command::Presence { channel, standing, .. } => format!("presence on {channel}: {standing:?}"),
        Command::AccessToken { token, .. } => format!("access token of {} bytes", token.0.len()),
        Command::Ping { .. } => "ping".to_owned(),
        Command::Heartbeat => "heartbeat".to_owned(),
        Command::Connect { credentials } => match credentials {
            Credentials::Nothing => "connect with nothing".to_owned(),
            Credentials::Token(token) => format!("connect with a token of {} bytes", token.0.len()),
            Credentials::ApiKey(key) => format!("connect with a key of {} bytes", key.0.len()),
        },
        Command::Leave => "leave".to_owned(),
        Command::Reply { frame } => format!("reply {frame}"),
    }
}

fn offset(number: i64) -> Offset {
    Offset::new(number).expect("small")
}

fn roster() -> Roster {
    let ann = member(Who::User("ann".into()), Some(r#"{"busy":true}"#));
    let attendees = [ann, member(Who::Connection("c0ffee".into()), None)].map(|it| Arc::new(Attendee::new(it)));
    Roster::new(attendees.into())
}

fn member(who: Who, state: Option<&str>) -> Arc<Member> {
    Arc::new(Member { who, joined_at: moment(), state: state.map(Box::from) })
}

fn moment() -> Timestamp {
    Timestamp(SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456))
}

fn somebody() -> Identity {
    Identity {
        role: "authenticated".into(),
        claims: "{}".into(),
        user: Some("ann".into()),
        expires_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        credential: Credential::Token,
    }
}

fn nobody() -> Identity {
    Identity { role: "anon".into(), claims: "{}".into(), user: None, expires_at: None, credential: Credential::Nothing }
}

/// A table, and what may be read of it.
fn orders() -> (Columns, TableGrant) {
    let types: [(Arc<str>, Arc<str>); 2] = [("id".into(), "bigint".into()), ("name".into(), "text".into())];
    let columns = Columns::new(["id".into(), "name".into()]);
    let grant = TableGrant {
        comparable: [].into(),
        numbers: [].into(),
        columns: columns.clone(),
        types: types.into(),
        key: Some(["id".into()].into()),
        shape: Some(1),
        is_whole: false,
        is_judged: false,
        rights: 0,
    };
    (columns, grant)
}

fn told(name: &str, codec: &mut dyn Codec, dialect: DialectId) -> String {
    let address = Address { id: "mine".into(), channel: "table:orders".into() };
    let (name, reference) = match name.split_once(" for ") {
        Some((name, "nobody")) => (name, None),
        Some((name, reference)) => (name, Some(Reference(reference.into()))),
        None => (name, Some(Reference(r#""a\"b""#.into()))),
    };
    let reference = reference.as_ref();
    let (columns, grant) = orders();
    let some = columns.intersect(|name| name == "name");
    let (identity, nobody) = (somebody(), nobody());
    let roster = roster();
    let members = roster.json(dialect);
    let limits = ClientLimits { frame_bytes: 1024, subscriptions: 100, messages_per_second: 10, messages_burst: 20 };
    let subscribed = |recovered, table| Notice::Subscribed {
        reference,
        address: &address,
        offset: offset(17),
        recovered,
        table,
        members,
    };
    let hello = |offset, identity| {
        Notice::Hello(Hello { offset, connection: "c0ffee", identity, heartbeat_ms: 30_000, limits })
    };
    let retention = Gap { reason: GapReason::Retention, from: offset(6), to: offset(16) };
    let ahead = Gap { reason: GapReason::Ahead, from: offset(900), to: offset(42) };
    let rows: [Box<str>; 2] =
        [r#"{"id":9007199254740993,"name":"a\"b","secret":1}"#.into(), r#"{"id":2,"name":null}"#.into()];
    let refused = CommandError::no_such_channel();
    let slow = CommandError::new(Code::RateLimited, "slow down").retry_after(Duration::from_millis(250));
    let ended = CommandError::token_expired().ending();
    let notice = match name {
        "hello" => hello(Some(offset(17)), &identity),
        "hello to nobody before the log was read" => hello(None, &nobody),
        "subscribed to a table" => subscribed(true, Some((&columns, &grant))),
        "subscribed to a column without the key" => subscribed(true, Some((&some, &grant))),
        "subscribed to messages" => subscribed(true, None),
        "resumed with a gap" => subscribed(false, None),
        "unsubscribed" => Notice::Unsubscribed { reference, address: &address },
        "published" => Notice::Published { reference, message_id: "11-22", duplicate: false },
        "published again" => Notice::Published { reference: None, message_id: "11-22", duplicate: true },
        "identified" => Notice::Identified { reference, identity: &identity },
        "attending" => Notice::Attending { reference, channel: "room:1" },
        "members" => Notice::Members { channel: "room:1", members },
        "pong" => Notice::Pong { reference, offset: Some(offset(17)) },
        "heartbeat" => Notice::Heartbeat { offset: Some(offset(17)) },
        "gap" => Notice::Gap { address: &address, gap: &retention },
        "gap that goes back" => Notice::Gap { address: &address, gap: &ahead },
        "snapshot" => Notice::Snapshot { address: &address, rows: &rows, columns: &columns, end: None },
        "last of a snapshot" => {
            Notice::Snapshot { address: &address, rows: &rows[..1], columns: &some, end: Some(offset(17)) }
        }
        "snapshot of an empty table" => {
            Notice::Snapshot { address: &address, rows: &[], columns: &columns, end: Some(offset(17)) }
        }
        "database down" => Notice::Status { up: false, offset: Some(offset(17)) },
        "database up" => Notice::Status { up: true, offset: Some(offset(17)) },
        "refused" => Notice::Error { error: &refused, reference, address: Some(&address) },
        "refused at the door" => return refused_at_the_door(codec),
        "slow down" => Notice::Error { error: &slow, reference, address: None },
        "ended" => Notice::Error { error: &ended, reference: None, address: Some(&address) },
        unknown => panic!("no notice is called {unknown}"),
    };
    codec.encode(&notice).unwrap_or_else(|| "-".to_owned())
}

/// Somebody came, changed or went.
fn moved(step: &str, dialect: DialectId) -> String {
    let step = match step {
        "join" => Move::Join,
        "change" => Move::Change,
        _ => Move::Leave,
    };
    let member = member(Who::User("ann".into()), Some(r#"{"busy":true}"#));
    let channel = ChannelName::parse("room:1").expect("a name");
    let change = PresenceChange { channel, step, member, id: "11-22".into(), at: moment() };
    Announced::new(change).frame(dialect).map_or_else(|| "-".to_owned(), |frame| frame.to_string())
}

/// What each kind of credential is told.
fn refused_at_the_door(codec: &mut dyn Codec) -> String {
    let error = CommandError::new(Code::Unauthorized, "the token is not valid: its signature does not match");
    let kinds = [Credential::Nothing, Credential::AnonymousKey, Credential::ApiKey, Credential::Token];
    let told = kinds.map(|credential| codec.encode(&Notice::Refused { credential, error: &error }).unwrap_or_default());
    told.join(" ")
}

/// `<event> [to column,column…]`, with a `#` behind a column whose numbers are to be strings; `to messages` is what those
/// get who listen to messages.
fn happened(step: &str, dialect: DialectId) -> String {
    let (name, columns) = step.split_once(" to ").unwrap_or((step, "id,name,n,secret"));
    let event = Published::new(event(name), offset(16));
    let names = columns.split(',').map(|column| Arc::from(column.trim_end_matches('#')));
    let quoted: Vec<&str> = columns.split(',').filter_map(|column| column.strip_suffix('#')).collect();
    let columns = Columns::new(names).with_quoted(|name| quoted.contains(&name));
    let form = match event.event().kind {
        EventKind::Message(_) => Form::Message,
        EventKind::Unjudged(_) if columns.contains("messages") => Form::Message,
        _ => Form::Table { relation: RELATION, columns, view: View::Whole },
    };
    let address = Address { id: "mine".into(), channel: "table:orders".into() };
    let text = dialect.dialect().address(&address);
    event.body(dialect, &form).map_or_else(|| "-".to_owned(), |body| body.frame(&text))
}

fn event(name: &str) -> Event {
    const NEW: &str = r#"{"id":9007199254740993,"name":"a\"b","n":1.10,"secret":2}"#;
    const OLD: &str = r#"{"id":9007199254740993,"name":"a\"b","n":1.10,"secret":1}"#;
    let kind = match name {
        "insert" => row(Op::Insert, Some(NEW), None, false),
        "update" => row(Op::Update, Some(NEW), Some(OLD), false),
        "delete" => row(Op::Delete, None, Some(OLD), false),
        "oversize update" => row(Op::Update, Some(r#"{"id":1}"#), Some(r#"{"id":1}"#), true),
        "truncate" => EventKind::Truncate([relations()[1].clone()].into()),
        "truncate of a partition" => EventKind::Truncate(relations()),
        "gap mark" => EventKind::Unjudged(relations()),
        "gap mark for all" => EventKind::Unjudged([].into()),
        "nothing" => EventKind::Nothing,
        "message" => message(Some(r#"{"text": "hi", "n": 1.50}"#), Some("ann")),
        "message of the system" => message(Some("null"), None),
        "oversize message" => message(None, Some("ann")),
        "message that forges meta" => {
            message(Some(r#"{"a": {"meta": 1}, "meta": {"senderId": "x"}, "z": 1.50}"#), Some("ann"))
        }
        "message of a list" => message(Some("[1, 2.0]"), Some("ann")),
        "empty message" => message(Some("{}"), Some("ann")),
        "reserved message" => named_message("disconnect", Some("{}"), None),
        unknown => panic!("no event is called {unknown}"),
    };
    let at = moment();
    Event { offset: offset(17), txn: offset(19), at, kind }
}

/// A partition first, then the table that is subscribed to.
fn relations() -> Arc<[Relation]> {
    let relation = |oid, table: &str| Relation { oid, schema: "public".into(), table: table.into(), shape: Some(1) };
    [relation(11, "orders_2026"), relation(RELATION, "orders")].into()
}

fn row(op: Op, record: Option<&str>, old_record: Option<&str>, oversize: bool) -> EventKind {
    EventKind::Row(RowChange {
        op,
        relations: relations(),
        key: Some(["id".into()].into()),
        record: record.map(Box::from),
        old_record: old_record.map(Box::from),
        oversize,
    })
}

fn message(payload: Option<&str>, sender: Option<&str>) -> EventKind {
    named_message("said", payload, sender)
}

fn named_message(event: &str, payload: Option<&str>, sender: Option<&str>) -> EventKind {
    EventKind::Message(Message {
        channel: ChannelName::parse("room:1").expect("a name"),
        event: event.into(),
        payload: payload.map(Box::from),
        id: "0b0d5a36-5a3c-4a52-9d0c-3a8d3f1f2a11".into(),
        sender_type: SenderType(if sender.is_some() { "user" } else { "system" }.into()),
        sender_id: sender.map(|_| "6b3c0d1e-0f4b-4e0e-8d5e-2d1c9a7b6c11".into()),
        sender: sender.map(Box::from),
    })
}
