//! What is counted. One struct, passed down; no global registry and no label that users can fill.
//!
//! `docs/configuration.md` lists the families; a test compares the list with what is encoded.

use std::{fmt, sync::atomic::AtomicU64, time::Instant};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

/// All families. Counting is one atomic addition; nothing here waits.
pub struct Metrics {
    registry: Registry,
    labelled: Vec<LabelledFamily>,
    /// Open connections.
    pub connections: Gauge,
    /// Connections accepted since start, by dialect.
    pub connections_accepted: Labelled,
    /// Connections that ended, by close code.
    pub connections_closed: Labelled,
    /// Sessions of Engine.IO, also of those who have not said who they are.
    pub engine_sessions: Gauge,
    /// Requests of such sessions that wait for packets.
    pub engine_polls: Gauge,
    /// Members of channels, each counted once for each channel.
    pub presence_members: Gauge,
    /// Opening requests refused, by reason.
    pub handshakes_refused: Labelled,
    /// Channels with at least one subscriber.
    pub channels: Gauge,
    /// Open subscriptions.
    pub subscriptions: Gauge,
    /// Subscriptions refused, by code.
    pub subscriptions_refused: Labelled,
    /// Questions to the database whether identities may subscribe, in seconds.
    pub rights_seconds: Histogram,
    /// Events read from the log, by operation.
    pub events_read: Labelled,
    /// Reads of the log, in seconds.
    pub read_seconds: Histogram,
    /// Reads that failed or did not match what was announced.
    pub read_errors: Counter,
    /// From the tick that announced the newest event read to its delivery to the hub, in seconds.
    pub lag_seconds: Gauge<f64, AtomicU64>,
    /// The newest offset in the log.
    pub head_offset: Gauge,
    /// The newest offset that was delivered.
    pub cursor_offset: Gauge,
    /// Ticks made because no worker runs.
    pub ticks: Counter,
    /// Ticks that the server refused.
    pub ticks_refused: Counter,
    /// Notifications heard: one for each tick that had something, whoever made it.
    pub bells: Counter,
    /// How long the oldest commit that no tick has made readable has waited, in seconds.
    pub tick_lag_seconds: Gauge<f64, AtomicU64>,
    /// Bytes of the log on the database's disk.
    pub log_bytes: Gauge,
    /// Frames with events put on a socket.
    pub deliveries: Counter,
    /// Bytes of those frames.
    pub delivered_bytes: Counter,
    /// Connections that fell back to replay because their queue was full.
    pub overflows: Counter,
    /// Replays begun, by where they are served from.
    pub replays: Labelled,
    /// Snapshots of tables, by outcome.
    pub snapshots: Labelled,
    /// Judgements of row events by the policies of their tables, in seconds.
    pub judge_seconds: Histogram,
    /// Judgements that were ended because the policies took too long for one identity.
    pub judgements_ended: Counter,
    /// Gaps told to clients, by reason.
    pub gaps: Labelled,
    /// Frames and bytes that wait for sockets.
    pub queue_frames: Gauge,
    /// See `queue_frames`.
    pub queue_bytes: Gauge,
    /// Bytes of recent events in memory.
    pub recent_bytes: Gauge,
    /// Publishes, by outcome.
    pub publishes: Labelled,
    /// Requests to webhooks, by outcome.
    pub webhooks: Labelled,
    /// Those requests, in seconds.
    pub webhook_seconds: Histogram,
    /// Requests to webhooks that wait for their answer.
    pub webhooks_running: Gauge,
    /// 1 while this sidecar is the one that sends webhooks.
    pub webhook_sender: Gauge,
    /// Messages whose deliveries were not counted because too many waited for that.
    pub counts_lost: Counter,
    /// Tokens refused, by reason.
    pub auth_failures: Labelled,
    /// What was denied, by what it was and why.
    pub denials: Labelled<2>,
    /// Subscriptions ended because a right was lost.
    pub revocations: Counter,
    /// Frames that could not be understood.
    pub bad_frames: Counter,
    /// Limits reached, by limit.
    pub limits_reached: Labelled,
    /// Database sessions lost and sought anew, by session.
    pub reconnects: Labelled,
    /// 1 while the database answers.
    pub database_up: Gauge,
    /// 1 while the LISTEN session is known to be alive.
    pub listener_up: Gauge,
    /// 1 from the first successful read on.
    pub caught_up: Gauge,
    /// 1 while a worker in the database ticks, 0 while this sidecar does.
    pub worker_up: Gauge,
}

