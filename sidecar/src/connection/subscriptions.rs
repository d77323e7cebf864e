//! What a connection listens to.

use std::{collections::BTreeMap, sync::Arc};

use super::{feed::Feed, flow::Out};
use crate::{
    auth::Watch,
    court::Seat,
    error::CommandError,
    filter::{Filter, Filters},
    hub::{Page, Seen, SubscriberId},
    model::{
        Channel, Columns, Effect, Event, EventKind, Gap, GapReason, Grant, Identity, Offset, Op, RowChange, Sight,
        TableGrant, Topic, Verdict, View,
    },
    postgres::authorize::Question,
    protocol::{Address, DialectId, Form, Matches, Published},
};

/// All subscriptions of a connection.
#[derive(Default)]
pub(super) struct Subscriptions {
    // Boxed, because a node of the map has room for eleven.
    by_subscriber: BTreeMap<SubscriberId, Box<Subscription>>,
    by_id: BTreeMap<Arc<str>, SubscriberId>,
    /// How many are not live: the usual connection has none, and then nothing is searched for.
    replaying: usize,
}

/// One subscription.
pub(super) struct Subscription {
    pub(super) address: Address,
    /// The address as the dialect writes it into frames.
    pub(super) address_text: Box<str>,
    pub(super) channel: Channel,
    pub(super) grant: Arc<Grant>,
    /// Where its events are judged, when policies decide.
    pub(super) seat: Option<Seat>,
    pub(super) form: Form,
    pub(super) wish: Wish,
    pub(super) feed: Feed,
    /// The table's rows come first, and no event before the last of them.
    pub(super) awaits_snapshot: bool,
    /// What is being sent while the feed is not live.
    pub(super) page: Option<Page>,
    /// Keeps the grant under watch.
    pub(super) watch: Option<Watch>,
    /// An event whose columns the grant does not know.
    pub(super) doubt: Doubt,
}

/// An event whose columns are not called as they were when the grant was judged, and what is done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The newest such event.
    at: Offset,
    /// How many verdicts were asked for because of it.
    verdicts: u32,
    pub(super) remedy: Remedy,
}

/// What the next page needs before its events can be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing.
    #[default]
    None,
    /// Memory has other names: the log is to be read, which has those of today.
    Log,
    /// As [`Remedy::Log`], and the grant is to be judged anew before that.
    Verdict,
}

/// What a client wants of a channel, beside everything that it may see.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    pub(super) events: Option<Events>,
    pub(super) columns: Option<Vec<String>>,
    pub(super) numbers_as_text: bool,
    pub(super) filter: Option<Wanted>,
}

/// Which rows of a table a client wants.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    text: Box<str>,
    /// The filter, as soon as it is known what the columns are and who may read them.
    filter: Option<Arc<Filter>>,
}

/// Which events a client wants.
#[derive(Clone, Debug)]
pub(super) enum Events {
    Operations(Vec<Op>),
    Names(Vec<String>),
}

impl Wish {
    /// Reads what a client asked for on a channel.
    pub(super) fn parse(
        channel: &Channel,
        events: Option<Vec<String>>,
        columns: Option<Vec<String>>,
        numbers_as_text: bool,
    ) -> Result<Self, CommandError> {
        if columns.is_some() && matches!(channel, Channel::Messages(_)) {
            return Err(CommandError::invalid("columns are for table channels: leave them out"));
        }
        let events = events.map(|words| match channel {
            Channel::Table(_) => operations(&words),
            Channel::Messages(_) => Ok(Events::Names(words)),
        });
        Ok(Self { events: events.transpose()?, columns, numbers_as_text, filter: None })
    }

    /// The same, of those rows only that a filter is about. It is to be [bound](Wish::bind) before anything is asked.
    pub(super) fn filtered(mut self, channel: &Channel, filter: Option<Box<str>>) -> Result<Self, CommandError> {
        if filter.is_some() && matches!(channel, Channel::Messages(_)) {
            return Err(CommandError::bad_filter("filters are for table channels: leave filter out", None));
        }
        self.filter = filter.map(|text| Wanted { text, filter: None });
        Ok(self)
    }

