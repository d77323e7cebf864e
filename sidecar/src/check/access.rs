//! What somebody may see, asked of the database as the sidecar asks it, and told to people.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde::de::IgnoredAny;

use crate::{
    auth,
    config::Config,
    model::{Channel, ChannelNameError},
    postgres::{
        Database, Error,
        explain::{Fact, explain_access},
    },
};

/// The fact that decides.
const VERDICT: &str = "verdict";

/// What is asked: claims of a token, a channel, and the key of a row.
#[derive(Clone, Debug)]
pub struct AccessQuestion {
    claims: String,
    channel: Channel,
    key: Option<String>,
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The claims are not an object, or name no role where there is no default.
    #[error(
        "the claims are not a JSON object with a role: give them as in a token, such as {{\"sub\": \"ada\"}}, \
         and the role, unless auth.default_role is set"
    )]
    Claims,
    /// The key is not an object.
    #[error("the key is not a JSON object: give the key columns and their values, such as {{\"id\": 1}}")]
    Key,
    /// The channel cannot be one.
    #[error(transparent)]
    Channel(#[from] ChannelNameError),
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Access {
    channel: String,
    facts: Vec<Fact>,
}

impl AccessQuestion {
    /// Takes claims as a token would have them: the role is the one that would be in force.
    ///
    /// # Errors
    ///
    /// What cannot be understood. It is not repeated: claims are nobody else's to read.
    pub fn parse(config: &Config, claims: &str, channel: &str, key: Option<&str>) -> Result<Self, AccessError> {
        let claims = auth::claims_in_force(&config.auth, claims).ok_or(AccessError::Claims)?;
        let is_object = |key: &str| serde_json::from_str::<BTreeMap<String, IgnoredAny>>(key).is_ok();
        if key.is_some_and(|key| !is_object(key)) {
            return Err(AccessError::Key);
        }
        Ok(Self { claims, channel: Channel::parse(channel)?, key: key.map(str::to_owned) })
    }

    /// Asks the database.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn ask(&self, config: &Config, database: &Database) -> Result<Access, Error> {
        let deadline = Duration::from_millis(config.timing.snapshot_ms);
        let channel = self.channel.name().as_str();
        let facts = explain_access(database, &self.claims, channel, self.key.as_deref(), deadline).await?;
        Ok(Access { channel: channel.to_owned(), facts })
    }
}

impl Access {
    /// Whether the channel may be listened to, and the row be seen when there was a key.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.facts.iter().any(|fact| fact.subject == VERDICT && fact.allowed == Some(true))
    }

    /// One line for each thing that counts, then the verdict.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for fact in &self.facts {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", line(fact));
        }
        let word = if self.is_allowed() { "allowed" } else { "denied" };
        let _ = writeln!(text, "{word}: {}", printable(&self.channel));
        text
    }

    /// The same for programs, as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({ "channel": self.channel, "allowed": self.is_allowed(), "facts": self.facts }).to_string()
    }
}

fn line(fact: &Fact) -> String {
    let mark = match fact.allowed {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    let says = fact.says.as_ref().map(|word| format!(" says {word}")).unwrap_or_default();
    let detail = fact.detail.as_deref().unwrap_or_default();
    format!("{mark:<4}{}", printable(&format!("{}{says}: {detail}", fact.subject)))
}

/// In one line, without what a terminal could take for a command: tables and policies are called what their owners like.
fn printable(text: &str) -> String {
    let words: Vec<&str> = text.split_inclusive(char::is_whitespace).filter(|word| !word.trim().is_empty()).collect();
    let one_line: String = words.concat();
    one_line
        .chars()
        .map(|c| {
            if c.is_whitespace() {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(subject: &str, allowed: Option<bool>, says: Option<&str>, detail: &str) -> Fact {
        let (subject, says, detail) = (subject.to_owned(), says.map(str::to_owned), Some(detail.to_owned()));
        Fact { subject, allowed, says, detail }
    }

    #[test]
    fn the_verdict_decides_and_nothing_else() {
        let access = |facts| Access { channel: "room:1".to_owned(), facts };
        let policy = fact("policy p", Some(true), Some("yes"), "permissive");
        assert!(!access(vec![policy.clone()]).is_allowed(), "no verdict means no");
        assert!(!access(vec![policy.clone(), fact(VERDICT, Some(false), None, "")]).is_allowed());
        let allowed = access(vec![policy, fact(VERDICT, Some(true), None, "may subscribe")]);
        assert!(allowed.is_allowed());
        assert_eq!(
            allowed.to_text(),
            "yes policy p says yes: permissive\nyes verdict: may subscribe\nallowed: room:1\n"
        );
    }

    #[test]
    fn names_of_others_are_no_commands_to_a_terminal() {
        let line = line(&fact("policy \u{1b}[2Jx", None, None, "exists (\n  select 1)"));
        assert_eq!(line, "-   policy \u{fffd}[2Jx: exists ( select 1)");
    }
}
