//! Filters on table channels: which rows a subscription is about.
//!
//! A filter is answered on a row image exactly as Postgres would answer the same WHERE, or it is refused when it is
//! parsed: never approximately. What Postgres alone can say, such as the order of texts under most collations, is
//! refused. The grammar is PostgREST's (`docs/protocol.md`). Nothing here does IO, has a clock or a task.

mod condition;
mod decimal;
mod json;
mod kind;
mod moment;
mod parse;
mod pattern;
mod regular;
mod scan;
mod shared;
mod test;
#[cfg(test)]
mod tests;
mod truth;
mod value;

pub use self::shared::Filters;
use self::{condition::Condition, parse::Parser, scan::Fault, truth::Truth};

/// Which rows a subscription is about.
#[derive(Clone, Debug)]
pub struct Filter {
    text: Box<str>,
    /// The columns that it names.
    named: Box<[Box<str>]>,
    /// The types of these columns.
    kinds: Box<[Box<str>]>,
    tree: Tree,
    /// The number that it was given when it was shared; zero before that.
    number: u64,
}

/// Why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at character {position} of the filter)")]
pub struct FilterError {
    /// The character at which the mistake is, counted from 1.
    pub position: usize,
    /// What is wrong, with a remedy. It may repeat names that the client wrote.
    pub message: String,
}

/// Conditions, joined.
#[derive(Clone, Debug)]
enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    Is(Condition),
}

impl Filter {
    /// The longest filter, in bytes.
    pub const BYTES_MAX: usize = 4_096;

    /// Parses a filter on a table with these columns, each with its type as `realtime.comparable` tells it.
    /// They are the columns that the caller may read: of others nothing is told, not even that they exist.
    ///
    /// # Errors
    ///
    /// Says what is wrong and where, with a remedy; the text is for the client.
    pub fn parse<N: AsRef<str>, T: AsRef<str>>(text: &str, columns: &[(N, T)]) -> Result<Self, FilterError> {
        let columns: Vec<(&str, &str)> = columns.iter().map(|(name, kind)| (name.as_ref(), kind.as_ref())).collect();
        Self::parsed(text, &columns)
            .map_err(|fault| FilterError { position: text[..fault.at].chars().count() + 1, message: fault.message })
    }

    fn parsed(text: &str, columns: &[(&str, &str)]) -> Result<Self, Fault> {
        if text.len() > Self::BYTES_MAX {
            let message = format!("the filter has more than {} bytes: use a shorter one", Self::BYTES_MAX);
            return Err(Fault { at: 0, message });
        }
        if let Some(at) = text.find('\0') {
            return Err(Fault { at, message: "no text has the character zero: leave it out".to_owned() });
        }
        let mut parser = Parser::new(text, columns);
        let tree = parser.filter()?;
        let kind = |name: &str| columns.iter().find(|(it, _)| *it == name).map_or("", |(_, kind)| kind).into();
        let kinds = parser.named.iter().map(|name| kind(name)).collect();
        Ok(Self { text: text.into(), named: parser.named.into(), kinds, tree, number: 0 })
    }

    /// Whether a row, as a JSON object with the database's own texts, is one of those that the filter is about. `None`
    /// when the image does not tell: it lacks a column, as an image of the key only does.
    #[must_use]
    pub fn matches(&self, image: &str) -> Option<bool> {
        let row = json::members(image, &self.named).unwrap_or_default();
        self.tree.ask(&row).keeps()
    }

    /// What tells it from every other filter that [`Filters`] gave out; zero when it is not one of them.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether both say the same of every row.
    fn asks_as(&self, other: &Self) -> bool {
        self.text == other.text && self.named == other.named && self.kinds == other.kinds
    }

    /// The filter as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The columns that it names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|name| &**name)
    }
}

impl Tree {
    fn ask(&self, row: &[Option<&str>]) -> Truth {
        match self {
            Self::All(parts) => parts.iter().fold(Truth::TRUE, |all, part| all.and(part.ask(row))),
            Self::Any(parts) => parts.iter().fold(Truth::FALSE, |any, part| any.or(part.ask(row))),
            Self::Not(part) => part.ask(row).not(),
            Self::Is(condition) => condition.ask(row),
        }
    }
}
