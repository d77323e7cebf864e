//! Where things lie in this clone.

use std::env;
use std::path::{Path, PathBuf};

/// The name of the extension, of its library and of its schema.
pub const EXTENSION: &str = "realtime";

/// The version of the product, which is the version of the extension's script.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The top folder of the clone.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in a folder of the workspace")
}

/// The folder that everything built goes to: `CARGO_TARGET_DIR`, else `target/`.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}
