//! Socket.IO packets into commands, notices into Socket.IO packets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Insforge,
    packet::{Content, Packet},
    wire::{self, Ack},
};
use crate::{
    error::{Code, CommandError},
    model::{Credential, Member, Move, Offset, PresenceChange},
    protocol::{
        Address, Codec, Command, Credentials, DecodeError, Notice, Publish, Reference, Since, Subscribe, Token,
        json::Members,
    },
};

/// What the server calls what it tells beside events.
pub(super) const ERROR: &str = "realtime:error";
pub(super) const GAP: &str = "realtime:gap";
/// What clients ask.
const SUBSCRIBE: &str = "realtime:subscribe";
const UNSUBSCRIBE: &str = "realtime:unsubscribe";
const PUBLISH: &str = "realtime:publish";
const ASKED: [&str; 3] = [SUBSCRIBE, UNSUBSCRIBE, PUBLISH];

/// The half of one connection. Until it is in, a client may ask for nothing else.
pub(super) struct InsforgeCodec {
    dialect: Insforge,
    is_in: bool,
    /// A packet whose bytes have not all come.
    due: Option<Due>,
}

/// What comes of a binary packet with its last frame.
struct Due {
    frames: u32,
    is_asked: bool,
    reference: Option<Reference>,
}

impl InsforgeCodec {
    pub(super) fn new(dialect: Insforge) -> Self {
        Self { dialect, is_in: false, due: None }
    }
}

impl Codec for InsforgeCodec {
    fn decode(&mut self, text: &str) -> Result<Command, DecodeError> {
        if self.due.is_some() {
            return Err(no_packet());
        }
        let packet = text.strip_prefix('4').and_then(Packet::parse).ok_or_else(no_packet)?;
        let is_connect = matches!(packet.content, Content::Connect(_));
        if packet.namespace != "/" {
            return if is_connect { Ok(no_namespace(packet.namespace)) } else { Err(no_packet()) };
        }
        // Only the first packet asks to come in, and it comes before every other.
        if self.is_in == is_connect {
            return Err(no_packet());
        }
        if let Content::Binary { frames, name } = &packet.content {
            let is_asked = name.as_deref().is_some_and(|name| ASKED.contains(&name));
            self.due = Some(Due { frames: *frames, is_asked, reference: reference(&packet) });
            return Ok(Command::Heartbeat);
        }
        command(packet)
    }

    fn decode_binary(&mut self) -> Result<Command, DecodeError> {
        let due = self.due.as_mut().ok_or_else(no_packet)?;
        due.frames = due.frames.saturating_sub(1);
        if due.frames > 0 {
            return Ok(Command::Heartbeat);
        }
        match self.due.take() {
            Some(Due { is_asked: true, reference, .. }) => {
                let error = CommandError::invalid("binary attachments are not supported: send JSON only");
                Err(DecodeError { error, reference, ends: false })
            }
            _ => Ok(Command::Heartbeat),
        }
    }

    fn encode(&mut self, notice: &Notice<'_>) -> Option<String> {
        self.is_in |= matches!(notice, Notice::Hello(_));
        match notice {
            Notice::Hello(hello) => Some(format!("40{}", json(&wire::Connected { sid: hello.connection }))),
            Notice::Refused { credential, error } => {
                Some(format!("44{}", json(&wire::Refused { message: &refusal(*credential, error) })))
            }
            Notice::Subscribed { reference, address, offset, recovered, members, .. } => {
                reference.map(|reference| subscribed(reference, &address.channel, members, *offset, *recovered))
            }
            Notice::Unsubscribed { reference, address } => ack(*reference, &Ack::ok(Some(&address.channel))),
            Notice::Published { reference, message_id, .. } => {
                ack(*reference, &Ack { message_id: Some(message_id), ..Ack::ok(None) })
            }
            Notice::Gap { address, gap } => {
                let (reason, from, to) = (gap.reason.as_str(), gap.from.get(), gap.to.get());
                Some(event(GAP, &wire::Gap { channel: &address.channel, reason, from, to }))
            }
            Notice::Error { error, reference, address } => self.error(error, *reference, *address),
            Notice::Identified { .. }
            | Notice::Attending { .. }
            | Notice::Members { .. }
            | Notice::Pong { .. }
            | Notice::Heartbeat { .. }
            | Notice::Snapshot { .. }
            | Notice::Status { .. } => None,
        }
    }
}

