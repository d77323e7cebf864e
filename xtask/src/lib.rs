//! The project's own tasks, as a library, so that tests and benches start Postgres the same way `make run` does.
//!
//! * [`workspace`]: where things lie in this clone.
//! * [`cluster`]: a private Postgres: a tree of binaries with the extension in it, and servers started from it.
//! * [`postgres`]: which Postgres versions there are and where they are installed.
//! * [`build`]: the extension and the sidecar, built by plain cargo.
//! * [`regress`]: Postgres' own test drivers.
//! * [`check`]: what `make test` does.
//! * [`bench`]: what `make bench` measures.
//! * [`long`]: what `make chaos` and `make soak` run.
//! * [`clean`]: what `make clean` removes.
//! * [`files`]: files put where somebody may be using the old ones.
//! * [`install`]: what `make install` puts into the system.
//! * [`run`]: what `make run` does.
//! * [`script`]: `sql/*.sql` joined to the extension's script.
//! * [`process`]: running a program and telling what went wrong.
#![forbid(unsafe_code)]

pub mod bench;
pub mod build;
pub mod check;
pub mod clean;
pub mod cluster;
pub mod files;
pub mod install;
pub mod long;
pub mod postgres;
pub mod process;
pub mod regress;
pub mod run;
pub mod script;
pub mod workspace;
