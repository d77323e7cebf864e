//! Data folders are copied from one that `initdb` made: a new server is there in a second.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ClusterError, Tree, access, files};
use crate::process;

/// The settings of a server are in this file of its data folder, so that `ALTER SYSTEM` still wins over them.
pub(super) const CONFIGURATION: &str = "private.conf";

/// Makes a data folder for the tree's servers. `data` must not exist, its parent must belong to the servers' account.
pub(super) fn copy_to(tree: &Tree, data: &Path) -> Result<(), ClusterError> {
    let template = template(tree)?;
    let mut copy = tree.account.command("cp");
    copy.args(["--archive", "--reflink=auto", "--"]).arg(template).arg(data);
    process::capture(&mut copy)?;
    Ok(())
}

/// The folder that `initdb` made for this minor version of Postgres, made now when it is not there.
fn template(tree: &Tree) -> Result<PathBuf, ClusterError> {
    let folder = tree.base.join("templates");
    fs::create_dir_all(&folder).map_err(access(&folder))?;
    tree.account.own(&folder).map_err(access(&folder))?;
    let template = folder.join(minor_version(tree)?);
    let _lock = files::lock(&tree.base.join("templates.lock")).map_err(access(&folder))?;
    if !template.exists() {
        initialise(tree, &template)?;
    }
    Ok(template)
}

/// The words of `postgres --version`, fit for a file name: a template of another minor version may not fit.
fn minor_version(tree: &Tree) -> Result<String, ClusterError> {
    let answer = process::capture(tree.program("postgres").arg("--version"))?;
    Ok(answer
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' })
        .collect())
}

fn initialise(tree: &Tree, template: &Path) -> Result<(), ClusterError> {
    let staging = template.with_extension("part");
    remove(tree, &staging)?;
    make(tree, &staging, &[])?;
    fs::rename(&staging, template).map_err(access(template))
}

/// Makes a data folder by `initdb`, with more options when there are any.
pub(super) fn make(tree: &Tree, data: &Path, options: &[&str]) -> Result<(), ClusterError> {
    let mut initdb = tree.account.command(tree.bin.join("initdb"));
    initdb.args([
        "--no-sync",
        "--auth=trust",
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--pgdata",
    ]);
    process::capture(initdb.arg(data).args(options))?;
    let settings = data.join("postgresql.conf");
    let mut text = fs::read_to_string(&settings).map_err(access(&settings))?;
    text.push_str(&format!("\ninclude_if_exists = '{CONFIGURATION}'\n"));
    fs::write(&settings, text).map_err(access(&settings))
}

/// Removes a folder of the servers' account, when it is there.
pub(super) fn remove(tree: &Tree, folder: &Path) -> Result<(), ClusterError> {
    process::capture(tree.account.command("rm").args(["-rf", "--"]).arg(folder))?;
    Ok(())
}
