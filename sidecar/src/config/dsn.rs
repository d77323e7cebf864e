//! Connection strings: libpq's TLS words are taken out here, because the driver does not know all of them.

use std::{fmt, path::PathBuf, sync::LazyLock, time::Duration};

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// What every session of this process is called in `pg_stat_activity`. Another process has another name, so that the
/// database can count sidecars and not their sessions.
#[must_use]
pub fn process_name() -> &'static str {
    static NAME: LazyLock<String> =
        LazyLock::new(|| format!("realtime-sidecar-{:.8}", uuid::Uuid::new_v4().simple().to_string()));
    &NAME
}

/// A parsed connection string. Its `Debug` and `Display` never show the password.
#[derive(Clone)]
pub struct Dsn {
    postgres: tokio_postgres::Config,
    tls: TlsSettings,
}

/// How a connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// What is demanded of the server.
    pub mode: TlsMode,
    /// PEM file of the authorities trusted; `None` means the system's.
    pub roots: Option<PathBuf>,
    /// PEM files of our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// When the server can; no certificate is looked at.
    Prefer,
    /// Always; the certificate is looked at only when authorities are named, as libpq does.
    Require,
    /// Always, by a trusted authority.
    VerifyCa,
    /// Always, by a trusted authority, for this very host.
    VerifyFull,
}

/// Why a connection string was refused. Never quotes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// The form is broken.
    #[error("it is not a connection string: {0}")]
    Syntax(String),
    /// No host.
    #[error("it names no host")]
    NoHost,
    /// No user.
    #[error("it names no user")]
    NoUser,
    /// An unknown `sslmode`.
    #[error("its sslmode is unknown")]
    TlsMode,
    /// One of two that go together.
    #[error("it has one of sslcert and sslkey without the other")]
    HalfIdentity,
}

impl DsnError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Syntax(_) | Self::NoHost | Self::NoUser => {
                "write postgres://user:password@host:5432/database with %-escapes for special characters"
            }
            Self::TlsMode => "give sslmode=disable, prefer, require, verify-ca or verify-full",
            Self::HalfIdentity => "give both or none",
        }
    }
}

impl Dsn {
    /// Parses a URL or a list of `key=value` words.
    ///
    /// # Errors
    ///
    /// Says what is wrong without quoting the text.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let text = text.trim();
        let mut tls = TlsWords::default();
        let rest = if is_url(text) { tls.take_from_url(text)? } else { tls.take_from_words(text)? };
        let mut postgres: tokio_postgres::Config = rest.parse().map_err(|error| DsnError::Syntax(reason(&error)))?;
        if postgres.get_hosts().is_empty() && postgres.get_hostaddrs().is_empty() {
            return Err(DsnError::NoHost);
        }
        if postgres.get_user().is_none() {
            return Err(DsnError::NoUser);
        }
        let tls = tls.settings()?;
        complete(&mut postgres, tls.mode);
        Ok(Self { postgres, tls })
    }

    /// For the driver.
    #[must_use]
    pub fn postgres(&self) -> &tokio_postgres::Config {
        &self.postgres
    }

    /// For the TLS connector.
    #[must_use]
    pub fn tls(&self) -> &TlsSettings {
        &self.tls
    }

    /// The role that logs in.
    #[must_use]
    pub fn user(&self) -> &str {
        self.postgres.get_user().unwrap_or_default()
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.user())?;
        let ports = self.postgres.get_ports();
        for (index, host) in self.postgres.get_hosts().iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            let port = ports.get(index).or_else(|| ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => write!(f, "{separator}{name}:{port}")?,
                Host::Unix(path) => write!(f, "{separator}{}:{port}", path.display())?,
            }
        }
        write!(f, "/{}", self.postgres.get_dbname().unwrap_or(self.user()))
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({self}, {:?})", self.tls)
    }
}

