//! The row trigger: notes what a statement changed. Declared in `sql/capture.sql`.

use crate::buffer::{self, Change};
use crate::image::{self, Part};
use crate::layout::{self, Layout};
use crate::options::Options;
use crate::{caught, schema, settings};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The old image holds the key columns only.
pub(crate) const OLD_IS_KEY: i16 = 1;
/// The new image holds the key columns only.
pub(crate) const NEW_IS_KEY: i16 = 2;
/// The row was too large (or could not be fetched) to be captured whole.
pub(crate) const OVERSIZE: i16 = 4;

/// A gap mark of tables that were changed while `realtime.capture` was off.
pub(crate) const CAPTURE_OFF: i16 = 8;
/// A gap mark for everything: the log was full.
pub(crate) const LOG_FULL: i16 = 16;

/// A gap mark of tables whose events could not be put in the order that folds.
pub(crate) const UNORDERED: i16 = 32;

/// A gap mark of tables whose rows changed without events.
pub(crate) const UNSEEN: i16 = 64;

/// What one trigger needs to know, computed once per backend and change of the catalog.
pub(crate) struct Capture {
    pub(crate) layout: Layout,
    options: Options,
    /// Another trigger on the table captures the same: this one is a partition's own, from before it was attached.
    is_superseded: bool,
}

impl Capture {
    /// For marks that no trigger leaves.
    pub(crate) fn without_options(layout: Layout) -> Self {
        Self { layout, options: Options::default(), is_superseded: false }
    }
}

thread_local! {
    static CAPTURES: RefCell<(u64, HashMap<u32, Rc<Capture>>)> = RefCell::new((0, HashMap::new()));
}

crate::ffi::sql_function!(notify_table_change, pg_finfo_notify_table_change, on_change);

unsafe fn on_change(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the node tag is checked before the context is used as trigger data.
    unsafe {
        let data = (*call).context.cast::<pg_sys::TriggerData>();
        if data.is_null() || (*data).type_ != pg_sys::NodeTag::T_TriggerData {
            not_a_trigger("realtime.notify_table_change()");
        }
        let event = (*data).tg_event;
        if event & pg_sys::TRIGGER_EVENT_TIMINGMASK != pg_sys::TRIGGER_EVENT_AFTER {
            warning!("realtime: trigger \"{}\" captures nothing: it must be AFTER, not BEFORE", trigger_name(data));
            return row_to_keep(data);
        }
        if !settings::capture_wanted() {
            buffer::mark_gap(&capture_of(data));
            return pg_sys::Datum::from(0);
        }
        let is_truncate = event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE;
        if event & pg_sys::TRIGGER_EVENT_ROW != 0 {
            row_change(data);
        } else if is_truncate {
            buffer::push(Change { op: b'T', file: image::file((*data).tg_relation), ..Change::of(&capture_of(data)) });
        } else {
            warning!("realtime: trigger \"{}\" captures nothing: it must be FOR EACH ROW", trigger_name(data));
        }
        pg_sys::Datum::from(0)
    }
}

fn not_a_trigger(function: &str) -> ! {
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        format!("{function} is a trigger function"),
        "",
    )
    .set_hint("Call realtime.enable_realtime(schema, table).")
    .report(PgLogLevel::ERROR);
    unreachable!("an error report does not return")
}

