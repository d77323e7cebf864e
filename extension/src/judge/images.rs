//! The rows to judge: images from the log, brought into the present shape of the table that is subscribed to.

use crate::layout::{Column, Layout};
use crate::schema::Schema;
use crate::write;
use crate::{ffi, image};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::rc::Rc;

/// One row.
pub(super) struct Row {
    pub(super) values: Vec<pg_sys::Datum>,
    pub(super) nulls: Vec<bool>,
    /// The table that the row lay in: a partition's own oid, whichever ancestor is subscribed to.
    pub(super) table: pg_sys::Oid,
    /// Position of its verdict.
    verdict: usize,
    /// Attribute numbers that its image does not hold.
    hidden: Rc<[i32]>,
}

/// All rows of one judgement.
pub(super) struct Images {
    rows: Vec<Row>,
    /// How many verdicts there are: two an event, old and new.
    verdicts: usize,
    /// Verdicts of images that cannot be judged at all.
    unreadable: Vec<usize>,
}

/// Rows that are judged in one run. All of them lack the same attributes: a plan is made for one such set.
pub(super) struct Batch {
    /// Positions of the rows in [`Images`].
    pub(super) rows: Vec<usize>,
    pub(super) hidden: Rc<[i32]>,
}

impl Batch {
    /// Whether its images do not hold this attribute.
    pub(super) fn hides(&self, attribute: i32) -> bool {
        self.hidden.contains(&attribute)
    }

    /// One of its rows alone.
    pub(super) fn only(&self, row: usize) -> Self {
        Self { rows: vec![row], hidden: self.hidden.clone() }
    }
}

/// An image as the log has it.
pub(super) struct Stored<'a> {
    pub(super) layout: i64,
    pub(super) bytes: Option<&'a [u8]>,
    /// It does not hold all columns.
    pub(super) is_partial: bool,
}

/// How the columns of one layout become those of the table.
struct Mapping {
    descriptor: pg_sys::TupleDesc,
    table: pg_sys::Oid,
    /// For each attribute of the table: where its value comes from.
    sources: Vec<Source>,
    /// The attributes that images of this layout do not hold, and those that partial ones do not.
    hidden: Rc<[i32]>,
    hidden_if_partial: Rc<[i32]>,
}

/// The table that an image is of, as it is now.
struct Own {
    columns: pg_sys::TupleDesc,
    /// Its file is not the one it was made with: all rows were written anew at least once, or went.
    is_rewritten: bool,
}

impl Own {
    /// Valid while the relation is open.
    unsafe fn of(relation: pg_sys::Relation) -> Self {
        // SAFETY: an open relation.
        unsafe {
            let file = (*(*relation).rd_rel).relfilenode;
            Self { columns: (*relation).rd_att, is_rewritten: file != (*relation).rd_id }
        }
    }
}

enum Source {
    Image(usize),
    /// Added to the table later: what rows of then have in it.
    Missing(pg_sys::Datum, bool),
    /// Not in the image, or of another type by now: no policy may read it.
    Hidden,
    Dropped,
}

impl Images {
    /// Deforms the images, which come in pairs: old and new of each event.
    pub(super) unsafe fn new(relation: pg_sys::Relation, schema: &Schema, stored: &[Stored]) -> Self {
        // SAFETY: the relation is open; values are allocated in the current memory context.
        unsafe {
            let mut images = Self { rows: Vec::new(), verdicts: stored.len(), unreadable: Vec::new() };
            let mut mappings: HashMap<i64, Option<Mapping>> = HashMap::new();
            for (verdict, image) in stored.iter().enumerate() {
                let Some(bytes) = image.bytes else {
                    if image.is_partial {
                        images.unreadable.push(verdict);
                    }
                    continue;
                };
                let mapping = mappings
                    .entry(image.layout)
                    .or_insert_with(|| Some(Mapping::new(relation, &*Layout::loaded(schema, image.layout)?)));
                match mapping.as_ref().and_then(|m| m.row(bytes, verdict, image.is_partial)) {
                    Some(row) => images.rows.push(row),
                    None => images.unreadable.push(verdict),
                }
            }
            images
        }
    }

    pub(super) fn row(&self, n: usize) -> Option<&Row> {
        self.rows.get(n)
    }

    /// The rows, by the attributes that they lack. One batch, unless the table's columns changed meanwhile.
    pub(super) fn batches(&self) -> Vec<Rc<Batch>> {
        let mut batches: Vec<Batch> = Vec::new();
        for (n, row) in self.rows.iter().enumerate() {
            match batches.iter_mut().find(|batch| batch.hidden == row.hidden) {
                Some(batch) => batch.rows.push(n),
                None => batches.push(Batch { rows: vec![n], hidden: row.hidden.clone() }),
            }
        }
        batches.into_iter().map(Rc::new).collect()
    }

