//! Layouts: the column lists that row images were formed by.
//!
//! An image is the bytes of a heap tuple; under a wrong column list they would be misread or crash the reader. So every
//! image names the layout it was written by, and a layout is never changed: `id` is a hash of everything it says.

use crate::array::{self, c_string};
use crate::schema::{self, Schema};
use crate::{ffi, write};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

crate::ffi::sql_function!(is_layout_of, pg_finfo_is_layout_of, is_of);

thread_local! {
    /// Layouts that were asked for by judgements. A layout says the same for ever.
    static LOADED: RefCell<HashMap<i64, Rc<Layout>>> = RefCell::new(HashMap::new());
    /// Layouts that were seen stored and committed, as of a generation of the catalog.
    static SETTLED: RefCell<(u64, HashSet<i64>)> = RefCell::new((0, HashSet::new()));
}

/// A column as it was when an image was written.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: Vec<u8>,
    /// 0 when the column had been dropped.
    pub(crate) type_oid: pg_sys::Oid,
    pub(crate) typmod: i32,
    pub(crate) length: i16,
    pub(crate) by_value: bool,
    pub(crate) align: u8,
    /// Left out by the table's `exclude` option.
    pub(crate) hidden: bool,
}

/// A relation: oid, schema, name.
type Named = (pg_sys::Oid, Vec<u8>, Vec<u8>);

/// The column list of a table and the names it went by.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) id: i64,
    /// The table, then its partition ancestors.
    relations: Vec<Named>,
    /// Names of the key columns, in the index's order; empty without a key.
    pub(crate) key: Vec<Vec<u8>>,
    /// Two rows may have the same key for a while, until the statement or the transaction ends.
    pub(crate) is_key_checked_late: bool,
    pub(crate) columns: Vec<Column>,
}

/// The index that tells rows apart.
#[derive(Default)]
struct Key {
    is_primary: bool,
    is_checked_late: bool,
    /// Positions (from 0) of its columns.
    positions: Vec<usize>,
}

impl Layout {
    /// The layout of an open relation, without the columns named in `excluded`.
    pub(crate) unsafe fn of(relation: pg_sys::Relation, excluded: &[Vec<u8>]) -> Self {
        // SAFETY: the caller holds the relation open; the catalog is read inside a transaction.
        unsafe {
            let oid = (*relation).rd_id;
            let mut relations = vec![named(oid)];
            if (*(*relation).rd_rel).relispartition {
                relations.extend(ancestors(oid).into_iter().map(|a| named(a)));
            }
            for (relation, ..) in &relations {
                schema::watch_relation(*relation);
            }
            let columns = columns_of((*relation).rd_att, excluded);
            let index = key_index(relation);
            let key = index.positions.iter().map(|n| columns[*n].name.clone()).collect();
            let mut layout = Self { id: 0, relations, key, is_key_checked_late: index.is_checked_late, columns };
            layout.id = layout.hash();
            layout
        }
    }

    /// The same table as if it were no partition.
    pub(crate) fn without_ancestors(mut self) -> Self {
        self.relations.truncate(1);
        self.id = self.hash();
        self
    }

    /// The table itself, not its ancestors.
    pub(crate) fn table(&self) -> pg_sys::Oid {
        self.relations.first().map_or(pg_sys::InvalidOid, |r| r.0)
    }

    /// The ancestor of all; the table itself when it is no partition.
    pub(crate) fn root(&self) -> pg_sys::Oid {
        self.relations.last().map_or(pg_sys::InvalidOid, |r| r.0)
    }

    /// Positions (from 0) of the key columns.
    pub(crate) fn key_positions(&self) -> Vec<usize> {
        self.key
            .iter()
            .filter_map(|name| self.columns.iter().position(|c| c.name == *name && c.type_oid != pg_sys::InvalidOid))
            .collect()
    }

