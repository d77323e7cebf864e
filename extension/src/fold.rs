//! Sees to it that a transaction's events fold to what it did.
//!
//! Per table, with all its partitions, it is noted whether the order of the events may be wrong. That costs two
//! comparisons an event:
//!
//! * An event of an earlier command comes behind one of a later command. Only triggers inside triggers do that: what they
//!   write is noted before the rest of the statement that fired them. Otherwise the order of the events is the order in
//!   which rows changed, and a key that is checked at once has one row at any time.
//! * A key that is checked late is changed or its row deleted.
//!
//! Only where that was seen the rows are looked at, when they are written ([`order`]). What was written early cannot be
//! put in order any more: such a table gets a gap mark, and its subscribers start over.

use crate::buffer::{Change, Entry};
use crate::capture::{Capture, NEW_IS_KEY, OLD_IS_KEY, OVERSIZE, UNORDERED};
use crate::order::{self, Order, Place, Step, Version, Way};
use crate::schema::Schema;
use crate::{caught, image};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// The tables that a transaction has changed.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    layouts: HashMap<i64, Known>,
    trees: Vec<Tree>,
}

/// A layout that entries name.
#[derive(Clone)]
struct Known {
    capture: Rc<Capture>,
    /// Its place among the trees.
    tree: usize,
    /// The file of the table when its last row was noted; 0: no row yet.
    file: u32,
    /// Was seen in the table of layouts.
    is_stored: bool,
}

/// A table with its partitions: what has one set of keys.
#[derive(Clone)]
struct Tree {
    root: pg_sys::Oid,
    /// The latest command whose events are here.
    command_max: Option<u32>,
    /// The latest command whose events were written, or have their places already.
    gone_command_max: Option<u32>,
    /// Its events may have to be put in order.
    is_suspect: bool,
    /// They cannot be put in order any more.
    is_broken: bool,
}

impl Tree {
    fn note(&mut self, change: &Change, is_checked_late: bool) {
        let is_late = is_checked_late && change.frees_key;
        let is_nested = self.command_max.is_some_and(|max| change.command < max);
        self.is_broken |= self.gone_command_max.is_some_and(|gone| is_late || change.command < gone);
        self.is_suspect |= is_late || is_nested;
        self.command_max = self.command_max.max(Some(change.command));
    }
}

impl Tables {
    /// Takes note of a change; returns its layout's id, 0 for what is of no table.
    pub(crate) fn note(&mut self, change: &Change) -> i64 {
        let Some(capture) = &change.capture else { return 0 };
        let layout = &capture.layout;
        let trees = &mut self.trees;
        let known = self.layouts.entry(layout.id).or_insert_with(|| Known {
            tree: tree_of(trees, layout.root()),
            capture: Rc::clone(capture),
            file: 0,
            is_stored: false,
        });
        let tree = &mut trees[known.tree];
        match change.op {
            b'I' | b'U' | b'D' => {
                tree.note(change, layout.is_key_checked_late);
                known.file = change.file;
            }
            // Emptied in place: nobody can say whether the rows that were noted came before or after.
            b'T' => tree.is_broken |= change.file != 0 && known.file == change.file,
            _ => (),
        }
        layout.id
    }

    /// Whether nothing will have to be stored by [`Tables::settle`].
    pub(crate) fn are_settled(&self) -> bool {
        self.layouts.values().all(|known| known.is_stored || known.capture.layout.is_settled())
    }

    /// Stores the layouts that nobody has stored yet.
    pub(crate) unsafe fn settle(&mut self, schema: &Schema) {
        for known in self.layouts.values_mut().filter(|known| !known.is_stored) {
            // SAFETY: the caller is in a transaction.
            known.is_stored = unsafe { known.capture.layout.settle(schema) };
        }
    }

    /// A part of the entries is about to be written early: from then on their order is what it is.
    pub(crate) fn before_spill(&mut self, parents: &[Entry]) {
        if !self.trees.iter().any(|tree| tree.is_suspect) {
            return;
        }
        for entry in parents {
            if let Some(tree) = self.layouts.get(&entry.layout).and_then(|known| self.trees.get_mut(known.tree)) {
                // The parents' events are not written with ours, but they get their places.
                tree.is_broken |= tree.is_suspect;
            }
        }
    }

    /// They were written: what comes now comes behind them.
    pub(crate) fn after_spill(&mut self) {
        for tree in &mut self.trees {
            tree.gone_command_max = tree.command_max;
            tree.is_suspect = false;
        }
    }

