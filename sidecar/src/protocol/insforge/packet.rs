//! Socket.IO packets, revision 5: what is in an Engine.IO message.

use serde_json::value::RawValue;

/// Longer names of namespaces are no packet: they are repeated in the answer.
const NAMESPACE_BYTES_MAX: usize = 255;
/// An ack id is a count of the client's.
const ACK_DIGITS_MAX: usize = 18;
/// Frames of bytes that may belong to one packet.
const ATTACHMENTS: std::ops::RangeInclusive<u32> = 1..=10;
/// Names that the clients' own machinery uses. No packet may have one.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// A packet of a client.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    /// Where it goes: `/` is the only one there is.
    pub(super) namespace: &'a str,
    /// The number that its answer repeats.
    pub(super) ack: Option<&'a str>,
    /// What it is.
    pub(super) content: Content<'a>,
}

/// What a packet is.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// `0`: wants in; the JSON object that came with it.
    Connect(Option<&'a str>),
    /// `1`: leaves.
    Disconnect,
    /// `2`: an event with its arguments.
    Event {
        /// Its name; `None` for an event without one, which nobody listens to.
        name: Option<String>,
        /// What came with it.
        arguments: Vec<&'a RawValue>,
    },
    /// `3`: answers an event of the server.
    Ack,
    /// `4`: servers alone say this.
    Refusal,
    /// `5` and `6`: frames of bytes follow.
    Binary {
        /// How many, at least one.
        frames: u32,
        /// The event's name; `None` for one that nobody listens to, and for answers.
        name: Option<String>,
    },
}

impl<'a> Packet<'a> {
    /// What a message is, or `None` when it is no packet.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let kind = *text.as_bytes().first()?;
        let mut rest = text.get(1..)?;
        let mut frames = 0;
        if matches!(kind, b'5' | b'6') {
            (frames, rest) = take_attachments(rest)?;
        }
        let (namespace, rest) = take_namespace(rest)?;
        let (ack, json) = take_ack(rest)?;
        let content = content(kind, frames, Some(json).filter(|json| !json.is_empty()))?;
        Some(Self { namespace, ack, content })
    }
}

fn take_attachments(text: &str) -> Option<(u32, &str)> {
    let (count, rest) = text.split_once('-')?;
    // No sign, no space: `parse` alone would take a plus.
    let is_count = count.bytes().all(|byte| byte.is_ascii_digit());
    Some((count.parse().ok().filter(|count| is_count && ATTACHMENTS.contains(count))?, rest))
}

