//! What clients ask: judged here, asked of the database beside the event flow, answered in order.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tracing::warn;

use super::{
    Connection, Incoming, Services,
    feed::Feed,
    frame_bytes_max,
    refusals::{auth_error, grant_error, judge_error, publish_error},
    subscriptions::{Doubt, Subscription, Wish, form},
};
use crate::{
    auth::GrantError,
    court::{JudgeError, Seat},
    denials::What,
    error::{CloseReason, Code, CommandError},
    hub::{Page, SubscriberId},
    model::{Channel, ChannelName, Columns, Grant, Identity, Offset, Refusal, Topic},
    postgres::{
        authorize::Question,
        publish::{Published, publish_as},
    },
    protocol::{Address, Command, DecodeError, NOBODY, Notice, Publish, Reference, Since, Subscribe, Token},
    replay::PAGE,
};

/// What became of a command that had to ask the database.
pub(super) enum Outcome {
    Subscribed { request: Subscribe, channel: Channel, result: Result<Box<Begin>, CommandError> },
    Published { reference: Option<Reference>, channel: Arc<str>, result: Result<Published, CommandError> },
    Identified { reference: Option<Reference>, result: Result<NewIdentity, CommandError> },
}

/// What a subscription begins with.
pub(super) struct Begin {
    grant: Arc<Grant>,
    wish: Wish,
    /// Where its events are judged, when policies decide.
    seat: Option<Seat>,
    /// The cursor and its first page, for those who resume.
    resume: Option<(Offset, Page)>,
}

/// A verified identity, and what it may listen to of what the connection listens to.
pub(super) struct NewIdentity {
    identity: Identity,
    verdicts: Vec<(SubscriberId, Result<Arc<Grant>, GrantError>)>,
}

impl Connection {
    pub(super) fn incoming(&mut self, incoming: Incoming) {
        let now = Instant::now();
        match incoming {
            Incoming::Flushed(false) => return,
            Incoming::Flushed(true) | Incoming::Alive => (),
            Incoming::Text(text) => {
                let decoded = self.codec.decode(&text);
                self.decoded(decoded, now);
            }
            Incoming::Binary => {
                let decoded = self.codec.decode_binary();
                self.decoded(decoded, now);
            }
            Incoming::End(reason) => self.broken(reason),
        }
        self.clock.alive(now);
    }

    fn broken(&mut self, reason: Option<CloseReason>) {
        if reason == Some(CloseReason::TooLarge) {
            self.services.metrics.limits_reached.inc("frame_bytes");
            self.send_error(&CommandError::new(Code::PayloadTooLarge, "the frame is too large: send smaller ones"));
        }
        self.closing = reason;
    }

    fn decoded(&mut self, decoded: Result<Command, DecodeError>, now: Instant) {
        match decoded {
            Ok(command) => match self.bucket.take(now) {
                Ok(()) => self.command(command),
                Err(wait) => {
                    self.services.metrics.limits_reached.inc("messages");
                    let error = CommandError::new(Code::RateLimited, "too many messages: slow down").retry_after(wait);
                    self.refuse(&error, command.reference(), None);
                }
            },
            Err(it) if it.ends => {
                self.services.metrics.bad_frames.inc();
                self.closing = Some(CloseReason::BadPacket);
            }
            Err(it) => self.bad_frame(&it.error, it.reference.as_ref(), now),
        }
    }

    fn bad_frame(&mut self, error: &CommandError, reference: Option<&Reference>, now: Instant) {
        self.services.metrics.bad_frames.inc();
        self.refuse(error, reference, None);
        if self.bad_frames.count(now) {
            self.closing = Some(CloseReason::Abuse);
        }
    }

