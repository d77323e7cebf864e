//! `make install`: the extension into a server's folders, the sidecar into `PREFIX/bin`. The only task that writes
//! outside of this clone.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::build::{self, BuildError, Profile};
use crate::files;
use crate::postgres::{Installation, PostgresError};
use crate::script::{self, ScriptError};
use crate::workspace::{self, EXTENSION};

/// The product could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The server to install into could not be had.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The extension's script could not be joined.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// A place could not be written.
    #[error("could not write `{}`; run the same as root with your PATH: sudo env \"PATH=$PATH\" make install", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The server that `PG_CONFIG` names, else the first `pg_config` of the `PATH`.
///
/// # Errors
///
/// When there is none.
pub fn installation() -> Result<Installation, PostgresError> {
    let named = env::var_os("PG_CONFIG").map(PathBuf::from);
    let found = named.or_else(|| crate::process::find("pg_config"));
    Installation::of(&found.unwrap_or_else(|| PathBuf::from("/usr/bin/pg_config")))
}

/// Builds and installs everything; says what it put where. `DESTDIR` comes before every place, for packagers.
///
/// # Errors
///
/// When the build fails or a place cannot be written.
pub fn install() -> Result<(), InstallError> {
    let server = installation()?;
    let (library, sidecar) = build::both_with(&server, Profile::Release)?;
    let extensions = server.share.join("extension");
    let control = format!("{EXTENSION}.control");
    put(&library, &server.lib.join(format!("{EXTENSION}.so")), 0o755)?;
    put(&workspace::root().join(&control), &extensions.join(&control), 0o644)?;
    for script in scripts()? {
        put(&script, &extensions.join(script.file_name().unwrap_or_default()), 0o644)?;
    }
    put(&sidecar, &prefix().join("bin/realtime-sidecar"), 0o755)
}

fn scripts() -> Result<Vec<PathBuf>, ScriptError> {
    let mut scripts = script::upgrades()?;
    scripts.push(script::write()?);
    Ok(scripts)
}

fn prefix() -> PathBuf {
    env::var_os("PREFIX").map_or_else(|| PathBuf::from("/usr/local"), PathBuf::from)
}

fn put(source: &Path, place: &Path, mode: u32) -> Result<(), InstallError> {
    let place = staged(place);
    copy(source, &place, mode).map_err(|source| InstallError::Write { path: place.clone(), source })?;
    println!("installed {}", place.display());
    Ok(())
}

/// By rename: writing into a library that a server has mapped would crash its sessions.
fn copy(source: &Path, place: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(place.parent().unwrap_or(Path::new("/")))?;
    files::replace(place, |staging| {
        fs::copy(source, staging)?;
        fs::set_permissions(staging, fs::Permissions::from_mode(mode))
    })
}

fn staged(place: &Path) -> PathBuf {
    match env::var_os("DESTDIR") {
        Some(top) => Path::new(&top).join(place.strip_prefix("/").unwrap_or(place)),
        None => place.to_owned(),
    }
}