    /// Reads the filter against what may be read now.
    ///
    /// # Errors
    ///
    /// When it cannot be used on these columns.
    pub(super) fn bind(&mut self, grant: &Grant, filters: &Filters) -> Result<(), CommandError> {
        let (Some(wanted), Some(table)) = (&mut self.filter, &grant.table) else {
            return Ok(());
        };
        let filter = Filter::parse(&wanted.text, &table.comparable);
        wanted.filter =
            Some(filters.share(filter.map_err(|it| CommandError::bad_filter(it.to_string(), Some(it.position)))?));
        Ok(())
    }

    /// The columns that come of a table.
    ///
    /// # Errors
    ///
    /// When a column is asked for that cannot be read: the client is mistaken about the table.
    pub(super) fn columns(&self, grant: &TableGrant) -> Result<Columns, CommandError> {
        const REMEDY: &str = "columns has a name that this table does not show you: the ack without columns lists them";
        let shown = match &self.columns {
            Some(wanted) if wanted.is_empty() || wanted.iter().any(|name| !grant.columns.contains(name)) => {
                return Err(CommandError::invalid(REMEDY));
            }
            Some(_) | None => self.visible(grant),
        };
        Ok(shown)
    }

    /// As [`Wish::columns`], leaving out what can no longer be read.
    pub(super) fn visible(&self, grant: &TableGrant) -> Columns {
        let shown = match &self.columns {
            Some(wanted) => grant.columns.intersect(|name| wanted.iter().any(|it| it == name)),
            None => grant.columns.clone(),
        };
        if !self.numbers_as_text {
            return shown;
        }
        shown.with_quoted(|name| grant.types.iter().any(|(it, kind)| &**it == name && is_wide_number(kind)))
    }

    /// Whether an event can be shown: when the names of its columns mean what they mean in the grant, or when no name
    /// matters because everything may be read and nothing is picked out.
    pub(super) fn fits(&self, grant: &Grant, event: &Event) -> bool {
        grant.knows_columns_of(event) || self.takes_everything(grant) || !self.may_want(event)
    }

    fn takes_everything(&self, grant: &Grant) -> bool {
        self.columns.is_none()
            && !self.numbers_as_text
            && self.filter.is_none()
            && grant.table.as_ref().is_some_and(|table| table.is_whole)
    }

    /// Whether an event may be wanted, however it looks.
    fn may_want(&self, event: &Event) -> bool {
        match &event.kind {
            // An update may be one to some, and an insert or a delete to others.
            EventKind::Row(change) if change.op == Op::Update => true,
            _ => self.wants(event, View::Whole),
        }
    }

    /// Whether an event is wanted that looks like this.
    fn wants(&self, event: &Event, view: View) -> bool {
        match (&self.events, &event.kind) {
            (None, _) | (_, EventKind::Unjudged(_)) => true,
            (Some(Events::Operations(wanted)), EventKind::Row(change)) => wanted.contains(&view.op(change.op)),
            (Some(Events::Operations(wanted)), EventKind::Truncate(_)) => wanted.contains(&Op::Truncate),
            (Some(Events::Names(wanted)), EventKind::Message(message)) => {
                wanted.iter().any(|name| **name == *message.event)
            }
            _ => false,
        }
    }

    /// Whether the old and the new image of a change are among the rows that are wanted; `None` where an image cannot say.
    fn matches(&self, event: &Published, change: &RowChange) -> Matches {
        let Some(wanted) = &self.filter else {
            return (Some(true), Some(true));
        };
        let number = wanted.filter.as_ref().map_or(0, |filter| filter.number());
        let matches = |image: &Option<Box<str>>| self.matches_row(image.as_deref()?);
        event.matches(number, || (matches(&change.old_record), matches(&change.record)))
    }

