//! How long, how many, with which seed.

use std::env;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What one run of the ledger does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything random follows from it, as far as the machine allows.
    pub(crate) seed: u64,
    /// How long the writers write.
    pub(crate) duration: Duration,
    /// How many times something is killed or restarted in that time.
    pub(crate) faults: u64,
    /// Sessions that write.
    pub(crate) writers: u64,
    /// Readers of `realtime.read()`.
    pub(crate) readers: u64,
    /// WebSocket clients of the sidecar; 0: no sidecar is started.
    pub(crate) clients: u64,
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
    /// The run under faults. `LEDGER_SEED`, `LEDGER_SECONDS` and `LEDGER_FAULTS` change it.
    pub(crate) fn under_faults() -> Self {
        Self {
            seed: number("LEDGER_SEED").unwrap_or_else(seed_of_now),
            duration: Duration::from_secs(number("LEDGER_SECONDS").unwrap_or(40)),
            faults: number("LEDGER_FAULTS").unwrap_or(20),
            writers: 12,
            readers: 2,
            clients: 4,
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
            faults: whole.faults / 4,
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
            faults: whole.faults / 4,
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
        let duration = Duration::from_secs(5);
        Self { duration, faults: 0, clients: 0, sabotage: Some(sabotage), ..Self::under_faults() }
    }
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    env::var(variable).ok()?.parse().ok()
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}