impl InsforgeCodec {
    /// An answer where one is waited for, else an event.
    fn error(&self, error: &CommandError, reference: Option<&Reference>, address: Option<&Address>) -> Option<String> {
        // The transport closes with it, and the client comes back with a new token: there is nothing to mend for anybody.
        if error.code == Code::TokenExpired {
            return None;
        }
        let channel = address.map(|address| &*address.channel);
        let code = self.dialect.code(error.code);
        let told = wire::Error { code, message: &error.text, retry_after_ms: error.retry_after_ms };
        match reference {
            Some(_) => ack(reference, &Ack { ok: false, error: Some(told), ..Ack::ok(channel) }),
            None => Some(event(ERROR, &wire::ErrorEvent { channel, error: told })),
        }
    }
}

/// It cannot be known where the next packet begins to make sense: the connection ends.
fn no_packet() -> DecodeError {
    DecodeError { error: CommandError::invalid("this is no packet of Socket.IO"), reference: None, ends: true }
}

fn no_namespace(namespace: &str) -> Command {
    let refused = json(&wire::Refused { message: "Invalid namespace" });
    Command::Reply { frame: format!("44{namespace},{refused}") }
}

fn reference(packet: &Packet<'_>) -> Option<Reference> {
    packet.ack.map(|ack| Reference(ack.into()))
}

fn command(packet: Packet<'_>) -> Result<Command, DecodeError> {
    let reference = reference(&packet);
    let failed = |error| DecodeError { error, reference: reference.clone(), ends: false };
    match packet.content {
        Content::Connect(auth) => {
            credentials(auth).map(|credentials| Command::Connect { credentials }).ok_or_else(no_packet)
        }
        Content::Disconnect => Ok(Command::Leave),
        Content::Event { name, arguments } => {
            asked(name.as_deref(), arguments.first().copied(), reference.clone()).map_err(failed)
        }
        Content::Ack => Ok(Command::Heartbeat),
        Content::Refusal | Content::Binary { .. } => Err(no_packet()),
    }
}

/// What the event of a client asks. Nobody listens to others than these.
fn asked(name: Option<&str>, body: Option<&RawValue>, reference: Option<Reference>) -> Result<Command, CommandError> {
    match name {
        Some(SUBSCRIBE) => subscribe(parse(body)?, reference).map(Command::Subscribe),
        Some(UNSUBSCRIBE) => {
            let body: wire::Subscribe<'_> = parse(body)?;
            Ok(Command::Unsubscribe { reference, id: channel(body.channel)? })
        }
        Some(PUBLISH) => publish(parse(body)?, reference).map(Command::Publish),
        _ => Ok(Command::Heartbeat),
    }
}

fn parse<'a, T: Deserialize<'a>>(body: Option<&'a RawValue>) -> Result<T, CommandError> {
    let parsed = body.and_then(|body| serde_json::from_str(body.get()).ok());
    parsed.ok_or_else(|| {
        CommandError::invalid("the event's argument is not understood: send one object with a channel, as the SDK does")
    })
}

fn channel(name: Option<String>) -> Result<Arc<str>, CommandError> {
    name.map(Arc::from).ok_or_else(|| CommandError::invalid("channel is required: name one"))
}

fn subscribe(body: wire::Subscribe<'_>, reference: Option<Reference>) -> Result<Subscribe, CommandError> {
    let channel = channel(body.channel)?;
    Ok(Subscribe {
        reference,
        id: Arc::clone(&channel),
        channel,
        since: since(body.since)?,
        events: None,
        columns: None,
        filter: None,
        snapshot: false,
    })
}

fn since(raw: Option<&RawValue>) -> Result<Option<Since>, CommandError> {
    let offset = |json: &str| serde_json::from_str(json).ok().and_then(Offset::new).map(Since::After);
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some("\"oldest\"") => Ok(Some(Since::Oldest)),
        Some(json) => offset(json).map(Some).ok_or_else(|| {
            CommandError::invalid("since must be an offset from meta.offset, or \"oldest\": leave it out to begin now")
        }),
    }
}

