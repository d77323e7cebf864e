//! What has been released: frozen install scripts, and the upgrade scripts that lead from each of them to this version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{ScriptError, is_upgrade, read, sql_files};
use crate::workspace::EXTENSION;

/// A version of the extension, ordered by its numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(Vec<u64>);

/// What `sql/` is, compared with what was released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been released yet.
    Unreleased,
    /// It is the frozen script of this version.
    Frozen,
    /// It is a version to come, and upgrade scripts lead to it from all that was released.
    Bridged,
}

/// The scripts of all releases.
#[derive(Debug, Default)]
pub struct Releases {
    frozen: BTreeMap<Release, PathBuf>,
    upgrades: BTreeSet<(Release, Release)>,
}

impl FromStr for Release {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Result<Vec<u64>, _> = text.split('.').map(str::parse).collect();
        numbers.map(Self).map_err(|_| ScriptError::Version(text.to_owned()))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

impl Releases {
    /// Reads the names in a folder of SQL files and in `install/` below it.
    ///
    /// # Errors
    ///
    /// When a folder cannot be read or a name has no version.
    pub fn read(folder: &Path) -> Result<Self, ScriptError> {
        let mut releases = Self::default();
        for name in sql_files(folder)?.iter().filter(|name| is_upgrade(name)) {
            let (from, to) = versions(name).split_once("--").ok_or_else(|| ScriptError::Version(name.clone()))?;
            releases.upgrades.insert((from.parse()?, to.parse()?));
        }
        let install = folder.join("install");
        for name in if install.exists() { sql_files(&install)? } else { BTreeSet::new() } {
            releases.frozen.insert(versions(&name).parse()?, install.join(&name));
        }
        Ok(releases)
    }

    /// The frozen install scripts, oldest first.
    pub fn frozen(&self) -> impl Iterator<Item = (&Release, &Path)> {
        self.frozen.iter().map(|(release, path)| (release, path.as_path()))
    }

    /// Says what the script of a version is, which `sql/` gives.
    ///
    /// # Errors
    ///
    /// When it differs from the frozen one of the same version, when a released version cannot be brought to it, or when
    /// something newer was released.
    pub fn judge(&self, version: &Release, joined: &str) -> Result<Standing, ScriptError> {
        let Some(newest) = self.frozen.keys().next_back() else {
            return Ok(Standing::Unreleased);
        };
        if newest > version {
            return Err(ScriptError::Older { newest: newest.clone(), version: version.clone() });
        }
        if let Some(path) = self.frozen.get(version).filter(|_| newest == version)
            && read(path)? != joined
        {
            return Err(ScriptError::Stale(path.clone()));
        }
        if let Some(from) = self.frozen.keys().find(|from| !self.leads(from, version)) {
            return Err(ScriptError::NoBridge { from: from.clone(), to: version.clone() });
        }
        Ok(if newest == version { Standing::Frozen } else { Standing::Bridged })
    }

