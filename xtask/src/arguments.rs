//! The command line of the tasks.

use std::error::Error;
use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};
use xtask::build::Profile;
use xtask::postgres::Version;

/// What is printed for `--help`.
pub(crate) const HELP: &str = "\
usage: cargo xtask COMMAND [--pg 15|16|18] [--release] [NAME...]

  build              build the extension and the sidecar
  run                start everything and print an address; DATABASE_URL names an existing database
  test               check, build and run all tests
  install            put the extension and the sidecar into the system (PG_CONFIG, PREFIX, DESTDIR)
  installcheck       run tests/regress on the installed extension (PGHOST, PGPORT, PGUSER)
  bench [ROW]        build as users run it, measure, and print one figure a line
  chaos              kill everything a hundred times under 200,000 commits, and count
  soak               10,000 clients, a million rows, an hour: nothing grows, nobody waits
  clean              remove what was built and every private server
  sql                join sql/ to the extension's script in the target folder
      --check        compare it with what was released
      --freeze       write the committed script of this version, and sql/symbols
  build-extension    build the extension for one Postgres version
  lint-extension     check the extension with clippy
  regress [NAME]     run tests/regress on a private server
  isolation [NAME]   run tests/isolation on a private server
      --accept       of both: take what the tests give as what they must give
";

/// A task and its options. Not every task reads every option; one that it does not know is an error all the same.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) command: String,
    pub(crate) names: Vec<String>,
    pub(crate) version: Option<Version>,
    pub(crate) profile: Profile,
    pub(crate) check: bool,
    pub(crate) freeze: bool,
    pub(crate) accept: bool,
}

impl Arguments {
    /// The Postgres version asked for; Debian's when none was.
    pub(crate) fn version(&self) -> Version {
        self.version.unwrap_or(Version::V15)
    }
}

/// Reads the command line of this process.
pub(crate) fn parse() -> Result<Arguments, Box<dyn Error>> {
    parse_from(std::env::args_os().skip(1))
}

fn parse_from(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, Box<dyn Error>> {
    let mut parser = Parser::from_args(words);
    let mut arguments = Arguments::default();
    while let Some(word) = parser.next()? {
        match word {
            Arg::Long("pg") => arguments.version = Some(parser.value()?.parse_with(str::parse::<Version>)?),
            Arg::Long("release") => arguments.profile = Profile::Release,
            Arg::Long("check") => arguments.check = true,
            Arg::Long("accept") => arguments.accept = true,
            Arg::Long("freeze") => arguments.freeze = true,
            Arg::Long("help") | Arg::Short('h') => arguments.command = "help".to_owned(),
            Arg::Value(value) if arguments.command.is_empty() => arguments.command = value.string()?,
            Arg::Value(value) => arguments.names.push(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Arguments, Box<dyn Error>> {
        parse_from(words.iter().map(OsString::from))
    }

    #[test]
    fn options_may_stand_anywhere() {
        let arguments = parse_words(&["regress", "--pg", "18", "capture", "--release"]).unwrap();
        assert_eq!(arguments.command, "regress");
        assert_eq!(arguments.names, ["capture"]);
        assert_eq!(arguments.version(), Version::V18);
        assert_eq!(arguments.profile, Profile::Release);
    }

    #[test]
    fn an_unknown_option_or_version_is_an_error() {
        assert!(parse_words(&["sql", "--chekc"]).is_err());
        assert!(parse_words(&["regress", "--pg", "9"]).is_err());
    }
}
