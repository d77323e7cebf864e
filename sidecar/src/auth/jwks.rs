//! Public keys from a file or an address, cached.
//!
//! Addresses come from the settings only: a token that could name one would make us fetch from inside the network.
//! Keys are found by issuer, source and name together, so that two sources never vouch for each other's tokens.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    error::SetupError,
    keys::{self, Key},
};
use crate::config::{AuthSettings, JwksSource};

/// The cache. [`Jwks::run`] keeps it fresh; everything else only reads it.
pub struct Jwks {
    sources: Vec<JwksSource>,
    issuer: String,
    refresh: Duration,
    cooldown: Duration,
    stale_max: Duration,
    fetcher: Fetcher,
    sets: ArcSwap<BTreeMap<SetName, KeySet>>,
    last_round: Mutex<Option<Round>>,
    wanted: Notify,
    rounds: watch::Sender<u64>,
}

/// Which set a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SetName {
    issuer: String,
    source: JwksSource,
}

/// One fetch of all sources.
#[derive(Clone, Copy)]
struct Round {
    begun_at: Instant,
    is_running: bool,
}

#[derive(Clone)]
struct KeySet {
    keys: Arc<[Key]>,
    fetched_at: Instant,
}

impl Jwks {
    /// Reads the files among the sources; addresses follow in [`Jwks::run`].
    ///
    /// # Errors
    ///
    /// A file that holds no usable key.
    pub(super) fn new(settings: &AuthSettings) -> Result<Self, SetupError> {
        let jwks = Self {
            sources: settings.jwks.clone(),
            issuer: settings.issuer.clone(),
            refresh: settings.jwks_refresh,
            cooldown: settings.jwks_cooldown,
            stale_max: settings.jwks_stale_max,
            fetcher: Fetcher::new(settings)?,
            sets: ArcSwap::default(),
            last_round: Mutex::new(None),
            wanted: Notify::new(),
            rounds: watch::Sender::new(0),
        };
        for source in &jwks.sources {
            if let JwksSource::File(path) = source {
                let keys = jwks.fetcher.read(path).map_err(|error| error.at_start(path))?;
                jwks.store(source, Ok(keys), Instant::now());
            }
        }
        Ok(jwks)
    }