    fn refuse(&mut self, error: &CommandError, reference: Option<&Reference>, address: Option<&Address>) {
        self.send_notice(&Notice::Error { error, reference, address });
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Subscribe(request) => self.subscribe(request),
            Command::Unsubscribe { reference, id } => self.unsubscribe(reference.as_ref(), &id),
            Command::Publish(request) => self.publish(request),
            Command::Presence { reference, channel, standing } => {
                self.presence(reference.as_ref(), &channel, standing);
            }
            Command::AccessToken { reference, token } => self.access_token(reference, token),
            Command::Ping { reference } => {
                let offset = self.flow.safe_cursor();
                self.send_notice(&Notice::Pong { reference: reference.as_ref(), offset });
            }
            Command::Heartbeat => (),
            Command::Leave => self.closing = Some(CloseReason::Left),
            Command::Reply { frame } => self.link.send(frame),
            // Whoever is here has come in already.
            Command::Connect { .. } => self.closing = Some(CloseReason::BadPacket),
        }
    }

    fn subscribe(&mut self, request: Subscribe) {
        let checked = self.check_subscribe(&request);
        let (channel, wish) = match checked {
            Ok(checked) => checked,
            Err(error) => return self.refuse_subscribe(&request, &error),
        };
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        self.command = Some(Box::pin(async move {
            let asker = Asker { services: &services, identity: &identity, channel: &channel };
            let result = begin(&asker, wish, request.since).await.map(Box::new);
            Outcome::Subscribed { request, channel, result }
        }));
    }

    fn check_subscribe(&self, request: &Subscribe) -> Result<(Channel, Wish), CommandError> {
        let channel = Channel::parse(&request.channel)?;
        let replaces = self.flow.subscriptions.find(&request.id).is_some();
        if !replaces && self.flow.subscriptions.len() >= self.services.limits.subscriptions_max {
            self.services.metrics.limits_reached.inc("subscriptions");
            return Err(CommandError::new(
                Code::TooManySubscriptions,
                "this connection has as many subscriptions as it may: unsubscribe from one or open another connection",
            ));
        }
        if request.snapshot && matches!(channel, Channel::Messages(_)) {
            return Err(CommandError::invalid("snapshots are of tables: leave snapshot out"));
        }
        let wish = Wish::parse(&channel, request.events.clone(), request.columns.clone(), self.numbers_as_text)?;
        let wish = wish.filtered(&channel, request.filter.clone())?;
        Ok((channel, wish))
    }

    fn refuse_subscribe(&mut self, request: &Subscribe, error: &CommandError) {
        self.services.metrics.subscriptions_refused.inc(error.code.label());
        let address = address(request);
        self.refuse(error, request.reference.as_ref(), Some(&address));
    }

    fn unsubscribe(&mut self, reference: Option<&Reference>, id: &Arc<str>) {
        let subscription = self.flow.subscriptions.find(id).and_then(|subscriber| self.end_subscription(subscriber));
        // Unsubscribing from what is not there has the same result, so it is no error.
        let unknown = || Address { id: Arc::clone(id), channel: Arc::clone(id) };
        let address = subscription.map_or_else(unknown, |it| it.address);
        self.send_notice(&Notice::Unsubscribed { reference, address: &address });
    }

    fn publish(&mut self, request: Publish) {
        let channel = match self.check_publish(&request) {
            Ok(channel) => channel,
            Err(error) => {
                self.services.metrics.publishes.inc("refused");
                let address = Address { id: Arc::clone(&request.channel), channel: request.channel };
                return self.refuse(&error, request.reference.as_ref(), Some(&address));
            }
        };
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        self.command = Some(Box::pin(async move {
            let Publish { reference, channel: name, event, payload, message_id } = request;
            let id = message_id.as_deref();
            let result = publish_as(&services.database, &identity, &channel, &event, &payload, id).await;
            let result = result.map_err(|error| {
                if let Some(refusal) = error.refusal() {
                    services.denied(&identity, What::Publish, &name, &refusal);
                }
                publish_error(&error)
            });
            Outcome::Published { reference, channel: name, result }
        }));
    }

    fn check_publish(&self, request: &Publish) -> Result<ChannelName, CommandError> {
        let Channel::Messages(channel) = Channel::parse(&request.channel)? else {
            let text = "nobody publishes to a table channel: change the table instead";
            return Err(CommandError::new(Code::InvalidChannel, text));
        };
        if !self.flow.subscriptions.has_channel(&request.channel) {
            let text = "publishing needs a subscription to the channel: subscribe first";
            return Err(CommandError::new(Code::NotSubscribed, text));
        }
        if request.payload.len() > self.services.limits.event_bytes_max {
            let text = "the payload is larger than an event may be: send a reference instead of the content";
            return Err(CommandError::new(Code::PayloadTooLarge, text));
        }
        Ok(channel)
    }

    fn access_token(&mut self, reference: Option<Reference>, token: Token) {
        let services = Arc::clone(&self.services);
        let listening: Vec<_> =
            self.flow.subscriptions.iter().map(|(id, it)| (id, it.channel.clone(), it.wish.filter.is_some())).collect();
        self.command = Some(Box::pin(async move {
            let result = new_identity(&services, token, listening).await;
            Outcome::Identified { reference, result }
        }));
    }

    pub(super) fn finish_command(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Subscribed { request, channel, result } => {
                let begun = result.and_then(|begin| self.begin(&request, channel, *begin));
                if let Err(error) = begun {
                    self.refuse_subscribe(&request, &error);
                }
            }
            Outcome::Published { reference, channel, result } => self.published(reference.as_ref(), channel, result),
            Outcome::Identified { reference, result } => match result {
                Ok(new) => self.identified(reference.as_ref(), new),
                Err(error) => self.refuse(&error, reference.as_ref(), None),
            },
        }
    }

    /// Makes a subscription: its ack first, then the gap, then the snapshot, then what the feed brings.
    fn begin(&mut self, request: &Subscribe, channel: Channel, begin: Begin) -> Result<(), CommandError> {
        let Begin { grant, wish, seat, resume } = begin;
        let columns = grant.table.as_ref().map(|table| wish.columns(table)).transpose()?;
        if request.snapshot && !has_key(&grant, columns.as_ref()) {
            return Err(CommandError::no_key());
        }
        let replaced = self.flow.subscriptions.find(&request.id);
        let subscriber = self.services.hub.subscriber_id();
        let recovered = resume.as_ref().is_none_or(|(_, page)| page.gap.is_none());
        // Whoever can go on from an offset has the rows already.
        let awaits_snapshot = request.snapshot && (resume.is_none() || !recovered);
        let (feed, page) = match resume {
            Some((cursor, page)) => (Some(Feed::behind(cursor)), Some(page)),
            None if awaits_snapshot => (self.services.hub.head().map(Feed::behind), None),
            None => (self.flow.feed_from_now(subscriber, &grant.topic, seat.as_ref(), replaced), None),
        };
        let feed = feed.ok_or_else(CommandError::unavailable)?;
        let address = address(request);
        replaced.into_iter().for_each(|replaced| self.give_way(replaced, &address.channel));
        let roster = self.attend(&address.channel, &channel);
        self.send_notice(&Notice::Subscribed {
            reference: request.reference.as_ref(),
            address: &address,
            offset: feed.cursor(),
            recovered,
            table: columns.as_ref().zip(grant.table.as_ref()),
            members: roster.as_ref().map_or(NOBODY, |roster| roster.json(self.dialect)),
        });
        let question = Question::new(&self.identity, channel.clone()).comparing(wish.filter.is_some());
        let mut subscription = Subscription {
            address_text: self.dialect.dialect().address(&address),
            form: form(&grant.topic, columns),
            watch: Some(self.services.authorizer.watch(question, &grant, subscriber, &self.outbox)),
            address,
            channel,
            grant,
            seat,
            wish,
            feed,
            awaits_snapshot,
            page: None,
            doubt: Doubt::default(),
        };
        let mut out = Vec::new();
        if let Some(page) = page {
            subscription.take_first_page(page, &mut out);
        }
        self.flow.subscriptions.insert(subscriber, subscription);
        self.send_out(&mut out);
        self.count_subscriptions(1);
        Ok(())
    }

    /// Ends a subscription for another of its name. Whoever subscribes again was there all the time.
    fn give_way(&mut self, replaced: SubscriberId, channel: &Arc<str>) {
        let attendance = self.attendances.take(channel);
        self.end_subscription(replaced);
        attendance.into_iter().for_each(|it| self.attendances.put(channel, it));
    }

    fn published(&mut self, reference: Option<&Reference>, channel: Arc<str>, result: Result<Published, CommandError>) {
        match result {
            Ok(Published { message_id, duplicate }) => {
                self.services.metrics.publishes.inc(if duplicate { "duplicate" } else { "ok" });
                self.send_notice(&Notice::Published { reference, message_id: &message_id, duplicate });
            }
            Err(error) => {
                self.services.metrics.publishes.inc("refused");
                let address = Address { id: Arc::clone(&channel), channel };
                self.refuse(&error, reference, Some(&address));
            }
        }
    }

    fn identified(&mut self, reference: Option<&Reference>, new: NewIdentity) {
        if !self.seat.change_user(new.identity.user.as_ref()) {
            self.services.metrics.limits_reached.inc("connections_per_user");
            self.closing = Some(CloseReason::Limit);
            return;
        }
        self.identity = new.identity;
        self.attend_anew();
        self.link.limit_frames(frame_bytes_max(&self.services.limits, &self.identity));
        self.set_expiry();
        let identity = self.identity.clone();
        self.send_notice(&Notice::Identified { reference, identity: &identity });
        for (subscriber, verdict) in new.verdicts {
            self.judged_anew(subscriber, verdict);
        }
    }

    fn judged_anew(&mut self, subscriber: SubscriberId, verdict: Result<Arc<Grant>, GrantError>) {
        match verdict {
            Ok(grant) => {
                let Some(subscription) = self.flow.subscriptions.get_mut(subscriber) else {
                    return;
                };
                let question = subscription.question(&self.identity);
                subscription.watch = Some(self.services.authorizer.watch(question, &grant, subscriber, &self.outbox));
                self.regranted(subscriber, grant);
            }
            Err(GrantError::Refused(refusal)) => self.revoked(subscriber, &refusal),
            // No verdict means no.
            Err(GrantError::Unavailable(_)) => self.end_with_error(subscriber, CommandError::unavailable()),
        }
    }
}

