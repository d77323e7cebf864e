//! What each task does.

use std::error::Error;

use xtask::long::{self, Long};
use xtask::regress::{self, Suite};
use xtask::script::Standing;
use xtask::{bench, build, check, clean, install, run, script};

use crate::arguments::{Arguments, HELP};

/// Does one task.
pub(crate) fn execute(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    match arguments.command.as_str() {
        "build" => build_all(&arguments),
        "run" => Ok(run::run()?),
        "test" => test_all(&arguments),
        "install" => Ok(install::install()?),
        "installcheck" => check_installed(),
        "bench" => Ok(bench::run(&arguments.names)?),
        "chaos" => Ok(long::run(Long::Chaos, arguments.version())?),
        "soak" => Ok(long::run(Long::Soak, arguments.version())?),
        "clean" => Ok(clean::clean()?),
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

fn build_all(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let (library, program) = build::both(arguments.version(), arguments.profile)?;
    println!("{}\n{}", library.display(), program.display());
    println!("{}", script::write()?.display());
    Ok(())
}

fn build_extension(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let library = build::extension(arguments.version(), arguments.profile)?;
    println!("{}", library.display());
    Ok(())
}

fn join_script(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.check {
        println!(
            "{}",
            match script::check()? {
                Standing::Unreleased => "nothing has been released yet",
                Standing::Frozen => "the committed script is what sql/ gives",
                Standing::Bridged => "upgrade scripts lead to sql/ from all that was released",
            }
        );
        return Ok(());
    }
    let path = if arguments.freeze { script::freeze()? } else { script::write()? };
    println!("{}", path.display());
    Ok(())
}

fn test_all(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let passed = check::run(arguments.version())?;
    println!("{passed} passed, 0 failed");
    Ok(())
}

fn test(suite: Suite, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.accept {
        for file in regress::accept(suite, arguments.version(), &arguments.names)? {
            println!("wrote {}; read it before you commit it", file.display());
        }
        return Ok(());
    }
    let passed = regress::run(suite, arguments.version(), &arguments.names)?;
    println!("{passed} passed, 0 failed");
    Ok(())
}

fn check_installed() -> Result<(), Box<dyn Error>> {
    let server = install::installation()?;
    let passed = regress::run_installed(Suite::Regress, &server)?;
    println!("{passed} passed, 0 failed");
    Ok(())
}
