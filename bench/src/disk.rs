//! Disks: how long this one takes for a flush, and one that takes a millisecond longer.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, process};

/// What Postgres flushes at a commit of one small transaction.
const PAGE: [u8; 8192] = [1; 8192];

/// A library that makes the WAL's flushes slower, in a folder of its own. It is given to one server's environment and
/// to nobody else.
pub(crate) struct SlowDisk {
    folder: PathBuf,
    added: Duration,
}

impl SlowDisk {
    /// Compiles the library. The linker's C compiler is there: Rust needs it too.
    pub(crate) fn build(added: Duration) -> Self {
        let folder = env::temp_dir().join(format!("realtime-bench-disk-{}", process::id()));
        DirBuilder::new().create(&folder).unwrap();
        // The server may run as another user.
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let disk = Self { folder, added };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("slow_disk.c");
        let mut compiler = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(disk.library()).arg(source).arg("-ldl");
        xtask::process::run(&mut compiler).unwrap();
        fs::set_permissions(disk.library(), Permissions::from_mode(0o755)).unwrap();
        disk
    }

    fn library(&self) -> PathBuf {
        self.folder.join("slow_disk.so")
    }

    /// The variables that a server on such a disk is started with.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let library = self.library().to_string_lossy().into_owned();
        let added_us = self.added.as_micros().to_string();
        vec![("LD_PRELOAD".to_owned(), library), ("SLOW_DISK_US".to_owned(), added_us)]
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // Left behind it would be one small file in the temporary folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A file beside the server's data, flushed like the WAL: written over, its length stays.
pub(crate) struct Probe {
    file: File,
    path: PathBuf,
}

impl Probe {
    /// A probe in a folder of the disk that is measured.
    pub(crate) fn create(folder: &Path) -> Self {
        let path = folder.join("flush-probe");
        let mut file = File::create(&path).unwrap();
        file.write_all(&PAGE).unwrap();
        file.sync_all().unwrap();
        Self { file, path }
    }

    /// How long one flush takes now, in milliseconds.
    pub(crate) fn flush_ms(&mut self) -> f64 {
        use std::os::unix::fs::FileExt;
        self.file.write_all_at(&PAGE, 0).unwrap();
        let began = Instant::now();
        self.file.sync_data().unwrap();
        began.elapsed().as_secs_f64() * 1e3
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It lies in the server's folder and goes with that.
        let _ = fs::remove_file(&self.path);
    }
}
