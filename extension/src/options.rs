//! A trigger's arguments: the options of an enabled table.

use pgrx::prelude::*;

/// What a table's owner chose for its events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Names of columns that are left out.
    pub(crate) excluded: Vec<Vec<u8>>,
    /// Old images hold the key columns only.
    pub(crate) old_key_only: bool,
    /// Overrides `realtime.max_event_bytes`, in bytes.
    pub(crate) max_bytes: Option<usize>,
}

impl Options {
    /// Reads arguments in pairs; what is unknown is returned, to be warned about. It must not fail the write.
    pub(crate) fn parse(arguments: &[Vec<u8>]) -> (Self, Vec<String>) {
        let (mut options, mut unknown) = (Self::default(), Vec::new());
        for pair in arguments.chunks(2) {
            let value = pair.get(1).map_or(&b""[..], Vec::as_slice);
            let number = || std::str::from_utf8(value).ok()?.parse().ok();
            match pair[0].as_slice() {
                b"exclude" => options.excluded.push(value.to_vec()),
                b"old" if value == b"key" => options.old_key_only = true,
                b"old" if value == b"full" => options.old_key_only = false,
                b"max_bytes" if number().is_some() => options.max_bytes = number(),
                _ => unknown.push(String::from_utf8_lossy(&pair.join(&b' ')).into_owned()),
            }
        }
        (options, unknown)
    }

    /// Reads a trigger's arguments.
    pub(crate) unsafe fn of(trigger: *const pg_sys::Trigger) -> (Self, Vec<String>) {
        // SAFETY: tgargs has tgnargs terminated strings.
        let arguments: Vec<Vec<u8>> = unsafe {
            (0..usize::try_from((*trigger).tgnargs).unwrap_or(0))
                .map(|n| std::ffi::CStr::from_ptr(*(*trigger).tgargs.add(n)).to_bytes().to_vec())
                .collect()
        };
        Self::parse(&arguments)
    }
}
