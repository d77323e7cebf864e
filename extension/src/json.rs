//! Row images as JSON text, for `realtime.read()`.
//!
//! Our own encoder rather than `row_to_json`: that one calls user-defined casts to json, which would run with the rights
//! of whoever reads the log. Only output functions of types are called here, and those are the server's.
//! The text depends on settings that `realtime.read()` pins, on nothing else.

use crate::layout::Layout;
use crate::schema::{self, Schema};
use crate::{array, image, write};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Layouts kept in a backend before all are forgotten.
const RENDERERS_MAX: usize = 1_000;
const ENCODING_SQL_ASCII: i32 = 0;
/// `FirstNormalObjectId` (access/transam.h): types below came with the server and are never altered.
const FIRST_USER_OID: u32 = 16_384;

crate::ffi::sql_function!(render, pg_finfo_render, render_image);

/// How a value of one type becomes JSON.
enum Encoder {
    /// The type is gone or altered: nobody can say what the bytes meant.
    Null,
    Bool,
    Number(Output),
    /// Already JSON.
    Verbatim(Output),
    DateTime(pg_sys::Oid),
    Array {
        element: pg_sys::Oid,
        length: i16,
        by_value: bool,
        align: u8,
        encoder: Box<Encoder>,
    },
    Composite,
    Text(Output),
}

/// A type's output function, looked up once.
struct Output(Box<RefCell<pg_sys::FmgrInfo>>);

struct Renderer {
    descriptor: pg_sys::TupleDesc,
    /// Position, `"name":`, encoder, whether it belongs to the key. Without dropped and excluded columns.
    columns: Vec<(usize, Vec<u8>, Encoder, bool)>,
}

#[derive(Default)]
struct Renderers {
    generation: u64,
    /// Where descriptors and function call information live; deleted with the cache.
    context: Option<pg_sys::MemoryContext>,
    /// By layout, and by what its columns are called.
    known: HashMap<(i64, i64), Rc<Renderer>>,
}

thread_local! {
    static RENDERERS: RefCell<Renderers> = RefCell::new(Renderers::default());
}

unsafe fn render_image(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: declared STRICT with (bigint, bytea, boolean, text[], bigint) in sql/read.sql.
    unsafe {
        let argument = |n| pgrx::fcinfo::pg_getarg_datum_raw(call, n);
        let id = argument(0).value() as i64;
        let image = pgrx::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(argument(1).cast_mut_ptr()));
        let key_only = argument(2).value() as u8 != 0;
        let names = || names(argument(3));
        let Some(renderer) = renderer((id, argument(4).value() as i64), &names) else {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!("the log names layout {id}, which is not stored")
            );
        };
        let Some((values, nulls)) = image::values(image, renderer.descriptor) else {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!("an image in the log does not fit its layout {id}")
            );
        };
        let mut out = Vec::with_capacity(image.len() * 2 + 64);
        renderer.encode(&values, &nulls, key_only, &mut out);
        array::text(&valid(out))
    }
}

/// What each column of a layout is called; `None` for one that is no more.
type Names = Vec<Option<Vec<u8>>>;

unsafe fn names(array: pg_sys::Datum) -> Names {
    // SAFETY: the datum is a text array.
    unsafe {
        array::nullable(array::TEXT, array).into_iter().map(|name| name.map(|it| array::text_bytes(it))).collect()
    }
}

unsafe fn renderer(id: (i64, i64), names: &dyn Fn() -> Names) -> Option<Rc<Renderer>> {
    // SAFETY: catalog access inside a transaction; the cache is not borrowed meanwhile.
    unsafe {
        let generation = schema::generation();
        let known = RENDERERS.with_borrow_mut(|r| {
            if r.generation != generation || r.known.len() >= RENDERERS_MAX {
                r.forget(generation);
            }
            r.known.get(&id).cloned()
        });
        if known.is_some() {
            return known;
        }
        let layout = Layout::load(&Schema::current()?, id.0)?;
        let context = RENDERERS.with_borrow_mut(Renderers::context);
        let before = pg_sys::MemoryContextSwitchTo(context);
        let renderer = Rc::new(Renderer::new(&layout, &names()));
        pg_sys::MemoryContextSwitchTo(before);
        RENDERERS.with_borrow_mut(|r| r.known.insert(id, Rc::clone(&renderer)));
        Some(renderer)
    }
}

