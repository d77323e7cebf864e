//! The counts: what must be zero, with evidence where it is not.

use std::collections::{HashMap, HashSet};
use std::mem;

use crate::book::{Transaction, Truth, Write, txn_of};
use crate::database::Table;
use crate::seed::Segment;
use crate::stream::{Gap, Scope, Step, Stream};

/// How much evidence of one kind is shown.
const EVIDENCE_MAX: usize = 8;

/// A thing that must never happen, and where it did.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) number: usize,
    evidence: Vec<String>,
}

impl Count {
    fn add(&mut self, evidence: String) {
        self.number += 1;
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push(evidence);
        }
    }

    /// Counts every piece of evidence.
    pub(crate) fn add_all(&mut self, evidence: impl IntoIterator<Item = String>) {
        evidence.into_iter().for_each(|text| self.add(text));
    }
}

/// All counts of a run, or of several.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Committed, and a subscriber without a gap did not get it.
    pub(crate) lost: Count,
    /// Delivered, and taken back or never committed.
    pub(crate) phantom: Count,
    /// Delivered, and nobody wrote it.
    pub(crate) invented: Count,
    /// Delivered twice to one subscriber.
    pub(crate) duplicated: Count,
    /// Offsets that do not grow, versions of a row in the wrong order, a transaction's events not in its order.
    pub(crate) reordered: Count,
    /// A transaction before one that it had seen, or that had ended when it began.
    pub(crate) causal: Count,
    /// One offset with two events.
    pub(crate) two_values: Count,
    /// A transaction's events apart from each other.
    pub(crate) split: Count,
    /// Missing without a word.
    pub(crate) silent_gap: Count,
    /// A gap announced where nothing was lost.
    pub(crate) needless_gap: Count,
    /// Errors of users' writes that are ours.
    pub(crate) failed_user_writes: Count,
    /// Tables as events fold them, that are not the tables.
    pub(crate) wrong_fold: Count,
    /// Ticks whose recorded order is not that of the snapshot difference.
    pub(crate) wrong_order: Count,
    /// The test's own book does not fit to the side table.
    pub(crate) contradictions: Count,
}

