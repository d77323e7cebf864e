//! Secrets of one run.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{RunError, access};

/// 256 random bits as hexadecimal digits: fit for SQL literals and addresses as they are.
pub(super) fn generate() -> Result<String, RunError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0_u8; 32];
    File::open(source).and_then(|mut file| file.read_exact(&mut bytes)).map_err(access(source))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
