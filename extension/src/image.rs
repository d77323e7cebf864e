//! Row images: the bytes of a heap tuple, without the part of its header that says where it lay.
//!
//! What is stored begins at `t_infomask2` (18 bytes in): number of attributes, flags, header length, NULL bitmap, values.

use crate::layout::Layout;
use crate::{ffi, write};
use pgrx::prelude::*;
use std::mem::offset_of;

const SKIPPED: usize = offset_of!(pg_sys::HeapTupleHeaderData, t_infomask2);
/// `t_hoff` counts from the start of the whole header; the smallest image ends behind it.
const LENGTH_MIN: usize = offset_of!(pg_sys::HeapTupleHeaderData, t_hoff) + 1 - SKIPPED;

/// The stored bytes of a tuple.
unsafe fn bytes<'a>(tuple: pg_sys::HeapTuple) -> &'a [u8] {
    // SAFETY: t_data has t_len bytes, and a heap tuple is longer than its header.
    unsafe {
        let data = (*tuple).t_data.cast::<u8>();
        std::slice::from_raw_parts(data.add(SKIPPED), (*tuple).t_len as usize - SKIPPED)
    }
}

unsafe fn attributes(tuple: pg_sys::HeapTuple) -> usize {
    // SAFETY: a valid tuple.
    unsafe { usize::from((*(*tuple).t_data).t_infomask2 & pg_sys::HEAP_NATTS_MASK as u16) }
}

/// What an image will hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Every column but the excluded ones.
    Whole,
    /// The key columns.
    Key,
}

/// Size of the row in bytes with out-of-line values fetched. Looks at headers only: nothing is copied or fetched.
pub(crate) unsafe fn size(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc, layout: &Layout) -> usize {
    // SAFETY: tuple and descriptor belong together; the datums point into the tuple.
    unsafe {
        let mut size = (*tuple).t_len as usize;
        if has_external(tuple) {
            let (values, nulls) = deform(tuple, descriptor);
            for (n, column) in layout.columns.iter().enumerate() {
                if column.length == -1 && !nulls[n] && !column.hidden && column.type_oid != pg_sys::InvalidOid {
                    let value = values[n].cast_mut_ptr::<pg_sys::varlena>();
                    if pgrx::varatt_is_1b_e(value) {
                        size = size.saturating_add(pg_sys::toast_raw_datum_size(values[n]));
                    }
                }
            }
        }
        size
    }
}

/// The image of a tuple: bytes in the tuple itself or in the current memory context.
///
/// May fetch out-of-line values, which can fail when the table's own storage is damaged.
pub(crate) unsafe fn of<'a>(
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    layout: &Layout,
    part: Part,
) -> &'a [u8] {
    // SAFETY: tuple and descriptor belong together.
    unsafe {
        // Short tuples (columns added since) get their missing values now: later they might mean something else.
        let as_it_is = part == Part::Whole
            && attributes(tuple) == layout.columns.len()
            && !layout.columns.iter().any(|c| c.hidden);
        let formed = if as_it_is { tuple } else { reform(tuple, descriptor, layout, part) };
        bytes(if has_external(formed) { ffi::toast_flatten_tuple(formed, descriptor) } else { formed })
    }
}

/// Whether making the image would have to fetch values from elsewhere.
pub(crate) unsafe fn has_external(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: a valid tuple.
    unsafe { (*(*tuple).t_data).t_infomask & pg_sys::HEAP_HASEXTERNAL as u16 != 0 }
}

unsafe fn deform(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> (Vec<pg_sys::Datum>, Vec<bool>) {
    // SAFETY: both vectors have one place per attribute.
    unsafe {
        let n = usize::try_from((*descriptor).natts).unwrap_or(0);
        let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); n], vec![true; n]);
        pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        (values, nulls)
    }
}

/// A copy of the tuple with the columns that do not belong to the image set to NULL.
unsafe fn reform(
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    layout: &Layout,
    part: Part,
) -> pg_sys::HeapTuple {
    // SAFETY: values and flags are those of the descriptor.
    unsafe {
        let (mut values, mut nulls) = deform(tuple, descriptor);
        let key = layout.key_positions();
        for (n, column) in layout.columns.iter().enumerate() {
            if column.hidden || column.type_oid == pg_sys::InvalidOid || (part == Part::Key && !key.contains(&n)) {
                nulls[n] = true;
            }
        }
        pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr())
    }
}

/// The command of this transaction that made a version of a row.
pub(crate) unsafe fn made_by(tuple: pg_sys::HeapTuple) -> u32 {
    // SAFETY: a valid tuple that this transaction made.
    unsafe {
        let header = (*tuple).t_data;
        if has_two_commands(header) { pg_sys::HeapTupleHeaderGetCmin(header) } else { raw_command(header) }
    }
}