fn publish(body: wire::Publish<'_>, reference: Option<Reference>) -> Result<Publish, CommandError> {
    let message_id = body.message_id.map(|text| match uuid::Uuid::try_parse(&text) {
        Ok(id) => Ok(id.hyphenated().to_string()),
        Err(_) => Err(CommandError::invalid("messageId is no uuid: make one for each message, or leave it out")),
    });
    Ok(Publish {
        reference,
        channel: channel(body.channel)?,
        event: body.event.ok_or_else(|| CommandError::invalid("event is required: name one"))?,
        payload: body.payload.map_or("{}", RawValue::get).into(),
        message_id: message_id.transpose()?,
    })
}

/// What a client shows. A key is taken before a token, and failing with it is failing.
fn credentials(auth: Option<&str>) -> Option<Credentials> {
    let auth: wire::Auth<'_> = serde_json::from_str(auth.unwrap_or("{}")).ok()?;
    Some(match (shown(auth.api_key), shown(auth.token)) {
        (Some(key), _) => Credentials::ApiKey(key),
        (None, Some(token)) => Credentials::Token(token),
        (None, None) => Credentials::Nothing,
    })
}

/// A text, or what can be nobody's where something else was shown.
fn shown(raw: Option<&RawValue>) -> Option<Token> {
    let json = raw.map(RawValue::get).filter(|json| !matches!(*json, "null" | "\"\"" | "false"))?;
    Some(Token(serde_json::from_str(json).unwrap_or_else(|_| "?".to_owned())))
}

/// The reference's words, and what to do about it.
fn refusal(credential: Credential, error: &CommandError) -> String {
    if !matches!(error.code, Code::Unauthorized | Code::TokenExpired) {
        return error.text.to_string();
    }
    match credential {
        Credential::Nothing => "No authentication provided: give auth.token or auth.apiKey".to_owned(),
        Credential::AnonymousKey => "Invalid anon key".to_owned(),
        Credential::ApiKey => "Invalid API key".to_owned(),
        Credential::Token => {
            let why = error.text.strip_prefix("the token is not valid: ").unwrap_or(&error.text);
            format!("Invalid token: {why}")
        }
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("frames have text keys only, so they are always JSON")
}

fn member(it: &Member) -> wire::Member<'_> {
    wire::Member { kind: it.who.kind(), presence_id: it.who.name(), joined_at: it.joined_at.to_string() }
}

/// Somebody in the list of those who are there.
pub(super) fn member_text(it: &Member) -> String {
    json(&member(it))
}

/// Somebody came or went. What members say of themselves has no word here.
pub(super) fn presence(change: &PresenceChange) -> Option<String> {
    let name = match change.step {
        Move::Join => "presence:join",
        Move::Leave => "presence:leave",
        Move::Change => return None,
    };
    let meta = wire::PresenceMeta {
        channel: change.channel.as_str(),
        message_id: &change.id,
        sender_type: "system",
        timestamp: change.at.to_string(),
    };
    Some(event(name, &wire::PresenceEvent { member: member(&change.member), meta }))
}

fn event<T: Serialize>(name: &str, body: &T) -> String {
    format!("42{}", json(&(name, body)))
}

/// The answer to who has subscribed. Who is there is JSON already, and may be most of it: it is copied once.
fn subscribed(reference: &Reference, channel: &str, members: &str, offset: Offset, recovered: bool) -> String {
    let mut text = String::with_capacity(members.len() + channel.len() + 128);
    text.extend(["43", &*reference.0, "[{"]);
    let mut answer = Members(&mut text);
    answer.raw("ok", true).text("channel", channel).raw("presence", format_args!(r#"{{"members":{members}}}"#));
    answer.raw("offset", offset).raw("recovered", recovered);
    text.push_str("}]");
    text
}

/// The answer to a client that waits for one.
fn ack(reference: Option<&Reference>, body: &Ack<'_>) -> Option<String> {
    reference.map(|reference| format!("43{}[{}]", reference.0, json(body)))
}