impl Command {
    fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Subscribe(it) => it.reference.as_ref(),
            Self::Publish(it) => it.reference.as_ref(),
            Self::Unsubscribe { reference, .. }
            | Self::Presence { reference, .. }
            | Self::AccessToken { reference, .. }
            | Self::Ping { reference } => reference.as_ref(),
            Self::Heartbeat | Self::Leave | Self::Reply { .. } | Self::Connect { .. } => None,
        }
    }
}

fn address(request: &Subscribe) -> Address {
    Address { id: Arc::clone(&request.id), channel: Arc::clone(&request.channel) }
}

/// Whether later changes can be told apart by what the subscription shows.
fn has_key(grant: &Grant, columns: Option<&Columns>) -> bool {
    let key = grant.table.as_ref().and_then(|table| table.key.as_deref());
    key.zip(columns).is_some_and(|(key, columns)| key.iter().all(|name| columns.contains(name)))
}

/// Who wants to listen to what.
struct Asker<'a> {
    services: &'a Services,
    identity: &'a Identity,
    channel: &'a Channel,
}

impl Asker<'_> {
    fn unjudged(&self, error: &JudgeError) -> CommandError {
        judge_error(self.services, self.identity, What::Subscribe, self.channel.name().as_str(), error)
    }

    fn denied(&self, refusal: &Refusal) {
        self.services.denied(self.identity, What::Subscribe, self.channel.name().as_str(), refusal);
    }
}