/// The command of this transaction that ended a version of a row.
pub(crate) unsafe fn ended_by(tuple: pg_sys::HeapTuple) -> u32 {
    // SAFETY: a valid tuple that this transaction deleted.
    unsafe {
        let header = (*tuple).t_data;
        if has_two_commands(header) { pg_sys::HeapTupleHeaderGetCmax(header) } else { raw_command(header) }
    }
}

unsafe fn has_two_commands(header: pg_sys::HeapTupleHeader) -> bool {
    // SAFETY: a valid header.
    unsafe { (*header).t_infomask & pg_sys::HEAP_COMBOCID as u16 != 0 }
}

unsafe fn raw_command(header: pg_sys::HeapTupleHeader) -> u32 {
    // SAFETY: of the union's members this is the one in use in a tuple of a table.
    unsafe { (*header).t_choice.t_heap.t_field3.t_cid }
}

/// Whether what ended this version of a row deleted it or changed a column of a unique index.
pub(crate) unsafe fn frees_key(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: a valid tuple.
    unsafe { (*(*tuple).t_data).t_infomask2 & pg_sys::HEAP_KEYS_UPDATED as u16 != 0 }
}

/// The number of the file that a table's rows lie in; 0 for a partitioned table.
pub(crate) unsafe fn file(relation: pg_sys::Relation) -> u32 {
    // SAFETY: an open relation.
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    unsafe {
        (*relation).rd_node.relNode.to_u32()
    }
    // SAFETY: as above.
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    unsafe {
        (*relation).rd_locator.relNumber.to_u32()
    }
}

/// A stored image as a tuple again. `data`: room for it with the part that is not stored, zeroed and aligned. `None`: the
/// bytes cannot be of this descriptor; the header's own claims are checked before anything is read by them.
unsafe fn restore(image: &[u8], data: *mut u8, descriptor: pg_sys::TupleDesc) -> Option<pg_sys::HeapTupleData> {
    // SAFETY: the caller's room is long enough.
    unsafe {
        let length = image.len() + SKIPPED;
        std::ptr::copy_nonoverlapping(image.as_ptr(), data.add(SKIPPED), image.len());
        let mut tuple = pg_sys::HeapTupleData { t_len: length as u32, t_data: data.cast(), ..Default::default() };
        let natts = usize::try_from((*descriptor).natts).unwrap_or(0);
        let fits = attributes(&mut tuple) == natts && usize::from((*tuple.t_data).t_hoff) <= length;
        fits.then_some(tuple)
    }
}

/// The values of a stored image. `None`: the bytes cannot be of this layout.
///
/// The datums point into a copy of the image in the current memory context.
pub(crate) unsafe fn values(image: &[u8], descriptor: pg_sys::TupleDesc) -> Option<(Vec<pg_sys::Datum>, Vec<bool>)> {
    // SAFETY: the room is as long as the restored tuple.
    unsafe {
        if image.len() < LENGTH_MIN {
            return None;
        }
        let data = pg_sys::palloc0(image.len() + SKIPPED).cast::<u8>();
        let mut tuple = restore(image, data, descriptor)?;
        Some(deform(&mut tuple, descriptor))
    }
}

/// The key of a stored image: bytes that are the same for the same values. `None`: it cannot be read.
pub(crate) unsafe fn key(
    image: &[u8],
    descriptor: pg_sys::TupleDesc,
    positions: &[usize],
    room: &mut Vec<u64>,
) -> Option<Vec<u8>> {
    // SAFETY: the room is as long as the restored tuple, and aligned; the positions are the descriptor's.
    unsafe {
        if image.len() < LENGTH_MIN {
            return None;
        }
        room.clear();
        room.resize((image.len() + SKIPPED).div_ceil(size_of::<u64>()), 0);
        let mut tuple = restore(image, room.as_mut_ptr().cast(), descriptor)?;
        let mut key = Vec::new();
        for position in positions {
            let mut null = false;
            let number = i32::try_from(*position).ok()? + 1;
            let datum = pg_sys::heap_getattr(&mut tuple, number, descriptor, &mut null);
            if null {
                return None;
            }
            append(&mut key, datum, &*write::attribute(descriptor, *position));
        }
        Some(key)
    }
}

/// Appends a value, with its length. Short headers and compression are undone: they depend on the rest of the row.
unsafe fn append(key: &mut Vec<u8>, datum: pg_sys::Datum, attribute: &pg_sys::FormData_pg_attribute) {
    // SAFETY: the datum is of the attribute's type.
    unsafe {
        let by_value = datum.value().to_ne_bytes();
        let bytes = match attribute.attlen {
            _ if attribute.attbyval => &by_value[..],
            -1 => pgrx::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr())),
            -2 => std::ffi::CStr::from_ptr(datum.cast_mut_ptr()).to_bytes(),
            length => std::slice::from_raw_parts(datum.cast_mut_ptr(), usize::try_from(length).unwrap_or(0)),
        };
        key.extend_from_slice(&bytes.len().to_ne_bytes());
        key.extend_from_slice(bytes);
    }
}
