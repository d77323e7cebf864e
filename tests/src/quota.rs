//! A small disk, for what happens when it is full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use xtask::cluster::Account;

/// A file system of its own in memory, of a fixed size. It goes when dropped, and when our process ends.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    guard: Child,
}

impl SmallDisk {
    /// Mounts one; `None` when we are not root, who alone may.
    ///
    /// # Panics
    ///
    /// When it cannot be mounted although we are root.
    pub fn mount(mebibytes: u32) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let name = format!("realtime-disk-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let disk = Self { guard: guard(&folder), folder };
        let options = format!("size={mebibytes}m,mode=0755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&disk.folder);
        xtask::process::run(&mut mount).unwrap_or_else(|error| panic!("{error}"));
        Some(disk)
    }

    /// A folder on it that the servers' account owns.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).unwrap();
        Account::for_servers().unwrap().own(&folder).unwrap();
        folder
    }

    /// Fills what is free, to the last page. Dropping the result frees it.
    ///
    /// # Panics
    ///
    /// When a write fails for another reason than the disk's being full.
    pub fn fill(&self) -> Filler {
        let path = self.folder.join("filler");
        let mut file = File::create(&path).unwrap();
        let page = [0; 4096];
        loop {
            match file.write_all(&page) {
                Ok(()) => (),
                Err(error) if error.kind() == ErrorKind::StorageFull => return Filler { path },
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A file that takes all the room there was.
#[derive(Debug)]
pub struct Filler {
    path: PathBuf,
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Unmounts when its own input closes, which the system does however we end; a server may need a moment to let go.
fn guard(folder: &Path) -> Child {
    const SCRIPT: &str = r#"read -r _; umount -l "$1"; rmdir "$1""#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "disk-guard"]).arg(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
