//! Folders of links, locks between processes of ours, and what a server leaves in `/proc` and in its log.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::files::install;
use crate::workspace::EXTENSION;

/// Makes a folder whose entries are links to the entries of another; what is there is left alone. The extension's own
/// files are left out: those that `make install` put into the system must not be found here.
pub(super) fn link_entries(source: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        if !is_ours(&entry.file_name().to_string_lossy()) {
            link(&entry.path(), &folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(EXTENSION).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("--"))
}

/// Makes a link unless something is at its place.
pub(super) fn link(target: &Path, place: &Path) -> io::Result<()> {
    match symlink(target, place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Copies every file of a folder, except that links to neighbours (`postmaster`) stay links.
pub(super) fn copy_entries(source: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let place = folder.join(entry.file_name());
        match fs::read_link(entry.path()) {
            Ok(target) if target.components().count() == 1 => link(&target, &place)?,
            _ => install(&entry.path(), &place)?,
        }
    }
    Ok(())
}

/// Takes a lock between processes, held until the file is dropped.
pub(super) fn lock(place: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(place)?;
    file.lock()?;
    Ok(file)
}

/// The processes of the server in a data folder: they stay in it, also those that outlive the first of them.
pub(super) fn server_processes(folder: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|pid| is_server_process(*pid, folder)).collect()
}

fn is_server_process(pid: u32, folder: &Path) -> bool {
    let works_in = |place: PathBuf| place == folder;
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(works_in)
        && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "postgres")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_extensions_own_files_are_ours() {
        assert!(is_ours("realtime.control") && is_ours("realtime.so") && is_ours("realtime--0.1.0.sql"));
        assert!(!is_ours("realtimes.control") && !is_ours("plpgsql.so"));
    }
}
