//! What a private server is started with.

use std::path::PathBuf;

/// What a private server is started with. The default is for tests: a free port, no fsync, data that goes with it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether commits survive a crash of the machine. A killed server loses nothing either way.
    pub fsync: bool,
    /// More settings, as in `postgresql.conf`; a later one wins over an earlier one and over ours.
    pub settings: Vec<(String, String)>,
    /// Where the data lies.
    pub storage: Storage,
    /// The port; a free one when not given.
    pub port: Option<u16>,
    /// The superuser's password for TCP. Without one every local user may connect: right for tests, not for more.
    pub password: Option<String>,
    /// Variables for the server's processes, and for no other process of ours.
    pub environment: Vec<(String, String)>,
}

/// Where a server's data lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In a folder of its own, which goes when the server goes.
    #[default]
    Temporary,
    /// In a named folder of this clone, which stays. The name is a single folder name.
    Kept(String),
    /// In a given folder, which stays.
    At(PathBuf),
}

impl Options {
    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The lines of the configuration file for a server.
pub(super) fn configuration(options: &Options, port: u16, sockets: &str) -> String {
    let fsync = if options.fsync { "on" } else { "off" };
    let port = port.to_string();
    let ours = [
        ("listen_addresses", "127.0.0.1"),
        ("port", port.as_str()),
        ("unix_socket_directories", sockets),
        ("fsync", fsync),
        ("max_connections", "200"),
        ("max_prepared_transactions", "64"),
        ("max_worker_processes", "64"),
        ("logging_collector", "off"),
        ("log_line_prefix", "%m [%p] %q%a %u@%d "),
    ];
    let given = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    ours.into_iter().chain(given).map(|(name, value)| setting(name, value)).collect()
}

/// Who may connect: through the socket whoever can reach its folder, over TCP as the options say.
pub(super) fn access_rules(options: &Options) -> String {
    let tcp = if options.password.is_some() { "scram-sha-256" } else { "trust" };
    format!(
        "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 {tcp}\nhost replication all 127.0.0.1/32 {tcp}\n"
    )
}

fn setting(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_settings_come_last_and_are_quoted() {
        let options = Options::default().set("application_name", r"it's \ here");
        let text = configuration(&options, 20_001, "/tmp/x");
        assert!(text.contains("port = '20001'\n"));
        assert!(text.ends_with("application_name = 'it''s \\\\ here'\n"));
    }
}
