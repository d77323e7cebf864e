//! Who is on a channel, on its way to many connections, encoded at most once per dialect.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{DIALECTS, DialectId};
use crate::model::Member;

/// The list of nobody.
pub const NOBODY: &str = "[]";

/// Somebody on a channel. When a crowd comes, the list is another one after each of them, and the others on it are not.
pub struct Attendee {
    member: Arc<Member>,
    texts: [OnceLock<Option<Box<str>>>; DIALECTS.len()],
}

/// Everybody on a channel at one moment.
pub struct Roster {
    attendees: Vec<Arc<Attendee>>,
    texts: [OnceLock<Box<str>>; DIALECTS.len()],
}

impl Attendee {
    /// Takes somebody.
    #[must_use]
    pub fn new(member: Arc<Member>) -> Self {
        Self { member, texts: Default::default() }
    }

    /// Who it is.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    fn text(&self, dialect: DialectId) -> Option<&str> {
        self.texts[dialect.0].get_or_init(|| dialect.dialect().member(&self.member).map(Box::from)).as_deref()
    }
}

impl Roster {
    /// Takes them, in the order in which they are told.
    #[must_use]
    pub fn new(attendees: Vec<Arc<Attendee>>) -> Self {
        Self { attendees, texts: Default::default() }
    }

    /// Who they are.
    #[cfg(test)]
    pub(crate) fn members(&self) -> impl ExactSizeIterator<Item = &Arc<Member>> {
        self.attendees.iter().map(|attendee| &attendee.member)
    }

    /// All of them as a JSON list; of nobody when the dialect has no word for members.
    #[must_use]
    pub fn json(&self, dialect: DialectId) -> &str {
        self.texts[dialect.0].get_or_init(|| {
            let texts: Vec<&str> = self.attendees.iter().filter_map(|attendee| attendee.text(dialect)).collect();
            ["[", &texts.join(","), "]"].concat().into_boxed_str()
        })
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Roster").field(&self.attendees.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::model::{Timestamp, Who};

    fn attendee(name: &str) -> Arc<Attendee> {
        let who = Who::User(name.into());
        Arc::new(Attendee::new(Arc::new(Member { who, joined_at: Timestamp(SystemTime::UNIX_EPOCH), state: None })))
    }

    #[test]
    fn a_list_is_encoded_once_and_so_is_each_member_of_many_lists() {
        let (ann, bob) = (attendee("ann"), attendee("bob"));
        let both = Roster::new(vec![Arc::clone(&ann), bob]);
        let text = both.json(DialectId::INSFORGE);
        assert!((0..5_000).all(|_| std::ptr::eq(both.json(DialectId::INSFORGE), text)));
        let of_ann = ann.text(DialectId::INSFORGE).expect("a word");
        let alone = Roster::new(vec![Arc::clone(&ann)]);
        assert_eq!(alone.json(DialectId::INSFORGE), format!("[{of_ann}]"));
        assert!(std::ptr::eq(ann.text(DialectId::INSFORGE).expect("a word"), of_ann));
    }

    #[test]
    fn dialects_do_not_share_texts_and_some_have_no_word() {
        let roster = Roster::new(vec![attendee("ann")]);
        assert!(roster.json(DialectId::NATIVE).starts_with(r#"[{"id":"ann""#));
        assert!(roster.json(DialectId::INSFORGE).starts_with(r#"[{"type":"user""#));
        assert_eq!(roster.json(DialectId::SEED), NOBODY);
        assert_eq!(Roster::new(Vec::new()).json(DialectId::NATIVE), NOBODY);
    }
}