    /// Puts entries in order where that is needed.
    pub(crate) unsafe fn put_in_order(&mut self, entries: &mut Vec<Entry>, images: Images) {
        if !self.trees.iter().any(|tree| tree.is_suspect && !tree.is_broken) {
            return;
        }
        // SAFETY: reads memory only, so an error has nothing to clean up behind it.
        let outcome = caught::attempt(|| unsafe { self.find_order(entries, images) });
        match outcome {
            Ok(ordered) => *entries = ordered,
            // A damaged key, or no memory: the commit must not fail for it.
            Err(_) => self.trees.iter_mut().for_each(|tree| tree.is_broken |= tree.is_suspect),
        }
    }

    unsafe fn find_order(&mut self, entries: &[Entry], images: Images) -> Vec<Entry> {
        let mut ordered: Vec<(usize, Entry)> = Vec::with_capacity(entries.len());
        let mut segments: Vec<Segment> = Vec::new();
        let mut open: HashMap<usize, usize> = HashMap::new();
        for (n, entry) in entries.iter().enumerate() {
            let tree = self.layouts.get(&entry.layout).map(|known| known.tree);
            let Some(tree) = tree.filter(|tree| self.trees[*tree].is_suspect && !self.trees[*tree].is_broken) else {
                ordered.push((n, entry.clone()));
                continue;
            };
            if !matches!(entry.op, b'I' | b'U' | b'D') {
                // Nothing moves across a TRUNCATE or a gap.
                open.remove(&tree);
                ordered.push((n, entry.clone()));
                continue;
            }
            let table = self.layouts[&entry.layout].capture.layout.table();
            let known = open.get(&tree).copied().filter(|segment| segments[*segment].has_room_for(table, entry));
            let segment = known.unwrap_or_else(|| {
                segments.push(Segment { tree, ..Segment::default() });
                segments.len() - 1
            });
            open.insert(tree, segment);
            segments[segment].push(table, n, entry);
        }
        let mut reader = Reader { images, layouts: HashMap::new(), room: Vec::new() };
        for segment in segments {
            // SAFETY: the images are those of the entries.
            let done = unsafe { segment.put_in_order(entries, &mut reader, &self.layouts) };
            self.trees[segment.tree].is_broken |= done.is_none();
            ordered.extend(done.unwrap_or_else(|| segment.as_it_is(entries)));
        }
        ordered.sort_by_key(|(n, _)| *n);
        ordered.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Gap marks for what could not be put in order.
    pub(crate) fn gaps(&self) -> Vec<Change<'static>> {
        let broken = self.layouts.values().filter(|known| self.trees[known.tree].is_broken);
        broken.map(|known| Change { op: b'G', flags: UNORDERED, ..Change::of(&known.capture) }).collect()
    }
}

/// The place of a table's tree; a new one when it has none yet.
fn tree_of(trees: &mut Vec<Tree>, root: pg_sys::Oid) -> usize {
    trees.iter().position(|tree| tree.root == root).unwrap_or_else(|| {
        trees.push(Tree { root, command_max: None, gone_command_max: None, is_suspect: false, is_broken: false });
        trees.len() - 1
    })
}

/// Events of one tree between which nothing happened but row changes.
#[derive(Default)]
struct Segment {
    tree: usize,
    /// Each table's layout and file: tuple ids of a table that was rewritten mean something else.
    tables: HashMap<pg_sys::Oid, (i64, u32)>,
    /// Their places among the entries.
    entries: Vec<usize>,
}

impl Segment {
    fn has_room_for(&self, table: pg_sys::Oid, entry: &Entry) -> bool {
        self.tables.get(&table).is_none_or(|known| *known == (entry.layout, entry.file))
    }

    fn push(&mut self, table: pg_sys::Oid, n: usize, entry: &Entry) {
        self.tables.insert(table, (entry.layout, entry.file));
        self.entries.push(n);
    }

    fn as_it_is(&self, entries: &[Entry]) -> Vec<(usize, Entry)> {
        self.entries.iter().map(|n| (*n, entries[*n].clone())).collect()
    }