/// Settings that every session of ours has, unless the string says otherwise.
fn complete(postgres: &mut tokio_postgres::Config, mode: TlsMode) {
    postgres.application_name(process_name());
    postgres.ssl_mode(match mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    // Ticks are written, so of several hosts only the primary will do.
    if postgres.get_hosts().len() > 1 && postgres.get_target_session_attrs() == TargetSessionAttrs::Any {
        postgres.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    // A server that vanished without a word is noticed within half a minute, not within two hours.
    if postgres.get_keepalives_idle() == Duration::from_secs(2 * 60 * 60) {
        postgres.keepalives_idle(Duration::from_secs(15));
    }
    if postgres.get_keepalives_interval().is_none() {
        postgres.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
    }
    if postgres.get_tcp_user_timeout().is_none() {
        postgres.tcp_user_timeout(Duration::from_secs(30));
    }
}

/// The words that we take out of the string, as they stood there.
#[derive(Default)]
struct TlsWords {
    mode: Option<String>,
    roots: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl TlsWords {
    /// Keeps the word when it is one of ours.
    fn take(&mut self, name: &str, value: &str) -> bool {
        let slot = match name {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.roots,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ => return false,
        };
        *slot = Some(value.to_owned());
        true
    }

    fn take_from_url(&mut self, text: &str) -> Result<String, DsnError> {
        let Some((base, query)) = text.split_once('?') else {
            return Ok(text.to_owned());
        };
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !self.take(name, &unescape(value)?) {
                rest.push(libpq_synonym(pair));
            }
        }
        Ok(if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) })
    }

    fn take_from_words(&mut self, text: &str) -> Result<String, DsnError> {
        let mut rest = String::new();
        for (name, value) in words(text)? {
            if !self.take(&name, &value) {
                let word = format!("{name}={}", quote(&value));
                rest.push_str(libpq_synonym(&word));
                rest.push(' ');
            }
        }
        Ok(rest)
    }

    fn settings(self) -> Result<TlsSettings, DsnError> {
        let mode = match self.mode.as_deref() {
            Some("disable") => TlsMode::Disable,
            None | Some("allow" | "prefer") => TlsMode::Prefer,
            Some("require") => TlsMode::Require,
            Some("verify-ca") => TlsMode::VerifyCa,
            Some("verify-full") => TlsMode::VerifyFull,
            Some(_) => return Err(DsnError::TlsMode),
        };
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => return Err(DsnError::HalfIdentity),
        };
        let roots = self.roots.filter(|path| path != "system").map(PathBuf::from);
        Ok(TlsSettings { mode, roots, identity })
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// `primary` is libpq's newer word for what the driver calls `read-write`.
fn libpq_synonym(pair: &str) -> &str {
    match pair {
        "target_session_attrs=primary" | "target_session_attrs='primary'" => "target_session_attrs=read-write",
        other => other,
    }
}

/// Splits `key=value key='quoted \' value'` into pairs.
fn words(text: &str) -> Result<Vec<(String, String)>, DsnError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once('=') else {
            return Err(DsnError::Syntax("a word without `=`".to_owned()));
        };
        let (value, after) = word_value(after.trim_start())?;
        pairs.push((name.trim().to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Reads one value, quoted or not, and returns what follows it.
fn word_value(text: &str) -> Result<(String, &str), DsnError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            ' ' | '\t' | '\n' | '\r' if !quoted => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if quoted { Err(DsnError::Syntax("a quote is not closed".to_owned())) } else { Ok((value, "")) }
}

/// Quotes a value of a `key=value` string.
pub(super) fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn unescape(text: &str) -> Result<String, DsnError> {
    let broken = || DsnError::Syntax("a %-escape is broken".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(broken)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

/// The driver's reason without its preamble. It names words, never values.
fn reason(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Dsn {
        Dsn::parse(text).unwrap()
    }

    #[test]
    fn tls_words_are_understood_in_both_forms() {
        let url = parse("postgres://u:p@h/d?sslmode=verify-full&sslrootcert=%2Fetc%2Fca%20x.pem&connect_timeout=3");
        let words =
            parse(r"host=h user=u password='p' sslmode=verify-full sslrootcert='/etc/ca x.pem' connect_timeout=3");
        for dsn in [url, words] {
            assert_eq!(dsn.tls().mode, TlsMode::VerifyFull);
            assert_eq!(dsn.tls().roots.as_deref(), Some(std::path::Path::new("/etc/ca x.pem")));
            assert_eq!(dsn.postgres().get_ssl_mode(), SslMode::Require);
            assert_eq!(dsn.postgres().get_connect_timeout(), Some(&Duration::from_secs(3)));
        }
    }

    #[test]
    fn passwords_survive_quoting_and_stay_out_of_texts() {
        let dsn = parse(r"host=h user=u dbname=d password='it\'s \\ a=b c' application_name=x");
        assert_eq!(dsn.postgres().get_password(), Some(br"it's \ a=b c".as_slice()));
        for text in [format!("{dsn}"), format!("{dsn:?}"), format!("{:?}", dsn.postgres())] {
            assert!(!text.contains("a=b"), "{text}");
        }
        assert_eq!(dsn.to_string(), "u@h:5432/d");
    }

    #[test]
    fn of_several_hosts_the_primary_is_taken() {
        for attrs in ["", "?target_session_attrs=read-write", "?target_session_attrs=primary"] {
            let dsn = parse(&format!("postgres://u@a:1,b:2/d{attrs}"));
            assert_eq!(dsn.postgres().get_target_session_attrs(), TargetSessionAttrs::ReadWrite, "{attrs}");
            assert_eq!(dsn.to_string(), "u@a:1,b:2/d");
        }
    }

    #[test]
    fn every_session_is_named_kept_alive_and_given_up_in_time() {
        let dsn = parse("postgres://u@h/d");
        assert_eq!(dsn.postgres().get_application_name(), Some(process_name()));
        assert_eq!(process_name().len(), "realtime-sidecar-".len() + 8);
        assert_eq!(dsn.postgres().get_keepalives_idle(), Duration::from_secs(15));
        assert_eq!(dsn.postgres().get_tcp_user_timeout(), Some(&Duration::from_secs(30)));
        let own = parse("postgres://u@h/d?keepalives_idle=60&tcp_user_timeout=5");
        assert_eq!(own.postgres().get_keepalives_idle(), Duration::from_secs(60));
        assert_eq!(own.postgres().get_tcp_user_timeout(), Some(&Duration::from_secs(5)));
    }

    #[test]
    fn broken_strings_are_refused_without_being_quoted() {
        for text in [
            "secret",
            "postgres://u:secret@h/d?nonsense=secret",
            "postgres://u:secret@h/d?sslmode=secret",
            "postgres://u:secret@h/d?sslcert=secret",
            "postgres://u:secret@h/d?sslrootcert=%zzsecret",
            "host=h user=u password='secret",
            "user=u password=secret",
            "host=h password=secret",
            "host=h user=u port=secret",
        ] {
            let error = Dsn::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?} {}", error.remedy()).contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn unix_sockets_and_ports() {
        assert_eq!(parse("host=/tmp/pg user=u port=5433 dbname=d").to_string(), "u@/tmp/pg:5433/d");
        assert_eq!(parse("postgres://u@%2Ftmp%2Fpg:5433/d").to_string(), "u@/tmp/pg:5433/d");
    }
}
