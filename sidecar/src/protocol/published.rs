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
}

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
        Self { size_bytes: event.size_bytes(), event, previous, encodings: Mutex::new(Vec::new()) }
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
