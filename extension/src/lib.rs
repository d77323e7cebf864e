//! The database half of realtime: what SQL cannot do well.
//!
//! The path of a change: [`capture`] (row trigger: images into memory) → [`buffer`] (written into a [`segment`] at
//! PRE_COMMIT with the ordering key) → [`wake`] (after COMMIT, the worker's latch) → [`worker`] (tick, then NOTIFY, both in SQL).
//! The way back: `realtime.read()` in SQL asks [`json`] for the text of an [`image`], which the [`layout`] it was
//! written by explains. [`identity`] assumes a client's role for one call; [`judge`]
//! says who sees which image, [`explain`] what one policy says of a row. Everything else is in `sql/`.
//!
//! Nothing here may fail a user's write. Nothing may raise in a callback at commit or abort.

mod array;
mod buffer;
mod capture;
mod caught;
mod explain;
mod ffi;
mod fold;
mod identity;
mod image;
mod json;
mod judge;
mod layout;
mod loss;
mod mark;
mod options;
mod order;
mod registry;
mod rows;
mod schema;
mod segment;
mod settings;
mod statement;
mod wake;
mod watch;
mod worker;
mod write;

use pgrx::prelude::*;

pgrx::pg_module_magic!(name, version);

/// Called by Postgres once in each backend, when the first function of this library is needed.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    schema::watch();
    buffer::register();
}