async fn begin(asker: &Asker<'_>, mut wish: Wish, since: Option<Since>) -> Result<Begin, CommandError> {
    let Asker { services, identity, channel } = *asker;
    // Before the log was read once, nobody can say where "now" is.
    services.hub.head().ok_or_else(CommandError::unavailable)?;
    let question = Question::new(identity, channel.clone()).comparing(wish.filter.is_some());
    let grant = grant(asker, &question).await?;
    wish.bind(&grant, &services.filters)?;
    let seat = seat(services, identity, &grant).map_err(|error| asker.unjudged(&error))?;
    let resume = match since {
        None => None,
        Some(Since::After(cursor)) => Some((cursor, first_page(asker, &grant, &wish, seat.as_ref(), cursor).await?)),
        Some(Since::Oldest) => Some(oldest_page(asker, &grant, &wish, seat.as_ref()).await?),
    };
    Ok(Begin { grant, wish, seat, resume })
}

/// The right to listen. A refusal takes the same time whether the name exists or not, as far as it can be had.
async fn grant(asker: &Asker<'_>, question: &Question) -> Result<Arc<Grant>, CommandError> {
    let services = asker.services;
    let no_sooner = Instant::now() + Duration::from_millis(services.timing.refusal_ms);
    let answer = services.authorizer.grant(question).await;
    if let Err(GrantError::Refused(refusal)) = &answer {
        asker.denied(refusal);
        tokio::time::sleep_until(no_sooner.into()).await;
    }
    answer.map_err(|error| grant_error(&error))
}

