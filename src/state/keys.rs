//! The signing keys of a node: loaded at start-up and reloaded when another node adds or retires one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{
    Mutex,
    broadcast::{self, error::RecvError},
};

use super::error::StateError;
use crate::{
    crypto::{
        key_ring::{KeyRing, KeyRingError, SharedKeyRing, reseal, seal_key},
        seal::{SealError, Sealer},
        signing_key::SigningKey,
    },
    domain::{
        clock::{Clock, Timestamp},
        entropy::Entropy,
        event::{FeedMessage, RevocationTarget},
        key::Algorithm,
    },
    store::{redis::RedisStores, sql::Sql},
};

/// Shortest time between two reloads that tokens with an unknown `kid` cause.
const MISS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a key stays in the database after its last token has expired. A node whose clock lags by less than this time refuses the
/// key's tokens as expired before the key is deleted.
const DELETE_AFTER: Duration = Duration::from_hours(24);

/// A reload because of an unknown key id.
struct MissReload {
    /// When the reload ended.
    at: Timestamp,
    succeeded: bool,
}

/// The key ring in use, and the means to reload it.
pub struct SigningKeys {
    ring: Arc<SharedKeyRing>,
    /// The last reload that an unknown key id caused.
    last_miss_reload: Mutex<Option<MissReload>>,
    /// Whether the latest reload found a key that is sealed under a secret that this node does not have.
    lacks_secret: AtomicBool,
    sql: Sql,
    sealer: Arc<Sealer>,
    clock: Clock,
}

impl SigningKeys {
    /// Loads the keys. Generates the first key if there is none, and reseals keys that are sealed under a previous secret.
    ///
    /// # Errors
    /// [`StateError`]
    pub(super) async fn load(
        algorithm: Algorithm,
        clock: &Clock,
        entropy: &Entropy,
        sql: &Sql,
        sealer: Arc<Sealer>,
    ) -> Result<Self, StateError> {
        let now = clock.now();
        let mut stored = sql.keys().await?;
        if stored.is_empty() {
            let key = generate(algorithm).await?;
            // If several nodes start together, one of them inserts its key, and all of them use that key.
            let sealed = seal_key(&key, &sealer, entropy, now)?;
            if sql.insert_first_key(&sealed).await? {
                tracing::info!(kid = key.kid(), algorithm = %key.algorithm(), "first signing key generated");
            }
            stored = sql.keys().await?;
        }
        let ring = KeyRing::open(stored.clone(), &sealer, now)?;
        for key in stored.iter().filter(|key| ring.outdated().contains(&key.kid)) {
            let resealed = reseal(key, &sealer, entropy)?;
            sql.reseal_key(&key.kid, &resealed.sealed_private).await?;
            tracing::info!(kid = key.kid, "signing key encrypted under the current secret");
        }
        Ok(Self {
            ring: Arc::new(SharedKeyRing::new(ring)),
            last_miss_reload: Mutex::new(None),
            lacks_secret: AtomicBool::new(false),
            sql: sql.clone(),
            sealer,
            clock: clock.clone(),
        })
    }

    /// The handle to the current key ring, for the token verifier.
    pub(super) fn shared(&self) -> Arc<SharedKeyRing> {
        Arc::clone(&self.ring)
    }

    /// The key ring in use.
    pub fn current(&self) -> Arc<KeyRing> {
        self.ring.current()
    }

    /// Deletes the keys whose last token expired long ago, and reloads the others.
    ///
    /// # Errors
    /// [`StateError`]; the keys in use then stay in use.
    pub async fn reload(&self) -> Result<(), StateError> {
        self.sql.delete_keys_before(self.clock.now() - DELETE_AFTER).await?;
        self.reload_if_changed().await
    }

    /// Reloads the keys because a token names an unknown key, which another node may have just published. Reloads at most once a
    /// second, so that a flood of forged tokens does not reach the database; otherwise only reports whether the last such reload
    /// succeeded. Concurrent callers wait for the reload in progress.
    ///
    /// # Errors
    /// [`StateError`]; the keys in use then stay in use, and the token's key may exist.
    pub(crate) async fn reload_on_miss(&self) -> Result<(), StateError> {
        let mut last_reload = self.last_miss_reload.lock().await;
        let now = self.clock.now();
        if let Some(last) = &*last_reload
            && now.saturating_since(last.at) < MISS_INTERVAL
        {
            return if last.succeeded { Ok(()) } else { Err(StateError::Backoff) };
        }
        // Boxed, because this future is needed rarely, and would add kilobytes to the future of every caller.
        let outcome = Box::pin(self.reload_if_changed()).await;
        match &outcome {
            // The reloader logs a missing secret.
            Ok(()) | Err(StateError::KeyRing(KeyRingError::Sealed { source: SealError::UnknownSecret, .. })) => {}
            Err(error) => {
                tracing::warn!(
                    %error,
                    "reloading the signing keys for a token with an unknown key id failed; the keys in memory stay \
                     in use. If other nodes exist, one of them may have created the token's key, so the answer is 503. Check the \
                     database"
                );
            }
        }
        // not `now`: a reload that took long must not be followed by another at once
        *last_reload = Some(MissReload { at: self.clock.now(), succeeded: outcome.is_ok() });
        outcome
    }

