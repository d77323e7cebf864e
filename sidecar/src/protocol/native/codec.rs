//! Client frames into commands, notices into server frames.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    encode,
    wire::{self, Ack, ColumnType, ServerFrame},
};
use crate::{
    error::{Code, CommandError},
    model::{Columns, Offset, TableGrant, Timestamp},
    protocol::{Codec, Command, DecodeError, Notice, Publish, Reference, Since, Standing, Subscribe, Token},
};

/// The native protocol keeps nothing per connection.
pub(super) struct NativeCodec;

const REFERENCE_BYTES_MAX: usize = 128;
const ID_BYTES_MAX: usize = 255;

impl Codec for NativeCodec {
    fn decode(&mut self, text: &str) -> Result<Command, DecodeError> {
        let envelope: wire::Envelope<'_> =
            parse(text).map_err(|error| DecodeError { error, reference: None, ends: false })?;
        let reference =
            reference(envelope.reference).map_err(|error| DecodeError { error, reference: None, ends: false })?;
        let command = kind(envelope.kind).and_then(|kind| command(&kind, text, reference.clone()));
        command.map_err(|error| DecodeError { error, reference, ends: false })
    }

    fn encode(&mut self, notice: &Notice<'_>) -> Option<String> {
        Some(match notice {
            Notice::Snapshot { address, rows, columns, end } => encode::snapshot(address, rows, columns, *end),
            Notice::Members { channel, members } => encode::presence(channel, "sync", members),
            notice => serde_json::to_string(&server_frame(notice))
                .expect("frames have text keys only, so they are always JSON"),
        })
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, CommandError> {
    // The parser's own words may repeat the client's values; place and kind never do.
    serde_json::from_str(text).map_err(|error| {
        let what = if error.is_data() {
            "a field of the frame has the wrong type or stands twice"
        } else {
            "the frame is not JSON"
        };
        let place = format!("line {} column {}", error.line(), error.column());
        CommandError::invalid(format!("{what} at {place}: compare it with the protocol's frames"))
    })
}

fn reference(raw: Option<&RawValue>) -> Result<Option<Reference>, CommandError> {
    let Some(json) = raw.map(RawValue::get).filter(|json| *json != "null") else {
        return Ok(None);
    };
    let fits = json.len() <= REFERENCE_BYTES_MAX && !json.starts_with(['{', '[', 't', 'f']);
    fits.then(|| Some(Reference(json.into())))
        .ok_or_else(|| CommandError::invalid("ref must be a string or a number of at most 128 bytes"))
}

/// The frame's type; empty when it has none.
fn kind(raw: Option<&RawValue>) -> Result<String, CommandError> {
    let parsed = raw.map_or(Ok(String::new()), |raw| serde_json::from_str(raw.get()));
    parsed.map_err(|_| CommandError::invalid("type must be a string, such as \"subscribe\""))
}

fn command(kind: &str, text: &str, reference: Option<Reference>) -> Result<Command, CommandError> {
    match kind {
        "subscribe" => subscribe(parse(text)?, reference).map(Command::Subscribe),
        "unsubscribe" => unsubscribe(parse(text)?, reference),
        "publish" => publish(parse(text)?, reference).map(Command::Publish),
        "presence" => presence(parse(text)?, reference),
        "access_token" => access_token(parse(text)?, reference),
        "ping" => Ok(Command::Ping { reference }),
        "heartbeat" => Ok(Command::Heartbeat),
        "" => Err(CommandError::invalid("the frame has no type: add one, such as \"type\":\"subscribe\"")),
        _ => Err(CommandError::invalid(
            "unknown message type: use subscribe, unsubscribe, publish, presence, access_token, ping or heartbeat",
        )),
    }
}

fn subscribe(frame: wire::Subscribe<'_>, reference: Option<Reference>) -> Result<Subscribe, CommandError> {
    let channel = required(frame.channel, "channel is required for subscribe")?;
    let id = subscription_id(frame.id, &channel)?;
    let events = frame.events.and_then(|events| match events {
        wire::Events::One(word) => (word != "*").then(|| vec![word]),
        wire::Events::Many(words) => (!words.iter().any(|word| word == "*")).then_some(words),
    });
    let since = since(frame.since)?;
    let snapshot = frame.snapshot.unwrap_or_default();
    if snapshot && since == Some(Since::Oldest) {
        return Err(CommandError::invalid(
            "a snapshot leaves nothing of what is older to be told: leave out since, or snapshot",
        ));
    }
    Ok(Subscribe {
        reference,
        id,
        channel,
        since,
        events,
        columns: frame.columns,
        filter: filter(frame.filter)?,
        snapshot,
    })
}

/// A filter that stands there and cannot be read must not pass for none.
fn filter(raw: Option<&RawValue>) -> Result<Option<Box<str>>, CommandError> {
    let Some(json) = raw.map(RawValue::get).filter(|json| !matches!(*json, "null" | "false")) else {
        return Ok(None);
    };
    let text = "filter must be a text such as \"price=gt.10\"";
    serde_json::from_str(json).map(Some).map_err(|_| CommandError::new(Code::FilterInvalid, text))
}

fn since(raw: Option<&RawValue>) -> Result<Option<Since>, CommandError> {
    let since = match raw.map(RawValue::get) {
        None | Some("null") => return Ok(None),
        Some("\"oldest\"") => Some(Since::Oldest),
        Some(digits) => digits.parse().ok().and_then(Offset::new).map(Since::After),
    };
    since.map(Some).ok_or_else(|| CommandError::invalid("since must be an offset of this log or \"oldest\""))
}

fn subscription_id(id: Option<String>, channel: &Arc<str>) -> Result<Arc<str>, CommandError> {
    match id {
        None => Ok(Arc::clone(channel)),
        Some(id) if !id.is_empty() && id.len() <= ID_BYTES_MAX => Ok(id.into()),
        Some(_) => Err(CommandError::invalid("id must have 1 to 255 bytes")),
    }
}

fn unsubscribe(frame: wire::Unsubscribe, reference: Option<Reference>) -> Result<Command, CommandError> {
    let id = required(frame.id.or(frame.channel), "id or channel is required for unsubscribe")?;
    Ok(Command::Unsubscribe { reference, id })
}

fn publish(frame: wire::Publish<'_>, reference: Option<Reference>) -> Result<Publish, CommandError> {
    Ok(Publish {
        reference,
        channel: required(frame.channel, "channel is required for publish")?,
        event: frame.event.ok_or_else(|| CommandError::invalid("event is required for publish"))?,
        payload: frame.payload.map_or("null", RawValue::get).into(),
        message_id: frame.message_id.map(message_id).transpose()?,
    })
}

/// Told apart here, because the database does not say which of the values that it was given is no uuid.
fn message_id(text: String) -> Result<String, CommandError> {
    match uuid::Uuid::try_parse(&text) {
        Ok(id) => Ok(id.hyphenated().to_string()),
        Err(_) => Err(CommandError::invalid("message_id is no uuid: make one for each message, or leave it out")),
    }
}

fn presence(frame: wire::Presence<'_>, reference: Option<Reference>) -> Result<Command, CommandError> {
    let channel = required(frame.channel, "channel is required for presence")?;
    let standing = match frame.state.as_ref().map(|raw| raw.get()) {
        None => Standing::Watching,
        Some("null") => Standing::Gone,
        Some(json) if json.starts_with('{') => Standing::There { state: json.into() },
        Some(_) => {
            return Err(CommandError::invalid("state must be an object, or null to leave: leave it out to watch only"));
        }
    };
    Ok(Command::Presence { reference, channel, standing })
}

fn access_token(frame: wire::AccessToken, reference: Option<Reference>) -> Result<Command, CommandError> {
    let token = frame.token.ok_or_else(|| CommandError::invalid("token is required for access_token"))?;
    Ok(Command::AccessToken { reference, token: Token(token) })
}

fn required(field: Option<String>, text: &'static str) -> Result<Arc<str>, CommandError> {
    field.map(Arc::from).ok_or_else(|| CommandError::invalid(text))
}

fn server_frame<'a>(notice: &'a Notice<'_>) -> ServerFrame<'a> {
    match notice {
        Notice::Hello(hello) => ServerFrame::Hello {
            offset: hello.offset.map(Offset::get),
            connection: hello.connection,
            role: &hello.identity.role,
            user: hello.identity.user.as_deref(),
            expires_at: hello.identity.expires_at.map(|at| Timestamp(at).to_string()),
            heartbeat_ms: hello.heartbeat_ms,
            limits: hello.limits,
        },
        Notice::Pong { reference, offset } => {
            ServerFrame::Pong { reference: raw(*reference), offset: offset.map(Offset::get) }
        }
        Notice::Heartbeat { offset } => ServerFrame::Heartbeat { offset: offset.map(Offset::get) },
        Notice::Gap { address, gap } => ServerFrame::Gap {
            id: &address.id,
            channel: &address.channel,
            reason: gap.reason,
            from: gap.from.get(),
            to: gap.to.get(),
        },
        Notice::Status { up, offset } => {
            ServerFrame::Status { database: if *up { "up" } else { "down" }, offset: offset.map(Offset::get) }
        }
        Notice::Error { error, reference, address } => ServerFrame::Error {
            error: &error.text,
            code: error.code.label(),
            reference: raw(*reference),
            id: address.map(|address| &*address.id),
            channel: address.map(|address| &*address.channel),
            retry_after_ms: error.retry_after_ms,
            position: error.position,
            is_final: error.is_final,
        },
        // Snapshots and members are written by [`encode`], and the opening request says who is there.
        Notice::Snapshot { .. }
        | Notice::Members { .. }
        | Notice::Refused { .. }
        | Notice::Subscribed { .. }
        | Notice::Unsubscribed { .. }
        | Notice::Attending { .. }
        | Notice::Published { .. }
        | Notice::Identified { .. } => ServerFrame::Ack(ack(notice)),
    }
}

fn ack<'a>(notice: &'a Notice<'_>) -> Ack<'a> {
    match notice {
        Notice::Subscribed { reference, address, offset, recovered, table, .. } => Ack {
            reference: raw(*reference),
            id: Some(&address.id),
            channel: Some(&address.channel),
            offset: Some(offset.get()),
            recovered: Some(*recovered),
            key: table.and_then(|(columns, grant)| key(columns, grant)),
            columns: table.map(|(columns, grant)| column_types(columns, grant)),
            ..Ack::default()
        },
        Notice::Unsubscribed { reference, address } => {
            Ack { reference: raw(*reference), id: Some(&address.id), channel: Some(&address.channel), ..Ack::default() }
        }
        Notice::Attending { reference, channel } => {
            Ack { reference: raw(*reference), channel: Some(channel), ..Ack::default() }
        }
        Notice::Published { reference, message_id, duplicate } => {
            Ack { reference: raw(*reference), message_id: Some(message_id), duplicate: *duplicate, ..Ack::default() }
        }
        Notice::Identified { reference, identity } => Ack {
            reference: raw(*reference),
            role: Some(&identity.role),
            user: identity.user.as_deref(),
            expires_at: identity.expires_at.map(|at| Timestamp(at).to_string()),
            ..Ack::default()
        },
        _ => Ack::default(),
    }
}

/// The key, when all of it comes.
fn key<'a>(columns: &Columns, grant: &'a TableGrant) -> Option<Vec<&'a str>> {
    let key = grant.key.as_deref()?;
    key.iter().all(|name| columns.contains(name)).then(|| key.iter().map(|name| &**name).collect())
}

fn column_types<'a>(columns: &Columns, grant: &'a TableGrant) -> Vec<ColumnType<'a>> {
    let shown = grant.types.iter().filter(|(name, _)| columns.contains(name));
    shown.map(|(name, kind)| ColumnType { name, kind }).collect()
}

/// A reference as it came. It was cut out of JSON, so it parses again.
fn raw(reference: Option<&Reference>) -> Option<&RawValue> {
    reference.and_then(|it| serde_json::from_str(&it.0).ok())
}
