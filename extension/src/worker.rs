//! The background worker of a database: ticks when woken, then rings; now and then keeps house.
//!
//! Dynamic: launched by capture, by `start_worker()` and by sidecars, never restarted by the postmaster (for a dropped
//! database that would go on for ever). It leaves by itself when nobody else is connected to its database, so that
//! DROP DATABASE succeeds, and when the extension is gone.

#[cfg(feature = "pg18")]
use crate::ffi::pqsignal_be as set_signal_handler;
use crate::{caught, registry, settings};
#[cfg(not(feature = "pg18"))]
use pgrx::pg_sys::pqsignal as set_signal_handler;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

const HOUSE_INTERVAL: Duration = Duration::from_secs(10);
/// Polls without any other session before the worker leaves.
const POLLS_ALONE: u32 = 2;

crate::ffi::sql_function!(start_worker, pg_finfo_start_worker, start);
crate::ffi::sql_function!(worker_pid, pg_finfo_worker_pid, pid);

unsafe fn start(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: inside a transaction.
    unsafe {
        // A standby would start it at its promotion, and we would wait until then.
        let may_run = settings::worker_wanted() && !pg_sys::RecoveryInProgress();
        let Some(entry) = registry::entry().filter(|_| may_run) else {
            return pg_sys::Datum::from(false);
        };
        pg_sys::Datum::from(entry.pid.load(SeqCst) != 0 || launch(true))
    }
}

unsafe fn pid(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the call frame is valid.
    unsafe {
        match registry::entry().map_or(0, |entry| entry.pid.load(SeqCst)) {
            0 => pgrx::fcinfo::pg_return_null(call),
            pid => pg_sys::Datum::from(pid),
        }
    }
}

/// Asks the postmaster for a worker. False: no free slot.
pub(crate) unsafe fn launch(wait: bool) -> bool {
    // SAFETY: the struct is plain data that Postgres copies; the strings fit and are terminated by the zeroed rest.
    unsafe {
        let mut w = pg_sys::BackgroundWorker::default();
        let put = |field: &mut [std::ffi::c_char], text: &str| {
            for (place, byte) in field.iter_mut().zip(text.bytes()) {
                *place = byte as std::ffi::c_char;
            }
        };
        put(&mut w.bgw_name, "realtime worker");
        put(&mut w.bgw_type, "realtime worker");
        put(&mut w.bgw_library_name, "realtime");
        put(&mut w.bgw_function_name, "realtime_worker_main");
        w.bgw_flags = (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as i32;
        w.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
        w.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
        w.bgw_main_arg = pg_sys::Datum::from(pg_sys::MyDatabaseId.to_u32());
        w.bgw_notify_pid = if wait { pg_sys::MyProcPid } else { 0 };
        let mut handle = std::ptr::null_mut();
        if !pg_sys::RegisterDynamicBackgroundWorker(&mut w, &mut handle) {
            return false;
        }
        let mut pid = 0;
        !wait || pg_sys::WaitForBackgroundWorkerStartup(handle, &mut pid) == pg_sys::BgwHandleStatus::BGWH_STARTED
    }
}

/// Entry point, looked up by name by the postmaster's child.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn realtime_worker_main(argument: pg_sys::Datum) {
    // SAFETY: called once in a fresh process; signals are blocked until the handlers are set.
    unsafe {
        // `die`, not a handler that only sets a flag: it is honoured inside SQL and in lock waits.
        set_signal_handler(pg_sys::SIGTERM as i32, Some(on_terminate));
        set_signal_handler(pg_sys::SIGHUP as i32, Some(on_reload));
        pg_sys::BackgroundWorkerUnblockSignals();
        let database = pg_sys::Oid::from(argument.value() as u32);
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        let Some(entry) = registry::entry() else { return };
        if entry.pid.compare_exchange(0, pg_sys::MyProcPid, SeqCst, SeqCst).is_err() {
            return; // somebody else was faster
        }
        if registry::known().is_none() {
            entry.pid.store(0, SeqCst);
            return; // the entry went to another database between the two steps
        }
        pg_sys::before_shmem_exit(Some(at_exit), pg_sys::Datum::from(0));
        entry.latch.store(pg_sys::MyLatch as usize, SeqCst);
        run();
    }
}

