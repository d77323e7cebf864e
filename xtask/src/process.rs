//! Running a program and telling what went wrong.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

/// A program that did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started at all.
    #[error("could not start `{program}`; is it installed?")]
    Start {
        /// The program as it was named.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ran and failed.
    #[error("`{command}` failed ({status}){}", indented(output))]
    Failed {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote, when that was captured.
        output: String,
    },
}

fn indented(output: &str) -> String {
    output.trim_end().lines().map(|line| format!("\n    {line}")).collect()
}

/// Runs a command whose output goes where ours goes.
///
/// # Errors
///
/// When it cannot be started or does not exit with 0.
pub fn run(command: &mut Command) -> Result<(), ProcessError> {
    let status = command.status().map_err(|source| not_started(command, source))?;
    if status.success() {
        return Ok(());
    }
    Err(ProcessError::Failed { command: describe(command), status, output: String::new() })
}

/// Runs a command and returns what it wrote to its standard output, without the last line break.
///
/// # Errors
///
/// When it cannot be started or does not exit with 0; the error carries everything that it wrote.
pub fn capture(command: &mut Command) -> Result<String, ProcessError> {
    let output = command.stdin(Stdio::null()).output().map_err(|source| not_started(command, source))?;
    finish(command, &output)
}

/// As [`capture`], for a command that reads a text from its standard input.
///
/// # Errors
///
/// As [`capture`].
pub fn capture_with_input(command: &mut Command, text: &str) -> Result<String, ProcessError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| not_started(command, source))?;
    if let Some(mut input) = child.stdin.take() {
        // When it stops reading, its own error says more than ours would.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(|source| not_started(command, source))?;
    finish(command, &output)
}

/// The standard output of a finished command, or an error that carries both streams.
fn finish(command: &Command, output: &Output) -> Result<String, ProcessError> {
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(ProcessError::Failed {
        command: describe(command),
        status: output.status,
        output: format!("{text}\n{errors}").trim().to_owned(),
    })
}

/// The error of a command that could not be started.
pub fn not_started(command: &Command, source: io::Error) -> ProcessError {
    ProcessError::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

/// Where a program lies on the `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The last lines of a text file, or nothing when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