/// Where the events of a grant are judged for an identity; `None` when no policy decides.
pub(super) fn seat(services: &Services, identity: &Identity, grant: &Grant) -> Result<Option<Seat>, JudgeError> {
    match grant.topic {
        Topic::Table(relation) if grant.is_judged() => services.court.seat(relation, identity.party()).map(Some),
        _ => Ok(None),
    }
}

/// As [`raw_page`], with what is seen of it. Where nobody can say yet, the page is empty, and asked for again when the
/// subscription stands.
async fn first_page(
    asker: &Asker<'_>,
    grant: &Grant,
    wish: &Wish,
    seat: Option<&Seat>,
    cursor: Offset,
) -> Result<Page, CommandError> {
    let page = raw_page(asker.services, grant, wish, cursor).await?;
    let (Some(seat), Topic::Table(relation)) = (seat, &grant.topic) else {
        return Ok(page);
    };
    let (gap, start) = (page.gap, page.gap.map_or(cursor, |gap| gap.to));
    match asker.services.court.judge(*relation, seat.party(), page).await {
        Ok(page) => Ok(page),
        Err(error @ JudgeError::Held(_)) => Err(asker.unjudged(&error)),
        Err(_) => Ok(Page { gap, until: start, ..Page::default() }),
    }
}

async fn raw_page(services: &Services, grant: &Grant, wish: &Wish, cursor: Offset) -> Result<Page, CommandError> {
    let recent = services.hub.recent(&grant.topic, cursor, PAGE);
    let is_doubtful = recent.is_some();
    if let Some(page) = recent.filter(|page| page.events.iter().all(|it| wish.fits(grant, it.event.event()))) {
        services.metrics.replays.inc("memory");
        return Ok(page);
    }
    services.metrics.replays.inc("log");
    let replay = &services.replay;
    let page = if is_doubtful {
        replay.fresh_page(&grant.topic, cursor).await
    } else {
        replay.page(&grant.topic, cursor).await
    };
    page.map_err(|error| {
        warn!(error = error.chain(), "a replay could not begin");
        CommandError::unavailable()
    })
}

/// Whoever asks for the oldest events misses nothing that lies before them: the gap in front is not told.
async fn oldest_page(
    asker: &Asker<'_>,
    grant: &Grant,
    wish: &Wish,
    seat: Option<&Seat>,
) -> Result<(Offset, Page), CommandError> {
    let mut page = first_page(asker, grant, wish, seat, Offset::ZERO).await?;
    let cursor = page.gap.take().map_or(Offset::ZERO, |gap| gap.to);
    Ok((cursor, page))
}

async fn new_identity(
    services: &Services,
    token: Token,
    listening: Vec<(SubscriberId, Channel, bool)>,
) -> Result<NewIdentity, CommandError> {
    let identified = services.authenticator.authenticate(Some(&token.0), SystemTime::now()).await;
    let identity = identified.map_err(|error| auth_error(services, &error))?;
    let mut verdicts = Vec::with_capacity(listening.len());
    for (subscriber, channel, compares) in listening {
        let question = Question::new(&identity, channel).comparing(compares);
        verdicts.push((subscriber, services.authorizer.grant(&question).await));
    }
    Ok(NewIdentity { identity, verdicts })
}