unsafe extern "C-unwind" fn on_terminate(signal: i32) {
    // SAFETY: the standard handler of every backend.
    unsafe { pg_sys::die(signal) }
}

unsafe extern "C-unwind" fn on_reload(signal: i32) {
    // SAFETY: sets a flag and the latch.
    unsafe { pg_sys::SignalHandlerForConfigReload(signal) }
}

unsafe extern "C-unwind" fn at_exit(_code: i32, _argument: pg_sys::Datum) {
    if let Some(entry) = registry::known() {
        // SAFETY: a plain read of this process's id.
        if entry.pid.load(SeqCst) == unsafe { pg_sys::MyProcPid } {
            entry.latch.store(0, SeqCst);
            entry.pid.store(0, SeqCst);
        }
    }
}

unsafe fn run() {
    // SAFETY: every statement runs in a transaction of its own.
    unsafe {
        let (mut kept, mut alone) = (Instant::now(), 0);
        loop {
            pg_sys::check_for_interrupts!();
            if pg_sys::ConfigReloadPending != 0 {
                pg_sys::ConfigReloadPending = 0;
                pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
            }
            alone = if pg_sys::CountDBConnections(pg_sys::MyDatabaseId) == 0 { alone + 1 } else { 0 };
            if alone > POLLS_ALONE || !settings::worker_wanted() || !turn(&mut kept) {
                return;
            }
            pg_sys::WaitLatch(
                pg_sys::MyLatch,
                (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
                settings::poll_ms(),
                pg_sys::PG_WAIT_EXTENSION,
            );
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
}

/// One look at the log. False: the extension is gone.
unsafe fn turn(kept: &mut Instant) -> bool {
    // SAFETY: as in `run`.
    unsafe {
        if registry::known().is_some_and(registry::Entry::has_unmarked_loss) {
            statement(c"select realtime.mark_lost()");
        }
        match statement(c"select from realtime.tick()") {
            None => return false,
            Some(0) => (),
            Some(_) => ring(),
        }
        if kept.elapsed() > HOUSE_INTERVAL {
            *kept = Instant::now();
            statement(c"select realtime.keep_house()");
        }
        true
    }
}

unsafe fn ring() {
    // SAFETY: as in `run`.
    unsafe {
        if statement(c"select realtime.ring()") == Some(0) {
            // The server gives back what was read only when somebody rings: a full queue would stay full for ever.
            statement(c"select pg_notification_queue_usage()");
        }
    }
}

/// Runs one statement in a transaction and returns how many rows it gave; `None` when the extension is not there.
///
/// One that fails (it gave way to somebody's lock, say) is logged and tried again at the next look.
unsafe fn statement(text: &CStr) -> Option<u64> {
    // SAFETY: the transaction that an error leaves behind is aborted before the next begins.
    unsafe {
        match caught::attempt(|| transaction(text)) {
            Ok(rows) => rows,
            Err(error) => {
                pg_sys::AbortCurrentTransaction();
                log!("realtime: {}: {}; it is tried again", text.to_string_lossy(), caught::message(&error));
                Some(0)
            }
        }
    }
}

/// Not pgrx's `Spi`: that takes a transaction id, which would make every idle poll a commit.
unsafe fn transaction(text: &CStr) -> Option<u64> {
    // SAFETY: the usual frame of a background worker's transaction.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr());
        let rows = is_installed().then(|| {
            pg_sys::SPI_connect();
            pg_sys::SPI_execute(text.as_ptr(), false, 0);
            let rows = pg_sys::SPI_processed;
            pg_sys::SPI_finish();
            rows
        });
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
        rows
    }
}

unsafe fn is_installed() -> bool {
    // SAFETY: catalog look-ups in a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"realtime".as_ptr(), true);
        schema != pg_sys::InvalidOid && pg_sys::get_relname_relid(c"ticker".as_ptr(), schema) != pg_sys::InvalidOid
    }
}