/// Counters that differ in one label or in several, whose values are words of the program.
#[derive(Clone)]
pub struct Labelled<const N: usize = 1> {
    family: Family<[(&'static str, &'static str); N], Counter>,
    labels: [&'static str; N],
}

/// What is known about a family before it has counted anything.
#[derive(Clone, Debug)]
pub struct LabelledFamily {
    /// As it is encoded.
    pub name: String,
    /// The labels, separated by commas.
    pub label: String,
    /// What it counts.
    pub help: String,
}

impl Labelled {
    /// Counts one.
    pub fn inc(&self, value: &'static str) {
        self.inc_by(value, 1);
    }

    /// Counts several.
    pub fn inc_by(&self, value: &'static str, count: u64) {
        self.family.get_or_create(&self.set([value])).inc_by(count);
    }

    /// What was counted so far.
    #[must_use]
    pub fn get(&self, value: &'static str) -> u64 {
        self.family.get_or_create(&self.set([value])).get()
    }
}

impl Labelled<2> {
    /// Counts one.
    pub fn inc(&self, first: &'static str, second: &'static str) {
        self.family.get_or_create(&self.set([first, second])).inc();
    }
}

impl<const N: usize> Labelled<N> {
    fn set(&self, values: [&'static str; N]) -> [(&'static str, &'static str); N] {
        std::array::from_fn(|n| (self.labels[n], values[n]))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every family at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut families = Families { registry: Registry::with_prefix("realtime"), labelled: Vec::new() };
        let f = &mut families;
        Self {
            connections: f.gauge("connections", "Open connections"),
            connections_accepted: f.labelled("connections_accepted", "Connections accepted", "dialect"),
            connections_closed: f.labelled("connections_closed", "Connections ended", "code"),
            engine_sessions: f.gauge("engine_sessions", "Sessions of Engine.IO, also before anybody has come in"),
            engine_polls: f.gauge("engine_polls", "Requests of sessions over HTTP that wait for packets"),
            presence_members: f.gauge("presence_members", "Members of channels, once for each channel"),
            handshakes_refused: f.labelled("handshakes_refused", "Opening requests refused", "reason"),
            channels: f.gauge("channels", "Channels with at least one subscriber"),
            subscriptions: f.gauge("subscriptions", "Open subscriptions"),
            subscriptions_refused: f.labelled("subscriptions_refused", "Subscriptions refused", "code"),
            rights_seconds: f.seconds("rights", "Duration of questions whether identities may subscribe"),
            events_read: f.labelled("events_read", "Events read from the log", "op"),
            read_seconds: f.seconds("read", "Duration of reads of the log"),
            read_errors: f.counter("read_errors", "Reads that failed or did not match what was announced"),
            lag_seconds: f.lag("lag", "Age of the newest event when it was handed to the hub"),
            head_offset: f.gauge("head_offset", "Newest offset in the log"),
            cursor_offset: f.gauge("cursor_offset", "Newest offset handed to the hub"),
            ticks: f.counter("ticks", "Ticks made by this sidecar because no worker runs"),
            ticks_refused: f.counter("ticks_refused", "Ticks that the server refused to this sidecar"),
            bells: f.counter("bells", "Notifications of ticks, whoever made them"),
            tick_lag_seconds: f.lag("tick_lag", "Age of the oldest commit that no tick has made readable yet"),
            log_bytes: f.gauge("log_bytes", "Bytes of the log on the database's disk"),
            deliveries: f.counter("deliveries", "Frames with events put on a socket"),
            delivered_bytes: f.counter("delivered_bytes", "Bytes of frames with events put on a socket"),
            overflows: f.counter("overflows", "Connections that fell back to replay because their queue was full"),
            replays: f.labelled("replays", "Replays begun", "source"),
            snapshots: f.labelled("snapshots", "Snapshots of tables", "outcome"),
            judge_seconds: f.seconds("judge", "Duration of judgements of row events by policies"),
            judgements_ended: f
                .counter("judgements_ended", "Judgements ended because policies took too long for one identity"),
            gaps: f.labelled("gaps", "Gaps told to clients", "reason"),
            queue_frames: f.gauge("queue_frames", "Frames that wait for sockets"),
            queue_bytes: f.gauge("queue_bytes", "Bytes that wait for sockets"),
            recent_bytes: f.gauge("recent_bytes", "Bytes of recent events in memory"),
            publishes: f.labelled("publishes", "Messages that clients published", "outcome"),
            webhooks: f.labelled("webhooks", "Requests to webhooks", "outcome"),
            webhook_seconds: f.seconds("webhook", "Duration of requests to webhooks"),
            webhooks_running: f.gauge("webhooks_running", "Requests to webhooks that wait for their answer"),
            webhook_sender: f.gauge("webhook_sender", "1 while this sidecar is the one that sends webhooks"),
            counts_lost: f.counter("counts_lost", "Messages whose deliveries were not counted"),
            auth_failures: f.labelled("auth_failures", "Tokens refused", "reason"),
            denials: f.labelled_by("denials", "Denials, each of them logged while there is room", ["what", "reason"]),
            revocations: f.counter("revocations", "Subscriptions ended because a right was lost"),
            bad_frames: f.counter("bad_frames", "Frames that could not be understood"),
            limits_reached: f.labelled("limits_reached", "Limits reached", "limit"),
            reconnects: f.labelled("reconnects", "Database sessions lost and sought anew", "session"),
            database_up: f.gauge("database_up", "1 while the database answers"),
            listener_up: f.gauge("listener_up", "1 while the LISTEN session is alive"),
            caught_up: f.gauge("caught_up", "1 from the first successful read on"),
            worker_up: f.gauge("worker_up", "1 while a worker in the database ticks, 0 while this sidecar does"),
            labelled: std::mem::take(&mut families.labelled),
            registry: families.finish(),
        }
    }

    /// All families in the OpenMetrics text form.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail, so neither can this.
        let _ = text::encode(&mut page, &self.registry);
        page
    }

