//! The database that `make run` works with: a private one that keeps its data, or one that exists.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::{RunError, access, secret};
use crate::build::Profile;
use crate::cluster::{Cluster, Options, Storage, Tree};
use crate::postgres::Version;
use crate::process;
use crate::script;

/// The role that the sidecar of `make run` logs in as. Not a name that a sidecar in production would have: its password
/// changes with every run.
pub(super) const SIDECAR_ROLE: &str = "realtime_run";

/// The database of a private server.
const NAME: &str = "realtime";

/// The folder of the private server's data.
const FOLDER: &str = "run";

/// Where the port of the private server is, when nobody else has it.
const PORT: u16 = 25_432;

/// A database and the right to do everything in it.
#[derive(Debug)]
pub(super) enum Database {
    /// On a server of this clone.
    Private(Box<Cluster>),
    /// Somewhere, reached by an address.
    Existing(Address),
}

/// The address of a database, taken apart so that the password need not be on a command line.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    user: String,
    password: Option<String>,
    /// Everything after the `@`.
    place: String,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.without_password())
    }
}

impl Address {
    fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
        let (person, place) = rest.rsplit_once('@')?;
        let (user, password) = match person.split_once(':') {
            Some((user, password)) => (user, Some(password.to_owned())),
            None => (person, None),
        };
        let complete = !user.is_empty() && place.contains('/');
        complete.then(|| Self { user: user.to_owned(), password, place: place.to_owned() })
    }

    fn without_password(&self) -> String {
        format!("postgres://{}@{}", self.user, self.place)
    }
}

impl Database {
    /// Starts the private server, with the data of the last run when there is some.
    pub(super) fn private(profile: Profile) -> Result<Self, RunError> {
        let tree = Tree::prepare_profile(Version::V15, profile)?;
        let folder = tree.kept_folder(FOLDER);
        set_aside_when_outdated(&folder)?;
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).is_ok();
        let options = Options {
            fsync: true,
            storage: Storage::Kept(FOLDER.to_owned()),
            port: is_free.then_some(PORT),
            password: Some(secret::generate()?),
            ..Options::default()
        };
        let cluster = Cluster::start(&tree, &options)?;
        let marker = folder.join("script.sql");
        fs::write(&marker, joined()?).map_err(access(&marker))?;
        let exists = cluster.sql("postgres", &format!("select 1 from pg_database where datname = '{NAME}'"))?;
        if exists.is_empty() {
            cluster.sql("postgres", &format!("create database {NAME}"))?;
        }
        Ok(Self::Private(Box::new(cluster)))
    }

    /// A database that exists.
    pub(super) fn existing(url: &str) -> Result<Self, RunError> {
        Address::parse(url).map(Self::Existing).ok_or(RunError::Address)
    }

    /// Runs SQL, statement by statement, and returns the rows.
    pub(super) fn sql(&self, text: &str) -> Result<String, RunError> {
        match self {
            Self::Private(cluster) => Ok(cluster.sql(NAME, text)?),
            Self::Existing(address) => sql_at(address, text),
        }
    }

    /// The address that the sidecar gets.
    pub(super) fn sidecar_url(&self, password: &str) -> String {
        match self {
            Self::Private(cluster) => {
                format!("postgres://{SIDECAR_ROLE}:{password}@127.0.0.1:{}/{NAME}", cluster.port())
            }
            Self::Existing(address) => format!("postgres://{SIDECAR_ROLE}:{password}@{}", address.place),
        }
    }

    /// The start of a command line that people can type to get into the database.
    pub(super) fn psql_words(&self) -> String {
        match self {
            Self::Private(cluster) => {
                format!("psql -h {} -p {} -U postgres {NAME}", cluster.socket_folder().display(), cluster.port())
            }
            Self::Existing(address) => format!("psql '{}'", address.without_password()),
        }
    }
}

fn sql_at(address: &Address, text: &str) -> Result<String, RunError> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d", &address.without_password()]);
    if let Some(password) = &address.password {
        psql.env("PGPASSWORD", decoded(password));
    }
    Ok(process::capture_with_input(&mut psql, text)?)
}

/// Undoes the percent signs of an address.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Between releases the script changes without a version of its own, so that no upgrade leads from the old database to
/// the new script. The old data is kept beside.
fn set_aside_when_outdated(folder: &Path) -> Result<(), RunError> {
    let Ok(made_with) = fs::read_to_string(folder.join("script.sql")) else {
        return Ok(());
    };
    if made_with == joined()? {
        return Ok(());
    }
    let free = (1..).map(|count| folder.with_extension(format!("old-{count}"))).find(|place| !place.exists());
    let place = free.unwrap_or_else(|| folder.with_extension("old"));
    println!(
        "sql/ has changed since this clone's database was made; starting with a new one, the old is {}",
        place.display()
    );
    fs::rename(folder, &place).map_err(access(folder))
}

fn joined() -> Result<String, RunError> {
    Ok(script::join().map_err(crate::cluster::ClusterError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_shown_without_its_password() {
        let address = Address::parse("postgres://ann:a%40b@db.example.com:5432/shop?sslmode=require").unwrap();
        assert_eq!(address.password.as_deref().map(decoded), Some("a@b".to_owned()));
        assert_eq!(format!("{address:?}"), "postgres://ann@db.example.com:5432/shop?sslmode=require");
    }

    #[test]
    fn an_address_without_user_or_database_is_refused() {
        for url in ["postgres://db.example.com/shop", "postgres://@host/shop", "postgres://ann@host", "host=x user=y"] {
            assert_eq!(Address::parse(url), None, "{url}");
        }
    }

    #[test]
    fn percent_signs_that_mean_nothing_stay() {
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%41"), "%zzA");
    }
}
