//! Configuration parameters (`realtime.*`).

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::CString;

static MAX_EVENT_BYTES: GucSetting<i32> = GucSetting::<i32>::new(1 << 20);
static SPILL_BYTES: GucSetting<i32> = GucSetting::<i32>::new(4 << 20);
static CAPTURE: GucSetting<bool> = GucSetting::<bool>::new(true);
static WORKER: GucSetting<bool> = GucSetting::<bool>::new(true);
static POLL_MS: GucSetting<i32> = GucSetting::<i32>::new(250);
static CHANNEL_NAME: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static MESSAGE_ID: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// The largest row image, in bytes, that is captured whole; above it an event carries the key columns only.
pub(crate) fn event_bytes_max() -> usize {
    usize::try_from(MAX_EVENT_BYTES.get()).unwrap_or(0)
}

crate::ffi::sql_function!(max_event_bytes, pg_finfo_max_event_bytes, max_event_bytes_datum);

unsafe fn max_event_bytes_datum(_call: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
    pgrx::pg_sys::Datum::from(MAX_EVENT_BYTES.get())
}

/// How many bytes of images a transaction keeps in memory before it writes them into the log early.
pub(crate) fn spill_bytes() -> usize {
    usize::try_from(SPILL_BYTES.get()).unwrap_or(0)
}

/// Whether changes are captured; off for bulk loads.
pub(crate) fn capture_wanted() -> bool {
    CAPTURE.get()
}

/// Whether this database wants a worker.
pub(crate) fn worker_wanted() -> bool {
    WORKER.get()
}

/// How long the worker sleeps when nobody wakes it, in milliseconds.
pub(crate) fn poll_ms() -> i64 {
    i64::from(POLL_MS.get())
}

/// Defines every `realtime.*` parameter, then reserves the prefix, so that a misspelt one is an error.
pub(crate) fn define() {
    GucRegistry::define_int_guc(
        c"realtime.max_event_bytes",
        c"Largest row image or message payload that is delivered whole.",
        c"A larger one becomes an event with the key columns only, marked oversize. The write itself always succeeds.",
        &MAX_EVENT_BYTES,
        1 << 10,
        16 << 20,
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_int_guc(
        c"realtime.spill_bytes",
        c"Memory for a transaction's captured changes before they are written into the log early.",
        c"",
        &SPILL_BYTES,
        64 << 10,
        256 << 20,
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_bool_guc(
        c"realtime.capture",
        c"Whether row changes are captured. Off for bulk loads.",
        c"A transaction that changes enabled tables while it is off leaves one gap mark per table; their subscribers start over.",
        &CAPTURE,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"realtime.worker",
        c"Whether a background worker makes committed changes readable.",
        c"Without it the sidecars do so themselves, some milliseconds later.",
        &WORKER,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"realtime.poll_interval",
        c"How long the worker sleeps when nobody wakes it.",
        c"Prepared transactions wake nobody when they are committed, so this is what they wait.",
        &POLL_MS,
        10,
        60_000,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    define_for_policies();
    // SAFETY: a static, terminated string.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(c"realtime".as_ptr()) };
}

/// What `channel_name()` reads inside a policy, and the id a published message gets.
fn define_for_policies() {
    GucRegistry::define_string_guc(
        c"realtime.channel_name",
        c"The channel being subscribed or published to, for policies; read it with realtime.channel_name().",
        c"",
        &CHANNEL_NAME,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"realtime.message_id",
        c"Id of the next message inserted into realtime.messages; empty: a random one.",
        c"",
        &MESSAGE_ID,
        GucContext::Userset,
        GucFlags::default(),
    );
}