    /// Reloads the keys at every `interval` (`keys.refresh_interval`), and at once when a key is retired, for as long as the
    /// service runs.
    pub async fn run_reloader(&self, redis: &RedisStores, interval: Duration) {
        let mut feed = redis.revocation_log.subscribe();
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_failure = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = wait_for_retired_key(&mut feed) => {}
            }
            log_reload(self.reload().await, &mut last_failure);
        }
    }

    /// Whether another node has sealed the keys under a secret that this node does not have, as of the last reload.
    pub(crate) fn lacks_secret(&self) -> bool {
        self.lacks_secret.load(Ordering::Relaxed)
    }

    /// Replaces the key ring if the stored keys have changed.
    async fn reload_if_changed(&self) -> Result<(), StateError> {
        let now = self.clock.now();
        let stored = self.sql.keys().await?;
        if self.ring.current().is_made_from(&stored) {
            self.lacks_secret.store(false, Ordering::Relaxed);
        } else {
            let opened = KeyRing::open(stored, &self.sealer, now);
            let lacks_secret = matches!(&opened, Err(KeyRingError::Sealed { source: SealError::UnknownSecret, .. }));
            self.lacks_secret.store(lacks_secret, Ordering::Relaxed);
            self.ring.replace(opened?);
            tracing::info!("signing keys reloaded: they have changed");
        }
        Ok(())
    }
}

/// Why the reloader can't reload the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReloadFailure {
    /// The node lacks the secret under which another node has encrypted the keys.
    LacksSecret,
    /// Any other reason.
    Other,
}

/// Logs the first of consecutive failures of a kind, and the first success afterwards. `last_failure` is the failure of the previous
/// reload; none if that succeeded.
fn log_reload(outcome: Result<(), StateError>, last_failure: &mut Option<ReloadFailure>) {
    match outcome {
        Ok(()) => {
            if last_failure.take().is_some() {
                tracing::info!("reloading the signing keys works again: this node sees changes of keys");
            }
        }
        // Warns of `latchkey keys rotate` and `latchkey keys retire`: the keys are not lost, and both would sign everyone out.
        Err(StateError::KeyRing(KeyRingError::Sealed { kid, source: SealError::UnknownSecret })) => {
            if last_failure.replace(ReloadFailure::LacksSecret) != Some(ReloadFailure::LacksSecret) {
                tracing::error!(
                    kid,
                    "another node has encrypted the signing keys under a secret that this node does not have: add that secret to this node's \
                     secret file (or LATCHKEY_SECRET_PREVIOUS) and restart it. Do not rotate or retire keys. Until then this node answers \
                     tokens of the other secret and of newer signing keys with 503"
                );
            }
        }
        Err(error) => {
            if last_failure.replace(ReloadFailure::Other) != Some(ReloadFailure::Other) {
                tracing::warn!(
                    %error,
                    "reloading the signing keys failed, retrying every keys.refresh_interval; the keys in memory \
                     stay in use. Until a reload succeeds, this node does not see changes of keys by other nodes or \
                     commands"
                );
            }
        }
    }
}

/// Waits until a message of the feed says that a signing key is retired, or until messages are lost, which may have said so.
async fn wait_for_retired_key(feed: &mut broadcast::Receiver<FeedMessage>) {
    loop {
        match feed.recv().await {
            Ok(FeedMessage::Revoked(revocation)) => {
                if matches!(revocation.target, RevocationTarget::Key { .. }) {
                    return;
                }
            }
            Ok(FeedMessage::Lost) | Err(RecvError::Lagged(_)) => return,
            // the service shuts down
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Generates a key on a blocking thread, because generating an RSA key takes long.
pub(crate) async fn generate(algorithm: Algorithm) -> Result<SigningKey, StateError> {
    let joined = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm)).await;
    let generated = joined.map_err(|join_error| StateError::KeyGeneration(join_error.into()))?;
    generated.map_err(|error| StateError::KeyGeneration(error.into()))
}
