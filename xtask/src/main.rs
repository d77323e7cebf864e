//! The project's own tasks; `make` calls them.

mod arguments;
mod commands;

use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    match arguments::parse().and_then(commands::execute) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error with everything that led to it, on one line unless the causes have several.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
