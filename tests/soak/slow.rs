//! One client does not read what it is sent. The others must not notice, and it must lose nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use realtime_tests::Stack;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_postgres::Client;

use crate::figures::{percentile, resident_bytes, take_all_descriptors};
use crate::line::Line;

/// Between two events for everybody.
const PACE: Duration = Duration::from_millis(25);
/// Each event for everybody comes with one for the slow client, of so many bytes: far more than its socket holds.
const FAT_BYTES: usize = 100_000;
/// What the slow client may cost.
const MORE_MAX: i64 = 2 << 20;

/// How large the test is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Clients that read.
    pub(crate) others: usize,
    /// Times with and without the slow client's reading, in turn.
    pub(crate) rounds: usize,
    /// Events of each time.
    pub(crate) events: i64,
}

/// What was measured, each the median of the rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    p99_reading_ms: f64,
    p99_stopped_ms: f64,
    more_bytes: i64,
}

impl Figures {
    /// Fails when the others noticed.
    pub(crate) fn judge(self, ratio_max: f64) {
        let ratio = self.p99_stopped_ms / self.p99_reading_ms;
        println!("slow_p99_reading_ms {:.2}\nslow_p99_stopped_ms {:.2}", self.p99_reading_ms, self.p99_stopped_ms);
        println!("slow_p99_ratio {ratio:.2}\nslow_more_kib {}", self.more_bytes >> 10);
        assert!(ratio <= ratio_max, "the others' p99 is {ratio:.2} times as long");
        assert!(self.more_bytes <= MORE_MAX, "{} KiB more", self.more_bytes >> 10);
    }
}

/// Measures the others' latency while the slow client reads, and while it does not.
pub(crate) async fn run(size: Size) -> Figures {
    take_all_descriptors();
    let limit = (size.others * 2 + 10).to_string();
    let builder = Stack::builder().set("REALTIME_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", &limit);
    // What the newest events take in memory is not the slow client's.
    let stack = builder.set("REALTIME_LIMITS_RECENT_BYTES_MAX", "1048576").sql(TABLES).start().await;
    let head = stack.text("select head from realtime.status()").await.parse().unwrap();
    let (wanted, reads) = watch::channel(true);
    let slow = tokio::spawn(read_when_wanted(stack.sidecar.address(), head, reads, size));
    let mut lines = Vec::new();
    for _ in 0..size.others {
        lines.push(Line::open(stack.sidecar.address(), "table:t", head).await.unwrap());
    }
    let session = stack.session().await;
    let sidecar = stack.sidecar.pid().unwrap();
    let mut times = [Vec::new(), Vec::new()];
    let mut bytes = [Vec::new(), Vec::new()];
    let mut id = 0;
    // The first two are for warming up.
    for round in 0..2 * size.rounds + 2 {
        wanted.send_replace(round % 2 == 0);
        let (mut latencies, after) = time(&session, lines, &mut id, size.events).await;
        lines = after;
        if round > 1 {
            times[round % 2].push(percentile(&mut latencies, 99));
            bytes[round % 2].push(resident_bytes(sidecar) as f64);
        }
    }
    wanted.send_replace(true);
    assert_eq!(slow.await.unwrap(), id, "the slow client got everything, once and in order");
    let [p99_reading_ms, p99_stopped_ms] = times.map(|mut times| percentile(&mut times, 50));
    let [reading, stopped] = bytes.map(|mut bytes| percentile(&mut bytes, 50));
    Figures { p99_reading_ms, p99_stopped_ms, more_bytes: (stopped - reading) as i64 }
}

const TABLES: &str = "
    create table t (id int primary key);
    create table fat (id int primary key, body text);
    alter table fat alter body set storage external;
    select realtime.enable_realtime('t'), realtime.enable_realtime('fat');
    grant select on t, fat to anon;
";

/// Writes events at a steady pace; gives the milliseconds from each commit to each arrival, and the lines.
async fn time(session: &Client, lines: Vec<Line>, id: &mut i64, events: i64) -> (Vec<f64>, Vec<Line>) {
    let first = *id + 1;
    let mut hearing: JoinSet<(Line, Vec<Instant>)> = JoinSet::new();
    for mut line in lines {
        hearing.spawn(async move {
            let mut arrivals = Vec::new();
            for expected in first..first + events {
                assert_eq!(line.row().await.unwrap(), expected);
                arrivals.push(Instant::now());
            }
            (line, arrivals)
        });
    }
    let mut commits = Vec::new();
    let mut pace = interval(PACE);
    for number in first..first + events {
        pace.tick().await;
        let fat = format!("insert into fat select {number}, repeat('x', {FAT_BYTES})");
        session.batch_execute(&fat).await.unwrap();
        session.batch_execute(&format!("insert into t values ({number})")).await.unwrap();
        commits.push(Instant::now());
    }
    *id += events;
    let heard = hearing.join_all().await;
    let late = |(at, commit): (&Instant, &Instant)| at.saturating_duration_since(*commit).as_secs_f64() * 1e3;
    let latencies = heard.iter().flat_map(|(_, arrivals)| arrivals.iter().zip(&commits).map(late)).collect();
    (latencies, heard.into_iter().map(|(line, _)| line).collect())
}

/// Reads fat rows while that is wanted; comes back whenever it was closed. Returns how many came.
async fn read_when_wanted(address: SocketAddr, head: i64, mut wanted: watch::Receiver<bool>, size: Size) -> i64 {
    let last = size.events * i64::try_from(2 * size.rounds + 2).unwrap();
    let (mut seen, mut cursor) = (0, head);
    while seen < last {
        let Ok(mut line) = Line::open(address, "table:fat", cursor).await else { continue };
        while seen < last {
            wanted.wait_for(|wanted| *wanted).await.unwrap();
            let Ok(id) = line.row().await else { break };
            seen += 1;
            assert_eq!(id, seen);
            cursor = line.cursor;
        }
    }
    seen
}
