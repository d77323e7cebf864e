//! Acting as a client's role for the length of one call, and leaving nothing behind. Declared in `sql/identity.sql`.
//!
//! `set local role` around SQL would be an escalation: what a policy calls could reset the role, replace the driver's
//! prepared statements or leave settings behind. Here the role is assumed below SQL, with SECURITY_RESTRICTED_OPERATION
//! (no SET ROLE, no PREPARE, no temporary tables, no LISTEN), and every setting is put back.

use crate::{array, caught};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// `USER_LOCKMETHOD` (storage/lock.h): advisory locks.
const USER_LOCKMETHOD: u16 = 2;

crate::ffi::sql_function!(sees_channel, pg_finfo_sees_channel, sees);
crate::ffi::sql_function!(insert_as, pg_finfo_insert_as, insert);
crate::ffi::sql_function!(policies_decide, pg_finfo_policies_decide, decide);
crate::ffi::sql_function!(history_identity, pg_finfo_history_identity, history);
crate::ffi::sql_function!(incarnation_identity, pg_finfo_incarnation_identity, incarnation);

/// The user and security context that a call began with.
pub(crate) struct Caller {
    user: pg_sys::Oid,
    context: i32,
}

impl Caller {
    pub(crate) unsafe fn current() -> Self {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: both places are written.
        unsafe { pg_sys::GetUserIdAndSecContext(&mut user, &mut context) };
        Self { user, context }
    }

    /// Whose rights the code runs with.
    pub(crate) fn user(&self) -> pg_sys::Oid {
        self.user
    }

