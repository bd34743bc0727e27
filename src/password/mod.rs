//! Passwords: the policy for new ones, hashing and verification, and the threads that do it.
//!
//! Hashing is slow and memory-hungry by design. It runs on a few threads of low priority, each with one reused buffer,
//! behind a queue of bounded length: a flood of sign-ins is refused instead of exhausting memory, and refreshes keep the
//! processor.

mod foreign;
mod hash;
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
use hash::Hashing;
use policy::Policy;
use pool::{Pool, Refused};

/// The longest password that sign-in compares, in bytes. `password.max_length` limits new passwords only.
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
    /// The stored hash exceeds the limits on work or needs a scheme that this build lacks: the account needs a new
    /// password. To the caller this is a mismatch, and it takes as long.
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
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Hashes and verifies passwords. Cheap to clone. The threads end when the last clone is dropped.
#[derive(Clone)]
pub struct PasswordHasher {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

struct Shared {
    hashing: Hashing,
    policy: Policy,
    entropy: Entropy,
    max_length: usize,
    waited: Histogram,
}

impl PasswordHasher {
    /// Starts the hashing threads.
    ///
    /// # Errors
    /// [`PasswordError::Settings`]
    pub fn start(settings: &PasswordSettings, entropy: Entropy) -> Result<Self, PasswordError> {
        let hashing = Hashing::new(settings, &entropy).map_err(PasswordError::Settings)?;
        let blocks = hashing.block_count();
        let pool = Pool::start(settings.threads.max(1), settings.queue, blocks)
            .map_err(|error| PasswordError::Settings(format!("the threads could not be started: {error}")))?;
        let policy = Policy::new(settings);
        let waited =
            metrics::duration("latchkey_password_wait_seconds", "Time that passwords waited for a hashing thread.");
        let shared = Arc::new(Shared { hashing, policy, entropy, max_length: settings.max_length, waited });
        Ok(Self { shared, pool: Arc::new(pool) })
    }

    /// Reserves a slot in the queue. A use case reserves one before it queries the database and Redis, so that requests
    /// which the queue would refuse cost next to nothing.
    ///
    /// # Errors
    /// [`PasswordError::Busy`]
    pub fn reserve(&self) -> Result<Place, PasswordError> {
        let permit = self.pool.reserve().map_err(PasswordError::from)?;
        Ok(Place { _permit: permit })
    }

    /// Checks a new password's length and whether it is a common one, without a hashing thread.
    ///
    /// # Errors
    /// [`WeakPassword`]
    pub fn check_new(&self, password: SecretText) -> Result<NewPassword, WeakPassword> {
        self.shared.policy.check_new(password)
    }

    /// Checks the strength of a new password and hashes it. `context` holds words that the password must not consist of,
    /// such as the account's e-mail address.
    ///
    /// # Errors
    /// [`PasswordError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "hash password", skip_all, fields(otel.kind = "internal"))]
    pub async fn hash_new(&self, password: NewPassword, context: Vec<String>) -> Result<PasswordHash, PasswordError> {
        let shared = Arc::clone(&self.shared);
        self.run(move |memory| {
            shared.policy.check_strength(&password, &context).map_err(PasswordError::Weak)?;
            shared.hashing.hash(&password.0, &shared.entropy, memory).map_err(PasswordError::BadHash)
        })
        .await?
    }

