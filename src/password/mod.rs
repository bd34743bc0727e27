//! Passwords: the policy for new ones, hashing and verification, and the threads that do it.
//!
//! Hashing is slow and memory-hungry by design. It runs on a few threads of low priority, each with one reused buffer, behind a
//! queue of bounded length. So a flood of sign-ins is refused instead of exhausting memory, and refreshes keep the processor.

mod foreign;
mod hash;
pub mod huge_pages;
#[cfg(feature = "legacy-hashes")]
mod legacy;
mod load_monitor;
mod patterns;
#[cfg_attr(not(feature = "legacy-hashes"), allow(dead_code, reason = "only the legacy schemes parse such strings"))]
mod phc;
mod policy;
mod pool;
mod schemes;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::Histogram;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

pub use foreign::{FirebaseHashConfig, Pbkdf2Digest, pbkdf2};
pub use policy::{NewPassword, WeakPassword};
pub use schemes::{BadHash, import_hash};

use crate::{
    config::PasswordSettings,
    domain::{
        entropy::Entropy,
        secret::{PasswordHash, SecretText},
    },
    metrics,
};
use hash::HashEngine;
use policy::Policy;
use pool::{Pool, Refused};

/// The longest password that sign-in always compares, in bytes. A longer password is compared only if it has at most
/// `password.max_length` characters. That setting limits new passwords only: an imported password may have more characters.
const MAX_VERIFIED_BYTES: usize = 1024;

/// The outcome of verifying a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The password is the right one.
    Match {
        /// A hash under the configured parameters and pepper, if the stored one is outdated.
        upgraded: Option<PasswordHash>,
    },
    /// The password is wrong, or the account has none.
    Mismatch,
    /// The stored hash exceeds the limits on work or needs a scheme that this build lacks, so the account needs a new password.
    /// Callers treat this as a mismatch, and the verification takes as long as for a mismatch.
    Unusable(BadHash),
}

/// The reason why a password wasn't hashed or verified.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The policy refuses the password.
    #[error(transparent)]
    Weak(WeakPassword),
    /// The queue is full.
    #[error("the password queue is full")]
    Busy {
        /// The estimated time until the queue is empty.
        retry_after: Duration,
    },
    /// The stored hash is damaged, or its pepper is not configured.
    #[error("the stored password hash can't be verified: {0}")]
    BadHash(BadHash),
    /// argon2 refuses the configured parameters.
    #[error("argon2 refuses the parameters in the section `password`: {0}")]
    Settings(String),
    /// The operating system refuses a thread.
    #[error("the password threads could not be started: {0}")]
    Threads(io::Error),
    /// The hashing threads have ended.
    #[error("the password threads have stopped")]
    Stopped,
}

impl From<Refused> for PasswordError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full { retry_after } => Self::Busy { retry_after },
            Refused::Stopped => Self::Stopped,
        }
    }
}

/// A reserved slot in the password queue. Dropping it releases the slot.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
}

/// Hashes and verifies passwords. Cheap to clone. The threads end when the last clone is dropped.
#[derive(Clone)]
pub struct PasswordHasher {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

/// The parts that all clones of a [`PasswordHasher`] share.
struct Shared {
    engine: HashEngine,
    policy: Policy,
    entropy: Entropy,
    max_length: usize,
    waited: Histogram,
}

impl PasswordHasher {
    /// Starts the hashing threads.
    ///
    /// # Errors
    /// [`PasswordError::Settings`], [`PasswordError::Threads`]
    pub fn start(settings: &PasswordSettings, entropy: Entropy) -> Result<Self, PasswordError> {
        let engine = HashEngine::new(settings, &entropy).map_err(PasswordError::Settings)?;
        let pool = Pool::start(settings.threads.max(1), settings.queue, engine.block_count())
            .map_err(PasswordError::Threads)?;
        let policy = Policy::new(settings);
        let waited =
            metrics::duration("latchkey_password_wait_seconds", "Time that passwords waited for a hashing thread.");
        let shared = Arc::new(Shared { engine, policy, entropy, max_length: settings.max_length, waited });
        Ok(Self { shared, pool: Arc::new(pool) })
    }

