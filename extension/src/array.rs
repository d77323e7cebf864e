//! Postgres arrays from and to Rust vectors.

use pgrx::prelude::*;
use std::ffi::CString;

/// How the elements of an array type are stored.
#[derive(Clone, Copy)]
pub(crate) struct Element {
    oid: pg_sys::Oid,
    length: i16,
    by_value: bool,
    align: u8,
}

pub(crate) const OID: Element = Element { oid: pg_sys::OIDOID, length: 4, by_value: true, align: b'i' };
pub(crate) const TEXT: Element = Element { oid: pg_sys::TEXTOID, length: -1, by_value: false, align: b'i' };
pub(crate) const BYTEA: Element = Element { oid: pg_sys::BYTEAOID, length: -1, by_value: false, align: b'i' };
pub(crate) const INT8: Element = Element { oid: pg_sys::INT8OID, length: 8, by_value: true, align: b'd' };
pub(crate) const INT4: Element = Element { oid: pg_sys::INT4OID, length: 4, by_value: true, align: b'i' };
pub(crate) const INT2: Element = Element { oid: pg_sys::INT2OID, length: 2, by_value: true, align: b's' };
pub(crate) const BOOL: Element = Element { oid: pg_sys::BOOLOID, length: 1, by_value: true, align: b'c' };
pub(crate) const CHAR: Element = Element { oid: pg_sys::CHAROID, length: 1, by_value: true, align: b'c' };

/// A one-dimensional array of these elements, in the current memory context.
pub(crate) unsafe fn build(element: Element, datums: &mut [pg_sys::Datum]) -> pg_sys::Datum {
    // SAFETY: the datums are of the element's type; the array copies them.
    unsafe {
        let array = pg_sys::construct_array(
            datums.as_mut_ptr(),
            i32::try_from(datums.len()).unwrap_or(0),
            element.oid,
            i32::from(element.length),
            element.by_value,
            element.align as std::ffi::c_char,
        );
        pg_sys::Datum::from(array)
    }
}

/// A `text` datum of bytes in the server's encoding.
pub(crate) unsafe fn text(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: the length is that of the slice.
    unsafe {
        pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(
            bytes.as_ptr().cast(),
            i32::try_from(bytes.len()).unwrap_or(0),
        ))
    }
}

/// The elements of an array without NULLs.
pub(crate) unsafe fn elements(element: Element, array: pg_sys::Datum) -> Vec<pg_sys::Datum> {
    // SAFETY: passed on.
    unsafe { nullable(element, array).into_iter().flatten().collect() }
}

/// The elements of an array.
pub(crate) unsafe fn nullable(element: Element, array: pg_sys::Datum) -> Vec<Option<pg_sys::Datum>> {
    // SAFETY: the datum is an array of the element's type; the pointers are palloc'd for as long as the context lives.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut datums, mut nulls, mut n) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            element.oid,
            i32::from(element.length),
            element.by_value,
            element.align as std::ffi::c_char,
            &mut datums,
            &mut nulls,
            &mut n,
        );
        (0..usize::try_from(n).unwrap_or(0)).map(|i| (!*nulls.add(i)).then(|| *datums.add(i))).collect()
    }
}

/// The elements of an array of whatever type, without its NULLs.
pub(crate) unsafe fn any_elements(array: pg_sys::Datum) -> Vec<pg_sys::Datum> {
    // SAFETY: the datum is an array, which names its elements' type.
    unsafe {
        let array = pg_sys::Datum::from(pg_sys::pg_detoast_datum(array.cast_mut_ptr()));
        let oid = (*array.cast_mut_ptr::<pg_sys::ArrayType>()).elemtype;
        let (mut length, mut by_value, mut align) = (0, false, 0);
        pg_sys::get_typlenbyvalalign(oid, &mut length, &mut by_value, &mut align);
        elements(Element { oid, length, by_value, align: align as u8 }, array)
    }
}

/// The bytes of a `text` datum.
pub(crate) unsafe fn text_bytes(datum: pg_sys::Datum) -> Vec<u8> {
    // SAFETY: the datum is a text; detoasting gives a plain varlena.
    unsafe {
        let value = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        pgrx::varlena_to_byte_slice(value).to_vec()
    }
}

/// A terminated copy, for functions that take C strings. Identifiers hold no zero bytes; if one did it is cut there.
pub(crate) fn c_string(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}