impl Renderers {
    fn context(&mut self) -> pg_sys::MemoryContext {
        // SAFETY: a child of the context that lives as long as the backend.
        *self.context.get_or_insert_with(|| unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"realtime layouts".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    fn forget(&mut self, generation: u64) {
        self.known.clear();
        self.generation = generation;
        if let Some(context) = self.context.take() {
            // SAFETY: made above; nothing that points into it is left in the cache.
            unsafe { pg_sys::MemoryContextDelete(context) };
        }
    }
}

impl Renderer {
    unsafe fn new(layout: &Layout, names: &Names) -> Self {
        // SAFETY: catalog look-ups; what is allocated lives in the cache's memory context.
        unsafe {
            schema::watch_relation(layout.table());
            let key = layout.key_positions();
            let mut columns = Vec::new();
            for (n, column) in layout.columns.iter().enumerate() {
                if column.type_oid == pg_sys::InvalidOid || column.hidden {
                    continue;
                }
                let Some(Some(called)) = names.get(n) else { continue };
                let mut name = Vec::with_capacity(called.len() + 3);
                string(called, &mut name);
                name.push(b':');
                // A type that no column uses any more may have been altered: its bytes would be misread.
                let is_safe =
                    type_today(layout.table(), n) == Some(column.type_oid) || column.type_oid.to_u32() < FIRST_USER_OID;
                let encoder = if is_safe { Encoder::of(column.type_oid) } else { Encoder::Null };
                columns.push((n, name, encoder, key.contains(&n)));
            }
            Self { columns, descriptor: layout.descriptor() }
        }
    }

    unsafe fn encode(&self, values: &[pg_sys::Datum], nulls: &[bool], key_only: bool, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut separator: &[u8] = b"";
        for (n, name, encoder, in_key) in &self.columns {
            if key_only && !in_key {
                continue;
            }
            out.extend_from_slice(separator);
            out.extend_from_slice(name);
            // SAFETY: the value is of the type that the encoder was made for.
            unsafe { encoder.nullable(values[*n], nulls[*n], out) };
            separator = b",";
        }
        out.push(b'}');
    }
}

/// Rows of a query as JSON objects.
pub(crate) struct RowEncoder {
    columns: Vec<(Vec<u8>, Encoder)>,
}

impl RowEncoder {
    /// For rows of this descriptor.
    pub(crate) unsafe fn of(descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: positions below natts; names are terminated.
        unsafe {
            let columns = (0..usize::try_from((*descriptor).natts).unwrap_or(0)).map(|n| {
                let attribute = &*write::attribute(descriptor, n);
                let mut name = Vec::new();
                string(std::ffi::CStr::from_ptr(attribute.attname.data.as_ptr()).to_bytes(), &mut name);
                name.push(b':');
                (name, Encoder::of(attribute.atttypid))
            });
            Self { columns: columns.collect() }
        }
    }

    /// One row, in the server's encoding.
    pub(crate) unsafe fn encode(&self, tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Vec<u8> {
        // SAFETY: the tuple is of the descriptor that the encoder was made for.
        unsafe {
            let n = self.columns.len();
            let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); n], vec![true; n]);
            pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            let mut out = vec![b'{'];
            for (i, (name, encoder)) in self.columns.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(name);
                encoder.nullable(values[i], nulls[i], &mut out);
            }
            out.push(b'}');
            valid(out)
        }
    }
}

/// Anything may stand in an SQL_ASCII database; clients get valid UTF-8.
unsafe fn valid(text: Vec<u8>) -> Vec<u8> {
    // SAFETY: a plain read.
    if unsafe { pg_sys::GetDatabaseEncoding() } == ENCODING_SQL_ASCII {
        return String::from_utf8_lossy(&text).into_owned().into_bytes();
    }
    text
}

