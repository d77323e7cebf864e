//! How much, with which seed, and what is broken on purpose.

use std::env;
use std::str::FromStr;

/// What runs everywhere asks the same: a new seed belongs to whoever has the time to look into what it finds.
const SEED: u64 = 20_261_121;

/// What is broken on purpose, to see whether the test notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Each identity is judged as another one.
    OtherIdentity,
    /// Old and new image change places.
    SwapImages,
}

/// What one run does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything random follows from it.
    pub(crate) seed: u64,
    /// Only this case, to look at it again.
    pub(crate) case: Option<u64>,
    /// At least so many verdicts are compared.
    pub(crate) cells: u64,
    /// Servers that are asked at once.
    pub(crate) workers: u64,
    /// What is broken.
    pub(crate) sabotage: Option<Sabotage>,
}

impl Plan {
    /// The run, the same one each time. `DIFFERENTIAL_SEED`, `DIFFERENTIAL_CELLS`, `DIFFERENTIAL_WORKERS` and `DIFFERENTIAL_CASE` change it.
    pub(crate) fn of_environment() -> Self {
        Self {
            seed: number("DIFFERENTIAL_SEED").unwrap_or(SEED),
            case: number("DIFFERENTIAL_CASE"),
            cells: number("DIFFERENTIAL_CELLS").unwrap_or(100_000),
            workers: number("DIFFERENTIAL_WORKERS").unwrap_or(2),
            sabotage: None,
        }
    }

    /// A short run with something broken.
    pub(crate) fn sabotaged(sabotage: Sabotage) -> Self {
        Self { cells: 3_000, workers: 1, case: None, sabotage: Some(sabotage), ..Self::of_environment() }
    }
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    env::var(variable).ok()?.parse().ok()
}
