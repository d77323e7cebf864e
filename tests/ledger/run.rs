//! One run: prepare, write under faults, come to rest, count.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use realtime_tests::{Sidecar, server};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, error::SqlState};
use xtask::build::{self, Profile};
use xtask::cluster::{Cluster, Options, Tree};

use crate::book::{Book, Truth};
use crate::client;
use crate::count::Found;
use crate::database::{self, Address};
use crate::deeds::Deeds;
use crate::fault::{Faults, Machines, Tally};
use crate::memory::Memory;
use crate::plan::{Campaign, Plan};
use crate::random::Random;
use crate::reader::{Desk, Habits, Reader};
use crate::seed::{SeedClient, Segment};
use crate::stream::Stream;
use crate::verdict::Verdict;
use crate::writer::Writer;

/// Readers that have not got everything after this time never will.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// A log that nobody holds gives back what it can in this time.
const EMPTY_MAX: Duration = Duration::from_secs(30);

/// A run that does not get its commits in so many times its duration never will.
const PATIENCE: u32 = 10;

/// Between two looks at how much was committed.
const LOOK_AGAIN: Duration = Duration::from_millis(600);

/// Runs one plan after the other and adds up what they did and what was found.
pub(crate) fn campaign(campaign: &Campaign) -> (Deeds, Verdict) {
    let (mut deeds, mut verdict) = (Deeds::default(), Verdict::default());
    for (number, plan) in campaign.rounds.iter().enumerate() {
        println!("-- round {} of {}", number + 1, campaign.rounds.len());
        let (done, found) = run_and_tell(plan.clone());
        deeds.add(&done);
        verdict.add(found);
    }
    println!("-- all rounds");
    deeds.print();
    verdict.print();
    verdict.print_evidence();
    (deeds, verdict)
}

/// Runs a plan, prints its counts and returns those of faults found.
pub(crate) fn run(plan: Plan) -> Verdict {
    run_and_tell(plan).1
}

fn run_and_tell(plan: Plan) -> (Deeds, Verdict) {
    println!("{plan:?}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Starting blocks and spawns: inside the runtime, on this thread.
    let run = {
        let _inside = runtime.enter();
        Run::start(plan)
    };
    runtime.block_on(run.finish())
}

/// Everything that is going on.
struct Run {
    plan: Plan,
    machines: Machines,
    random: Random,
    desk: Desk,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<Vec<Stream>>>,
    seeds: Vec<JoinHandle<Vec<Segment>>>,
}

impl Run {
    fn start(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let cluster = start_cluster(&plan);
        let oldest = cluster.sql(database::DATABASE, "select oldest from realtime.status()").unwrap();
        let oldest = oldest.parse().unwrap();
        let desk = Desk {
            address: Address::of(&cluster),
            memory: Arc::new(Memory::default()),
            book: Arc::new(Book::default()),
            last: Arc::new(AtomicI64::new(0)),
            resumed: Arc::new(AtomicU64::new(0)),
            given_back: Arc::new(AtomicU64::new(0)),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let sidecars = if plan.clients > 0 { plan.sidecars } else { 0 };
        let sidecars = (0..sidecars).map(|_| start_sidecar(&desk.address)).collect();
        let machines = Machines { cluster, sidecars };
        let mut run =
            Self { plan, machines, random: random.fork(), desk, stop, writers: vec![], readers: vec![], seeds: vec![] };
        run.start_readers(oldest);
        run.start_clients(oldest);
        run.start_writers();
        if run.plan.log_max_size.is_some() {
            run.writers.push(tokio::spawn(hold_segments(
                run.desk.address.clone(),
                run.random.fork(),
                run.stop.clone(),
            )));
        }
        run
    }

    fn start_readers(&mut self, oldest: i64) {
        for number in 0..self.plan.readers {
            let is_short = self.plan.has_gaps();
            let habits =
                Habits { ticks: number == 1, rotates: is_short && number == 1, sleeps: is_short && number == 2 };
            let name = format!("reader {number}");
            let reader = Reader::new(&name, self.desk.clone(), habits, self.random.fork(), oldest);
            self.readers.push(tokio::spawn(async { vec![reader.run().await] }));
        }
    }

    fn start_clients(&mut self, oldest: i64) {
        let addresses: Vec<_> = self.machines.sidecars.iter().map(Sidecar::address).collect();
        for number in 0..self.plan.clients {
            let name = format!("client {number}");
            let mut client =
                client::Client::new(&name, self.desk.clone(), addresses.clone(), self.random.fork(), oldest);
            client.sleeps = self.plan.has_gaps() && number == 1;
            self.readers.push(tokio::spawn(client.run()));
        }
        for _ in &self.machines.sidecars {
            let client = SeedClient::new(self.desk.clone(), addresses.clone(), self.random.fork());
            self.seeds.push(tokio::spawn(client.run()));
        }
    }

    fn start_writers(&mut self) {
        for _ in 0..self.plan.writers {
            let (address, book) = (self.desk.address.clone(), Arc::clone(&self.desk.book));
            let writer = Writer::new(address, book, self.random.fork(), Arc::clone(&self.stop));
            self.writers.push(tokio::spawn(writer.run()));
        }
    }

    /// Lets it go on for its time, brings it to rest and counts.
    async fn finish(mut self) -> (Deeds, Verdict) {
        let began = Instant::now();
        let faults = Faults::new(&self.plan, self.random.fork());
        let mut machines = self.machines;
        let (machines, faults) = tokio::task::spawn_blocking(move || {
            let done = faults.commit(&mut machines);
            (machines, done)
        })
        .await
        .unwrap();
        tokio::time::sleep_until(began + self.plan.duration).await;
        enough_commits(&self.plan, &self.desk.book, began + self.plan.duration * PATIENCE).await;
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.await.unwrap();
        }
        let session = self.desk.address.connect_patiently("postgres").await;
        let truth = rest(&session.client, &self.desk).await;
        let streams = all(self.readers.drain(..)).await;
        let segments = all(self.seeds.drain(..)).await;
        let deeds = deeds(&truth, faults.unwrap(), &self.desk);
        deeds.print();
        let found = Found { truth, streams, segments };
        let verdict = found.count(&session.client, &self.plan, &self.desk).await;
        drop(machines);
        (deeds, verdict)
    }
}

/// Lets the writers go on until they have committed what the plan wants, but not for ever: the count tells.
async fn enough_commits(plan: &Plan, book: &Book, end: Instant) {
    while book.commits() < plan.commits && Instant::now() < end {
        sleep(LOOK_AGAIN).await;
    }
}

fn deeds(truth: &Truth, faults: Tally, desk: &Desk) -> Deeds {
    let mut deeds = Deeds::of(truth, faults);
    deeds.set("resumed", desk.resumed.load(Ordering::Relaxed));
    deeds.set("segments_given_back", desk.given_back.load(Ordering::Relaxed));
    deeds
}

fn start_cluster(plan: &Plan) -> Cluster {
    let version = server::version();
    build::extension(version, Profile::Dev).unwrap();
    let tree = Tree::prepare(version).unwrap();
    // Deadlocks are part of the workload and should not take a second each.
    let options = Options::default().set("deadlock_timeout", "50ms");
    let cluster = Cluster::start(&tree, &options).unwrap();
    database::prepare(&cluster, plan).unwrap();
    cluster
}

fn start_sidecar(address: &Address) -> Sidecar {
    let secret = "only anonymous clients come here; still it has to be long".to_owned();
    Sidecar::start(&[("REALTIME_DATABASE_URL".to_owned(), address.url()), ("REALTIME_JWT_SECRET".to_owned(), secret)])
}

/// Somebody who reads the log's tables in a long transaction, as pg_dump does: segments cannot be given back meanwhile.
async fn hold_segments(address: Address, mut random: Random, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let session = address.connect_patiently("postgres").await;
        let held = session.client.batch_execute("begin; select count(*) from realtime.log limit 0").await;
        // A fault may have ended the session; the next one holds again.
        if held.is_ok() {
            sleep(Duration::from_millis(1_000 + random.below(3_000))).await;
        }
        drop(session);
        sleep(Duration::from_millis(random.below(2_000))).await;
    }
}