    /// Fetches all sources now and then until `stop` fires: on time, and when a token names an unknown key.
    pub async fn run(&self, stop: CancellationToken) {
        if self.sources.is_empty() {
            return;
        }
        while let Some(complete) = stop.run_until_cancelled(self.round()).await {
            let pause = if complete { self.refresh } else { self.cooldown };
            let asked = async {
                self.wanted.notified().await;
                // Several callers may have asked for the round that just ended.
                while self.is_cooling() {
                    self.wanted.notified().await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => (),
                () = asked => (),
            }
        }
    }

    /// Asks for a fetch and waits for it. `false` at once when one ended a moment ago: a flood of tokens with invented
    /// keys must not become a flood of fetches.
    pub(super) async fn refetch(&self, wait: Duration) -> bool {
        if self.sources.is_empty() {
            return false;
        }
        let mut rounds = self.rounds.subscribe();
        let is_running = self.last_round.lock().is_some_and(|round| round.is_running);
        if !is_running {
            if self.is_cooling() {
                return false;
            }
            self.wanted.notify_one();
        }
        tokio::time::timeout(wait, rounds.changed()).await.is_ok_and(|changed| changed.is_ok())
    }

    /// Applies `check` to the key that a token means; `None` when no set has it.
    pub(super) fn with_key(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        check: impl Fn(&Key) -> bool,
    ) -> Option<bool> {
        let sets = self.sets.load();
        let mut known = false;
        for set in sets.values() {
            if let Some(key) = keys::choose(set.keys.iter(), algorithm, id) {
                known = true;
                if check(key) {
                    return Some(true);
                }
            }
        }
        known.then_some(false)
    }

    fn is_cooling(&self) -> bool {
        self.last_round.lock().is_some_and(|round| round.begun_at.elapsed() < self.cooldown)
    }

    /// Fetches every source once; whether all could be had.
    async fn round(&self) -> bool {
        let mut complete = true;
        let begun_at = Instant::now();
        *self.last_round.lock() = Some(Round { begun_at, is_running: true });
        for source in &self.sources {
            let fetched = match source {
                JwksSource::File(path) => self.fetcher.read(path),
                JwksSource::Url(url) => self.fetcher.fetch(url).await,
            };
            complete &= fetched.is_ok();
            self.store(source, fetched, Instant::now());
        }
        *self.last_round.lock() = Some(Round { begun_at, is_running: false });
        self.rounds.send_modify(|round| *round += 1);
        complete
    }

    fn store(&self, source: &JwksSource, fetched: Result<Vec<Key>, FetchError>, now: Instant) {
        let name = SetName { issuer: self.issuer.clone(), source: source.clone() };
        let mut sets = BTreeMap::clone(&self.sets.load());
        match fetched {
            Ok(keys) => {
                if sets.get(&name).is_none_or(|known| known.keys.len() != keys.len()) {
                    info!(source = ?source, keys = keys.len(), "keys loaded");
                }
                sets.insert(name, KeySet { keys: keys.into(), fetched_at: now });
            }
            Err(error) => {
                warn!(source = ?source, %error, "keys could not be fetched, the known ones stay in force for a while");
                sets.retain(|known, set| *known != name || now.duration_since(set.fetched_at) <= self.stale_max);
            }
        }
        self.sets.store(Arc::new(sets));
    }
}

/// Why a set was not read. The texts are for the log.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("it cannot be read: {0}")]
    File(#[from] std::io::Error),
    #[error("the request failed: {0}")]
    Request(#[from] reqwest::Error),
    #[error("the answer was {0}")]
    Status(reqwest::StatusCode),
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    #[error("it holds no RS256, ES256 or EdDSA key")]
    NoKeys,
}

impl FetchError {
    fn at_start(self, path: &Path) -> SetupError {
        let path = path.to_path_buf();
        match self {
            Self::File(source) => SetupError::File { path, source },
            _ => SetupError::NoKeys { path },
        }
    }
}

struct Fetcher {
    client: Option<reqwest::Client>,
    bytes_max: usize,
}

impl Fetcher {
    fn new(settings: &AuthSettings) -> Result<Self, SetupError> {
        let remote = settings.jwks.iter().any(|source| matches!(source, JwksSource::Url(_)));
        let client = remote.then(|| Self::client(settings.jwks_timeout)).transpose();
        Ok(Self { client: client.map_err(SetupError::Client)?, bytes_max: settings.jwks_bytes_max })
    }

    /// Without redirects and proxies: the address in the settings is the one that is asked.
    fn client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        builder.timeout(timeout).user_agent("realtime-sidecar").build()
    }

    fn read(&self, path: &Path) -> Result<Vec<Key>, FetchError> {
        let bytes = std::fs::read(path)?;
        if bytes.len() > self.bytes_max {
            return Err(FetchError::TooLarge(self.bytes_max));
        }
        usable(&bytes)
    }

    async fn fetch(&self, url: &str) -> Result<Vec<Key>, FetchError> {
        let Some(client) = &self.client else {
            return Err(FetchError::NoKeys);
        };
        let mut response = client.get(url).send().await?;
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if bytes.len() + chunk.len() > self.bytes_max {
                return Err(FetchError::TooLarge(self.bytes_max));
            }
            bytes.extend_from_slice(&chunk);
        }
        usable(&bytes)
    }
}

fn usable(bytes: &[u8]) -> Result<Vec<Key>, FetchError> {
    keys::parse_set(bytes).filter(|keys| !keys.is_empty()).ok_or(FetchError::NoKeys)
}