    /// The families with a label. They are encoded only once they have counted something.
    #[must_use]
    pub fn labelled(&self) -> &[LabelledFamily] {
        &self.labelled
    }

    /// Whether clients may be sent here: the database answers and the log was read at least once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.database_up.get() == 1 && self.caught_up.get() == 1
    }
}

struct Families {
    registry: Registry,
    labelled: Vec<LabelledFamily>,
}

impl Families {
    fn counter(&mut self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.registry.register(name, help, counter.clone());
        counter
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.registry.register(name, help, gauge.clone());
        gauge
    }

    fn lag(&mut self, name: &str, help: &str) -> Gauge<f64, AtomicU64> {
        let gauge = Gauge::default();
        self.registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        gauge
    }

    fn seconds(&mut self, name: &str, help: &str) -> Histogram {
        const BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];
        let histogram = Histogram::new(BUCKETS);
        self.registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        histogram
    }

    fn labelled(&mut self, name: &str, help: &str, label: &'static str) -> Labelled {
        self.labelled_by(name, help, [label])
    }

    fn labelled_by<const N: usize>(&mut self, name: &str, help: &str, labels: [&'static str; N]) -> Labelled<N> {
        let family = Family::<[(&'static str, &'static str); N], Counter>::default();
        self.registry.register(name, help, family.clone());
        let (name, help) = (format!("realtime_{name}_total"), help.to_owned());
        self.labelled.push(LabelledFamily { name, label: labels.join(","), help });
        Labelled { family, labels }
    }

    fn finish(mut self) -> Registry {
        self.registry.register_collector(Box::new(Process { started: Instant::now() }));
        self.registry
    }
}

/// What is known about the process itself, looked up when asked for.
struct Process {
    started: Instant,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process")
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let uptime = ConstGauge::new(self.started.elapsed().as_secs_f64());
        let unit = Some(&Unit::Seconds);
        uptime.encode(encoder.encode_descriptor("uptime", "Time since start", unit, uptime.metric_type())?)?;
        if let Some(bytes) = resident_bytes() {
            let memory = ConstGauge::new(bytes);
            let unit = Some(&Unit::Bytes);
            let descriptor =
                encoder.encode_descriptor("resident_memory", "Memory in use", unit, memory.metric_type())?;
            memory.encode(descriptor)?;
        }
        Ok(())
    }
}

/// Memory that the process holds, where the system tells.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_every_family_and_end_properly() {
        let metrics = Metrics::new();
        metrics.events_read.inc_by("insert", 3);
        metrics.connections.inc();
        metrics.lag_seconds.set(0.25);
        metrics.read_seconds.observe(0.002);
        let page = metrics.encode();
        for line in [
            "realtime_connections 1",
            "realtime_events_read_total{op=\"insert\"} 3",
            "realtime_lag_seconds 0.25",
            "realtime_read_seconds_count 1",
            "realtime_uptime_seconds ",
            "realtime_resident_memory_bytes ",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn ready_means_database_and_a_first_read() {
        let metrics = Metrics::new();
        assert!(!metrics.is_ready());
        metrics.database_up.set(1);
        assert!(!metrics.is_ready());
        metrics.caught_up.set(1);
        assert!(metrics.is_ready());
        metrics.database_up.set(0);
        assert!(!metrics.is_ready());
    }
}