/// Does what a ticker does until there is nothing left to say, the mark for what was lost among it. That the head stands
/// still for a while would say nothing: on a slow machine everybody who ticks may just be asleep.
async fn settle(client: &Client) {
    while tick(client).await {}
}

/// Whether there was anything to say.
async fn tick(client: &Client) -> bool {
    let marked: bool = client.query_one("select realtime.mark_lost()", &[]).await.unwrap().get(0);
    match client.query("select from realtime.tick()", &[]).await {
        Ok(ticks) => marked || !ticks.is_empty(),
        // Another ticker was at it for as long as one waits, and may have come before what is there now.
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => true,
        Err(error) => panic!("{error:?}"),
    }
}

/// Lets a log at its cap give back what it can: the last mark comes when it is full no more.
async fn empty(client: &Client) {
    let full = "select is_full from realtime.state";
    while client.query_one(full, &[]).await.unwrap().get(0) {
        client.batch_execute("select realtime.rotate()").await.unwrap();
        settle(client).await;
    }
}

/// Ends prepared transactions, makes everything readable, and tells the readers how far they have to read.
async fn rest(client: &Client, desk: &Desk) -> Truth {
    for row in client.query("select gid from pg_prepared_xacts", &[]).await.unwrap() {
        client.batch_execute(&format!("rollback prepared '{}'", row.get::<_, &str>(0))).await.unwrap();
    }
    timeout(EMPTY_MAX, empty(client)).await.expect("the log stays full");
    timeout(EMPTY_MAX, settle(client)).await.expect("there is always more to say");
    let head: i64 = client.query_one("select head from realtime.status()", &[]).await.unwrap().get(0);
    desk.last.store(head, Ordering::Release);
    let rows = client.query("select txn from ledger", &[]).await.unwrap();
    let committed: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    desk.book.close(&committed)
}

async fn all<T>(readers: impl Iterator<Item = JoinHandle<Vec<T>>>) -> Vec<T> {
    let mut streams = Vec::new();
    for reader in readers {
        streams.extend(timeout(CATCH_UP_MAX, reader).await.expect("a reader did not catch up").unwrap());
    }
    streams
}