impl Encoder {
    unsafe fn of(type_oid: pg_sys::Oid) -> Self {
        // SAFETY: catalog look-ups inside a transaction.
        unsafe {
            if !type_exists(type_oid) {
                return Self::Null;
            }
            let base = pg_sys::getBaseType(type_oid);
            match base {
                pg_sys::BOOLOID => Self::Bool,
                pg_sys::INT2OID
                | pg_sys::INT4OID
                | pg_sys::INT8OID
                | pg_sys::FLOAT4OID
                | pg_sys::FLOAT8OID
                | pg_sys::NUMERICOID => Self::Number(Output::of(base)),
                pg_sys::JSONOID | pg_sys::JSONBOID => Self::Verbatim(Output::of(base)),
                pg_sys::DATEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Self::DateTime(base),
                _ => {
                    let element = pg_sys::get_element_type(base);
                    if element != pg_sys::InvalidOid {
                        Self::array(element)
                    } else if pg_sys::type_is_rowtype(base) {
                        Self::Composite
                    } else {
                        Self::Text(Output::of(base))
                    }
                }
            }
        }
    }

    unsafe fn array(element: pg_sys::Oid) -> Self {
        // SAFETY: a catalog look-up that fills in the three fields.
        unsafe {
            let (mut length, mut by_value, mut align) = (0, false, 0);
            pg_sys::get_typlenbyvalalign(element, &mut length, &mut by_value, &mut align);
            Self::Array { element, length, by_value, align: align as u8, encoder: Box::new(Self::of(element)) }
        }
    }

    unsafe fn nullable(&self, value: pg_sys::Datum, null: bool, out: &mut Vec<u8>) {
        if null {
            out.extend_from_slice(b"null");
        } else {
            // SAFETY: passed on.
            unsafe { self.encode(value, out) }
        }
    }

    unsafe fn encode(&self, value: pg_sys::Datum, out: &mut Vec<u8>) {
        // SAFETY: the value is of the type that the encoder was made for.
        unsafe {
            match self {
                Self::Null => out.extend_from_slice(b"null"),
                Self::Bool => out.extend_from_slice(if value.value() as u8 != 0 { b"true" } else { b"false" }),
                Self::Number(output) => output.with(value, |text| {
                    // NaN and Infinity are no JSON numbers.
                    let is_json = text.iter().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
                    if is_json { out.extend_from_slice(text) } else { string(text, out) }
                }),
                Self::Verbatim(output) => output.with(value, |text| out.extend_from_slice(text)),
                Self::Text(output) => output.with(value, |text| string(text, out)),
                Self::DateTime(kind) => date_time(value, *kind, out),
                Self::Array { element, length, by_value, align, encoder } => {
                    array_value(value, (*element, *length, *by_value, *align), encoder, out);
                }
                Self::Composite => composite(value, out),
            }
        }
    }
}

impl Output {
    unsafe fn of(type_oid: pg_sys::Oid) -> Self {
        // SAFETY: the call information lives in the current (cache) memory context.
        unsafe {
            let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeOutputInfo(type_oid, &mut function, &mut is_varlena);
            let mut info = pg_sys::FmgrInfo::default();
            pg_sys::fmgr_info_cxt(function, &mut info, pg_sys::CurrentMemoryContext);
            Self(Box::new(RefCell::new(info)))
        }
    }

    unsafe fn with(&self, value: pg_sys::Datum, use_it: impl FnOnce(&[u8])) {
        // SAFETY: the output function gives a terminated string in the current memory context.
        unsafe {
            let text = pg_sys::OutputFunctionCall(self.0.as_ptr(), value);
            use_it(std::ffi::CStr::from_ptr(text).to_bytes());
            pg_sys::pfree(text.cast());
        }
    }
}

/// The type of the column at a position today; `None` when it is no more.
///
/// From the cache, without a lock: nobody's ALTER TABLE may hold up a reader.
unsafe fn type_today(table: pg_sys::Oid, position: usize) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache look-up that is released again; the struct begins behind the tuple's header.
    unsafe {
        let number = pg_sys::Datum::from(i16::try_from(position).ok()? + 1);
        let zero = pg_sys::Datum::from(0);
        let cache = pg_sys::SysCacheIdentifier::ATTNUM as i32;
        let tuple = pg_sys::SearchSysCache(cache, table.into(), number, zero, zero);
        if tuple.is_null() {
            return None;
        }
        let header = (*tuple).t_data;
        let attribute = header.cast::<u8>().add(usize::from((*header).t_hoff)).cast::<pg_sys::FormData_pg_attribute>();
        let (is_dropped, type_oid) = ((*attribute).attisdropped, (*attribute).atttypid);
        pg_sys::ReleaseSysCache(tuple);
        (!is_dropped).then_some(type_oid)
    }
}

