//! Names of channels, as clients write them and as the database knows them.

use std::{fmt, sync::Arc};

use unicode_normalization::is_nfc;

/// What a client can subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// `table:[schema.]table`: the row changes of one table, under its grants and policies.
    Table(TableName),
    /// Any other name: messages, under the policies of `realtime.channels`.
    Messages(ChannelName),
}

/// The name of a channel that passed every rule. Cloning is a reference-count bump.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// A table channel: the name as the client wrote it, and the table that it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    /// As the client wrote it, with `table:`.
    pub channel: ChannelName,
    /// The schema, unquoted; `public` when the client named none.
    pub schema: Arc<str>,
    /// The table, unquoted.
    pub table: Arc<str>,
}

/// Which rule a name broke. Safe to send back to the client: it repeats nothing of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelNameError {
    /// The name is empty.
    #[error("channel is empty: name a channel such as room:42 or table:public.orders")]
    Empty,
    /// The name is longer than [`ChannelName::BYTES_MAX`].
    #[error("channel is longer than {} bytes: use a shorter name", ChannelName::BYTES_MAX)]
    TooLong,
    /// The name has a control character.
    #[error("channel has a control character: remove it")]
    Control,
    /// The name has a `%`, which only patterns may have.
    #[error("channel has a %: only patterns in realtime.channels may have one, subscribe to a plain name")]
    Percent,
    /// The name is not in Unicode normal form C.
    #[error("channel is not in Unicode normal form C: normalise it (NFC) before sending")]
    NotNormal,
    /// What follows `table:` is not `[schema.]table`.
    #[error("channel does not name a table: write table:[schema.]table, with double quotes around unusual parts")]
    BadTable,
}

impl ChannelName {
    /// The longest name accepted. Names are indexed, and a btree key has a limit.
    pub const BYTES_MAX: usize = 255;

    /// Parses a name that a client sent.
    ///
    /// # Errors
    ///
    /// Says which rule the name broke.
    pub fn parse(text: &str) -> Result<Self, ChannelNameError> {
        if text.is_empty() {
            return Err(ChannelNameError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(ChannelNameError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(ChannelNameError::Control);
        }
        if !is_nfc(text) {
            return Err(ChannelNameError::NotNormal);
        }
        Ok(Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Channel {
    /// Parses what a client wants to subscribe to.
    ///
    /// # Errors
    ///
    /// Says which rule the name broke.
    pub fn parse(text: &str) -> Result<Self, ChannelNameError> {
        let name = ChannelName::parse(text)?;
        let Some(table) = text.strip_prefix("table:") else {
            return if text.contains('%') { Err(ChannelNameError::Percent) } else { Ok(Self::Messages(name)) };
        };
        let (schema, table) = table_parts(table).ok_or(ChannelNameError::BadTable)?;
        Ok(Self::Table(TableName { channel: name, schema: schema.into(), table: table.into() }))
    }

    /// The name as the client wrote it.
    #[must_use]
    pub fn name(&self) -> &ChannelName {
        match self {
            Self::Table(table) => &table.channel,
            Self::Messages(name) => name,
        }
    }
}

/// Splits `[schema.]table`, undoing quotes. A part without quotes is taken as it is: names are never folded, as clients
/// write names and not SQL.
fn table_parts(text: &str) -> Option<(String, String)> {
    let (first, rest) = take_part(text)?;
    if rest.is_empty() {
        return Some(("public".to_owned(), first));
    }
    let (second, rest) = take_part(rest.strip_prefix('.')?)?;
    rest.is_empty().then_some((first, second))
}

/// Takes one part: quoted up to its closing quote (a doubled quote is one quote), else up to the next dot.
fn take_part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (part, rest) = text.split_at(end);
        return (!part.is_empty() && !part.contains('"')).then(|| (part.to_owned(), rest));
    };
    let mut part = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        let Some(again) = after.strip_prefix('"') else {
            return (!part.is_empty()).then_some((part, after));
        };
        part.push('"');
        rest = again;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Option<(String, String)> {
        match Channel::parse(text) {
            Ok(Channel::Table(name)) => Some((name.schema.to_string(), name.table.to_string())),
            _ => None,
        }
    }

    fn check_table(text: &str, schema: &str, table_name: &str) {
        assert_eq!(table(text), Some((schema.to_owned(), table_name.to_owned())), "{text}");
    }

    #[test]
    fn table_channels_name_a_table() {
        check_table("table:orders", "public", "orders");
        check_table("table:auth.users", "auth", "users");
        check_table("table:Auth.Users", "Auth", "Users");
        check_table(r#"table:"a.b""#, "public", "a.b");
        check_table(r#"table:"a.b"."c""d""#, "a.b", r#"c"d"#);
        check_table(r#"table:app."größe 🎉""#, "app", "größe 🎉");
        check_table("table:__proto__", "public", "__proto__");
        check_table("table:50%", "public", "50%");
    }

    #[test]
    fn what_names_no_table_is_refused() {
        for text in ["table:", "table:.", "table:a.", "table:.b", "table:a.b.c", r#"table:"a"#, r#"table:"""#] {
            assert_eq!(Channel::parse(text), Err(ChannelNameError::BadTable), "{text}");
        }
        for text in [r#"table:a"b"#, r#"table:"a"b"#, r#"table:"a"."b"c"#] {
            assert_eq!(Channel::parse(text), Err(ChannelNameError::BadTable), "{text}");
        }
    }

    #[test]
    fn message_channels_keep_their_name() {
        for text in ["room:42", "table", "a_b", "tab le", "größe", "TABLE:x", "\"quoted\"", "x'; drop table y; --"] {
            let channel = Channel::parse(text).expect(text);
            assert_eq!(channel.name().as_str(), text);
            assert!(matches!(channel, Channel::Messages(_)), "{text}");
        }
    }

    #[test]
    fn each_rule_has_its_error() {
        assert_eq!(Channel::parse(""), Err(ChannelNameError::Empty));
        assert_eq!(Channel::parse(&"a".repeat(256)), Err(ChannelNameError::TooLong));
        assert!(Channel::parse(&"a".repeat(255)).is_ok());
        assert_eq!(Channel::parse("a\0b"), Err(ChannelNameError::Control));
        assert_eq!(Channel::parse("a\u{85}b"), Err(ChannelNameError::Control));
        assert_eq!(Channel::parse("room:%"), Err(ChannelNameError::Percent));
        assert_eq!(Channel::parse("u\u{308}"), Err(ChannelNameError::NotNormal));
        assert!(Channel::parse("\u{fc}").is_ok());
    }
}