    /// Whether a row, with all that it has, is among those that are wanted; `None` where it cannot say.
    pub(super) fn matches_row(&self, row: &str) -> Option<bool> {
        match &self.filter {
            None => Some(true),
            Some(wanted) => wanted.filter.as_ref()?.matches(row),
        }
    }
}

fn operations(words: &[String]) -> Result<Events, CommandError> {
    let parse = |word: &String| Op::parse(&word.to_ascii_uppercase());
    let operations: Option<Vec<Op>> = words.iter().map(parse).collect();
    operations
        .map(Events::Operations)
        .ok_or_else(|| CommandError::invalid("events of a table are INSERT, UPDATE, DELETE, TRUNCATE or *"))
}

/// Numbers that a double cannot hold exactly.
fn is_wide_number(kind: &str) -> bool {
    kind == "bigint" || kind.starts_with("numeric") && !kind.ends_with("[]")
}

impl Subscription {
    /// What is asked of the database to know whether this identity may have it.
    pub(super) fn question(&self, identity: &Identity) -> Question {
        Question::new(identity, self.channel.clone()).comparing(self.wish.filter.is_some())
    }

    /// What it listens to.
    pub(super) fn topic(&self) -> &Topic {
        &self.grant.topic
    }

    /// Whether a page has to be got before anything more can be sent.
    pub(super) fn needs_page(&self) -> bool {
        !self.feed.is_live() && self.page.is_none() && !self.awaits_snapshot
    }

    /// Whether that page may come from memory.
    pub(super) fn takes_memory(&self) -> bool {
        self.needs_page() && self.doubt.remedy == Remedy::None && self.seat.is_none()
    }

    /// Whether it is known what may be shown of an event. Nothing is shown of one that should have been judged and was not.
    pub(super) fn is_sure_of(&self, seen: &Seen) -> bool {
        self.seat.is_none() || seen.verdict.is_some() || !seen.can_be_judged()
    }

    /// Goes on by pages. Everything of the hub's up to `safe` was taken from the queue.
    pub(super) fn step_back(&mut self, safe: Offset) {
        let safe = if self.seat.is_some() { self.feed.cursor() } else { safe };
        self.feed.step_back(safe);
    }

    /// A cursor that is safe for it, when everything of the hub's up to `safe` was taken from the queue.
    pub(super) fn safe_cursor(&self, safe: Offset) -> Offset {
        if self.seat.is_some() { self.feed.cursor() } else { self.feed.safe_cursor(safe) }
    }

    /// Whether an event can be shown.
    pub(super) fn fits(&self, event: &Event) -> bool {
        self.wish.fits(&self.grant, event)
    }

    /// An event cannot be shown. Gives whether a new verdict is worth being waited for.
    pub(super) fn doubt(&mut self, at: Offset) -> bool {
        /// The columns may change again between a verdict and the page after it, but not for ever.
        const VERDICTS_MAX: u32 = 3;
        let verdicts = if self.doubt.at == at { self.doubt.verdicts } else { 0 };
        if verdicts == VERDICTS_MAX {
            return false;
        }
        self.doubt = Doubt { at, verdicts: verdicts + 1, remedy: Remedy::Verdict };
        true
    }

    /// Takes a page; when it begins with a hole, that is told first.
    pub(super) fn take_first_page(&mut self, page: Page, out: &mut Vec<Out>) {
        if let Some(gap) = page.gap {
            self.feed.skipped(gap.to);
            out.push(Out::Gap(self.address.clone(), gap));
        }
        self.doubt.remedy = Remedy::None;
        self.page = Some(page).filter(|_| !self.awaits_snapshot);
    }

