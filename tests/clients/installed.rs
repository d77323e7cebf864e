//! The packages that the scripts need, from their lock files. They stay, so that the next run has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::workspace;

/// A folder with the scripts of Node and their packages.
pub(crate) fn node() -> PathBuf {
    let source = workspace::root().join("tests/clients/node");
    let folder = workspace::target().join("clients/node");
    fs::create_dir_all(&folder).unwrap();
    let is_there = folder.join("node_modules").exists() && same(&source, &folder, "package-lock.json");
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    if !is_there {
        let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        run(Command::new("npm").args(words).current_dir(&folder));
    }
    folder
}

/// The interpreter of an environment with the packages of the Python script.
pub(crate) fn python() -> PathBuf {
    let source = workspace::root().join("tests/clients/python");
    let folder = workspace::target().join("clients/python");
    let python = folder.join("bin/python");
    if !(python.exists() && same(&source, &folder, "requirements.txt")) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        run(Command::new(&python).args(words).arg(source.join("requirements.txt")));
        // Last: it says that the rest is there.
        fs::copy(source.join("requirements.txt"), folder.join("requirements.txt")).unwrap();
    }
    python
}

fn run(command: &mut Command) {
    xtask::process::run(command)
        .unwrap_or_else(|error| panic!("{error}; `xtask/setup.sh clients` installs what it needs"));
}

fn same(source: &Path, folder: &Path, name: &str) -> bool {
    fs::read(folder.join(name)).is_ok_and(|known| known == fs::read(source.join(name)).unwrap())
}
