//! Engine.IO revision 4: the packets that carry Socket.IO, and the payloads that carry several packets over HTTP.
//!
//! A packet is a digit that says what it is, and its content. Only messages are of interest above this layer.

use std::borrow::Borrow;

/// The only revision that is spoken, as the address of the opening request names it.
pub const REVISION: &str = "4";
/// Asks the client whether it lives; a client answers with a pong.
pub const PING: &str = "2";
/// Ends a session over HTTP.
pub const CLOSE: &str = "1";
/// Says nothing: the answer to a poll that is to end.
pub const NOOP: &str = "6";
/// The answer to [`Packet::Probe`].
pub const PROBED: &str = "3probe";

/// Between the packets of a payload. JSON text never has it unescaped.
const SEPARATOR: char = '\u{1e}';

/// A packet that came in, as far as this layer looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// `0`: servers alone say this.
    Open,
    /// `1`: the client leaves.
    Close,
    /// `2`: servers ask, clients do not.
    Ping,
    /// `2probe`: whether a WebSocket gets through, before a session moves to it.
    Probe,
    /// `3`: the client lives.
    Pong,
    /// `4…`: a message for the layer above, which gets the whole packet.
    Message,
    /// `5`: the session moves to this WebSocket.
    Upgrade,
    /// `6`: nothing.
    Noop,
    /// `b…`: bytes in base64.
    Binary,
}

impl Packet {
    /// What a packet is, or `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.as_bytes().first()? {
            b'0' => Self::Open,
            b'1' => Self::Close,
            b'2' if text == "2probe" => Self::Probe,
            b'2' => Self::Ping,
            b'3' => Self::Pong,
            b'4' => Self::Message,
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            b'b' => Self::Binary,
            _ => return None,
        })
    }
}

/// The first packet of a session: its name, what it may move to, the server's rhythm, the largest payload in bytes.
#[must_use]
pub fn open(session: &str, upgrades: &[&str], ping_ms: u64, pong_ms: u64, payload_bytes_max: usize) -> String {
    let (session, upgrades) = (serde_json::json!(session), serde_json::json!(upgrades));
    let rhythm = format!(r#""pingInterval":{ping_ms},"pingTimeout":{pong_ms}"#);
    format!(r#"0{{"sid":{session},"upgrades":{upgrades},{rhythm},"maxPayload":{payload_bytes_max}}}"#)
}

/// The packets of a payload. An empty payload is one empty packet, which is none.
pub fn packets(payload: &str) -> impl Iterator<Item = &str> {
    payload.split(SEPARATOR)
}

/// One payload of several packets.
#[must_use]
pub fn payload<T: Borrow<str>>(packets: &[T]) -> String {
    packets.join(SEPARATOR.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_by_their_first_character() {
        let cases = [
            ("0{}", Some(Packet::Open)),
            ("1", Some(Packet::Close)),
            ("2", Some(Packet::Ping)),
            ("2probe", Some(Packet::Probe)),
            ("2probes", Some(Packet::Ping)),
            ("3", Some(Packet::Pong)),
            ("3probe", Some(Packet::Pong)),
            ("40", Some(Packet::Message)),
            ("4", Some(Packet::Message)),
            ("5", Some(Packet::Upgrade)),
            ("6", Some(Packet::Noop)),
            ("bAQID", Some(Packet::Binary)),
            ("7", None),
            ("", None),
            (" 4", None),
            ("ä4", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Packet::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_payload_is_its_packets_with_separators() {
        assert_eq!(payload(&["40", "2"]), "40\u{1e}2");
        assert_eq!(payload::<&str>(&[]), "");
        assert_eq!(packets("4ä\u{1e}\u{1e}3").collect::<Vec<_>>(), ["4ä", "", "3"]);
        assert_eq!(packets("").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn the_first_packet_names_session_and_rhythm() {
        let packet = open("abc", &["websocket"], 25000, 20000, 1_000_000);
        let members: serde_json::Value = serde_json::from_str(packet.strip_prefix('0').expect("open")).expect("JSON");
        let expected = serde_json::json!({
            "sid": "abc", "upgrades": ["websocket"], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1_000_000
        });
        assert_eq!(members, expected);
    }
}