    /// Whether upgrade scripts lead from one version to another, by any number of steps.
    fn leads(&self, from: &Release, to: &Release) -> bool {
        let mut reached = BTreeSet::from([from]);
        loop {
            let steps = self.upgrades.iter().filter(|(start, _)| reached.contains(start)).map(|(_, end)| end);
            let ends: BTreeSet<&Release> = steps.filter(|end| !reached.contains(end)).collect();
            if reached.contains(to) || ends.is_empty() {
                return reached.contains(to);
            }
            reached.extend(ends);
        }
    }
}

/// What a script's name says after the extension's.
fn versions(name: &str) -> &str {
    let name = name.strip_prefix(EXTENSION).unwrap_or(name);
    name.trim_start_matches("--").trim_end_matches(".sql")
}

/// Reads the functions of the library that a script calls by name.
pub(super) fn symbols_in(script: &str) -> BTreeSet<String> {
    let named = script.split("'MODULE_PATHNAME', '").skip(1);
    named.filter_map(|rest| rest.split('\'').next()).map(str::to_owned).collect()
}

/// Reads a list of symbols: each with the version that first had it; comments begin with `#`.
pub(super) fn symbols_listed(path: &Path) -> Result<BTreeMap<String, Release>, ScriptError> {
    let text = if path.exists() { read(path)? } else { String::new() };
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| {
        let (symbol, version) = line.split_once(' ').ok_or_else(|| ScriptError::Version(line.to_owned()))?;
        Ok((symbol.to_owned(), version.parse()?))
    };
    lines.map(pair).collect()
}

/// Writes a list of symbols: those that were released stay, those of this version are what its script calls.
pub(super) fn list_symbols(path: &Path, version: &Release, called: BTreeSet<String>) -> Result<(), ScriptError> {
    let mut listed = symbols_listed(path)?;
    listed.retain(|_, since| *since < *version);
    for symbol in called {
        listed.entry(symbol).or_insert_with(|| version.clone());
    }
    let lines: String = listed.iter().map(|(symbol, since)| format!("{symbol} {since}\n")).collect();
    let text = format!("{SYMBOLS_HEAD}{lines}");
    fs::write(path, text).map_err(|source| ScriptError::Access { path: path.to_owned(), source })
}

const SYMBOLS_HEAD: &str = "\
# Functions of the library that released scripts call by name, with the version that first had them. They stay for ever:
# between the new library and ALTER EXTENSION UPDATE the old script calls the new library. `cargo xtask sql --freeze`
# writes this file.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        text.parse().unwrap()
    }

    /// A folder with these frozen scripts, each holding its own version as text, and these upgrade scripts.
    struct Folder(PathBuf);

    impl Folder {
        fn with(name: &str, frozen: &[&str], upgrades: &[&str]) -> Self {
            let folder = std::env::temp_dir().join(format!("realtime-releases-{}-{name}", std::process::id()));
            fs::create_dir_all(folder.join("install")).unwrap();
            for version in frozen {
                fs::write(folder.join(format!("install/realtime--{version}.sql")), version).unwrap();
            }
            for versions in upgrades {
                fs::write(folder.join(format!("realtime--{versions}.sql")), "").unwrap();
            }
            Self(folder)
        }

        fn judge(&self, version: &str, joined: &str) -> Result<Standing, ScriptError> {
            Releases::read(&self.0).unwrap().judge(&release(version), joined)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(release("0.9.0") < release("0.10.0"));
        assert_eq!(release("0.10.0").to_string(), "0.10.0");
        assert!("0.x".parse::<Release>().is_err());
    }

    #[test]
    fn before_the_first_release_anything_goes() {
        assert_eq!(Folder::with("none", &[], &[]).judge("0.1.0", "x").unwrap(), Standing::Unreleased);
    }

    #[test]
    fn a_released_script_is_not_changed() {
        let folder = Folder::with("frozen", &["0.1.0"], &[]);
        assert_eq!(folder.judge("0.1.0", "0.1.0").unwrap(), Standing::Frozen);
        assert!(matches!(folder.judge("0.1.0", "changed"), Err(ScriptError::Stale(_))));
    }

    #[test]
    fn from_every_released_version_scripts_must_lead_to_this_one() {
        let folder = Folder::with("bridge", &["0.1.0", "0.9.0", "0.10.0"], &["0.1.0--0.10.0", "0.9.0--0.10.0"]);
        assert_eq!(folder.judge("0.10.0", "0.10.0").unwrap(), Standing::Frozen);
        let missing = folder.judge("0.11.0", "changed").unwrap_err();
        assert!(matches!(missing, ScriptError::NoBridge { from, .. } if from == release("0.1.0")));
        fs::write(folder.0.join("realtime--0.10.0--0.11.0.sql"), "").unwrap();
        assert_eq!(folder.judge("0.11.0", "changed").unwrap(), Standing::Bridged);
        assert!(matches!(folder.judge("0.9.0", "0.9.0"), Err(ScriptError::Older { .. })));
    }

    #[test]
    fn symbols_that_were_released_stay_on_the_list() {
        let folder = Folder::with("symbols", &[], &[]);
        let (path, set) = (folder.0.join("symbols"), |names: &[&str]| names.iter().map(|&it| it.to_owned()).collect());
        list_symbols(&path, &release("0.1.0"), set(&["first", "never_released"])).unwrap();
        list_symbols(&path, &release("0.1.0"), set(&["first"])).unwrap();
        list_symbols(&path, &release("0.2.0"), set(&["second"])).unwrap();
        let listed = symbols_listed(&path).unwrap();
        assert_eq!(
            listed.into_iter().collect::<Vec<_>>(),
            [("first".to_owned(), release("0.1.0")), ("second".to_owned(), release("0.2.0")),]
        );
    }

    #[test]
    fn symbols_are_found_in_a_script() {
        let script = "language c as 'MODULE_PATHNAME', 'one';\n as 'MODULE_PATHNAME', 'two';";
        assert_eq!(symbols_in(script).into_iter().collect::<Vec<_>>(), ["one", "two"]);
    }
}
