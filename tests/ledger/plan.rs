//! How long, how many, with which seed.

use std::env;
use std::str::FromStr;
use std::time::Duration;

use realtime_tests::random::seed_of_now;

use crate::fault::{Fault, Tally};

/// What one run of the ledger does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything random follows from it, as far as the machine allows.
    pub(crate) seed: u64,
    /// How long the writers write, at least.
    pub(crate) duration: Duration,
    /// They go on until so many transactions have been committed.
    pub(crate) commits: u64,
    /// How often each thing is killed or restarted in that time.
    pub(crate) faults: Tally,
    /// Sessions that write.
    pub(crate) writers: u64,
    /// Readers of `realtime.read()`.
    pub(crate) readers: u64,
    /// WebSocket clients of the sidecars; 0: no sidecar is started.
    pub(crate) clients: u64,
    /// Sidecars; clients choose one at each connection.
    pub(crate) sidecars: u64,
    /// Whether the database has a worker; without one sidecar and readers tick.
    pub(crate) worker: bool,
    /// The log's retention; `None`: nothing goes during the run.
    pub(crate) retention: Option<Duration>,
    /// The log's size at which capture stops, when it cannot be given back.
    pub(crate) log_max_size: Option<&'static str>,
    /// SQL that breaks the log, to see whether the ledger notices.
    pub(crate) sabotage: Option<&'static str>,
}

impl Plan {
    /// The run under faults. `LEDGER_SEED`, `LEDGER_SECONDS` and `LEDGER_FAULTS` (of each kind) change it.
    pub(crate) fn under_faults() -> Self {
        let seconds = number("LEDGER_SECONDS").unwrap_or(40);
        Self {
            seed: number("LEDGER_SEED").unwrap_or_else(seed_of_now),
            duration: Duration::from_secs(seconds),
            commits: 0,
            faults: each(&Fault::ALL, number("LEDGER_FAULTS").unwrap_or(seconds / 8)),
            writers: 12,
            readers: 2,
            clients: 4,
            sidecars: 2,
            worker: true,
            retention: None,
            log_max_size: None,
            sabotage: None,
        }
    }

    /// A shorter run without a worker, in which segments of the log are given back all the time, under readers that
    /// sleep.
    pub(crate) fn under_retention() -> Self {
        let whole = Self::under_faults();
        Self {
            duration: whole.duration / 2 + Duration::from_secs(5),
            faults: each(&[Fault::Sidecar, Fault::Backend, Fault::Restart], whole.faults[&Fault::Backend] / 2),
            readers: 3,
            clients: 2,
            worker: false,
            retention: Some(Duration::from_secs(2)),
            ..whole
        }
    }

    /// A shorter run at the log's cap, with somebody who keeps its segments from being given back now and then.
    pub(crate) fn at_the_cap() -> Self {
        let whole = Self::under_faults();
        Self {
            duration: whole.duration / 2 + Duration::from_secs(5),
            faults: each(&Fault::ALL, whole.faults[&Fault::Backend] / 4),
            clients: 2,
            log_max_size: Some("6 MB"),
            ..whole
        }
    }

    /// Whether subscribers may be told of gaps: the log, or a part of it, goes during the run.
    pub(crate) fn has_gaps(&self) -> bool {
        self.retention.is_some() || self.log_max_size.is_some()
    }

    /// A short run in quiet, on a log that somebody broke.
    pub(crate) fn sabotaged(sabotage: &'static str) -> Self {
        let (duration, faults) = (Duration::from_secs(5), Tally::new());
        Self { duration, faults, clients: 0, sabotage: Some(sabotage), ..Self::under_faults() }
    }
}

/// The long form: runs one after the other until every count is reached.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    /// Its runs. One run at a time fits into memory, and what it found can be read before the next begins.
    pub(crate) rounds: Vec<Plan>,
    /// What all runs together must have committed.
    pub(crate) commits: u64,
    /// What all runs together must have done.
    pub(crate) faults: Tally,
}

impl Campaign {
    /// 200,000 commits and 100 faults of each kind. `CHAOS_COMMITS`, `CHAOS_FAULTS` and `CHAOS_ROUNDS` change that.
    pub(crate) fn whole() -> Self {
        let commits: u64 = number("CHAOS_COMMITS").unwrap_or(200_000);
        let count: u64 = number("CHAOS_FAULTS").unwrap_or(100);
        let rounds = number("CHAOS_ROUNDS").unwrap_or(10).max(1);
        // One more a round than it takes: a victim may have gone before it was killed.
        let faults = each(&Fault::ALL, count.div_ceil(rounds) + 1);
        let seed = number("LEDGER_SEED").unwrap_or_else(seed_of_now);
        let round = |number| {
            let plan = Plan { seed: seed.wrapping_add(number), faults: faults.clone(), ..Plan::under_faults() };
            let faults_sum: u64 = faults.values().sum();
            let plan = Plan { duration: Duration::from_secs(faults_sum * 2), writers: 16, ..plan };
            // A crash may take a few of them back.
            Plan { commits: commits.div_ceil(rounds) + 50, ..habits(number, plan) }
        };
        Self { rounds: (0..rounds).map(round).collect(), commits, faults: each(&Fault::ALL, count) }
    }
}

/// Most rounds keep the whole log, so that everything can be counted; in others it goes, or is full.
fn habits(round: u64, plan: Plan) -> Plan {
    match round % 5 {
        3 => Plan { retention: Some(Duration::from_secs(3)), readers: 3, ..plan },
        4 => Plan { log_max_size: Some("12 MB"), ..plan },
        _ => plan,
    }
}

fn each(faults: &[Fault], count: u64) -> Tally {
    faults.iter().map(|fault| (*fault, count)).collect()
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    env::var(variable).ok()?.parse().ok()
}