    /// Takes the rights of a function's owner, as SECURITY DEFINER does. `restore` ends it.
    pub(crate) unsafe fn become_owner_of(&self, function: pg_sys::Oid) {
        // SAFETY: a syscache look-up that is released again; the struct begins behind the tuple's header.
        unsafe {
            let zero = pg_sys::Datum::from(0);
            let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
            let tuple = pg_sys::SearchSysCache(cache, function.into(), zero, zero, zero);
            if tuple.is_null() {
                error!("the function is not there any more");
            }
            let header = (*tuple).t_data;
            let form = header.cast::<u8>().add(usize::from((*header).t_hoff)).cast::<pg_sys::FormData_pg_proc>();
            let owner = (*form).proowner;
            pg_sys::ReleaseSysCache(tuple);
            pg_sys::SetUserIdAndSecContext(owner, self.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
        }
    }

    /// Undoing the role setting makes the session's user the current one; this makes it the caller again.
    pub(crate) unsafe fn restore(&self) {
        // SAFETY: the values were read in `current`.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}

unsafe fn set_locally(name: &CStr, value: &CStr) {
    use pg_sys::{GucAction, GucContext, GucSource};
    // SAFETY: terminated strings; raises when the value is refused.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            GucContext::PGC_USERSET,
            GucSource::PGC_S_SESSION,
            GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// Becomes the role, with its claims. Undone by the end of the GUC nest level (or subtransaction) and `Caller::restore`.
pub(crate) unsafe fn assume(caller: &Caller, role: &CStr, claims: &CStr, channel: &CStr) {
    // SAFETY: inside a GUC nest level that the caller of this ends.
    unsafe {
        assume_role(caller, role, channel);
        assume_claims(claims);
    }
}

/// Becomes the role; the claims are still to be set. Undone as `assume` is.
///
/// The role setting's own check refuses roles that the session's user is not a member of.
pub(crate) unsafe fn assume_role(caller: &Caller, role: &CStr, channel: &CStr) {
    // SAFETY: inside a GUC nest level that the caller of this ends.
    unsafe {
        let barred = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
        pg_sys::SetUserIdAndSecContext(caller.user, caller.context & !barred);
        set_locally(c"role", role);
        set_locally(c"realtime.channel_name", channel);
        set_locally(c"row_security", c"on");
        assume_search_path();
        let assumed = Caller::current();
        pg_sys::SetUserIdAndSecContext(assumed.user, assumed.context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32);
    }
}

/// Sets what clients' own sessions have as their search path; policies' functions may rely on it. Undone by the end of the
/// GUC nest level.
pub(crate) unsafe fn assume_search_path() {
    // SAFETY: inside a GUC nest level that the caller of this ends.
    unsafe {
        let path = pg_sys::GetConfigOptionResetString(c"search_path".as_ptr());
        if !path.is_null() {
            set_locally(c"search_path", CStr::from_ptr(path));
        }
    }
}

/// Sets the claims that policies read. Undone by the end of the GUC nest level.
pub(crate) unsafe fn assume_claims(claims: &CStr) {
    // SAFETY: inside a GUC nest level that the caller of this ends.
    unsafe { set_locally(c"request.jwt.claims", claims) }
}

/// A `text` argument.
pub(crate) unsafe fn text_argument(call: pg_sys::FunctionCallInfo, n: usize) -> CString {
    // SAFETY: the functions are STRICT and declared with text here.
    unsafe { array::c_string(&array::text_bytes(pgrx::fcinfo::pg_getarg_datum_raw(call, n))) }
}

/// Runs something in a subtransaction that is rolled back, whatever it did, and makes the caller itself again.
pub(crate) unsafe fn in_rolled_back_subtransaction<T>(
    caller: &Caller,
    run: impl FnOnce() -> T,
) -> Result<T, Box<CaughtError>> {
    // SAFETY: begin and rollback are paired on every path; context, owner and user are put back.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let outcome = caught::attempt(|| {
            set_locally(c"transaction_read_only", c"on");
            run()
        });
        pg_sys::RollbackAndReleaseCurrentSubTransaction();
        caller.restore();
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        // The one thing a rollback does not undo.
        pg_sys::LockReleaseSession(USER_LOCKMETHOD);
        outcome
    }
}

/// `_sees_channel(role, claims, channel)`.
unsafe fn sees(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the arguments are declared text in sql/identity.sql.
    unsafe {
        let (role, claims, channel) = (text_argument(call, 0), text_argument(call, 1), text_argument(call, 2));
        let caller = Caller::current();
        let outcome = in_rolled_back_subtransaction(&caller, || {
            assume(&caller, &role, &claims, &channel);
            select_channel(&channel)
        });
        match outcome {
            Ok(sees) => array::text(if sees { b"1" } else { b"0" }),
            Err(error) => deny(error),
        }
    }
}

/// A policy that fails denies its subscriber; a cancelled statement is cancelled.
unsafe fn deny(error: Box<CaughtError>) -> pg_sys::Datum {
    if caught::is_cancel(&error) {
        error.rethrow();
    }
    warning!("realtime: a policy on realtime.channels failed, which denies: {}", caught::message(&error));
    // SAFETY: text in the caller's memory.
    unsafe { array::text(caught::sqlstate(&error).as_bytes()) }
}

unsafe fn select_channel(channel: &CStr) -> bool {
    // SAFETY: SPI with one text parameter; the result is one boolean.
    unsafe {
        pg_sys::SPI_connect();
        let query =
            c"select exists (select from realtime.channels c where c.enabled and realtime._matches($1, c.pattern))";
        let mut types = [pg_sys::TEXTOID];
        let mut values = [array::text(channel.to_bytes())];
        pg_sys::SPI_execute_with_args(
            query.as_ptr(),
            1,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            std::ptr::null(),
            true,
            1,
        );
        let mut null = true;
        let allowed = pg_sys::SPI_processed == 1 && {
            let table = pg_sys::SPI_tuptable;
            let value = pg_sys::SPI_getbinval(*(*table).vals, (*table).tupdesc, 1, &mut null);
            !null && value.value() as u8 != 0
        };
        pg_sys::SPI_finish();
        allowed
    }
}

/// `_insert_as(role, claims, channel, event, payload, message_id)`.
unsafe fn insert(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the GUC nest level and the user are put back on every path.
    unsafe {
        let text = |n| text_argument(call, n);
        let (role, claims, channel) = (text(0), text(1), text(2));
        let message_id = pgrx::fcinfo::pg_getarg_datum_raw(call, 5);
        let id = array::c_string(
            std::ffi::CStr::from_ptr(pg_sys::OidOutputFunctionCall(pg_sys::Oid::from(pg_sys::F_UUID_OUT), message_id))
                .to_bytes(),
        );
        let caller = Caller::current();
        let nest = pg_sys::NewGUCNestLevel();
        let outcome = caught::attempt(|| {
            assume(&caller, &role, &claims, &channel);
            set_locally(c"realtime.message_id", &id);
            insert_message(call);
        });
        pg_sys::AtEOXact_GUC(false, nest);
        caller.restore();
        if let Err(error) = outcome {
            error.rethrow();
        }
        pg_sys::LockReleaseSession(USER_LOCKMETHOD);
        pg_sys::Datum::from(0)
    }
}

unsafe fn insert_message(call: pg_sys::FunctionCallInfo) {
    // SAFETY: SPI with three text parameters; an error leaves SPI to the transaction's abort.
    unsafe {
        pg_sys::SPI_connect();
        // No RETURNING: it would need a SELECT policy.
        let query = c"insert into realtime.messages (channel_name, event_name, payload) values ($1, $2, $3::jsonb)";
        let mut types = [pg_sys::TEXTOID; 3];
        let mut values = [2, 3, 4].map(|n| pgrx::fcinfo::pg_getarg_datum_raw(call, n));
        pg_sys::SPI_execute_with_args(
            query.as_ptr(),
            3,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            std::ptr::null(),
            false,
            0,
        );
        pg_sys::SPI_finish();
    }
}

/// `_policies_decide(role, relation)`: not when the role is a superuser, has BYPASSRLS, or owns a table without FORCE.
unsafe fn decide(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: two oids; `noError` makes the check answer instead of raising under row_security = off.
    unsafe {
        let oid = |n| pg_sys::Oid::from(pgrx::fcinfo::pg_getarg_datum_raw(call, n).value() as u32);
        let outcome = pg_sys::check_enable_rls(oid(1), oid(0), true);
        pg_sys::Datum::from(outcome == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32)
    }
}

/// `_history()`: the server's identity and the database. A copy of either is another history.
unsafe fn history(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: plain reads.
    unsafe { array::text(format!("{:x}/{}", pg_sys::GetSystemIdentifier(), pg_sys::MyDatabaseId.to_u32()).as_bytes()) }
}

/// `_incarnation()`: the timeline being written (the control file's is behind after a promotion) and the server's start.
unsafe fn incarnation(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: plain reads outside recovery; ticks are never written during recovery.
    unsafe {
        #[cfg(feature = "pg14")]
        let timeline = pg_sys::ThisTimeLineID;
        #[cfg(not(feature = "pg14"))]
        let timeline = pg_sys::GetWALInsertionTimeLine();
        let started_at = pg_sys::PgStartTime;
        array::text(format!("{timeline}/{started_at}").as_bytes())
    }
}