unsafe fn type_exists(type_oid: pg_sys::Oid) -> bool {
    let zero = pg_sys::Datum::from(0);
    // SAFETY: a syscache look-up by oid.
    unsafe {
        pg_sys::SearchSysCacheExists(pg_sys::SysCacheIdentifier::TYPEOID as i32, type_oid.into(), zero, zero, zero)
    }
}

unsafe fn date_time(value: pg_sys::Datum, kind: pg_sys::Oid, out: &mut Vec<u8>) {
    // SAFETY: the buffer is MAXDATELEN + 1 bytes long.
    unsafe {
        let mut text = [0 as std::ffi::c_char; pg_sys::MAXDATELEN as usize + 1];
        pg_sys::JsonEncodeDateTime(text.as_mut_ptr(), value, kind, std::ptr::null());
        string(std::ffi::CStr::from_ptr(text.as_ptr()).to_bytes(), out);
    }
}

unsafe fn array_value(
    value: pg_sys::Datum,
    element: (pg_sys::Oid, i16, bool, u8),
    encoder: &Encoder,
    out: &mut Vec<u8>,
) {
    // SAFETY: the datum is an array of that element type; the dimensions follow its header (utils/array.h, ARR_DIMS).
    unsafe {
        let array = pg_sys::pg_detoast_datum(value.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let dimensions = usize::try_from((*array).ndim).unwrap_or(0);
        if dimensions == 0 {
            out.extend_from_slice(b"[]");
            return;
        }
        let lengths = std::slice::from_raw_parts(array.add(1).cast::<i32>(), dimensions);
        let (mut datums, mut nulls, mut n) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            element.0,
            i32::from(element.1),
            element.2,
            element.3 as std::ffi::c_char,
            &mut datums,
            &mut nulls,
            &mut n,
        );
        let mut next = 0;
        nested(lengths, &mut next, &mut |i, out| encoder.nullable(*datums.add(i), *nulls.add(i), out), out);
    }
}

/// Writes one dimension; elements come in row-major order.
fn nested(lengths: &[i32], next: &mut usize, element: &mut dyn FnMut(usize, &mut Vec<u8>), out: &mut Vec<u8>) {
    out.push(b'[');
    for i in 0..lengths[0] {
        if i > 0 {
            out.push(b',');
        }
        if lengths.len() > 1 {
            nested(&lengths[1..], next, element, out);
        } else {
            element(*next, out);
            *next += 1;
        }
    }
    out.push(b']');
}

unsafe fn composite(value: pg_sys::Datum, out: &mut Vec<u8>) {
    // SAFETY: a composite datum names its own row type; the descriptor is released again.
    unsafe {
        let header = pg_sys::pg_detoast_datum(value.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
        let (kind, typmod) = ((*header).t_choice.t_datum.datum_typeid, (*header).t_choice.t_datum.datum_typmod);
        let descriptor = pg_sys::lookup_rowtype_tupdesc(kind, typmod);
        let mut tuple = pg_sys::HeapTupleData {
            t_len: pgrx::varsize_4b(header.cast()) as u32,
            t_data: header,
            ..Default::default()
        };
        let n = usize::try_from((*descriptor).natts).unwrap_or(0);
        let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); n], vec![true; n]);
        pg_sys::heap_deform_tuple(&mut tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        out.push(b'{');
        let mut separator: &[u8] = b"";
        for i in 0..n {
            let attribute = &*write::attribute(descriptor, i);
            if !attribute.attisdropped {
                out.extend_from_slice(separator);
                string(std::ffi::CStr::from_ptr(attribute.attname.data.as_ptr()).to_bytes(), out);
                out.push(b':');
                Encoder::of(attribute.atttypid).nullable(values[i], nulls[i], out);
                separator = b",";
            }
        }
        out.push(b'}');
        if (*descriptor).tdrefcount >= 0 {
            pg_sys::DecrTupleDescRefCount(descriptor);
        }
    }
}

/// A JSON string of bytes in the server's encoding. Every server encoding is a superset of ASCII, so only these need escapes.
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}
