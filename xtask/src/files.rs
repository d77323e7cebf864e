//! Files put where somebody may be using the old ones.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Copies a file to a place where a server may have the old one mapped: writing into a mapped file crashes whoever
/// mapped it, a rename does not. Does nothing when the same bytes are there already.
///
/// # Errors
///
/// When the source cannot be read or the place cannot be written.
pub fn install(source: &Path, place: &Path) -> io::Result<()> {
    let bytes = fs::read(source)?;
    if fs::read(place).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    replace(place, |staging| fs::copy(source, staging).map(drop))
}

/// As [`install`], from text.
///
/// # Errors
///
/// When the place cannot be written.
pub fn install_text(text: &str, place: &Path) -> io::Result<()> {
    if fs::read_to_string(place).is_ok_and(|present| present == text) {
        return Ok(());
    }
    replace(place, |staging| fs::write(staging, text))
}

/// Writes a file beside its place and renames it there. A failed write leaves the old file alone.
///
/// # Errors
///
/// When the file cannot be written or renamed.
pub fn replace(place: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}-{count}", std::process::id()));
    let staging = place.with_file_name(name);
    let result = write(&staging).and_then(|()| fs::rename(&staging, place));
    if result.is_err() {
        let _ = fs::remove_file(&staging);
    }
    result
}