impl Verdict {
    fn all(&self) -> [(&'static str, &Count); 14] {
        [
            ("lost", &self.lost),
            ("phantom", &self.phantom),
            ("invented", &self.invented),
            ("duplicated", &self.duplicated),
            ("reordered", &self.reordered),
            ("causal", &self.causal),
            ("two_values", &self.two_values),
            ("split", &self.split),
            ("silent_gap", &self.silent_gap),
            ("needless_gap", &self.needless_gap),
            ("failed_user_writes", &self.failed_user_writes),
            ("wrong_fold", &self.wrong_fold),
            ("wrong_order", &self.wrong_order),
            ("contradictions", &self.contradictions),
        ]
    }

    /// Adds what another run found.
    pub(crate) fn add(&mut self, mut other: Self) {
        for (ours, theirs) in self.all_mut().into_iter().zip(other.all_mut()) {
            ours.number += theirs.number;
            ours.evidence.append(&mut mem::take(&mut theirs.evidence));
        }
    }

    fn all_mut(&mut self) -> [&mut Count; 14] {
        [
            &mut self.lost,
            &mut self.phantom,
            &mut self.invented,
            &mut self.duplicated,
            &mut self.reordered,
            &mut self.causal,
            &mut self.two_values,
            &mut self.split,
            &mut self.silent_gap,
            &mut self.needless_gap,
            &mut self.failed_user_writes,
            &mut self.wrong_fold,
            &mut self.wrong_order,
            &mut self.contradictions,
        ]
    }

    /// Whether every count is zero.
    pub(crate) fn is_clean(&self) -> bool {
        self.all().iter().all(|(_, count)| count.number == 0)
    }

    /// Prints one count a line.
    pub(crate) fn print(&self) {
        for (name, count) in self.all() {
            println!("{name} {}", count.number);
        }
    }

    /// Prints what was found, a little of each kind.
    pub(crate) fn print_evidence(&self) {
        for (name, count) in self.all() {
            for text in &count.evidence {
                println!("  {name}: {text}");
            }
        }
    }

    /// Judges one subscriber. `gaps_allowed`: the log was being given back during the run.
    pub(crate) fn judge(&mut self, stream: &Stream, truth: &Truth, gaps_allowed: bool) {
        let groups = groups(&stream.steps);
        self.judge_steps(stream, truth);
        self.judge_groups(stream, truth, &groups);
        self.judge_causes(stream, truth, &groups);
        self.judge_parts(stream, truth, &groups);
        self.judge_losses(stream, truth);
        self.judge_marks(stream, truth, &groups);
        self.invented.add_all(stream.strange.iter().cloned());
        self.reordered.add_all(stream.broken.iter().cloned());
        self.silent_gap.add_all(stream.silent.iter().cloned());
        self.causal.add_all(stream.impossible.iter().cloned());
        if !gaps_allowed {
            let needless = stream.gaps.iter().filter(|gap| !may_have_no_order(stream, gap));
            self.needless_gap.add_all(needless.map(|gap| format!("{}: {gap:?}", stream.name)));
        }
    }

    fn judge_steps(&mut self, stream: &Stream, truth: &Truth) {
        let mut seen = HashSet::new();
        for pair in stream.steps.windows(2) {
            if pair[1].offset <= pair[0].offset {
                self.reordered.add(format!("{}: {} after {}", stream.name, pair[1].offset, pair[0].offset));
            }
        }
        for step in &stream.steps {
            let write = step.write;
            let evidence = || format!("{}: {write:?} at {}", stream.name, step.offset);
            if matches!(write, Write::Truncate(_)) {
                continue;
            }
            if !seen.insert(write) {
                self.duplicated.add(evidence());
            }
            if !truth.known.contains(&txn_of(token_of(write))) {
                self.invented.add(evidence());
            } else if !truth.made_by.contains_key(&write) {
                self.phantom.add(evidence());
            }
        }
    }

    /// Each group of events with one transaction end must be what one transaction wrote, all of it, in its order.
    fn judge_groups(&mut self, stream: &Stream, truth: &Truth, groups: &[&[Step]]) {
        let mut finished = HashSet::new();
        for group in groups {
            let Some(transaction) = transaction_of(group, truth) else { continue };
            if !finished.insert(transaction.txn) {
                self.split
                    .add(format!("{}: transaction {} again at {}", stream.name, transaction.txn, group[0].offset));
                continue;
            }
            if stream.scope == Scope::Everything {
                self.judge_extent(stream, group);
            }
            let got: Vec<_> = group.iter().map(|step| step.write).collect();
            let expected: Vec<_> =
                transaction.writes.iter().copied().filter(|write| stream.scope.has(*write)).collect();
            // A part that is missing is counted as lost; here it is the order that counts.
            let there: HashSet<_> = got.iter().copied().collect();
            let in_order: Vec<_> = expected.into_iter().filter(|write| there.contains(write)).collect();
            if got != in_order {
                let txn = transaction.txn;
                self.reordered.add(format!("{}: transaction {txn} wrote {in_order:?}, got {got:?}", stream.name));
            }
        }
    }

    /// Whoever gets everything gets a transaction at neighbouring offsets, up to its announced end. A transaction that
    /// spilled has an end of its own, which is no event.
    fn judge_extent(&mut self, stream: &Stream, group: &[Step]) {
        let is_dense = group.windows(2).all(|pair| pair[1].offset == pair[0].offset + 1);
        let ends = group.last().is_some_and(|step| step.transaction_end - step.offset <= 1);
        if !is_dense || (!ends && stream.is_whole()) {
            let (first, last) = (group.first(), group.last());
            self.split.add(format!("{}: {} events from {first:?} to {last:?}", stream.name, group.len()));
        }
    }

    /// Nothing comes before what it had seen, or what had ended when it began.
    fn judge_causes(&mut self, stream: &Stream, truth: &Truth, groups: &[&[Step]]) {
        let order: Vec<_> = groups.iter().filter_map(|group| transaction_of(group, truth)).collect();
        let places: HashMap<_, _> = order.iter().enumerate().map(|(place, t)| (t.txn, place)).collect();
        for (place, transaction) in order.iter().enumerate() {
            for seen in transaction.seen.iter().map(|token| txn_of(*token)) {
                if places.get(&seen).is_some_and(|earlier| *earlier > place) {
                    self.causal.add(format!("{}: {} before {seen}, which it saw", stream.name, transaction.txn));
                }
            }
        }
        let mut first_end = (u64::MAX, 0);
        for transaction in order.iter().rev() {
            if first_end.0 < transaction.begun {
                let (txn, other) = (transaction.txn, first_end.1);
                self.causal.add(format!("{}: {txn} before {other}, which had ended when it began", stream.name));
            }
            first_end = first_end.min((transaction.ended, transaction.txn));
        }
    }

    /// A transaction is delivered whole or not at all, as long as nothing is missing by a gap.
    fn judge_parts(&mut self, stream: &Stream, truth: &Truth, groups: &[&[Step]]) {
        for group in groups.iter().filter(|_| stream.gaps.is_empty()) {
            let Some(transaction) = transaction_of(group, truth) else { continue };
            let expected = transaction.writes.iter().filter(|write| stream.scope.has(**write)).count();
            if group.len() < expected {
                let (name, txn, got) = (&stream.name, transaction.txn, group.len());
                self.split.add(format!("{name}: {got} of {expected} events of transaction {txn}"));
            }
        }
    }

    /// What the log itself does not have must be said by a mark, at any place after everything that had ended when it
    /// began: whoever starts over at the mark has it.
    fn judge_marks(&mut self, stream: &Stream, truth: &Truth, groups: &[&[Step]]) {
        if stream.marks.is_empty() || !stream.gaps.is_empty() {
            return;
        }
        let there: Vec<_> = groups.iter().filter_map(|g| Some((transaction_of(g, truth)?, g[0].offset))).collect();
        let delivered: HashSet<_> = there.iter().map(|(transaction, _)| transaction.txn).collect();
        let is_missing =
            |t: &&Transaction| !delivered.contains(&t.txn) && t.writes.iter().any(|w| stream.scope.has(*w));
        for lost in truth.committed.values().filter(is_missing) {
            let before = there.iter().filter(|(transaction, _)| transaction.ended < lost.begun);
            let place = before.map(|(_, offset)| *offset).max().unwrap_or(0);
            if stream.marks.iter().all(|mark| *mark < place) {
                self.silent_gap.add(format!("{}: no mark for transaction {} after {place}", stream.name, lost.txn));
            }
        }
    }

    fn judge_losses(&mut self, stream: &Stream, truth: &Truth) {
        let got: HashSet<_> = stream.steps.iter().map(|step| step.write).collect();
        let expected = truth.made_by.keys().filter(|write| stream.scope.has(**write));
        let missing: Vec<_> = expected.filter(|write| !got.contains(write)).collect();
        if stream.is_whole() {
            self.silent_gap
                .add_all((!missing.is_empty()).then(|| format!("{}: {} events", stream.name, missing.len())));
            self.lost.add_all(missing.iter().map(|write| format!("{}: {write:?}", stream.name)));
        }
    }

    /// Judges what came over single connections: each is an uninterrupted part of what the whole log has.
    pub(crate) fn judge_segments(&mut self, segments: &[Segment], whole: &Stream) {
        let mut logs: HashMap<&str, Vec<Write>> = HashMap::new();
        for segment in segments {
            self.invented.add_all(segment.strange.iter().cloned());
            let writes = whole.steps.iter().map(|step| step.write);
            let in_scope = || writes.filter(|write| segment.scope.has(*write)).collect();
            let log = logs.entry(&segment.channel).or_insert_with(in_scope);
            let Some(first) = segment.writes.iter().position(|write| !matches!(write, Write::Truncate(_))) else {
                continue;
            };
            let place = log.iter().position(|write| *write == segment.writes[first]);
            let start = place.and_then(|place| place.checked_sub(first));
            if start.is_none_or(|start| !log[start..].starts_with(&segment.writes)) {
                let (channel, count) = (&segment.channel, segment.writes.len());
                self.lost.add(format!("seed client: {count} events of {channel} from {place:?} are not as in the log"));
            }
        }
    }

    /// With gaps allowed, what one subscriber missed lies in a gap of its own, at the offset where another got it.
    pub(crate) fn judge_gaps(&mut self, streams: &[Stream], truth: &Truth) {
        let offsets: HashMap<Write, i64> =
            streams.iter().flat_map(|s| &s.steps).map(|step| (step.write, step.offset)).collect();
        let marks: HashSet<i64> = streams.iter().flat_map(|stream| stream.marks.iter().copied()).collect();
        let marked: HashMap<i64, Table> = streams.iter().flat_map(|stream| stream.marked.iter().copied()).collect();
        for stream in streams {
            let told = |mark: &i64| {
                stream.marks.contains(mark) || stream.gaps.iter().any(|gap| (gap.first..=gap.last).contains(mark))
            };
            let name = &stream.name;
            let concerns = |mark: &i64| marked.get(mark).is_none_or(|table| stream.scope.has(Write::Truncate(*table)));
            self.silent_gap.add_all(
                marks.iter().filter(|m| concerns(m) && !told(m)).map(|m| format!("{name}: not told of mark {m}")),
            );
        }
        for write in truth.made_by.keys() {
            let Some(offset) = offsets.get(write) else {
                // Nobody got it: everybody must have had a gap, which is what `is_whole` says.
                continue;
            };
            for stream in streams.iter().filter(|stream| !stream.is_whole() && stream.scope.has(*write)) {
                let got = stream.steps.binary_search_by_key(offset, |step| step.offset).is_ok();
                let told = stream.gaps.iter().any(|gap| (gap.first..=gap.last).contains(offset));
                if !got && !told {
                    self.silent_gap.add(format!("{}: {write:?} at {offset}", stream.name));
                }
            }
        }
    }
}

fn token_of(write: Write) -> i64 {
    match write {
        Write::Insert(_, token) | Write::Update(_, token) | Write::Delete(_, token) | Write::Message(_, token) => token,
        Write::Truncate(_) => 0,
    }
}

/// A transaction that truncates a table between its own rows, twice or after it was written early, may have no order that
/// folds; the table's subscribers are told to start over.
fn may_have_no_order(stream: &Stream, gap: &Gap) -> bool {
    gap.reason == "unjudged" && stream.scope == Scope::Table(Table::Scratch)
}

fn groups(steps: &[Step]) -> Vec<&[Step]> {
    steps.chunk_by(|one, next| one.transaction_end == next.transaction_end).collect()
}

/// Whose events these are: the first that says so.
fn transaction_of<'a>(group: &[Step], truth: &'a Truth) -> Option<&'a Transaction> {
    let txn = group.iter().find_map(|step| truth.made_by.get(&step.write))?;
    truth.committed.get(txn)
}
