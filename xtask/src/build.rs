//! The extension and the sidecar, built by plain cargo.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::postgres::{Installation, PostgresError, Version};
use crate::process::{self, ProcessError};
use crate::workspace::{self, EXTENSION};

/// How hard the compiler works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Quick to build; what tests use.
    #[default]
    Dev,
    /// What users run.
    Release,
}

/// A build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Postgres version to build for could not be had.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// cargo failed; it has told why.
    #[error(transparent)]
    Cargo(#[from] ProcessError),
}

impl Profile {
    /// The name of cargo's folder for it.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Where the extension's library for one Postgres version lies once it is built.
pub fn extension_library(version: Version, profile: Profile) -> PathBuf {
    extension_target(version).join(profile.folder()).join(format!("lib{EXTENSION}.so"))
}

/// Where the sidecar lies once it is built.
pub fn sidecar_program(profile: Profile) -> PathBuf {
    workspace::target().join(profile.folder()).join("realtime-sidecar")
}

/// Builds the extension for one Postgres version. Each version has a target folder of its own, because the bindings to
/// the server's headers are most of the work and belong to one version.
///
/// # Errors
///
/// When the version cannot be had or cargo fails.
pub fn extension(version: Version, profile: Profile) -> Result<PathBuf, BuildError> {
    build_extension(version, &headers_from(version)?, profile)
}

fn build_extension(version: Version, pg_config: &Path, profile: Profile) -> Result<PathBuf, BuildError> {
    let mut cargo = cargo(profile, &["build", "--package", "realtime-extension", "--lib"]);
    cargo.args(extension_options(version)).env("PGRX_PG_CONFIG_PATH", pg_config);
    process::run(&mut cargo)?;
    Ok(extension_library(version, profile))
}

/// Checks the extension's code with clippy, for one Postgres version, with warnings as errors.
///
/// # Errors
///
/// When the version cannot be had or there is anything to complain about.
pub fn lint_extension(version: Version) -> Result<(), BuildError> {
    let mut cargo = cargo(Profile::Dev, &["clippy", "--package", "realtime-extension", "--lib"]);
    cargo.args(extension_options(version)).args(["--", "--deny", "warnings"]);
    cargo.env("PGRX_PG_CONFIG_PATH", headers_from(version)?);
    Ok(process::run(&mut cargo)?)
}

/// Builds the sidecar.
///
/// # Errors
///
/// When cargo fails.
pub fn sidecar(profile: Profile) -> Result<PathBuf, BuildError> {
    process::run(&mut cargo(profile, &["build", "--package", "realtime-sidecar", "--bins"]))?;
    Ok(sidecar_program(profile))
}

/// Builds both for one Postgres version. Returns the library and the program.
///
/// # Errors
///
/// When either fails; the other is still built to its end.
pub fn both(version: Version, profile: Profile) -> Result<(PathBuf, PathBuf), BuildError> {
    together(|| extension(version, profile), profile)
}

/// As [`both`], for the server of an installation that need not be where the system keeps its own.
///
/// # Errors
///
/// As [`both`], and when its version is not supported.
pub fn both_with(installation: &Installation, profile: Profile) -> Result<(PathBuf, PathBuf), BuildError> {
    let version = installation.version()?;
    together(|| build_extension(version, &installation.pg_config, profile), profile)
}

/// At the same time, because each ends with one long step that keeps a single core busy.
fn together(
    extension: impl FnOnce() -> Result<PathBuf, BuildError> + Send,
    profile: Profile,
) -> Result<(PathBuf, PathBuf), BuildError> {
    let (library, program) = std::thread::scope(|scope| {
        let library = scope.spawn(extension);
        let program = sidecar(profile);
        (library.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), program)
    });
    Ok((library?, program?))
}

fn cargo(profile: Profile, words: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root()).args(words);
    if profile == Profile::Release {
        command.arg("--release");
    }
    command
}

fn extension_target(version: Version) -> PathBuf {
    workspace::target().join(format!("pg{version}"))
}

fn extension_options(version: Version) -> Vec<String> {
    let target = extension_target(version).to_string_lossy().into_owned();
    let mut options = vec!["--target-dir".to_owned(), target];
    // 15 is the package's default feature; naming it would only make cargo build everything a second time.
    if version != Version::V15 {
        options.extend(["--no-default-features".to_owned(), format!("--features=pg{version}")]);
    }
    options
}

/// The `pg_config` that pgrx reads the headers through. Where the system's own answers for this version it is named as
/// in `.cargo/config.toml`, because another spelling is another build to cargo.
fn headers_from(version: Version) -> Result<PathBuf, PostgresError> {
    let system = Path::new("/usr/bin/pg_config");
    let found = version.installation()?;
    let same = Installation::of(system).is_ok_and(|installed| installed.bin == found.bin);
    Ok(if same { system.to_owned() } else { found.pg_config })
}
