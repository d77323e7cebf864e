//! Where the tables of schema `realtime` are, cached in each backend.

use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::CString;

/// How many segments `sql/log.sql` makes.
pub(crate) const SEGMENTS: usize = 8;
const LOG_COLUMNS: [pg_sys::Oid; 12] = [
    XID8,
    pg_sys::INT8OID,
    pg_sys::INT8OID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::INT4OID,
    pg_sys::INT2OID,
    pg_sys::CHAROID,
    pg_sys::UUIDOID,
    pg_sys::TIDOID,
    pg_sys::TIDOID,
    pg_sys::BYTEAOID,
    pg_sys::BYTEAOID,
];
const XID8: pg_sys::Oid = pg_sys::XID8OID;
/// A second: how long a backend may go on writing into a segment that has ceased to be the current one. Harmless,
/// readers look in all of them.
const STATE_AGE_US_MAX: i64 = 1_000_000;

/// Object ids of what capture writes to.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) layouts: pg_sys::Oid,
    pub(crate) layouts_id: pg_sys::Oid,
    layouts_place: Place,
    pub(crate) state: pg_sys::Oid,
    pub(crate) segments: [Place; SEGMENTS],
}

/// A table of ours with everything that writing a row into it touches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) table: pg_sys::Oid,
    /// Its indexes; 0 where there is none.
    pub(crate) indexes: [pg_sys::Oid; 2],
    /// Its TOAST table and that one's index; 0 where there is none.
    toast: [pg_sys::Oid; 2],
}

/// What of a [`Place`] some rows will touch. Each lock costs as much as copying a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// So many of its indexes, from the first on. The table's lock is not enough: ALTER INDEX SET TABLESPACE locks the index
    /// alone.
    pub(crate) indexes: usize,
    /// Some row may be so large that it is stored out of line.
    pub(crate) toast: bool,
}

impl Need {
    /// Everything.
    pub(crate) const ALL: Self = Self { indexes: 2, toast: true };
}

impl Place {
    /// Locks what is needed of it for writing, or says no at once. DROP EXTENSION holds some of these while it waits for
    /// the very writer that would wait for them.
    pub(crate) unsafe fn lock(&self, need: Need) -> bool {
        let toast = if need.toast { &self.toast[..] } else { &[] };
        let parts = self.indexes.iter().take(need.indexes).chain(toast).copied();
        // SAFETY: inside a transaction; locks go with it.
        std::iter::once(self.table)
            .chain(parts.filter(|part| *part != pg_sys::InvalidOid))
            .all(|oid| unsafe { pg_sys::ConditionalLockRelationOid(oid, pg_sys::RowExclusiveLock as i32) })
    }

    unsafe fn find(table: pg_sys::Oid, indexes: [pg_sys::Oid; 2]) -> Self {
        // SAFETY: syscache look-ups by oid and name.
        unsafe {
            let name = CString::new(format!("pg_toast_{}_index", table.to_u32())).unwrap_or_default();
            let toast_index = pg_sys::get_relname_relid(name.as_ptr(), pg_sys::Oid::from(pg_sys::PG_TOAST_NAMESPACE));
            Self { table, indexes, toast: [toast_of(table), toast_index] }
        }
    }
}

/// The TOAST table of a table.
unsafe fn toast_of(table: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a syscache look-up that is released again; the struct begins behind the tuple's header.
    unsafe {
        let zero = pg_sys::Datum::from(0);
        let tuple = pg_sys::SearchSysCache(pg_sys::SysCacheIdentifier::RELOID as i32, table.into(), zero, zero, zero);
        if tuple.is_null() {
            return pg_sys::InvalidOid;
        }
        let header = (*tuple).t_data;
        let form = header.cast::<u8>().add(usize::from((*header).t_hoff)).cast::<pg_sys::FormData_pg_class>();
        let toast = (*form).reltoastrelid;
        pg_sys::ReleaseSysCache(tuple);
        toast
    }
}

/// The part of `realtime.state` that writers go by.
#[derive(Clone, Copy, Default)]
pub(crate) struct State {
    /// The segment being written.
    pub(crate) segment: usize,
    /// The log is at its cap: what is written from now on would fill the disk.
    pub(crate) is_full: bool,
    /// It is, or was a moment ago: some may not know yet that it is not.
    pub(crate) was_full: bool,
}