    /// The entries in the order that folds, each with a place; `None`: a key could not be read.
    unsafe fn put_in_order(
        &self,
        entries: &[Entry],
        reader: &mut Reader,
        layouts: &HashMap<i64, Known>,
    ) -> Option<Vec<(usize, Entry)>> {
        let mut keys = HashMap::new();
        let mut steps = Vec::with_capacity(self.entries.len());
        for n in &self.entries {
            let entry = &entries[*n];
            let layout = &layouts.get(&entry.layout)?.capture;
            // SAFETY: the caller's.
            steps.push(unsafe { reader.step(entry, layout, &mut keys)? });
        }
        let at = |n: usize| &entries[self.entries[n]];
        let ordered: Vec<Entry> = match order::of(&steps) {
            Order::AsItIs => return Some(self.as_it_is(entries)),
            Order::Sorted(order) => order.into_iter().map(|n| at(n).clone()).collect(),
            Order::Net(ways) => ways.into_iter().flat_map(|way| whole_way(way, at)).collect(),
        };
        // A way may need more rows than it had events: the last place takes them.
        let last = self.entries.len().checked_sub(1)?;
        Some(ordered.into_iter().enumerate().map(|(n, entry)| (self.entries[n.min(last)], entry)).collect())
    }
}

/// The events that stand for all that happened to one row.
fn whole_way<'a>(way: Way, at: impl Fn(usize) -> &'a Entry) -> Vec<Entry> {
    let (old, new) = (way.old.map(&at), way.new.map(&at));
    match (old, new) {
        // Images of two layouts cannot stand in one event.
        (Some(old), Some(new)) if old.layout != new.layout => vec![left(old), came(new)],
        (Some(old), Some(new)) => {
            let flags = old.flags & OLD_IS_KEY | new.flags & NEW_IS_KEY | (old.flags | new.flags) & OVERSIZE;
            vec![Entry { op: b'U', flags, old_tid: old.old_tid, old: old.old.clone(), ..new.clone() }]
        }
        (Some(old), None) => vec![left(old)],
        (None, Some(new)) => vec![came(new)],
        (None, None) => Vec::new(),
    }
}

fn left(entry: &Entry) -> Entry {
    Entry { op: b'D', flags: entry.flags & (OLD_IS_KEY | OVERSIZE), new_tid: None, new: None, ..entry.clone() }
}

fn came(entry: &Entry) -> Entry {
    Entry { op: b'I', flags: entry.flags & (NEW_IS_KEY | OVERSIZE), old_tid: None, old: None, ..entry.clone() }
}

/// Where the entries' images lie.
#[derive(Clone, Copy)]
pub(crate) struct Images<'a> {
    pub(crate) bytes: &'a [u8],
    /// What the entries' ranges call the first byte.
    pub(crate) base: usize,
}

impl<'a> Images<'a> {
    pub(crate) fn get(&self, range: &Range<usize>) -> &'a [u8] {
        &self.bytes[range.start - self.base..range.end - self.base]
    }
}

/// Reads the keys of entries.
struct Reader<'a> {
    images: Images<'a>,
    /// What reads a layout's images, and the positions of its key.
    layouts: HashMap<i64, (pg_sys::TupleDesc, Vec<usize>)>,
    room: Vec<u64>,
}

impl Reader<'_> {
    unsafe fn step(&mut self, entry: &Entry, capture: &Capture, keys: &mut HashMap<Vec<u8>, u32>) -> Option<Step> {
        // SAFETY: the caller's.
        unsafe {
            let mut side = |tid: &Option<pg_sys::ItemPointerData>, image: &Option<Range<usize>>| {
                let Some(tid) = tid else { return Some(None) };
                let key = self.key(entry.layout, image.as_ref(), capture, keys)?;
                Some(Some(Version { place: place(capture.layout.table(), tid), key }))
            };
            Some(Step { old: side(&entry.old_tid, &entry.old)?, new: side(&entry.new_tid, &entry.new)? })
        }
    }

    /// The number of an image's key: `Some(None)` without a key, `None` when it cannot be read.
    unsafe fn key(
        &mut self,
        layout: i64,
        range: Option<&Range<usize>>,
        capture: &Capture,
        keys: &mut HashMap<Vec<u8>, u32>,
    ) -> Option<Option<u32>> {
        if capture.layout.key.is_empty() {
            return Some(None);
        }
        // SAFETY: the descriptor is the layout's own, and so are the images.
        unsafe {
            let (descriptor, positions) = self
                .layouts
                .entry(layout)
                .or_insert_with(|| (capture.layout.descriptor(), capture.layout.key_positions()));
            let key = image::key(self.images.get(range?), *descriptor, positions, &mut self.room)?;
            let next = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            Some(Some(*keys.entry(key).or_insert(next)))
        }
    }
}

fn place(table: pg_sys::Oid, tid: &pg_sys::ItemPointerData) -> Place {
    let block = u32::from(tid.ip_blkid.bi_hi) << 16 | u32::from(tid.ip_blkid.bi_lo);
    Place { table: table.to_u32(), block, offset: tid.ip_posid }
}
