//! `sql/*.sql` joined, in the order that `sql/order` lists, to the script that CREATE EXTENSION runs.

mod releases;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use releases::{Release, Releases, Standing};

use crate::workspace::{self, EXTENSION, VERSION};

/// What the postmaster calls in the library by name, in no script: a worker that an old library registered is started in
/// the new one.
const WORKER: &str = "realtime_worker_main";

/// The script could not be joined or checked.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// A file could not be read or written.
    #[error("could not access `{}`", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of `sql/` would not be in the script.
    #[error("`sql/{0}` is not listed in sql/order; add it where it belongs")]
    Unlisted(String),
    /// A file is listed twice.
    #[error("`sql/{0}` is listed twice in sql/order; take one away")]
    Twice(String),
    /// The committed script of a release is not what `sql/` gives.
    #[error("`{}` differs from what sql/ gives; a released script is frozen: write an upgrade script and raise the version, or, before the release, run `cargo xtask sql --freeze`", .0.display())]
    Stale(PathBuf),
    /// Nobody who has a released version could get to this one.
    #[error(
        "no upgrade script leads from {from} to {to}; write `sql/realtime--{from}--{to}.sql`, even when it has nothing to do"
    )]
    NoBridge {
        /// What was released.
        from: Release,
        /// What `sql/` is.
        to: Release,
    },
    /// The version went back.
    #[error("version {newest} has been released, and this is {version}; raise it in Cargo.toml and realtime.control")]
    Older {
        /// The newest release.
        newest: Release,
        /// What `sql/` is.
        version: Release,
    },
    /// A name or line that should have a version has none.
    #[error("`{0}` has no version such as 0.1.0 where there should be one")]
    Version(String),
    /// The control file and Cargo.toml do not say the same.
    #[error("realtime.control has not default_version = '{VERSION}'; make it what Cargo.toml says")]
    Control,
    /// A released script calls what is not on the list.
    #[error("sql/symbols lacks `{0}`, which a released script calls; run `cargo xtask sql --freeze`")]
    Symbol(String),
}

/// The name of the install script of this version.
pub fn file_name() -> String {
    format!("{EXTENSION}--{VERSION}.sql")
}

/// The committed copy of the install script of this version.
pub fn frozen() -> PathBuf {
    workspace::root().join("sql/install").join(file_name())
}

/// The upgrade scripts (`sql/realtime--A--B.sql`), sorted by name.
///
/// # Errors
///
/// When `sql/` cannot be read.
pub fn upgrades() -> Result<Vec<PathBuf>, ScriptError> {
    let folder = workspace::root().join("sql");
    let names = sql_files(&folder)?;
    Ok(names.into_iter().filter(|name| is_upgrade(name)).map(|name| folder.join(name)).collect())
}

/// The install script of this version as `sql/` gives it now.
///
/// # Errors
///
/// When a file cannot be read, is listed twice or is not listed.
pub fn join() -> Result<String, ScriptError> {
    join_folder(&workspace::root().join("sql"))
}

/// Joins the script and writes it into the target folder. Returns where.
///
/// # Errors
///
/// As [`join`], and when the file cannot be written.
pub fn write() -> Result<PathBuf, ScriptError> {
    let path = workspace::target().join(file_name());
    save(&path, &join()?)?;
    Ok(path)
}

/// Joins the script and writes it as the committed script of this version, and the functions of the library that it
/// calls into `sql/symbols`. Returns where the script is.
///
/// # Errors
///
/// As [`join`], and when a file cannot be written.
pub fn freeze() -> Result<PathBuf, ScriptError> {
    let script = join()?;
    let mut called = releases::symbols_in(&script);
    called.insert(WORKER.to_owned());
    save(&frozen(), &script)?;
    releases::list_symbols(&workspace::root().join("sql/symbols"), &VERSION.parse()?, called)?;
    Ok(frozen())
}

/// The scripts of all releases.
///
/// # Errors
///
/// When a folder cannot be read or a name has no version.
pub fn releases() -> Result<Releases, ScriptError> {
    Releases::read(&workspace::root().join("sql"))
}

