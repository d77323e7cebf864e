//! News: the clock, the database, and rights that changed.

use std::{sync::Arc, time::Instant};

use super::{Connection, commands::seat, refusals::judge_error, subscriptions::form};
use crate::{
    court::JudgeError,
    denials::What,
    error::{CloseReason, Code, CommandError},
    hub::{Note, SubscriberId},
    model::{Grant, Refusal},
    protocol::Notice,
};

impl Connection {
    /// Something may be due.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        let due = self.clock.due(now);
        if due.expired {
            return self.expire();
        }
        let stalled = self.link.stalled_for(now);
        if due.leave {
            self.closing = Some(CloseReason::Restart);
        } else if stalled.as_millis() >= u128::from(self.services.timing.no_progress_ms) {
            self.services.metrics.limits_reached.inc("no_progress");
            self.closing = Some(CloseReason::TooSlow);
        } else if due.dead && !self.link.is_sending() {
            self.closing = Some(CloseReason::Dead);
        } else if due.dead {
            // It takes what is sent, slowly: its pong stands behind all that.
            self.clock.alive(now);
        }
        if due.heartbeat && self.link.has_room() {
            let offset = self.flow.safe_cursor();
            self.send_notice(&Notice::Heartbeat { offset });
        }
        if due.ping {
            self.link.ping();
        }
    }

    /// The token has ended: every subscription hears it, then the connection closes.
    fn expire(&mut self) {
        self.services.metrics.auth_failures.inc("expired");
        for (_, subscription) in self.flow.subscriptions.iter() {
            let channel = subscription.channel.name().as_str();
            self.services.denied(&self.identity, What::Revocation, channel, &Refusal::TokenExpired);
        }
        for subscriber in self.flow.subscriptions.ids() {
            self.end_with_error(subscriber, CommandError::token_expired());
        }
        self.send_error(&CommandError::token_expired());
        self.closing = Some(CloseReason::Token);
    }

    pub(super) fn take_notes(&mut self) {
        while let Some(note) = self.outbox.pop_note() {
            match note {
                Note::Database { up } => {
                    let offset = self.flow.safe_cursor();
                    self.send_notice(&Notice::Status { up, offset });
                }
                Note::Regranted { subscriber, grant } => self.regranted(subscriber, grant),
                Note::Presence { attendance } => self.attendances.mark(attendance),
                Note::Revoked { subscriber, refusal } => self.revoked(subscriber, &refusal),
            }
        }
    }

    /// The grant of a subscription may have changed.
    pub(super) fn regranted(&mut self, subscriber: SubscriberId, grant: Arc<Grant>) {
        let Some(subscription) = self.flow.subscriptions.get_mut(subscriber) else {
            return;
        };
        if subscription.grant.topic != grant.topic {
            // The name means another table now: what was subscribed to is gone.
            return self.revoked(subscriber, &Refusal::NoTable);
        }
        let is_sitting = subscription.seat.as_ref().is_some_and(|seat| *seat.party() == self.identity.party());
        if subscription.grant.keeps_verdicts_of(&grant) && is_sitting == grant.is_judged() {
            return self.relook(subscriber, grant);
        }
        self.reseat(subscriber, &grant);
        self.relook(subscriber, grant);
    }

    /// Verdicts that were given before are not worth anything any more: the subscription is judged anew from here on.
    fn reseat(&mut self, subscriber: SubscriberId, grant: &Grant) {
        if self.snapshot_for == Some(subscriber) {
            // Its rows were seen with other rights, and some may be with the client already.
            return self.end_with_error(subscriber, CommandError::no_snapshot());
        }
        match seat(&self.services, &self.identity, grant) {
            Ok(seat) => {
                let mut out = Vec::new();
                self.flow.reseat(subscriber, seat, &mut out);
                self.send_out(&mut out);
            }
            Err(error) => self.unjudged(subscriber, &error),
        }
    }

    /// Nobody can say any more what a subscription may be sent.
    pub(super) fn unjudged(&mut self, subscriber: SubscriberId, error: &JudgeError) {
        let Some(subscription) = self.flow.subscriptions.get_mut(subscriber) else {
            return;
        };
        let channel = subscription.channel.name().as_str();
        let error = judge_error(&self.services, &self.identity, What::Revocation, channel, error);
        self.end_with_error(subscriber, error);
    }

    /// What may be seen of the columns may have changed.
    fn relook(&mut self, subscriber: SubscriberId, grant: Arc<Grant>) {
        let Some(subscription) = self.flow.subscriptions.get_mut(subscriber).filter(|it| *it.grant != *grant) else {
            return;
        };
        let columns = grant.table.as_ref().map(|table| subscription.wish.visible(table));
        if columns.as_ref().is_some_and(crate::model::Columns::is_empty) {
            return self.revoked(subscriber, &Refusal::Forbidden);
        }
        if let Err(error) = subscription.wish.bind(&grant, &self.services.filters) {
            return self.end_with_error(subscriber, error);
        }
        subscription.form = form(&grant.topic, columns);
        let before = std::mem::replace(&mut subscription.grant, grant);
        let looks = subscription.grant.table.as_ref().zip(before.table.as_ref());
        if looks.is_some_and(|(now, before)| now.looks_like(before)) {
            // Columns that it may not read have changed: nothing that it may know.
            return;
        }
        let address = subscription.address.clone();
        let text = "the columns that you may read have changed: subscribe again to see which they are";
        let error = CommandError::new(Code::SchemaChanged, text);
        self.send_notice(&Notice::Error { error: &error, reference: None, address: Some(&address) });
    }

    /// A subscription is no longer allowed.
    pub(super) fn revoked(&mut self, subscriber: SubscriberId, refusal: &Refusal) {
        let Some(subscription) = self.flow.subscriptions.get_mut(subscriber) else {
            return;
        };
        self.services.metrics.revocations.inc();
        let channel = subscription.channel.name().as_str();
        self.services.denied(&self.identity, What::Revocation, channel, refusal);
        let error = match refusal {
            Refusal::NoTable | Refusal::NotEnabled => table_dropped(),
            Refusal::NoChannel => {
                CommandError::new(Code::ChannelDisabled, "the channel was disabled: subscribe to another one")
            }
            _ => CommandError::new(Code::Unauthorized, "you may no longer listen to this channel: ask for the right"),
        };
        self.end_with_error(subscriber, error);
        if matches!(refusal, Refusal::NoRole | Refusal::RoleNotGranted) {
            self.closing = Some(CloseReason::RightsGone);
        }
    }

    /// Ends a subscription, telling the client why.
    pub(super) fn end_with_error(&mut self, subscriber: SubscriberId, error: CommandError) {
        if let Some(subscription) = self.end_subscription(subscriber) {
            let error = error.ending();
            self.send_notice(&Notice::Error { error: &error, reference: None, address: Some(&subscription.address) });
        }
    }

    /// Ends a subscription without a word.
    pub(super) fn end_subscription(
        &mut self,
        subscriber: SubscriberId,
    ) -> Option<Box<super::subscriptions::Subscription>> {
        let subscription = self.flow.end(subscriber)?;
        self.abandon_snapshot(subscriber);
        self.attend_no_more(&subscription.address.channel);
        self.count_subscriptions(-1);
        Some(subscription)
    }

    pub(super) fn drop_subscriptions(&mut self) {
        for subscriber in self.flow.subscriptions.ids() {
            self.end_subscription(subscriber);
        }
    }

    pub(super) fn count_subscriptions(&self, change: i64) {
        let metrics = &self.services.metrics;
        metrics.subscriptions.inc_by(change);
        metrics.channels.set(i64::try_from(self.services.hub.channels()).unwrap_or(i64::MAX));
    }
}

fn table_dropped() -> CommandError {
    CommandError::new(Code::TableDropped, "the table is gone, renamed or no longer enabled: subscribe to its new name")
}
