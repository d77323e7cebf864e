//! Sizes: of the programs on the disk, of the sidecar in memory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use realtime_tests::Sidecar;
use tokio::runtime::Runtime;
use tokio::time::sleep;
use xtask::build::{self, Profile};
use xtask::postgres::Version;

/// What a fresh process still frees and allocates settles in this time.
const SETTLE: Duration = Duration::from_secs(5);

/// Release builds are stripped by their profile.
pub(crate) fn of_programs(_: &Runtime) {
    let print = |name: &str, path: &Path| {
        let bytes = fs::metadata(path).unwrap().len();
        println!("{name}_mb {:.1}", bytes as f64 / 1e6);
    };
    print("sidecar_program", &build::sidecar_program(Profile::Release));
    print("extension_library", &build::extension_library(Version::V15, Profile::Release));
}

/// The memory of the sidecar's process, resident.
pub(crate) async fn of_memory(when: &str, sidecar: &Sidecar) {
    sleep(SETTLE).await;
    let pid = sidecar.pid().expect("the sidecar runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    println!("sidecar_resident_{when}_mb {:.1}", kilobytes * 1024.0 / 1e6);
}