/// The functions of the library that released scripts call by name, with the version that first had them.
///
/// # Errors
///
/// When the list cannot be read.
pub fn symbols() -> Result<BTreeMap<String, Release>, ScriptError> {
    releases::symbols_listed(&workspace::root().join("sql/symbols"))
}

/// Compares `sql/` with what was released, and says how it stands.
///
/// # Errors
///
/// As [`join`] and [`Releases::judge`], and when control file or list of symbols do not fit.
pub fn check() -> Result<Standing, ScriptError> {
    let control = read(&workspace::root().join(format!("{EXTENSION}.control")))?;
    if !control.contains(&format!("default_version = '{VERSION}'")) {
        return Err(ScriptError::Control);
    }
    let releases = releases()?;
    let standing = releases.judge(&VERSION.parse()?, &join()?)?;
    let listed = symbols()?;
    for (_, path) in releases.frozen() {
        if let Some(symbol) = releases::symbols_in(&read(path)?).into_iter().find(|it| !listed.contains_key(it)) {
            return Err(ScriptError::Symbol(symbol));
        }
    }
    Ok(standing)
}

fn join_folder(folder: &Path) -> Result<String, ScriptError> {
    let names = listed(&read(&folder.join("order"))?)?;
    let parts = sql_files(folder)?.into_iter().filter(|name| !is_upgrade(name));
    if let Some(missing) = parts.into_iter().find(|name| !names.contains(name)) {
        return Err(ScriptError::Unlisted(missing));
    }
    let mut script = format!("\\echo Use \"CREATE EXTENSION {EXTENSION}\" to load this file. \\quit\n");
    for name in names {
        let text = read(&folder.join(&name))?;
        script.push_str(&format!("\n-- ==== {name} ====\n\n{}\n", text.trim_end()));
    }
    Ok(script)
}

/// The names in an order file, which may have empty lines and comments (`#`).
fn listed(order: &str) -> Result<Vec<String>, ScriptError> {
    let mut names: Vec<String> = Vec::new();
    for line in order.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if names.iter().any(|name| name == line) {
            return Err(ScriptError::Twice(line.to_owned()));
        }
        names.push(line.to_owned());
    }
    Ok(names)
}

fn sql_files(folder: &Path) -> Result<BTreeSet<String>, ScriptError> {
    let access = |source| ScriptError::Access { path: folder.to_owned(), source };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(access)? {
        let name = entry.map_err(access)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sql") {
            names.insert(name);
        }
    }
    Ok(names)
}

fn is_upgrade(name: &str) -> bool {
    name.starts_with(EXTENSION) && name.contains("--")
}

fn read(path: &Path) -> Result<String, ScriptError> {
    fs::read_to_string(path).map_err(|source| ScriptError::Access { path: path.to_owned(), source })
}

fn save(path: &Path, text: &str) -> Result<(), ScriptError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(|source| ScriptError::Access { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_file_may_have_comments_and_keeps_its_order() {
        assert_eq!(listed("# first\nb.sql\n\n  a.sql\n").unwrap(), ["b.sql", "a.sql"]);
    }

    #[test]
    fn a_name_listed_twice_is_refused() {
        assert!(matches!(listed("a.sql\na.sql\n"), Err(ScriptError::Twice(name)) if name == "a.sql"));
    }

    #[test]
    fn upgrade_scripts_are_no_part_of_the_install_script() {
        assert!(is_upgrade("realtime--0.1.0--0.2.0.sql"));
        assert!(!is_upgrade("log.sql"));
    }

    #[test]
    fn what_was_released_is_frozen_and_leads_here() {
        check().unwrap_or_else(|error| panic!("{error}"));
    }

    #[test]
    fn every_file_of_sql_is_joined_once() {
        let script = join().unwrap();
        for name in sql_files(&workspace::root().join("sql")).unwrap() {
            let count = script.matches(&format!("-- ==== {name} ====")).count();
            assert_eq!(count, usize::from(!is_upgrade(&name)), "{name}");
        }
    }
}