    /// What this subscription gets of an event. It must be [sure](Subscription::is_sure_of) of it, and it must
    /// [fit](Subscription::fits).
    pub(super) fn out(&self, seen: &Seen, dialect: DialectId) -> Option<Out> {
        let event = seen.event.event();
        let view = match &event.kind {
            EventKind::Row(change) => match self.effect(seen, change) {
                Effect::Show(view) => view,
                Effect::Nothing => return None,
                Effect::Gap => {
                    let gap = Gap { reason: GapReason::Unjudged, from: event.offset, to: event.offset };
                    return Some(Out::Gap(self.address.clone(), gap));
                }
            },
            _ => View::Whole,
        };
        self.wish.wants(event, view).then(|| self.frame(seen, view, dialect)).flatten().map(Out::Event)
    }

    /// What a change is to this subscription: by what may be seen of it, and by what is wanted.
    fn effect(&self, seen: &Seen, change: &RowChange) -> Effect {
        let (old_matches, new_matches) = self.wish.matches(&seen.event, change);
        let verdict = seen.verdict.unwrap_or(Verdict::OPEN);
        if change.op != Op::Delete && verdict.new == Sight::Visible && new_matches.is_none() {
            // The row may be seen, and nobody can say whether it is wanted.
            return Effect::Gap;
        }
        verdict.and(old_matches, new_matches).effect(change)
    }

    fn frame(&self, seen: &Seen, view: View, dialect: DialectId) -> Option<String> {
        let body = match &self.form {
            Form::Table { relation, .. } if !self.grant.knows_columns_of(seen.event.event()) => {
                seen.event.body(dialect, &Form::Table { relation: *relation, columns: Columns::everything(), view })
            }
            Form::Table { relation, columns, .. } if view != View::Whole => {
                seen.event.body(dialect, &Form::Table { relation: *relation, columns: columns.clone(), view })
            }
            form => seen.event.body(dialect, form),
        };
        Some(body?.frame(&self.address_text))
    }
}