thread_local! {
    static KNOWN: RefCell<Option<Schema>> = const { RefCell::new(None) };
    static STALE: Cell<bool> = const { Cell::new(false) };
    static STATE: Cell<(State, i64)> = const { Cell::new((State { segment: 0, is_full: false, was_full: false }, i64::MIN)) };
    static WATCHED: RefCell<HashSet<u32>> = RefCell::new(HashSet::new());
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    static NEWS: Cell<bool> = const { Cell::new(true) };
}

/// Registers for news about relations and schemas. Once per backend.
pub(crate) fn watch() {
    // SAFETY: both functions only note the callback; the callbacks touch thread-locals alone and never raise.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        for cache in [pg_sys::SysCacheIdentifier::NAMESPACEOID, pg_sys::SysCacheIdentifier::TYPEOID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(catalog_changed), pg_sys::Datum::from(0));
        }
    }
}

/// Also registers for news about roles, memberships and functions, which plans depend on. Once per backend that judges.
pub(crate) fn watch_roles() {
    use pg_sys::SysCacheIdentifier::{AUTHMEMROLEMEM, AUTHOID, DATABASEOID, PROCOID};
    for cache in [AUTHOID, AUTHMEMROLEMEM, DATABASEOID, PROCOID] {
        // SAFETY: as in `watch`.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(catalog_changed), pg_sys::Datum::from(0));
        }
    }
}

/// Changes whenever something a cache was computed from may have changed.
pub(crate) fn generation() -> u64 {
    GENERATION.get()
}

/// Whether anything about any relation may have changed since this was asked last.
pub(crate) fn take_news() -> bool {
    NEWS.replace(false)
}

/// From now on a change of this relation changes the generation.
pub(crate) fn watch_relation(relation: pg_sys::Oid) {
    WATCHED.with_borrow_mut(|w| w.insert(relation.to_u32()));
}

unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    NEWS.set(true);
    let concerns_us = relation == pg_sys::InvalidOid
        || WATCHED.try_with(|w| w.try_borrow().map_or(true, |w| w.contains(&relation.to_u32()))).unwrap_or(true);
    if concerns_us {
        bump();
    }
}

unsafe extern "C-unwind" fn catalog_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    bump();
}

fn bump() {
    STALE.set(true);
    GENERATION.set(GENERATION.get().wrapping_add(1));
}

impl Schema {
    /// The schema as it is now; `None` when the extension is gone or its tables are not what we write.
    ///
    /// Needs a transaction (catalog look-ups).
    pub(crate) fn current() -> Option<Self> {
        if !STALE.replace(false)
            && let Some(known) = KNOWN.with_borrow(Clone::clone)
        {
            return Some(known);
        }
        // SAFETY: catalog look-ups inside a transaction.
        let found = unsafe { Self::look_up() };
        if let Some(schema) = &found {
            watch_relation(schema.layouts);
            schema.segments.iter().for_each(|s| watch_relation(s.table));
        }
        KNOWN.set(found.clone());
        STATE.set((State::default(), i64::MIN));
        found
    }

    unsafe fn look_up() -> Option<Self> {
        // SAFETY: plain syscache look-ups; every name is a terminated string.
        unsafe {
            let namespace = pg_sys::get_namespace_oid(c"realtime".as_ptr(), true);
            if namespace == pg_sys::InvalidOid {
                return None;
            }
            let find = |name: &str| {
                let name = CString::new(name).ok()?;
                let oid = pg_sys::get_relname_relid(name.as_ptr(), namespace);
                (oid != pg_sys::InvalidOid).then_some(oid)
            };
            let segments: Option<Vec<Place>> = (0..SEGMENTS)
                .map(|k| {
                    let table = find(&format!("log_{k}")).filter(|oid| has_log_columns(*oid))?;
                    let indexes = [find(&format!("log_{k}_run"))?, find(&format!("log_{k}_inner"))?];
                    Some(Place::find(table, indexes))
                })
                .collect();
            let (layouts, layouts_id) = (find("layouts")?, find("layouts_id")?);
            Some(Self {
                layouts,
                layouts_id,
                layouts_place: Place::find(layouts, [layouts_id, pg_sys::InvalidOid]),
                state: find("state")?,
                segments: segments?.try_into().ok()?,
            })
        }
    }