    /// A hash of everything the layout says; never 0, which stands for "no layout".
    fn hash(&self) -> i64 {
        let mut bytes = Vec::with_capacity(64 * self.columns.len());
        let mut put = |part: &[u8]| {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        };
        for (oid, schema, name) in &self.relations {
            put(&oid.to_u32().to_le_bytes());
            put(schema);
            put(name);
        }
        for name in &self.key {
            put(name);
        }
        for c in &self.columns {
            put(&c.name);
            put(&c.type_oid.to_u32().to_le_bytes());
            put(&c.typmod.to_le_bytes());
            put(&c.length.to_le_bytes());
            put(&[u8::from(c.by_value), c.align, u8::from(c.hidden)]);
        }
        // SAFETY: the length is that of the buffer.
        let hash =
            unsafe { ffi::hash_bytes_extended(bytes.as_ptr(), i32::try_from(bytes.len()).unwrap_or(i32::MAX), 0) };
        (hash as i64).max(1 - i64::MAX).wrapping_abs().max(1)
    }

    /// A tuple descriptor that reads this layout's images, in the current memory context.
    pub(crate) unsafe fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: the attributes are filled in for every number that the descriptor was made for.
        unsafe {
            let descriptor = pg_sys::CreateTemplateTupleDesc(self.columns.len() as i32);
            for (n, column) in (1i16..).zip(&self.columns) {
                // Any fixed type will do to initialise the entry: what deforming looks at is overwritten.
                pg_sys::TupleDescInitEntry(descriptor, n, c"".as_ptr(), pg_sys::INT4OID, -1, 0);
                let attribute = write::attribute(descriptor, usize::from(n as u16) - 1);
                (*attribute).atttypid = column.type_oid;
                (*attribute).atttypmod = column.typmod;
                (*attribute).attlen = column.length;
                (*attribute).attbyval = column.by_value;
                (*attribute).attalign = column.align as std::ffi::c_char;
                (*attribute).attisdropped = column.type_oid == pg_sys::InvalidOid;
                #[cfg(feature = "pg18")]
                pg_sys::populate_compact_attribute(descriptor, i32::from(n) - 1);
            }
            descriptor
        }
    }

    /// Makes sure that the table of layouts holds this one. True when everybody can see it, so that nobody need ask again.
    pub(crate) unsafe fn settle(&self, schema: &Schema) -> bool {
        let generation = schema::generation();
        let known = self.is_settled();
        // SAFETY: the caller is in a transaction.
        let stored = known
            || unsafe { find(schema, self.id, |tuple, _| is_committed(tuple)).is_some_and(|committed| committed) };
        if !stored {
            // SAFETY: as above.
            unsafe { self.store(schema) };
        } else if !known {
            SETTLED.with_borrow_mut(|(at, ids)| {
                if *at != generation {
                    ids.clear();
                    *at = generation;
                }
                ids.insert(self.id);
            });
        }
        stored
    }

    /// Whether the table of layouts need not be looked at, and so need not be locked.
    pub(crate) fn is_settled(&self) -> bool {
        let generation = schema::generation();
        SETTLED.with_borrow(|(at, ids)| *at == generation && ids.contains(&self.id))
    }

    /// Stores this layout with the current transaction.
    ///
    /// Two transactions may store the same one; neither waits for the other, and either row will do.
    unsafe fn store(&self, schema: &Schema) {
        // SAFETY: the datums are built for the columns of realtime.layouts, in their order (sql/log.sql).
        unsafe {
            let columns = &self.columns;
            let each = |f: &dyn Fn(&Column) -> pg_sys::Datum| columns.iter().map(f).collect::<Vec<_>>();
            let names = |n: &[Vec<u8>]| n.iter().map(|n| array::text(n)).collect::<Vec<_>>();
            let relation = |f: &dyn Fn(&Named) -> pg_sys::Datum| self.relations.iter().map(f).collect::<Vec<_>>();
            let values = [
                pg_sys::Datum::from(self.id),
                array::build(array::OID, &mut relation(&|r| pg_sys::Datum::from(r.0))),
                array::build(array::TEXT, &mut relation(&|r| array::text(&r.1))),
                array::build(array::TEXT, &mut relation(&|r| array::text(&r.2))),
                array::build(array::TEXT, &mut names(&self.key)),
                array::build(array::TEXT, &mut each(&|c| array::text(&c.name))),
                array::build(array::OID, &mut each(&|c| pg_sys::Datum::from(c.type_oid))),
                array::build(array::INT4, &mut each(&|c| pg_sys::Datum::from(c.typmod))),
                array::build(array::INT2, &mut each(&|c| pg_sys::Datum::from(c.length))),
                array::build(array::BOOL, &mut each(&|c| pg_sys::Datum::from(c.by_value))),
                array::build(array::CHAR, &mut each(&|c| pg_sys::Datum::from(c.align as i8))),
                array::build(array::BOOL, &mut each(&|c| pg_sys::Datum::from(c.hidden))),
            ];
            let mut nulls = [false; 12];
            nulls[4] = self.key.is_empty();
            write::insert_one(schema.layouts, &values, &nulls);
        }
    }

    /// The stored layout with this id, remembered.
    pub(crate) unsafe fn loaded(schema: &Schema, id: i64) -> Option<Rc<Self>> {
        if let Some(known) = LOADED.with_borrow(|loaded| loaded.get(&id).cloned()) {
            return Some(known);
        }
        // SAFETY: passed on.
        let layout = Rc::new(unsafe { Self::load(schema, id)? });
        LOADED.with_borrow_mut(|loaded| loaded.insert(id, layout.clone()));
        Some(layout)
    }

    /// The stored layout with this id.
    pub(crate) unsafe fn load(schema: &Schema, id: i64) -> Option<Self> {
        // SAFETY: the tuple is of realtime.layouts, whose columns are read by number and type.
        unsafe {
            find(schema, id, |tuple, descriptor| {
                let column = |n: i32| {
                    let mut null = false;
                    let datum = pg_sys::heap_getattr(tuple, n, descriptor, &mut null);
                    (!null).then_some(datum)
                };
                let list = |n: i32, element| column(n).map(|d| array::elements(element, d)).unwrap_or_default();
                let texts = |n: i32| list(n, array::TEXT).into_iter().map(|d| array::text_bytes(d)).collect::<Vec<_>>();
                let (types, typmods, lengths) = (list(7, array::OID), list(8, array::INT4), list(9, array::INT2));
                let (by_value, aligns, hidden) = (list(10, array::BOOL), list(11, array::CHAR), list(12, array::BOOL));
                let columns = texts(6).into_iter().enumerate().map(|(i, name)| Column {
                    name,
                    type_oid: pg_sys::Oid::from(types[i].value() as u32),
                    typmod: typmods[i].value() as i32,
                    length: lengths[i].value() as i16,
                    by_value: by_value[i].value() as u8 != 0,
                    align: aligns[i].value() as u8,
                    hidden: hidden[i].value() as u8 != 0,
                });
                let columns = columns.collect();
                let relations = relations(&list(2, array::OID));
                Self { id, relations, key: texts(5), is_key_checked_late: false, columns }
            })
        }
    }
}