/// The form of a grant's events.
pub(super) fn form(topic: &Topic, columns: Option<Columns>) -> Form {
    match (topic, columns) {
        (Topic::Table(relation), Some(columns)) => Form::Table { relation: *relation, columns, view: View::Whole },
        _ => Form::Message,
    }
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.by_subscriber.len()
    }

    pub(super) fn insert(&mut self, subscriber: SubscriberId, subscription: Subscription) {
        self.by_id.insert(Arc::clone(&subscription.address.id), subscriber);
        self.by_subscriber.insert(subscriber, Box::new(subscription));
        self.recount();
    }

    pub(super) fn remove(&mut self, subscriber: SubscriberId) -> Option<Box<Subscription>> {
        let subscription = self.by_subscriber.remove(&subscriber)?;
        self.by_id.remove(&subscription.address.id);
        self.recount();
        Some(subscription)
    }

    pub(super) fn get_mut(&mut self, subscriber: SubscriberId) -> Option<&mut Subscription> {
        self.by_subscriber.get_mut(&subscriber).map(|it| &mut **it)
    }

    pub(super) fn find(&self, id: &str) -> Option<SubscriberId> {
        self.by_id.get(id).copied()
    }

    pub(super) fn has_channel(&self, channel: &str) -> bool {
        self.by_subscriber.values().any(|it| &*it.address.channel == channel)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SubscriberId, &Subscription)> {
        self.by_subscriber.iter().map(|(&subscriber, it)| (subscriber, &**it))
    }

    pub(super) fn ids(&self) -> Vec<SubscriberId> {
        self.by_subscriber.keys().copied().collect()
    }

    /// To be called when a feed changed its phase.
    pub(super) fn recount(&mut self) {
        self.replaying = self.by_subscriber.values().filter(|it| !it.feed.is_live()).count();
    }

    pub(super) fn any_replaying(&self) -> bool {
        self.replaying > 0
    }

    /// Whether the hub's events come by the queue for any of them.
    pub(super) fn any_live(&self) -> bool {
        self.by_subscriber.values().any(|it| it.seat.is_none() && it.feed.is_live())
    }

    /// How far everything is in the queue for those that are judged and live.
    pub(super) fn judged_heads(&self) -> Vec<(SubscriberId, Offset)> {
        let live = self.iter().filter(|(_, it)| it.feed.is_live());
        live.filter_map(|(subscriber, it)| Some((subscriber, it.seat.as_ref()?.head()?))).collect()
    }

    /// What was in the queue then was taken from it.
    pub(super) fn all_judged_up_to(&mut self, heads: &[(SubscriberId, Offset)]) {
        for (subscriber, head) in heads {
            if let Some(subscription) = self.get_mut(*subscriber) {
                subscription.feed.sent(*head);
            }
        }
    }

    pub(super) fn any_closing(&self) -> bool {
        self.any_replaying() && self.by_subscriber.values().any(|it| it.feed.is_closing())
    }

    /// The subscription with a page after `last`, going round.
    pub(super) fn next_with_page(&self, last: Option<SubscriberId>) -> Option<SubscriberId> {
        if !self.any_replaying() {
            return None;
        }
        let paging = || self.iter().filter(|(_, it)| it.page.is_some()).map(|(subscriber, _)| subscriber);
        paging().find(|&subscriber| last.is_none_or(|last| subscriber > last)).or_else(|| paging().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn grant() -> TableGrant {
        let types: [(Arc<str>, Arc<str>); 4] = [
            ("id".into(), "bigint".into()),
            ("name".into(), "text".into()),
            ("price".into(), "numeric(10,2)".into()),
            ("ids".into(), "bigint[]".into()),
        ];
        let columns = Columns::new(types.iter().map(|(name, _)| Arc::clone(name)));
        TableGrant {
            columns,
            numbers: [].into(),
            types: types.into(),
            comparable: [].into(),
            key: None,
            shape: Some(1),
            is_whole: false,
            is_judged: false,
            rights: 0,
        }
    }

    fn table() -> Channel {
        Channel::parse("table:t").expect("a name")
    }

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|&word| word.to_owned()).collect())
    }

    fn columns(wanted: Option<Vec<String>>, numbers_as_text: bool) -> Result<Columns, Code> {
        let wish = Wish::parse(&table(), None, wanted, numbers_as_text).expect("fits");
        wish.columns(&grant()).map_err(|error| error.code)
    }

    #[test]
    fn columns_that_cannot_be_read_are_a_mistake_and_those_that_go_away_are_not() {
        let names = |columns: Columns| columns.names().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(columns(words(&["price", "id"]), false).map(names), Ok(vec!["id".to_owned(), "price".to_owned()]));
        assert_eq!(columns(words(&["secret"]), false), Err(Code::InvalidMessage));
        assert_eq!(columns(words(&[]), false), Err(Code::InvalidMessage));
        let wish = Wish::parse(&table(), None, words(&["id", "gone"]), false).expect("fits");
        assert_eq!(names(wish.visible(&grant())), ["id"]);
    }

    #[test]
    fn wide_numbers_can_be_text() {
        let columns = columns(None, true).expect("all");
        let quoted: Vec<&str> =
            ["id", "name", "price", "ids"].into_iter().filter(|name| columns.is_quoted(name)).collect();
        assert_eq!(quoted, ["id", "price"]);
    }

    #[test]
    fn events_are_operations_of_tables_and_names_of_messages() {
        let room = Channel::parse("room:1").expect("a name");
        assert!(Wish::parse(&table(), words(&["insert", "TRUNCATE"]), None, false).is_ok());
        assert!(Wish::parse(&table(), words(&["said"]), None, false).is_err());
        assert!(Wish::parse(&room, words(&["said"]), None, false).is_ok());
        assert!(Wish::parse(&room, None, words(&["id"]), false).is_err());
        let inserts = Wish::parse(&table(), words(&["DELETE"]), None, false).expect("fits");
        assert!(!inserts.wants(&crate::hub::tests::event(1, 1), View::Whole));
    }
}
