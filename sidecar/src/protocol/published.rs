//! An event on its way to many connections, encoded at most once per dialect and form.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::DialectId;
use crate::model::{Columns, Event, Offset, View};

/// An event on its way to many connections.
///
/// Each dialect encodes it at most once per form, and only when somebody has that form. The encoding happens in the task
/// of the first connection that needs it, not under a lock of the hub.
pub struct Published {
    event: Event,
    /// A safe cursor just before the event: the event before it, or where the batch began.
    previous: Offset,
    size_bytes: usize,
    // Held while looking an entry up, never while encoding. Almost always one or two entries long.
    encodings: Mutex<Vec<Encoding>>,
    // What filters said, by their numbers. As above.
    answers: Mutex<Vec<(u64, Matches)>>,
}

/// What a filter says of the old and the new image of a row; `None` of an image that does not tell.
pub type Matches = (Option<bool>, Option<bool>);

/// Filters whose answers are kept with an event: the usual table has few, which many subscriptions share.
const ANSWERS_MAX: usize = 32;

struct Encoding {
    dialect: DialectId,
    form: Form,
    body: Arc<OnceLock<Option<Arc<Body>>>>,
}

/// What an encoding depends on beside the event and the dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// As a subscription to this table sees it, with these columns.
    Table {
        /// The table subscribed to: the changed one or one of its partition ancestors.
        relation: u32,
        /// The columns to send.
        columns: Columns,
        /// How the change looks.
        view: View,
    },
    /// As every subscription to the channel sees it.
    Message,
}

/// An encoded event, to be joined with the address of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub struct Body {
    /// What comes before the address.
    pub head: Cow<'static, str>,
    /// What comes after it.
    pub tail: Box<str>,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&self.event.offset).finish()
    }
}

impl Published {
    /// Takes an event; `previous` is a safe cursor just before it.
    #[must_use]
    pub fn new(event: Event, previous: Offset) -> Self {
        Self { size_bytes: event.size_bytes(), event, previous, encodings: Mutex::default(), answers: Mutex::default() }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// A safe cursor just before the event.
    #[must_use]
    pub fn previous(&self) -> Offset {
        self.previous
    }

    /// About how many bytes it keeps alive.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The event in a dialect and form; `None` when there is nothing to send.
    pub fn body(&self, dialect: DialectId, form: &Form) -> Option<Arc<Body>> {
        let cell = self.cell(dialect, form);
        cell.get_or_init(|| dialect.dialect().encode(&self.event, form).map(Arc::new)).clone()
    }

    /// What the filter with this number says of the event: asked once, however many subscriptions have it. Zero is the
    /// number of no filter.
    pub fn matches(&self, filter: u64, ask: impl FnOnce() -> Matches) -> Matches {
        let known = |answers: &[(u64, Matches)]| answers.iter().find(|(it, _)| *it == filter).map(|(_, said)| *said);
        if let Some(said) = known(&self.answers.lock()).filter(|_| filter != 0) {
            return said;
        }
        let said = ask();
        let mut answers = self.answers.lock();
        // Another connection may have asked at the same moment.
        if filter != 0 && answers.len() < ANSWERS_MAX && known(&answers).is_none() {
            answers.push((filter, said));
        }
        said
    }

    fn cell(&self, dialect: DialectId, form: &Form) -> Arc<OnceLock<Option<Arc<Body>>>> {
        let mut encodings = self.encodings.lock();
        if let Some(known) = encodings.iter().find(|it| it.dialect == dialect && it.form == *form) {
            return Arc::clone(&known.body);
        }
        let body = Arc::default();
        encodings.push(Encoding { dialect, form: form.clone(), body: Arc::clone(&body) });
        body
    }
}

impl Body {
    /// The whole frame for a subscription with this address.
    #[must_use]
    pub fn frame(&self, address: &str) -> String {
        [&*self.head, address, &self.tail].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::row::tests::update;

    #[test]
    fn a_filter_is_asked_once_whoever_has_it() {
        let published = Published::new(update("{}", "{}"), Offset::ZERO);
        let mut asked = 0;
        for _ in 0..1_000 {
            for filter in [7, 8] {
                let mut ask = || {
                    asked += 1;
                    (Some(filter == 7), None)
                };
                assert_eq!(published.matches(filter, &mut ask), (Some(filter == 7), None));
            }
        }
        assert_eq!(asked, 2);
        for _ in 0..10 {
            published.matches(0, || {
                asked += 1;
                (None, None)
            });
        }
        assert_eq!(asked, 12, "what has no number is nobody else's");
    }

    #[test]
    fn answers_are_kept_up_to_a_bound_and_right_beyond_it() {
        let published = Published::new(update("{}", "{}"), Offset::ZERO);
        for _ in 0..2 {
            for filter in 1..=1_000 {
                assert_eq!(published.matches(filter, || (Some(filter % 3 == 0), None)).0, Some(filter % 3 == 0));
            }
        }
        assert_eq!(published.answers.lock().len(), ANSWERS_MAX);
    }

    #[test]
    fn a_form_is_encoded_once_and_shared() {
        let published = Published::new(update(r#"{"id":1}"#, r#"{"id":1}"#), Offset::ZERO);
        let columns = |names: &[&str]| Columns::new(names.iter().map(|&name| name.into()));
        let form = |names: &[&str]| Form::Table { relation: 10, columns: columns(names), view: View::Whole };
        let first = published.body(DialectId::NATIVE, &form(&["id"])).expect("visible");
        let again = published.body(DialectId::NATIVE, &form(&["id"])).expect("visible");
        assert!(Arc::ptr_eq(&first, &again));
        let other = published.body(DialectId::SEED, &form(&["id"])).expect("visible");
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(published.encodings.lock().len(), 2);
        let entered = Form::Table { relation: 10, columns: columns(&["id"]), view: View::Entered };
        assert!(!Arc::ptr_eq(&first, &published.body(DialectId::NATIVE, &entered).expect("visible")));
    }
}