/// `_is_layout_of(layout, relation)`: whether it is the table's, or one of its partitions'.
unsafe fn is_of(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: declared STRICT with (bigint, oid).
    unsafe {
        let argument = |n| pgrx::fcinfo::pg_getarg_datum_raw(call, n).value();
        let (id, relation) = (argument(0) as i64, argument(1) as u32);
        let layout = Schema::current().and_then(|schema| Layout::loaded(&schema, id));
        pg_sys::Datum::from(layout.is_some_and(|layout| layout.relations.iter().any(|r| r.0.to_u32() == relation)))
    }
}

/// Oids alone: names are for SQL, which reads them from the table.
fn relations(oids: &[pg_sys::Datum]) -> Vec<Named> {
    oids.iter().map(|oid| (pg_sys::Oid::from(oid.value() as u32), Vec::new(), Vec::new())).collect()
}

/// Looks a layout up by its index and hands the tuple to `use_it`.
unsafe fn find<T>(
    schema: &Schema,
    id: i64,
    use_it: impl FnOnce(pg_sys::HeapTuple, pg_sys::TupleDesc) -> T,
) -> Option<T> {
    // SAFETY: the scan key outlives the scan; relation and scan are closed on every path that returns.
    unsafe {
        let relation = pg_sys::table_open(schema.layouts, pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            1,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::Oid::from(pg_sys::F_INT8EQ),
            pg_sys::Datum::from(id),
        );
        let scan = pg_sys::systable_beginscan(relation, schema.layouts_id, true, schema::now(), 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| use_it(tuple, (*relation).rd_att));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}

/// False for a row of this very transaction, which may yet roll back.
unsafe fn is_committed(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: a visible heap tuple has a plain xmin in its header.
    unsafe { !pg_sys::TransactionIdIsCurrentTransactionId((*(*tuple).t_data).t_choice.t_heap.t_xmin) }
}

unsafe fn named(relation: pg_sys::Oid) -> Named {
    // SAFETY: syscache look-ups; the names are palloc'd, terminated strings or null.
    unsafe {
        let bytes = |name: *const std::ffi::c_char| {
            if name.is_null() { Vec::new() } else { std::ffi::CStr::from_ptr(name).to_bytes().to_vec() }
        };
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        (relation, bytes(schema), bytes(pg_sys::get_rel_name(relation)))
    }
}

unsafe fn ancestors(partition: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: the list is of oids.
    unsafe {
        let list = ffi::get_partition_ancestors(partition);
        if list.is_null() {
            return Vec::new();
        }
        let cells = std::slice::from_raw_parts((*list).elements, usize::try_from((*list).length).unwrap_or(0));
        cells.iter().map(|cell| cell.oid_value).collect()
    }
}

unsafe fn columns_of(descriptor: pg_sys::TupleDesc, excluded: &[Vec<u8>]) -> Vec<Column> {
    // SAFETY: the descriptor belongs to an open relation.
    unsafe {
        (0..usize::try_from((*descriptor).natts).unwrap_or(0))
            .map(|n| {
                let a = &*write::attribute(descriptor, n);
                let name = std::ffi::CStr::from_ptr(a.attname.data.as_ptr()).to_bytes().to_vec();
                // A virtual generated column has no value in the tuple.
                let hidden = !a.attisdropped && (excluded.contains(&name) || a.attgenerated as u8 == b'v');
                Column {
                    name,
                    type_oid: if a.attisdropped { pg_sys::InvalidOid } else { a.atttypid },
                    typmod: a.atttypmod,
                    length: a.attlen,
                    by_value: a.attbyval,
                    align: a.attalign as u8,
                    hidden,
                }
            })
            .collect()
    }
}

/// The primary key or, without one, the replica identity index; one without columns when there is neither.
///
/// Not rd_pkindex, which leaves deferrable keys out on some versions; `realtime._key_columns()` has the same rule.
unsafe fn key_index(relation: pg_sys::Relation) -> Key {
    // SAFETY: the list is of oids and is freed.
    unsafe {
        let list = pg_sys::RelationGetIndexList(relation);
        if list.is_null() {
            return Key::default();
        }
        let cells = std::slice::from_raw_parts((*list).elements, usize::try_from((*list).length).unwrap_or(0));
        let mut indexes: Vec<Key> = cells.iter().filter_map(|cell| identifying(cell.oid_value)).collect();
        pg_sys::list_free(list);
        let place = indexes.iter().position(|key| key.is_primary).unwrap_or(0);
        if indexes.is_empty() { Key::default() } else { indexes.swap_remove(place) }
    }
}

/// What is known of an index; `None` for one that identifies no rows.
unsafe fn identifying(index: pg_sys::Oid) -> Option<Key> {
    // SAFETY: a syscache look-up that is released again; indkey has indnkeyatts entries at least.
    unsafe {
        let zero = pg_sys::Datum::from(0);
        let tuple =
            pg_sys::SearchSysCache(pg_sys::SysCacheIdentifier::INDEXRELID as i32, index.into(), zero, zero, zero);
        if tuple.is_null() {
            return None;
        }
        let header = (*tuple).t_data;
        let form = header.cast::<u8>().add(usize::from((*header).t_hoff)).cast::<pg_sys::FormData_pg_index>();
        let numbers = std::slice::from_raw_parts(
            (*form).indkey.values.as_ptr(),
            usize::try_from((*form).indnkeyatts).unwrap_or(0),
        );
        let key = Key {
            is_primary: (*form).indisprimary,
            is_checked_late: !(*form).indimmediate,
            positions: numbers.iter().filter(|n| **n > 0).map(|n| usize::from(*n as u16) - 1).collect(),
        };
        let is_identity = (*form).indisreplident;
        pg_sys::ReleaseSysCache(tuple);
        (key.is_primary || is_identity).then_some(key)
    }
}

/// The name of a column as a C string, for messages.
pub(crate) fn display(name: &[u8]) -> String {
    c_string(name).to_string_lossy().into_owned()
}
