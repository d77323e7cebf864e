//! The order in which a transaction's events fold, by key, to what the transaction did.
//!
//! The order in which triggers fire is mostly it, but not always: a trigger that changes the row again fires before ours
//! has noted the first change; under a key that is checked late, rows take the keys of rows that leave them later. Here
//! events are steps from one version of a row to the next. Pure: no Postgres, no bytes.

use std::collections::{HashMap, HashSet};

/// Where a version of a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The table's oid.
    pub(crate) table: u32,
    pub(crate) block: u32,
    pub(crate) offset: u16,
}

/// A version of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) place: Place,
    /// The number that stands for its key; `None` in a table without one.
    pub(crate) key: Option<u32>,
}

/// What one event did to one row: from this version to that.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Step {
    pub(crate) old: Option<Version>,
    pub(crate) new: Option<Version>,
}

/// One row's whole way through the transaction: the step that has its first version and the one that has its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) old: Option<usize>,
    pub(crate) new: Option<usize>,
}

/// The order that folds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The one that they came in.
    AsItIs,
    /// The same steps, in this order.
    Sorted(Vec<usize>),
    /// No order of these steps folds (two rows swapped their keys, say): removals first, then what there is instead.
    Net(Vec<Way>),
}

/// Finds the order that folds. Steps of one table, or of one partitioned table.
pub(crate) fn of(steps: &[Step]) -> Order {
    if folds(steps.iter()) {
        return Order::AsItIs;
    }
    match sorted(steps) {
        Some(order) if folds(order.iter().filter_map(|n| steps.get(*n))) => Order::Sorted(order),
        _ => Order::Net(net(steps)),
    }
}

/// Whether every step finds the version that it ends at its key, and leaves the next one at a free key. Then that holds
/// for each partition by itself as well.
fn folds<'a>(steps: impl Iterator<Item = &'a Step>) -> bool {
    let mut at: HashMap<u32, Option<Place>> = HashMap::new();
    let mut ended = HashSet::new();
    for step in steps {
        if let Some(old) = step.old {
            // What is not known yet was there before the transaction.
            let is_there = old.key.is_none_or(|key| at.insert(key, None).is_none_or(|place| place == Some(old.place)));
            if !is_there || !ended.insert(old.place) {
                return false;
            }
        }
        if let Some(new) = step.new {
            let is_free = new.key.is_none_or(|key| at.insert(key, Some(new.place)).flatten().is_none());
            if !is_free || ended.contains(&new.place) {
                return false;
            }
        }
    }
    true
}

/// Each step behind the one that made its old version, and behind the one that freed its new key. `None`: a circle.
fn sorted(steps: &[Step]) -> Option<Vec<usize>> {
    let (made, _) = ends(steps);
    let freed: HashMap<u32, usize> = steps
        .iter()
        .enumerate()
        .filter_map(|(n, step)| {
            let old = step.old.filter(|old| !made.contains_key(&old.place))?;
            Some((old.key?, n))
        })
        .collect();
    let needs = |n: usize| {
        let step = steps[n];
        let maker = step.old.and_then(|old| made.get(&old.place));
        let freer = step.new.and_then(|new| freed.get(&new.key?));
        [maker, freer].into_iter().flatten().copied().filter(move |need| *need != n)
    };
    let mut order = Vec::with_capacity(steps.len());
    let mut states = vec![State::Waiting; steps.len()];
    for first in 0..steps.len() {
        let mut path = vec![first];
        while let Some(n) = path.last().copied() {
            match states[n] {
                State::Placed => drop(path.pop()),
                State::Begun if needs(n).all(|need| states[need] == State::Placed) => {
                    states[n] = State::Placed;
                    order.push(n);
                }
                State::Begun => return None,
                State::Waiting => {
                    states[n] = State::Begun;
                    for need in needs(n) {
                        match states[need] {
                            State::Placed => (),
                            State::Begun => return None,
                            State::Waiting => path.push(need),
                        }
                    }
                }
            }
        }
    }
    Some(order)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Begun,
    Placed,
}

/// The step that made each version, and the one that ended it.
fn ends(steps: &[Step]) -> (HashMap<Place, usize>, HashMap<Place, usize>) {
    let side = |side: fn(&Step) -> Option<Version>| {
        steps.iter().enumerate().filter_map(move |(n, step)| Some((side(step)?.place, n))).collect()
    };
    (side(|step| step.new), side(|step| step.old))
}

/// Every row's way, those that leave their place first.
fn net(steps: &[Step]) -> Vec<Way> {
    let (made, ended) = ends(steps);
    let (mut removed, mut rest) = (Vec::new(), Vec::new());
    for (first, step) in steps.iter().enumerate() {
        if step.old.is_some_and(|old| made.contains_key(&old.place)) {
            continue;
        }
        let last = last_of(steps, &ended, first);
        match (step.old, steps[last].new) {
            (Some(old), Some(new)) if old.key == new.key && old.place.table == new.place.table => {
                rest.push(Way { old: Some(first), new: Some(last) });
            }
            (old, new) => {
                removed.extend(old.map(|_| Way { old: Some(first), new: None }));
                rest.extend(new.map(|_| Way { old: None, new: Some(last) }));
            }
        }
    }
    removed.extend(rest);
    removed
}

/// The last step of the way that begins with this one.
fn last_of(steps: &[Step], ended: &HashMap<Place, usize>, first: usize) -> usize {
    let mut last = first;
    // No way is longer than all steps; places that are named twice must not lead in a circle.
    for _ in steps {
        match steps[last].new.and_then(|new| ended.get(&new.place)) {
            Some(next) => last = *next,
            None => break,
        }
    }
    last
}
