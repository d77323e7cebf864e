//! What each task does.

use std::error::Error;

use xtask::regress::{self, Suite};
use xtask::{build, script};

use crate::arguments::{Arguments, HELP};

/// Does one task.
pub(crate) fn execute(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    match arguments.command.as_str() {
        "sql" => join_script(&arguments),
        "build-extension" => build_extension(&arguments),
        "lint-extension" => Ok(build::lint_extension(arguments.version())?),
        "regress" => test(Suite::Regress, &arguments),
        "isolation" => test(Suite::Isolation, &arguments),
        "help" => {
            print!("{HELP}");
            Ok(())
        }
        "" => Err(HELP.into()),
        other => Err(format!("there is no task `{other}`\n{HELP}").into()),
    }
}

fn join_script(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.check {
        let text =
            if script::check()? { "the committed script is what sql/ gives" } else { "no script is committed yet" };
        println!("{text}");
        return Ok(());
    }
    let path = if arguments.freeze { script::freeze()? } else { script::write()? };
    println!("{}", path.display());
    Ok(())
}

fn build_extension(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let library = build::extension(arguments.version(), arguments.profile)?;
    println!("{}", library.display());
    Ok(())
}

fn test(suite: Suite, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let passed = regress::run(suite, arguments.version(), &arguments.names)?;
    println!("{passed} passed, 0 failed");
    Ok(())
}