    /// Reserves a slot in the queue. A use case reserves one before it queries the database and Redis, so that requests
    /// that the queue would refuse take almost no time.
    ///
    /// # Errors
    /// [`PasswordError::Busy`]
    pub fn reserve(&self) -> Result<Reservation, PasswordError> {
        let permit = self.pool.reserve().map_err(PasswordError::from)?;
        Ok(Reservation { _permit: permit })
    }

    /// Checks a new password's length and whether it is a common one, without a hashing thread.
    ///
    /// # Errors
    /// [`WeakPassword`]
    pub fn check_new(&self, password: SecretText) -> Result<NewPassword, WeakPassword> {
        self.shared.policy.check_new(password)
    }

    /// Checks the strength of a new password and hashes it. The password must not consist of `words`, such as the
    /// account's e-mail address.
    ///
    /// # Errors
    /// [`PasswordError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "hash password", skip_all, fields(otel.kind = "internal"))]
    pub async fn hash_new(&self, password: NewPassword, words: Vec<String>) -> Result<PasswordHash, PasswordError> {
        let shared = Arc::clone(&self.shared);
        self.run(move |memory| {
            shared.policy.check_strength(&password, &words).map_err(PasswordError::Weak)?;
            shared.engine.hash(&password.0, &shared.entropy, memory).map_err(PasswordError::BadHash)
        })
        .await?
    }

    /// Verifies a password against a stored hash. Without a hash (there is no such account, or the account has no password), it does
    /// the same work, so that the time does not reveal whether the account exists (I7).
    ///
    /// # Errors
    /// [`PasswordError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "check password", skip_all, fields(otel.kind = "internal"))]
    pub async fn verify(&self, password: SecretText, stored: Option<PasswordHash>) -> Result<Verified, PasswordError> {
        let shared = Arc::clone(&self.shared);
        self.run(move |memory| {
            let has_more_characters = |limit| password.expose().chars().nth(limit).is_some();
            let too_long = password.expose().len() > MAX_VERIFIED_BYTES && has_more_characters(shared.max_length);
            let verify_dummy =
                |password, memory| shared.engine.verify_dummy(password, memory).map_err(PasswordError::BadHash);
            let Some(stored) = stored.filter(|_| !too_long) else {
                verify_dummy(&password, memory)?;
                return Ok(Verified::Mismatch);
            };
            let comparison = match shared.engine.verify(&password, &stored, memory) {
                Err(reason @ (BadHash::TooCostly(_) | BadHash::NotBuiltIn | BadHash::UnknownScheme(_))) => {
                    verify_dummy(&password, memory)?;
                    return Ok(Verified::Unusable(reason));
                }
                result => result.map_err(PasswordError::BadHash)?,
            };
            if !comparison.matches {
                return Ok(Verified::Mismatch);
            }
            if !comparison.outdated {
                return Ok(Verified::Match { upgraded: None });
            }
            let upgraded = shared.engine.hash(&password, &shared.entropy, memory).map_err(PasswordError::BadHash)?;
            Ok(Verified::Match { upgraded: Some(upgraded) })
        })
        .await?
    }

    /// The histogram of waiting times.
    pub fn waited(&self) -> &Histogram {
        &self.shared.waited
    }

    /// The number of passwords that wait.
    pub fn queue_depth(&self) -> usize {
        self.pool.waiting()
    }

    /// The number of passwords that the threads have begun to hash or verify since the start.
    pub fn jobs(&self) -> u64 {
        self.pool.started()
    }

    /// Runs `work` on a hashing thread and waits for its result.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut pool::Memory) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (sender, receiver) = oneshot::channel();
        let waited = self.shared.waited.clone();
        let submitted_at = Instant::now();
        let job = move |memory: &mut pool::Memory| -> Option<pool::Delivery> {
            waited.observe(submitted_at.elapsed().as_secs_f64());
            // The caller no longer waits, so the work is skipped.
            if sender.is_closed() {
                return None;
            }
            let outcome = work(memory);
            // The pool decides when to call this: in a long queue it delivers results in batches.
            Some(Box::new(move || drop(sender.send(outcome))))
        };
        self.pool.submit(Box::new(job))?;
        receiver.await.map_err(|_| PasswordError::Stopped)
    }
}

#[cfg(test)]
mod tests;