/// What a BEFORE trigger returns to let the change happen as it is.
unsafe fn row_to_keep(data: *const pg_sys::TriggerData) -> pg_sys::Datum {
    // SAFETY: in a BEFORE ROW trigger the tuple of the event is set.
    unsafe {
        let is_update = (*data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
        pg_sys::Datum::from(if is_update { (*data).tg_newtuple } else { (*data).tg_trigtuple })
    }
}

unsafe fn trigger_name(data: *const pg_sys::TriggerData) -> String {
    // SAFETY: tgname is a terminated string.
    unsafe { layout::display(std::ffi::CStr::from_ptr((*(*data).tg_trigger).tgname).to_bytes()) }
}

/// What is known about this trigger; computed at its first call and after each change of the catalog.
unsafe fn capture_of(data: *const pg_sys::TriggerData) -> Rc<Capture> {
    // SAFETY: the relation is open and the trigger valid for the duration of the call.
    unsafe {
        let oid = (*(*data).tg_trigger).tgoid.to_u32();
        let generation = schema::generation();
        let known = CAPTURES.with_borrow(|(at, known)| (*at == generation).then(|| known.get(&oid).cloned()).flatten());
        if let Some(known) = known {
            return known;
        }
        let (options, unknown) = Options::of((*data).tg_trigger);
        for option in unknown {
            warning!("realtime: trigger \"{}\" has an unknown option \"{option}\"", trigger_name(data));
        }
        let layout = Layout::of((*data).tg_relation, &options.excluded);
        let is_superseded = is_superseded(data);
        let capture = Rc::new(Capture { layout, options, is_superseded });
        CAPTURES.with_borrow_mut(|(at, known)| {
            if *at != generation {
                known.clear();
                *at = generation;
            }
            known.insert(oid, Rc::clone(&capture));
        });
        capture
    }
}

/// Whether the table also has the clone of an ancestor's trigger, which wins.
unsafe fn is_superseded(data: *const pg_sys::TriggerData) -> bool {
    // SAFETY: trigdesc has numtriggers triggers as long as the relation is open.
    unsafe {
        let (this, triggers) = ((*data).tg_trigger, (*(*data).tg_relation).trigdesc);
        if (*this).tgisclone || triggers.is_null() {
            return false;
        }
        let all =
            std::slice::from_raw_parts((*triggers).triggers, usize::try_from((*triggers).numtriggers).unwrap_or(0));
        all.iter().any(|other| other.tgisclone && other.tgfoid == (*this).tgfoid)
    }
}

unsafe fn row_change(data: *const pg_sys::TriggerData) {
    // SAFETY: in an AFTER ROW trigger tg_trigtuple is the old row (the new one for INSERT) and tg_newtuple the new row of an UPDATE.
    unsafe {
        let capture = capture_of(data);
        if capture.is_superseded {
            return;
        }
        let (op, old, new) = match (*data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => (b'I', None, Some((*data).tg_trigtuple)),
            pg_sys::TRIGGER_EVENT_DELETE => (b'D', Some((*data).tg_trigtuple), None),
            _ => (b'U', Some((*data).tg_trigtuple), Some((*data).tg_newtuple)),
        };
        let row = Row { capture: &capture, descriptor: (*(*data).tg_relation).rd_att };
        let mut flags = 0;
        if [old, new].into_iter().flatten().any(|tuple| row.is_oversize(tuple)) {
            flags |= OVERSIZE;
        }
        let old_image = old.and_then(|tuple| row.image(tuple, OLD_IS_KEY, capture.options.old_key_only, &mut flags));
        let new_image = new.and_then(|tuple| row.image(tuple, NEW_IS_KEY, false, &mut flags));
        buffer::push(Change {
            op,
            flags,
            old_tid: old.map(|tuple| (*tuple).t_self),
            new_tid: new.map(|tuple| (*tuple).t_self),
            old: old_image,
            new: new_image,
            command: new.map_or_else(|| old.map_or(0, |old| image::ended_by(old)), |new| image::made_by(new)),
            frees_key: old.is_some_and(|old| image::frees_key(old)),
            file: image::file((*data).tg_relation),
            ..Change::of(&capture)
        });
    }
}

/// The rows of one trigger call.
struct Row<'a> {
    capture: &'a Capture,
    descriptor: pg_sys::TupleDesc,
}

impl Row<'_> {
    unsafe fn is_oversize(&self, tuple: pg_sys::HeapTuple) -> bool {
        let limit = self.capture.options.max_bytes.unwrap_or_else(settings::event_bytes_max);
        // SAFETY: the tuple is of the descriptor.
        unsafe { image::size(tuple, self.descriptor, &self.capture.layout) > limit }
    }

    /// The image of one row. A row that cannot be had whole is reduced to its key, one without a key to nothing.
    unsafe fn image<'b>(
        &self,
        tuple: pg_sys::HeapTuple,
        key_flag: i16,
        key_only: bool,
        flags: &mut i16,
    ) -> Option<&'b [u8]> {
        // SAFETY: the tuple is of the descriptor; the images live in the trigger's per-row memory context.
        unsafe {
            let layout = &self.capture.layout;
            if *flags & OVERSIZE == 0 && (!key_only || layout.key.is_empty()) {
                if !image::has_external(tuple) {
                    return Some(image::of(tuple, self.descriptor, layout, Part::Whole));
                }
                if let Some(image) = fetch(|| image::of(tuple, self.descriptor, layout, Part::Whole)) {
                    return Some(image);
                }
                *flags |= OVERSIZE;
            }
            *flags |= key_flag;
            if layout.key.is_empty() {
                return None;
            }
            fetch(|| image::of(tuple, self.descriptor, layout, Part::Key))
        }
    }
}

/// Runs what may have to read the table's out-of-line storage. Damage there must not cost the user the write, so an
/// error ends only a subtransaction of ours; a cancelled query stays cancelled.
unsafe fn fetch<T>(make: impl FnOnce() -> T) -> Option<T> {
    // SAFETY: begin and end are paired on every path; memory context and resource owner are put back.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let outcome = caught::attempt(make);
        match &outcome {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        match outcome {
            Ok(value) => Some(value),
            Err(error) if caught::is_cancel(&error) => error.rethrow(),
            Err(_) => None,
        }
    }
}

crate::ffi::sql_function!(message_change, pg_finfo_message_change, on_message);

/// AFTER INSERT on realtime.messages: only the id goes into the log, the message lies in its table.
unsafe fn on_message(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as in `on_change`; the first column of realtime.messages is its id (sql/messages.sql).
    unsafe {
        let data = (*call).context.cast::<pg_sys::TriggerData>();
        if data.is_null() || (*data).type_ != pg_sys::NodeTag::T_TriggerData {
            not_a_trigger("realtime._message_change()");
        }
        let mut null = false;
        let id = pg_sys::heap_getattr((*data).tg_trigtuple, 1, (*(*data).tg_relation).rd_att, &mut null);
        if !null {
            let message_id = *id.cast_mut_ptr::<[u8; 16]>();
            buffer::push(Change { op: b'M', message_id: Some(message_id), ..Change::default() });
        }
        pg_sys::Datum::from(0)
    }
}
