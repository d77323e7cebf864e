//! The background worker of a database: ticks when woken, then rings; now and then keeps house.
//!
//! Dynamic: launched by capture, by `start_worker()` and by sidecars, never restarted by the postmaster (for a dropped
//! database that would go on for ever). It leaves by itself when nobody else is connected to its database, so that
//! DROP DATABASE succeeds, and when the extension is gone.

#[cfg(feature = "pg18")]
use crate::ffi::pqsignal_be as set_signal_handler;
use crate::registry::Entry;
use crate::{caught, registry, settings};
#[cfg(not(feature = "pg18"))]
use pgrx::pg_sys::pqsignal as set_signal_handler;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How soon it is told that rows changed without events.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);
const HOUSE_INTERVAL: Duration = Duration::from_secs(10);
const HOUSE_INTERVAL_FULL: Duration = Duration::from_secs(1);
/// Polls without any other session before the worker leaves.
const POLLS_ALONE: u32 = 2;
/// How many times as long as a turn took the worker rests while more has been committed meanwhile, and the longest that it
/// does, which is what an event waits then beside the tick itself.
const REST: (u32, Duration) = (3, Duration::from_millis(8));
/// The same behind a tick of many events: where so many come during a tick and a rest, fewer ticks leave the processors to
/// those who write.
const REST_OF_MANY: (u32, Duration) = (6, Duration::from_millis(16));
const MANY_EVENTS: i64 = 64;

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
        run(entry);
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

unsafe fn run(entry: &Entry) {
    // SAFETY: every statement runs in a transaction of its own.
    unsafe {
        let mut worker = Worker::new();
        loop {
            // First of all: whatever sets it from here on ends the wait below.
            pg_sys::ResetLatch(pg_sys::MyLatch);
            // A statement that is cancelled while a barrier waits leaves that for an interrupt that may never come, and
            // whoever drops a database waits for us (ProcessInterrupts in tcop/postgres.c raises before it looks).
            if pg_sys::ProcSignalBarrierPending != 0 {
                pg_sys::InterruptPending = 1;
            }
            pg_sys::check_for_interrupts!();
            if pg_sys::ConfigReloadPending != 0 {
                pg_sys::ConfigReloadPending = 0;
                pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
            }
            let began = Instant::now();
            entry.is_called.store(false, SeqCst);
            if worker.polls_alone > POLLS_ALONE || !settings::worker_wanted() {
                return;
            }
            let Some(events) = worker.turn() else { return };
            // The latch alone does not tell: waiting for a lock or a standby inside the turn resets it.
            if entry.is_called.load(SeqCst) {
                rest(began.elapsed(), events);
            } else {
                worker.wait();
            }
        }
    }
}

/// Lets commits gather before the next tick. Where they come faster than ticks are made, a tick for each moment would take
/// a good part of a processor and of the disk's flushes from the writers; they are as soon seen by fewer.
unsafe fn rest(turn: Duration, events: i64) {
    let (times, longest) = if events >= MANY_EVENTS { REST_OF_MANY } else { REST };
    let time_ms = (turn * times).min(longest).as_millis().max(1);
    // SAFETY: without the latch among the events, those who commit have nobody to signal.
    unsafe {
        let wake_up = pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        pg_sys::WaitLatch(pg_sys::MyLatch, wake_up as i32, time_ms as i64, pg_sys::PG_WAIT_EXTENSION);
    }
}

/// What the worker does again and again.
struct Worker {
    mark_lost: Statement,
    tick: Statement,
    ring: Statement,
    queue_usage: Statement,
    notice_changes: Statement,
    keep_house: Statement,
    /// When tables were last looked at.
    noticed: Instant,
    /// When the house was last kept.
    kept: Instant,
    polls_alone: u32,
}

impl Worker {
    fn new() -> Self {
        Self {
            mark_lost: Statement::new(c"select realtime.mark_lost()"),
            tick: Statement::new(c"select t.events from realtime._tick(false) t where t.tick_id is not null"),
            ring: Statement::new(c"select realtime.ring()"),
            queue_usage: Statement::new(c"select pg_notification_queue_usage()"),
            notice_changes: Statement::new(c"select realtime._notice_changes(false)"),
            noticed: Instant::now(),
            keep_house: Statement::new(c"select realtime.keep_house()"),
            kept: Instant::now(),
            polls_alone: 0,
        }
    }

