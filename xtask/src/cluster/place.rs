//! Where trees and data lie: in the target folder when the servers' account can reach it, else in a folder of this
//! clone under the system's temporary folder. `initdb` fails below folders that the account cannot enter.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Account, ClusterError, access};
use crate::workspace;

/// The folder for everything of this clone's private servers.
pub(super) fn base(account: Account) -> Result<PathBuf, ClusterError> {
    let [near, far] = candidates();
    fs::create_dir_all(&near).map_err(access(&near))?;
    if account.can_enter(&near) {
        return near.canonicalize().map_err(access(&near));
    }
    make_own(&far)?;
    far.canonicalize().map_err(access(&far))
}

/// The folders that private servers of this clone may lie in.
pub(super) fn candidates() -> [PathBuf; 2] {
    let name = format!("realtime-{:016x}", fingerprint(workspace::root()));
    [workspace::target().join("postgres"), std::env::temp_dir().join(name)]
}

/// A folder in a place where others may write too, so that what is there may be a trap.
fn make_own(folder: &Path) -> Result<(), ClusterError> {
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(access(folder)(error)),
        _ => (),
    }
    let meta = fs::symlink_metadata(folder).map_err(access(folder))?;
    if meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(ClusterError::Taken(folder.to_owned()))
}

/// FNV-1a: the same clone must find the same folder with every version of the compiler.
fn fingerprint(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clones_have_two_fingerprints() {
        assert_ne!(fingerprint(Path::new("/src/one")), fingerprint(Path::new("/src/two")));
        assert_eq!(fingerprint(Path::new("/src/one")), fingerprint(Path::new("/src/one")));
    }
}
