//! Running a script, and doing to the stack what it asks for.

use std::path::Path;
use std::process::Stdio;

use realtime_tests::{Stack, Stop};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::task::spawn_blocking;

use crate::{ANON_KEY, API_KEY};

/// A script that prints a line for each check, and asks for things in lines that begin with `> `.
pub(crate) struct Script {
    name: String,
    command: Command,
}

impl Script {
    pub(crate) fn new(program: &str, folder: &Path, name: &str) -> Self {
        let mut command = Command::new(program);
        command.arg(name).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        Self { name: name.to_owned(), command }
    }

    /// Sets a variable of its environment.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end, and says whether there were checks and all of them passed.
    pub(crate) async fn passes(mut self, stack: &mut Stack) -> bool {
        self.command.env("SIDECAR_URL", format!("http://{}", stack.sidecar.address()));
        self.command.env("JWT_SECRET", stack.signer.secret());
        self.command.env("ANON_KEY", ANON_KEY).env("API_KEY", API_KEY);
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut checks = 0;
        while let Some(line) = output.next_line().await.unwrap() {
            if let Some(request) = line.strip_prefix("> ") {
                let answer = answer(stack, &serde_json::from_str(request).unwrap()).await;
                input.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            } else {
                checks += usize::from(line.starts_with("ok "));
                println!("{}: {line}", self.name);
            }
        }
        let status = child.wait().await.unwrap();
        println!("{}: {checks} checks passed; {status}", self.name);
        status.success() && checks > 0
    }
}

async fn answer(stack: &mut Stack, request: &Value) -> Value {
    match request["do"].as_str().unwrap() {
        "sql" => return rows(stack, request["text"].as_str().unwrap()).await,
        "kill sidecar" => stack.sidecar.kill(),
        "stop sidecar" => drop(stack.sidecar.stop().await),
        "start sidecar" => {
            stack.sidecar.start_again();
            stack.sidecar.ready().await;
        }
        "start sidecar first" => {
            stack.sidecar.start_again();
            stack.sidecar.answers().await;
        }
        "stop postgres" => {
            let server = stack.server().clone();
            spawn_blocking(move || server.stop(Stop::Immediate)).await.unwrap();
        }
        "start postgres" => {
            let server = stack.server().clone();
            spawn_blocking(move || server.start_again()).await.unwrap();
            stack.sidecar.ready().await;
        }
        other => panic!("nobody knows how to {other}"),
    }
    json!({})
}

async fn rows(stack: &Stack, text: &str) -> Value {
    let session = stack.session().await;
    match session.simple_query(text).await {
        Ok(messages) => json!({ "rows": realtime_tests::database::text_rows(&messages) }),
        Err(error) => json!({ "error": format!("{error:?}") }),
    }
}