    /// Whether there are images that nobody gets a verdict on.
    pub(super) fn has_unreadable(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// The verdicts that an identity has before any row was judged: `0` not visible, `e` no verdict, `-` no image.
    pub(super) fn blank(&self) -> Vec<u8> {
        let mut verdicts = vec![b'-'; self.verdicts];
        self.rows.iter().for_each(|row| verdicts[row.verdict] = b'0');
        self.unreadable.iter().for_each(|n| verdicts[*n] = b'e');
        verdicts
    }

    /// The position of a row's verdict.
    pub(super) fn verdict_of(&self, row: usize) -> usize {
        self.rows[row].verdict
    }
}

impl Mapping {
    unsafe fn new(relation: pg_sys::Relation, layout: &Layout) -> Self {
        // SAFETY: relations are open while their descriptors are read; positions below natts.
        unsafe {
            let present = (*relation).rd_att;
            let table = layout.table();
            // A partition has its own numbers: its columns are found by the names that both have now.
            let leaf =
                (table != (*relation).rd_id).then(|| pg_sys::try_relation_open(table, pg_sys::AccessShareLock as i32));
            let own = match leaf {
                None => Some(Own::of(relation)),
                Some(leaf) if leaf.is_null() => None,
                Some(leaf) => Some(Own::of(leaf)),
            };
            let source = |n| {
                let attribute = &*write::attribute(present, n);
                if attribute.attisdropped {
                    return Source::Dropped;
                }
                let Some(own) = &own else { return Source::Hidden };
                let position = if leaf.is_none() { Some(n) } else { position_of(own.columns, &name(present, n)) };
                position.map_or(Source::Hidden, |position| Source::of(layout, own, position, attribute))
            };
            let sources: Vec<Source> = (0..super::scan::natts(present)).map(source).collect();
            if let Some(leaf) = leaf.filter(|leaf| !leaf.is_null()) {
                pg_sys::relation_close(leaf, pg_sys::NoLock as i32);
            }
            let key = layout.key_positions();
            let is_key = |source: &Source| matches!(source, Source::Image(n) if key.contains(n));
            Self {
                descriptor: layout.descriptor(),
                table,
                hidden: numbers(&sources, |source| matches!(source, Source::Hidden)),
                hidden_if_partial: numbers(&sources, |s| !matches!(s, Source::Dropped) && !is_key(s)),
                sources,
            }
        }
    }

    unsafe fn row(&self, bytes: &[u8], verdict: usize, is_partial: bool) -> Option<Row> {
        // SAFETY: the descriptor is the layout's own.
        let (values, nulls) = unsafe { image::values(bytes, self.descriptor)? };
        let pick = |source: &Source| match source {
            Source::Image(n) => (values[*n], nulls[*n]),
            Source::Missing(value, null) => (*value, *null),
            Source::Hidden | Source::Dropped => (pg_sys::Datum::from(0), true),
        };
        let (values, nulls) = self.sources.iter().map(pick).unzip();
        let hidden = if is_partial { &self.hidden_if_partial } else { &self.hidden }.clone();
        Some(Row { values, nulls, table: self.table, verdict, hidden })
    }
}

/// The numbers of the attributes whose sources are like this.
fn numbers(sources: &[Source], like: impl Fn(&Source) -> bool) -> Rc<[i32]> {
    (1..).zip(sources).filter(|(_, source)| like(source)).map(|(number, _)| number).collect()
}

unsafe fn name(descriptor: pg_sys::TupleDesc, n: usize) -> Vec<u8> {
    // SAFETY: the caller keeps the position below natts.
    unsafe { std::ffi::CStr::from_ptr((*write::attribute(descriptor, n)).attname.data.as_ptr()).to_bytes().to_vec() }
}

/// Where a table has a column of this name now.
unsafe fn position_of(descriptor: pg_sys::TupleDesc, wanted: &[u8]) -> Option<usize> {
    // SAFETY: positions below natts.
    unsafe {
        (0..super::scan::natts(descriptor))
            .find(|n| !(*write::attribute(descriptor, *n)).attisdropped && name(descriptor, *n) == wanted)
    }
}

impl Source {
    /// The column at a position of the table that the image is of. Columns keep their numbers, whatever they are called.
    unsafe fn of(layout: &Layout, own: &Own, position: usize, attribute: &pg_sys::FormData_pg_attribute) -> Self {
        match layout.columns.get(position).filter(|c| is_live(c)) {
            Some(column) if holds(column, attribute) => Self::Image(position),
            Some(_) => Self::Hidden,
            // SAFETY: the position is below the descriptor's natts.
            None => unsafe { Self::missing(own, position) },
        }
    }

    /// What a row of before has in a column that was added since.
    unsafe fn missing(own: &Own, position: usize) -> Self {
        // SAFETY: as above; the value is copied, its owner may go.
        unsafe {
            let attribute = &*write::attribute(own.columns, position);
            if !attribute.atthasmissing && (attribute.atthasdef || own.is_rewritten) {
                // Rows were written anew with values that nobody told us, or that the catalog no longer knows. That there is
                // no default any more says nothing: it may have been dropped, or belong to an identity or a domain.
                return Self::Hidden;
            }
            let mut null = true;
            let value = pg_sys::getmissingattr(own.columns, position as i32 + 1, &mut null);
            if null {
                return Self::Missing(pg_sys::Datum::from(0), true);
            }
            Self::Missing(ffi::datumCopy(value, attribute.attbyval, i32::from(attribute.attlen)), false)
        }
    }
}

/// A column of another type by now would be misread.
fn holds(column: &Column, attribute: &pg_sys::FormData_pg_attribute) -> bool {
    !column.hidden && column.type_oid == attribute.atttypid
}

fn is_live(column: &Column) -> bool {
    column.type_oid != pg_sys::InvalidOid
}