    /// Locks the table of layouts for writing, or says no at once.
    pub(crate) unsafe fn lock_layouts(&self) -> bool {
        // SAFETY: inside a transaction.
        unsafe { self.layouts_place.lock(Need::ALL) }
    }

    /// What rotation has decided, at most a second ago.
    pub(crate) unsafe fn state(&self) -> State {
        // SAFETY: the caller is in a transaction.
        unsafe {
            let now = pg_sys::GetCurrentTimestamp();
            let (known, read_at) = STATE.get();
            if now.saturating_sub(read_at) < STATE_AGE_US_MAX && now >= read_at {
                return known;
            }
            let state = self.read_state().unwrap_or(known);
            STATE.set((state, now));
            state
        }
    }

    /// What rotation has decided, as of now.
    pub(crate) unsafe fn state_now(&self) -> State {
        STATE.set((STATE.get().0, i64::MIN));
        // SAFETY: the caller is in a transaction.
        unsafe { self.state() }
    }

    unsafe fn read_state(&self) -> Option<State> {
        // SAFETY: a one-row table of ours; the lock is never in anybody's way (rotation only updates it).
        unsafe {
            if !pg_sys::ConditionalLockRelationOid(self.state, pg_sys::AccessShareLock as i32) {
                return None;
            }
            let relation = pg_sys::table_open(self.state, pg_sys::NoLock as i32);
            let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, now(), 0, std::ptr::null_mut());
            let tuple = pg_sys::systable_getnext(scan);
            let column = |n: i32| {
                let mut null = false;
                let datum = pg_sys::heap_getattr(tuple, n, (*relation).rd_att, &mut null);
                (!null).then(|| datum.value())
            };
            // Columns by number: see sql/log.sql.
            let found = (!tuple.is_null()).then(|| (column(2), column(6), column(7), column(9)));
            pg_sys::systable_endscan(scan);
            pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
            let (Some(segment), Some(size_max), Some(is_full), full_at) = found? else { return None };
            let segment = usize::try_from(segment as i32).ok().filter(|s| *s < SEGMENTS)?;
            let is_full = is_full as u8 != 0 || segment_bytes(self.segments[segment].table) > size_max as u64;
            Some(State { segment, is_full, was_full: is_full || full_at.is_some() })
        }
    }
}

/// Size of a segment's rows. With nobody to rotate, the segment being written is the only one that grows.
unsafe fn segment_bytes(segment: pg_sys::Oid) -> u64 {
    // SAFETY: opened only when its lock is free, and closed again.
    unsafe {
        if !pg_sys::ConditionalLockRelationOid(segment, pg_sys::AccessShareLock as i32) {
            return 0;
        }
        let relation = pg_sys::table_open(segment, pg_sys::NoLock as i32);
        let mut bytes = u64::from(pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM));
        let toast = (*(*relation).rd_rel).reltoastrelid;
        if toast != pg_sys::InvalidOid {
            let toast = pg_sys::table_open(toast, pg_sys::AccessShareLock as i32);
            bytes += u64::from(pg_sys::RelationGetNumberOfBlocksInFork(toast, pg_sys::ForkNumber::MAIN_FORKNUM));
            pg_sys::table_close(toast, pg_sys::AccessShareLock as i32);
        }
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        bytes * u64::from(pg_sys::BLCKSZ)
    }
}

/// Sees what is committed at this moment, and what this transaction did.
///
/// Not the transaction's own snapshot: under SERIALIZABLE a look by that one leaves predicate locks behind, and two
/// writers who meet a new layout at once would fail each other.
pub(crate) fn now() -> pg_sys::Snapshot {
    &raw mut pg_sys::SnapshotSelfData
}

/// A table by the right name might be somebody else's, or altered by hand; tuples of the wrong shape would crash readers.
unsafe fn has_log_columns(relation: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups by attribute number.
    unsafe {
        (1i16..).zip(LOG_COLUMNS).all(|(attribute, expected)| pg_sys::get_atttype(relation, attribute) == expected)
            && pg_sys::get_atttype(relation, LOG_COLUMNS.len() as i16 + 1) == pg_sys::InvalidOid
    }
}
