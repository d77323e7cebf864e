//! Where settings are looked for.

use std::path::{Path, PathBuf};

/// The places that a settings file is looked for when none is named.
const FILES: [&str; 2] = ["realtime.toml", "/etc/realtime/realtime.toml"];

/// The layers above the defaults. Tests make one by hand; [`Sources::of_process`] takes what the process was given.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The settings file. It must exist when it is named.
    pub file: Option<PathBuf>,
    /// Name and value of each environment variable.
    pub environment: Vec<(String, String)>,
    /// Flat name of the setting and its text, from the command line.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The process' own environment, and the named file or `REALTIME_CONFIG` or the first of the usual places.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        // Lossy, because a variable that is not ours must not stop us.
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        let environment: Vec<_> = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        let named = environment.iter().find(|(name, value)| name == "REALTIME_CONFIG" && !value.is_empty());
        let file = file.or_else(|| named.map(|(_, value)| value.into())).or_else(usual_file);
        Self { file, environment, flags }
    }
}

fn usual_file() -> Option<PathBuf> {
    FILES.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_path_buf)
}