    /// Verifies a password against a stored hash. Without one (no such account, or an account without a password) it does
    /// the same work, so that the time reveals nothing (I7).
    ///
    /// # Errors
    /// [`PasswordError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "check password", skip_all, fields(otel.kind = "internal"))]
    pub async fn verify(&self, password: SecretText, stored: Option<PasswordHash>) -> Result<Verified, PasswordError> {
        let shared = Arc::clone(&self.shared);
        self.run(move |memory| {
            let too_long = password.expose().len() > MAX_VERIFIED_BYTES
                && password.expose().chars().nth(shared.max_length).is_some();
            let dummy =
                |password, memory| shared.hashing.verify_dummy(password, memory).map_err(PasswordError::BadHash);
            let Some(stored) = stored.filter(|_| !too_long) else {
                dummy(&password, memory)?;
                return Ok(Verified::Mismatch);
            };
            let comparison = match shared.hashing.verify(&password, &stored, memory) {
                Err(reason @ (BadHash::TooCostly(_) | BadHash::NotBuiltIn | BadHash::UnknownScheme(_))) => {
                    dummy(&password, memory)?;
                    return Ok(Verified::Unusable(reason));
                }
                comparison => comparison.map_err(PasswordError::BadHash)?,
            };
            if !comparison.matches {
                return Ok(Verified::Mismatch);
            }
            let upgraded = comparison
                .outdated
                .then(|| shared.hashing.hash(&password, &shared.entropy, memory))
                .transpose()
                .map_err(PasswordError::BadHash)?;
            Ok(Verified::Match { upgraded })
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

    /// The number of passwords hashed or verified since the start, including current ones.
    pub fn jobs(&self) -> u64 {
        self.pool.started()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut pool::Memory) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (sender, receiver) = oneshot::channel();
        let (waited, since) = (self.shared.waited.clone(), Instant::now());
        let job = move |memory: &mut pool::Memory| -> Option<pool::Delivery> {
            waited.observe(since.elapsed().as_secs_f64());
            // The caller has gone: skip the work.
            if sender.is_closed() {
                return None;
            }
            let outcome = work(memory);
            Some(Box::new(move || drop(sender.send(outcome))))
        };
        self.pool.submit(Box::new(job))?;
        receiver.await.map_err(|_| PasswordError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    pub(super) fn settings() -> PasswordSettings {
        PasswordSettings {
            min_length: 8,
            max_length: 128,
            min_score: 2,
            banned_words: vec!["latchkey".to_owned()],
            memory_kib: 64,
            iterations: 1,
            parallelism: 1,
            threads: 1,
            queue: 2,
            max_import_memory_kib: 65536,
            max_import_work: 32,
            pepper: None,
            previous_peppers: Vec::new(),
        }
    }

    fn hasher(settings: &PasswordSettings) -> PasswordHasher {
        PasswordHasher::start(settings, Entropy::system()).unwrap()
    }

    /// The hash of a new password that the policy accepts.
    pub(super) async fn hash(hasher: &PasswordHasher, password: &str) -> PasswordHash {
        hasher.hash_new(hasher.check_new(password.into()).unwrap(), vec![]).await.unwrap()
    }

    const GOOD: &str = "tidal engine verse marmalade";

    #[tokio::test]
    async fn hash_matches_its_own_password_only() {
        let hasher = hasher(&settings());
        // 128 characters of one byte, and of four.
        let ascii: String = (0..128_u32).filter_map(|n| char::from_u32(33 + n * 37 % 94)).collect();
        let wide: String = (0..128_u32).filter_map(|n| char::from_u32(0x1_F300 + n * 37 % 256)).collect();
        for good in
            [GOOD.to_owned(), "日本語のパスワード四つ".to_owned(), " tidal engine verse ".to_owned(), ascii, wide]
        {
            let hash = hash(&hasher, &good).await;
            assert!(hash.expose().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", hash.expose());
            let right = hasher.verify(good.as_str().into(), Some(hash.clone())).await.unwrap();
            assert_eq!(right, Verified::Match { upgraded: None });
            for other in [format!("{good}x"), good.to_uppercase(), good.chars().skip(1).collect(), String::new()] {
                if other == good {
                    continue;
                }
                let wrong = hasher.verify(other.as_str().into(), Some(hash.clone())).await.unwrap();
                assert_eq!(wrong, Verified::Mismatch, "{other}");
            }
        }
    }

    #[tokio::test]
    async fn hash_with_default_parameters_matches() {
        let hasher = hasher(&PasswordSettings { memory_kib: 19456, iterations: 2, ..settings() });
        let hash = hash(&hasher, GOOD).await;
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(hasher.verify(GOOD.into(), Some(hash)).await.unwrap(), Verified::Match { upgraded: None });
    }

    #[tokio::test]
    async fn verify_with_changed_parameters_upgrades_the_hash() {
        let old = hash(&hasher(&settings()), GOOD).await;
        let hasher = hasher(&PasswordSettings { memory_kib: 128, iterations: 2, ..settings() });
        let verified = hasher.verify(GOOD.into(), Some(old)).await.unwrap();
        let Verified::Match { upgraded: Some(new) } = verified else { panic!("{verified:?}") };
        assert!(new.expose().starts_with("$argon2id$v=19$m=128,t=2,p=1$"));
        assert_eq!(hasher.verify(GOOD.into(), Some(new)).await.unwrap(), Verified::Match { upgraded: None });
    }

    #[tokio::test]
    async fn verify_with_previous_pepper_upgrades_to_the_current_one() {
        let plain = hasher(&settings());
        let first = hasher(&PasswordSettings { pepper: Some("pepper one".into()), ..settings() });
        let second = PasswordSettings {
            pepper: Some("pepper two".into()),
            previous_peppers: vec!["pepper one".into()],
            ..settings()
        };
        let second = hasher(&second);
        let unpeppered = hash(&plain, GOOD).await;
        let Verified::Match { upgraded: Some(one) } = first.verify(GOOD.into(), Some(unpeppered)).await.unwrap() else {
            panic!("not upgraded")
        };
        assert!(one.expose().contains(",keyid="), "{}", one.expose());
        assert_eq!(first.verify(GOOD.into(), Some(one.clone())).await.unwrap(), Verified::Match { upgraded: None });
        let Verified::Match { upgraded: Some(two) } = second.verify(GOOD.into(), Some(one.clone())).await.unwrap()
        else {
            panic!("not upgraded")
        };
        assert_eq!(second.verify("wrong".into(), Some(two.clone())).await.unwrap(), Verified::Mismatch);
        // A hash whose pepper was removed is an error, not a wrong password.
        assert!(matches!(
            plain.verify(GOOD.into(), Some(two)).await,
            Err(PasswordError::BadHash(BadHash::UnknownPepper))
        ));
    }

    #[tokio::test]
    async fn verify_of_imported_password_longer_than_max_length_matches() {
        let long = "tidal engine verse ".repeat(40);
        let made = hasher(&PasswordSettings { max_length: 1024, ..settings() });
        let hash = hash(&made, &long).await;
        let verified = hasher(&settings()).verify(long.as_str().into(), Some(hash)).await.unwrap();
        assert_eq!(verified, Verified::Match { upgraded: None });
    }

    #[tokio::test]
    async fn verify_of_unknown_account_or_too_long_password_is_a_mismatch() {
        let hasher = hasher(&settings());
        assert_eq!(hasher.verify(GOOD.into(), None).await.unwrap(), Verified::Mismatch);
        let long = "x".repeat(1025);
        let hash = PasswordHash::new("$argon2id$nonsense");
        assert_eq!(hasher.verify(long.as_str().into(), Some(hash)).await.unwrap(), Verified::Mismatch);
    }

    #[tokio::test]
    async fn full_queue_refuses_and_cancelled_calls_are_skipped() {
        let hasher = hasher(&settings());
        let (started, is_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let blocker = hasher.clone();
        let blocked = tokio::spawn(async move {
            blocker
                .run(move |_| {
                    started.send(()).unwrap();
                    released.recv().unwrap();
                })
                .await
        });
        tokio::task::spawn_blocking(move || is_started.recv().unwrap()).await.unwrap();
        // The only thread is busy, and the queue has room for two.
        let (touched, is_touched) = mpsc::channel();
        let left = hasher.run(move |_| touched.send(()));
        let mut left = Box::pin(left);
        assert!(futures_util::FutureExt::now_or_never(&mut left).is_none());
        let mut waits = Box::pin(hasher.verify(GOOD.into(), None));
        assert!(futures_util::FutureExt::now_or_never(&mut waits).is_none());
        assert_eq!(hasher.queue_depth(), 2);
        let refused = hasher.verify(GOOD.into(), None).await;
        assert!(matches!(refused, Err(PasswordError::Busy { retry_after }) if retry_after >= Duration::from_secs(1)));
        drop(left);
        release.send(()).unwrap();
        blocked.await.unwrap().unwrap();
        assert_eq!(waits.await.unwrap(), Verified::Mismatch);
        assert!(is_touched.recv().is_err(), "the caller had gone");
        assert_eq!(hasher.queue_depth(), 0);
    }

    #[tokio::test]
    async fn reserve_beyond_threads_and_queue_is_refused() {
        let hasher = hasher(&settings());
        // One thread and a queue of two.
        let places: Vec<_> = (0..3).map(|_| hasher.reserve().unwrap()).collect();
        assert!(matches!(hasher.reserve(), Err(PasswordError::Busy { retry_after }) if retry_after.as_secs() == 1));
        assert_eq!(
            hasher.verify(GOOD.into(), None).await.unwrap(),
            Verified::Mismatch,
            "a caller with a slot is served"
        );
        drop(places);
        let _place = hasher.reserve().unwrap();
    }

    #[tokio::test]
    async fn verify_does_the_same_work_for_unknown_accounts_and_too_long_passwords() {
        let hasher = hasher(&settings());
        let stored = hash(&hasher, GOOD).await;
        let long = "x".repeat(1025);
        for (password, stored) in
            [(GOOD, None), ("wrong", Some(stored.clone())), (&*long, Some(stored)), (&*long, None)]
        {
            hasher.run(|memory| memory.fill(argon2::Block::default())).await.unwrap();
            let verified = hasher.verify(password.into(), stored).await.unwrap();
            assert_eq!(verified, Verified::Mismatch);
            let filled = hasher.run(|memory| memory.iter().filter(|block| block.as_ref() != [0; 128]).count());
            assert_eq!(filled.await.unwrap(), 64, "argon2 used the whole buffer");
        }
    }

    #[tokio::test]
    async fn hash_new_refuses_weak_passwords_and_account_names() {
        let hasher = hasher(&settings());
        let context = vec!["ada.lovelace@example.com".to_owned()];
        let refused = hasher.hash_new(hasher.check_new("AdaLovelace1".into()).unwrap(), context).await;
        assert!(matches!(refused, Err(PasswordError::Weak(WeakPassword::BannedWord))));
        assert!(matches!(hasher.check_new("short".into()), Err(WeakPassword::TooShort { min: 8 })));
    }

    #[tokio::test]
    async fn verify_of_hash_with_more_memory_leaves_the_thread_buffer_alone() {
        let old = hash(&hasher(&PasswordSettings { memory_kib: 4096, ..settings() }), GOOD).await;
        let hasher = hasher(&settings());
        assert_eq!(hasher.verify("wrong".into(), Some(old.clone())).await.unwrap(), Verified::Mismatch);
        assert!(matches!(hasher.verify(GOOD.into(), Some(old)).await.unwrap(), Verified::Match { upgraded: Some(_) }));
        assert_eq!(hasher.run(|memory| memory.len()).await.unwrap(), 64);
    }

    #[test]
    fn start_with_parameters_that_argon2_refuses_is_an_error() {
        let settings = PasswordSettings { memory_kib: 8, parallelism: 2, ..settings() };
        assert!(matches!(PasswordHasher::start(&settings, Entropy::system()), Err(PasswordError::Settings(_))));
    }

    #[tokio::test]
    async fn threads_are_named_and_have_idle_priority() {
        let hasher = hasher(&settings());
        let seen = hasher.run(|_| {
            let nice = rustix::process::getpriority_process(None).unwrap();
            (std::thread::current().name().map(str::to_owned), nice, thread_priority::thread_schedule_policy().unwrap())
        });
        let (name, nice, policy) = seen.await.unwrap();
        assert_eq!(name.as_deref(), Some("password-0"));
        assert_eq!(nice, 19);
        assert_eq!(format!("{policy:?}"), "Normal(Idle)");
    }

    /// A value that is dropped when its thread ends.
    struct Life(#[expect(dead_code, reason = "dropped with the thread")] mpsc::Sender<()>);
    thread_local! {
        static LIFE: std::cell::RefCell<Option<Life>> = const { std::cell::RefCell::new(None) };
    }

    #[tokio::test]
    async fn threads_end_when_the_last_hasher_is_dropped() {
        let hasher = hasher(&settings());
        let (alive, ended) = mpsc::channel();
        hasher.run(move |_| LIFE.set(Some(Life(alive)))).await.unwrap();
        let other = hasher.clone();
        drop(hasher);
        assert_eq!(other.verify(GOOD.into(), None).await.unwrap(), Verified::Mismatch);
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(other);
        let ended = tokio::task::spawn_blocking(move || ended.recv()).await.unwrap();
        assert!(ended.is_err(), "the thread's end dropped the sender");
    }

    #[tokio::test]
    async fn panic_in_a_job_leaves_the_thread_running() {
        let hasher = hasher(&settings());
        let failed = hasher.run(|_| panic!("on purpose")).await;
        assert!(matches!(failed, Err::<(), _>(PasswordError::Stopped)));
        assert_eq!(hasher.verify(GOOD.into(), None).await.unwrap(), Verified::Mismatch);
    }
}