    /// One look at the log. Says how many events became readable; `None`: the extension is gone.
    unsafe fn turn(&mut self) -> Option<i64> {
        // SAFETY: as in `run`.
        unsafe {
            let is_losing = registry::known().is_some_and(Entry::has_unmarked_loss);
            if is_losing {
                self.mark_lost.run();
            }
            let tick = self.tick.run()?;
            if tick.rows > 0 {
                self.ring_the_bell();
            }
            if self.noticed.elapsed() > NOTICE_INTERVAL {
                self.noticed = Instant::now();
                self.notice_changes.run();
            }
            // A log at its cap loses events until somebody gives segments back.
            if self.kept.elapsed() > if is_losing { HOUSE_INTERVAL_FULL } else { HOUSE_INTERVAL } {
                self.kept = Instant::now();
                self.keep_house.run();
            }
            Some(tick.number)
        }
    }

    unsafe fn ring_the_bell(&mut self) {
        // SAFETY: as in `run`.
        unsafe {
            if self.ring.run().is_some_and(|answer| answer.rows == 0) {
                // The server gives back what was read only when somebody rings: a full queue would stay full for ever.
                self.queue_usage.run();
            }
        }
    }

    /// Sleeps until somebody calls, or it is time to look.
    unsafe fn wait(&mut self) {
        // SAFETY: this process's own latch.
        unsafe {
            let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
            let poll_ms = settings::poll_ms();
            let woken_by = pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, poll_ms, pg_sys::PG_WAIT_EXTENSION);
            let is_poll = woken_by & pg_sys::WL_TIMEOUT as i32 != 0;
            let is_alone = is_poll && pg_sys::CountDBConnections(pg_sys::MyDatabaseId) == 0;
            self.polls_alone = if is_alone { self.polls_alone + 1 } else { 0 };
        }
    }
}

/// One statement, planned once: parsing and planning it at every tick would be a good part of the worker's work.
struct Statement {
    text: &'static CStr,
    /// NULL before its first run.
    plan: pg_sys::SPIPlanPtr,
}

impl Statement {
    const fn new(text: &'static CStr) -> Self {
        Self { text, plan: std::ptr::null_mut() }
    }

    /// Runs it in a transaction; `None` when the extension is not there.
    ///
    /// One that fails (it gave way to somebody's lock, say) is logged and tried again at the next look.
    unsafe fn run(&mut self) -> Option<Answer> {
        // SAFETY: the transaction that an error leaves behind is aborted before the next begins.
        unsafe {
            match caught::attempt(|| self.transaction()) {
                Ok(answer) => answer,
                Err(error) => {
                    pg_sys::AbortCurrentTransaction();
                    log!("realtime: {}: {}; it is tried again", self.text.to_string_lossy(), caught::message(&error));
                    Some(Answer::default())
                }
            }
        }
    }

    /// Not pgrx's `Spi`: that takes a transaction id, which would make every idle poll a commit.
    unsafe fn transaction(&mut self) -> Option<Answer> {
        // SAFETY: the usual frame of a background worker's transaction.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, self.text.as_ptr());
            let answer = is_installed().then(|| {
                pg_sys::SPI_connect();
                self.execute();
                let answer = Answer::of_spi();
                pg_sys::SPI_finish();
                answer
            });
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
            answer
        }
    }

    /// Plans it when that has not been done. The plan outlives the transaction, and Postgres makes it anew when what it
    /// names has changed.
    unsafe fn execute(&mut self) {
        // SAFETY: connected to SPI; the text is terminated and has no parameters.
        unsafe {
            if self.plan.is_null() {
                let plan = pg_sys::SPI_prepare(self.text.as_ptr(), 0, std::ptr::null_mut());
                // Kept from here on; before, an error would have freed it with the transaction.
                pg_sys::SPI_keepplan(plan);
                self.plan = plan;
            }
            pg_sys::SPI_execute_plan(self.plan, std::ptr::null_mut(), std::ptr::null(), false, 0);
        }
    }
}

/// What a statement gave.
#[derive(Default)]
struct Answer {
    rows: u64,
    /// The first column of the first row when that is a `bigint`; 0 without one.
    number: i64,
}

impl Answer {
    /// Of the statement that SPI ran last.
    unsafe fn of_spi() -> Self {
        // SAFETY: connected to SPI; the type is looked at before the value is.
        unsafe {
            let (rows, table) = (pg_sys::SPI_processed, pg_sys::SPI_tuptable);
            let mut number = 0;
            if rows > 0 && !table.is_null() && pg_sys::SPI_gettypeid((*table).tupdesc, 1) == pg_sys::INT8OID {
                let mut null = false;
                let value = pg_sys::SPI_getbinval(*(*table).vals, (*table).tupdesc, 1, &mut null);
                number = if null { 0 } else { value.value() as i64 };
            }
            Self { rows, number }
        }
    }
}

unsafe fn is_installed() -> bool {
    // SAFETY: catalog look-ups in a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"realtime".as_ptr(), true);
        schema != pg_sys::InvalidOid && pg_sys::get_relname_relid(c"ticker".as_ptr(), schema) != pg_sys::InvalidOid
    }
}
