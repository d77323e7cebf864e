//! What a run did. Counts of zero faults found prove nothing when nothing was done.

use std::collections::HashMap;

use crate::book::{Outcome, Truth};
use crate::fault::{Fault, Tally};
use crate::plan::Campaign;

/// What was done in one run, or in several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deeds {
    /// What was killed and restarted.
    pub(crate) faults: Tally,
    counts: HashMap<&'static str, u64>,
}

/// Counts in the order in which they are printed.
const TITLES: [&str; 8] = [
    "commits",
    "commits_prepared",
    "rolled_back",
    "taken_back_by_crashes",
    "savepoints_rolled_back",
    "events",
    "resumed",
    "segments_given_back",
];

impl Deeds {
    /// What the writers did.
    pub(crate) fn of(truth: &Truth, faults: Tally) -> Self {
        let committed = truth.committed.values();
        let counts = HashMap::from([
            ("commits", count(committed.clone().count())),
            ("commits_prepared", count(committed.clone().filter(|transaction| transaction.is_prepared).count())),
            ("rolled_back", truth.outcomes.get(&Outcome::Failed).copied().unwrap_or(0)),
            ("taken_back_by_crashes", truth.taken_back),
            ("savepoints_rolled_back", committed.map(|transaction| transaction.savepoints_undone).sum()),
            ("events", count(truth.made_by.len())),
        ]);
        Self { faults, counts }
    }

    /// Sets a count that the writers do not know.
    pub(crate) fn set(&mut self, title: &'static str, number: u64) {
        self.counts.insert(title, number);
    }

    /// One of the counts.
    pub(crate) fn get(&self, title: &str) -> u64 {
        self.counts.get(title).copied().unwrap_or(0)
    }

    /// Adds another run.
    pub(crate) fn add(&mut self, other: &Self) {
        for (fault, number) in &other.faults {
            *self.faults.entry(*fault).or_default() += number;
        }
        for (title, number) in &other.counts {
            *self.counts.entry(title).or_default() += number;
        }
    }

    /// Prints one count a line.
    pub(crate) fn print(&self) {
        for title in TITLES {
            println!("{title} {}", self.get(title));
        }
        for fault in Fault::ALL {
            println!("{} {}", fault.title(), self.faults.get(&fault).unwrap_or(&0));
        }
    }

    /// What a campaign wanted and did not get.
    pub(crate) fn missing(&self, campaign: &Campaign) -> Vec<String> {
        let fault = |(fault, wanted): (&Fault, &u64)| (fault.title(), *wanted, *self.faults.get(fault).unwrap_or(&0));
        let wanted = campaign.faults.iter().map(fault);
        let commits = ("commits", campaign.commits, self.get("commits"));
        let all = wanted.chain([commits]);
        all.filter(|(_, wanted, done)| done < wanted)
            .map(|(title, wanted, done)| format!("{title}: {done} of {wanted}"))
            .collect()
    }
}

fn count(number: usize) -> u64 {
    number as u64
}
