//! `sql/*.sql` joined, in the order that `sql/order` lists, to the script that CREATE EXTENSION runs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::workspace::{self, EXTENSION, VERSION};

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

/// Joins the script and writes it as the committed script of this version. Returns where.
///
/// # Errors
///
/// As [`join`], and when the file cannot be written.
pub fn freeze() -> Result<PathBuf, ScriptError> {
    save(&frozen(), &join()?)?;
    Ok(frozen())
}

/// Compares the committed script of this version with what `sql/` gives. Returns whether there is one.
///
/// # Errors
///
/// As [`join`], and when the two differ.
pub fn check() -> Result<bool, ScriptError> {
    let joined = join()?;
    match fs::read_to_string(frozen()) {
        Ok(committed) if committed == joined => Ok(true),
        Ok(_) => Err(ScriptError::Stale(frozen())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ScriptError::Access { path: frozen(), source }),
    }
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
    fn every_file_of_sql_is_joined_once() {
        let script = join().unwrap();
        for name in sql_files(&workspace::root().join("sql")).unwrap() {
            let count = script.matches(&format!("-- ==== {name} ====")).count();
            assert_eq!(count, usize::from(!is_upgrade(&name)), "{name}");
        }
    }
}