/// A namespace begins with a slash and ends with a comma, or with the packet.
fn take_namespace(text: &str) -> Option<(&str, &str)> {
    if !text.starts_with('/') {
        return Some(("/", text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    (namespace.len() <= NAMESPACE_BYTES_MAX).then_some((namespace, rest))
}

/// An ack id is a number: zeros before it are not repeated.
fn take_ack(text: &str) -> Option<(Option<&str>, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let zeros = text[..digits].bytes().take_while(|&digit| digit == b'0').count();
    let ack = &text[zeros.min(digits.saturating_sub(1))..digits];
    (digits <= ACK_DIGITS_MAX).then_some((Some(ack).filter(|ack| !ack.is_empty()), &text[digits..]))
}

fn content(kind: u8, frames: u32, json: Option<&str>) -> Option<Content<'_>> {
    match kind {
        b'0' if json.is_none_or(is_object) => Some(Content::Connect(json)),
        b'1' if json.is_none() => Some(Content::Disconnect),
        b'2' => event(json),
        b'3' if json.is_none_or(is_array) => Some(Content::Ack),
        b'4' if json.is_none_or(|json| is_object(json) || is_text(json)) => Some(Content::Refusal),
        b'5' => match event(json)? {
            Content::Event { name, .. } => Some(Content::Binary { frames, name }),
            _ => None,
        },
        b'6' if json.is_none_or(is_array) => Some(Content::Binary { frames, name: None }),
        _ => None,
    }
}

fn event(json: Option<&str>) -> Option<Content<'_>> {
    let Some(json) = json else {
        return Some(Content::Event { name: None, arguments: Vec::new() });
    };
    let mut arguments: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    if arguments.is_empty() {
        return None;
    }
    let name = name(arguments.remove(0).get())?;
    Some(Content::Event { name, arguments })
}

/// Text is a name; a number, or half a letter in a text, makes one that nobody listens to; anything else is none.
fn name(json: &str) -> Option<Option<String>> {
    match json.as_bytes().first()? {
        b'"' => {
            let Ok(name) = serde_json::from_str::<String>(json) else { return Some(None) };
            (!RESERVED.contains(&name.as_str())).then_some(Some(name))
        }
        b'-' | b'0'..=b'9' => Some(None),
        _ => None,
    }
}

fn is_object(json: &str) -> bool {
    is_of(json, b'{')
}

fn is_array(json: &str) -> bool {
    is_of(json, b'[')
}

fn is_text(json: &str) -> bool {
    is_of(json, b'"')
}

/// Whether a text is JSON of the kind that begins so.
fn is_of(json: &str, first: u8) -> bool {
    serde_json::from_str::<&RawValue>(json).is_ok_and(|it| it.get().as_bytes().first() == Some(&first))
}

/// Whether a name may not be given to an event.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Packet::parse(text).map_or("none".to_owned(), |it| {
            let content = match it.content {
                Content::Event { name, arguments } => format!("event {name:?} with {}", arguments.len()),
                other => format!("{other:?}"),
            };
            format!("{} {:?} {content}", it.namespace, it.ack)
        })
    }

    #[test]
    fn packets_are_read_as_the_reference_reads_them() {
        let cases = [
            ("0", "/ None Connect(None)"),
            (r#"0{"token":"x"}"#, r#"/ None Connect(Some("{\"token\":\"x\"}"))"#),
            ("0/", "/ None Connect(None)"),
            ("0/,{}", r#"/ None Connect(Some("{}"))"#),
            ("0/admin?x=1,{}", r#"/admin?x=1 None Connect(Some("{}"))"#),
            ("1", "/ None Disconnect"),
            ("1/x,", "/x None Disconnect"),
            (r#"2["a",1]"#, r#"/ None event Some("a") with 1"#),
            (r#"212["a"]"#, r#"/ Some("12") event Some("a") with 0"#),
            (r#"2/ns,7["a"]"#, r#"/ns Some("7") event Some("a") with 0"#),
            ("2", "/ None event None with 0"),
            ("2[5]", "/ None event None with 0"),
            ("30[]", r#"/ Some("0") Ack"#),
            (r#"4{"message":"x"}"#, "/ None Refusal"),
            (r#"2007["a"]"#, r#"/ Some("7") event Some("a") with 0"#),
            (r#"2000["a"]"#, r#"/ Some("0") event Some("a") with 0"#),
            (r#"2["\ud800"]"#, "/ None event None with 0"),
            (r#"51-["a",{"_placeholder":true,"num":0}]"#, r#"/ None Binary { frames: 1, name: Some("a") }"#),
            ("510-", "/ None Binary { frames: 10, name: None }"),
            ("61-3[1]", r#"/ Some("3") Binary { frames: 1, name: None }"#),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_packet_is_told_from_what_is() {
        let long = format!("0/{},", "x".repeat(300));
        let many = format!("2{}[\"a\"]", "1".repeat(30));
        let none = [
            "",
            "7",
            "x",
            "ä",
            "0[]",
            "0null",
            "0\"x\"",
            "0{",
            "0{}x",
            "1{}",
            "2[]",
            "2{}",
            "2[\"a\"",
            "2[null]",
            "2[true]",
            "2[[\"a\"]]",
            "2[\"connect\"]",
            "2[\"disconnecting\"]",
            "2[\"a\"]x",
            "3{}",
            "4[]",
            "5[\"a\"]",
            "5-[\"a\"]",
            "51[\"a\"]",
            "5x-[\"a\"]",
            "5+1-[\"a\"]",
            "50-[\"a\"]",
            "511-[\"a\"]",
            "599999999999-[\"a\"]",
            "51-[\"connect\"]",
            "60-[]",
            "51-{}",
            "61-{}",
            &long,
            &many,
        ];
        for text in none {
            assert_eq!(shown(text), "none", "{text}");
        }
    }
}
