//! Passwords: what they must be ([`policy`](WeakPassword)), how they are hashed and checked, and on which threads.
//!
//! Hashing is slow and hungry by design, so it happens on a few threads of its own, each with one block of memory that is
//! used again and again, behind a queue of bounded length: a flood of sign-ins is refused instead of exhausting memory,
//! and the threads' low priority leaves the processor to refreshes meanwhile.

mod hash;
mod load_monitor;
mod policy;
mod pool;
mod schemes;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::Histogram;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

pub use policy::WeakPassword;
pub use schemes::{BadHash, check_importable};

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

/// What came of checking a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It is the one.
    Match {
        /// Its hash under today's parameters and pepper, where the stored one is older or was made elsewhere.
        upgraded: Option<PasswordHash>,
    },
    /// It is another, or there is none to compare with.
    Mismatch,
}

/// Why a password wasn't hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It can be guessed.
    #[error(transparent)]
    Weak(WeakPassword),
    /// Too many are waiting.
    #[error("too many passwords are waiting to be hashed")]
    Busy {
        /// When the queue will probably have emptied.
        retry_after: Duration,
    },
    /// The stored hash can't be used.
    #[error("the stored password hash can't be checked: {0}")]
    BadHash(BadHash),
    /// The settings don't fit argon2.
    #[error("the settings under `password` don't fit argon2: {0}")]
    Settings(String),
    /// The threads have ended.
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

/// A place among those whose passwords are hashed or wait for it; given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Checks and hashes passwords. Cheap to clone; the threads end with the last clone.
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
    /// Starts the threads.
    ///
    /// # Errors
    /// [`PasswordError::Settings`]
    pub fn start(settings: &PasswordSettings, entropy: Entropy) -> Result<Self, PasswordError> {
        let hashing = Hashing::new(settings, &entropy).map_err(PasswordError::Settings)?;
        let blocks = hashing.block_count();
        let pool = Pool::start(settings.threads.max(1), settings.queue, blocks)
            .map_err(|error| PasswordError::Settings(format!("no threads: {error}")))?;
        let policy = Policy::new(settings);
        let waited = metrics::duration(
            "latchkey_password_wait_seconds",
            "How long passwords waited for a thread that hashes or checks them.",
        );
        let shared = Arc::new(Shared { hashing, policy, entropy, max_length: settings.max_length, waited });
        Ok(Self { shared, pool: Arc::new(pool) })
    }

    /// Takes a place, for a password that will be hashed or checked after what else has to be asked before: when there is
    /// none, nothing need be asked.
    ///
    /// # Errors
    /// [`PasswordError::Busy`]
    pub fn reserve(&self) -> Result<Place, PasswordError> {
        let place = self.pool.reserve().map_err(PasswordError::from)?;
        Ok(Place { _permit: place })
    }

    /// Checks a new password against the policy and hashes it. `context`: what it must not be made of, such as the
    /// account's e-mail address.
    ///
    /// # Errors
    /// [`PasswordError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "hash password", skip_all, fields(otel.kind = "internal"))]
    pub async fn hash_new(&self, password: SecretText, context: Vec<String>) -> Result<PasswordHash, PasswordError> {
        let shared = Arc::clone(&self.shared);
        self.run(move |memory| {
            shared.policy.check(password.expose(), &context).map_err(PasswordError::Weak)?;
            shared.hashing.hash(&password, &shared.entropy, memory).map_err(PasswordError::BadHash)
        })
        .await?
    }

    /// Checks a new password's length and whether it is a common one, without a hashing thread. [`PasswordHasher::hash_new`]
    /// checks the whole policy.
    ///
    /// # Errors
    /// [`WeakPassword`]
    pub fn check_basics(&self, password: &SecretText) -> Result<(), WeakPassword> {
        self.shared.policy.check_basics(password.expose())
    }

    /// Checks a password against a stored hash. With none stored (there is no such account) the same work is done, so that
    /// the time tells nothing (I7).
    ///
    /// # Errors
    /// [`PasswordError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "check password", skip_all, fields(otel.kind = "internal"))]
    pub async fn verify(&self, password: SecretText, stored: Option<PasswordHash>) -> Result<Verified, PasswordError> {
        let shared = Arc::clone(&self.shared);
        self.run(move |memory| {
            // No password is longer: there is nothing to find out, and the usual work is done all the same.
            let too_long = password.expose().chars().nth(shared.max_length).is_some();
            let Some(stored) = stored.filter(|_| !too_long) else {
                shared.hashing.verify_dummy(&password, memory).map_err(PasswordError::BadHash)?;
                return Ok(Verified::Mismatch);
            };
            let checked = shared.hashing.verify(&password, &stored, memory).map_err(PasswordError::BadHash)?;
            if !checked.matches {
                return Ok(Verified::Mismatch);
            }
            let upgraded = checked
                .outdated
                .then(|| shared.hashing.hash(&password, &shared.entropy, memory))
                .transpose()
                .map_err(PasswordError::BadHash)?;
            Ok(Verified::Match { upgraded })
        })
        .await?
    }

    /// How long passwords waited.
    pub fn waited(&self) -> &Histogram {
        &self.shared.waited
    }

    /// How many passwords wait.
    pub fn queue_depth(&self) -> usize {
        self.pool.waiting()
    }

    /// How many passwords have been worked on since the start, those being worked on included.
    pub fn jobs(&self) -> u64 {
        self.pool.begun()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut pool::Memory) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (answer, answered) = oneshot::channel();
        let (waited, since) = (self.shared.waited.clone(), Instant::now());
        let job = move |memory: &mut pool::Memory| -> Option<pool::Delivery> {
            waited.observe(since.elapsed().as_secs_f64());
            // a caller who has gone is not worked for
            if answer.is_closed() {
                return None;
            }
            let outcome = work(memory);
            Some(Box::new(move || drop(answer.send(outcome))))
        };
        self.pool.submit(Box::new(job))?;
        answered.await.map_err(|_| PasswordError::Stopped)
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
            pepper: None,
            previous_peppers: Vec::new(),
        }
    }

    fn hasher(settings: &PasswordSettings) -> PasswordHasher {
        PasswordHasher::start(settings, Entropy::system()).unwrap()
    }

    const GOOD: &str = "tidal engine verse marmalade";

    #[tokio::test]
    async fn what_was_hashed_is_recognised_and_nothing_else_is() {
        let hasher = hasher(&settings());
        // 128 characters, of one byte and of four
        let ascii: String = (0..128_u32).filter_map(|n| char::from_u32(33 + n * 37 % 94)).collect();
        let wide: String = (0..128_u32).filter_map(|n| char::from_u32(0x1_F300 + n * 37 % 256)).collect();
        for good in
            [GOOD.to_owned(), "日本語のパスワード四つ".to_owned(), " tidal engine verse ".to_owned(), ascii, wide]
        {
            let hash = hasher.hash_new(good.as_str().into(), vec![]).await.unwrap();
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
    async fn default_parameters_work() {
        let hasher = hasher(&PasswordSettings { memory_kib: 19456, iterations: 2, ..settings() });
        let hash = hasher.hash_new(GOOD.into(), vec![]).await.unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(hasher.verify(GOOD.into(), Some(hash)).await.unwrap(), Verified::Match { upgraded: None });
    }

    #[tokio::test]
    async fn moved_parameters_upgrade_the_hash() {
        let old = hasher(&settings()).hash_new(GOOD.into(), vec![]).await.unwrap();
        let hasher = hasher(&PasswordSettings { memory_kib: 128, iterations: 2, ..settings() });
        let verified = hasher.verify(GOOD.into(), Some(old)).await.unwrap();
        let Verified::Match { upgraded: Some(new) } = verified else { panic!("{verified:?}") };
        assert!(new.expose().starts_with("$argon2id$v=19$m=128,t=2,p=1$"));
        assert_eq!(hasher.verify(GOOD.into(), Some(new)).await.unwrap(), Verified::Match { upgraded: None });
    }

    #[tokio::test]
    async fn peppers_rotate() {
        let plain = hasher(&settings());
        let first = hasher(&PasswordSettings { pepper: Some("pepper one".into()), ..settings() });
        let second = PasswordSettings {
            pepper: Some("pepper two".into()),
            previous_peppers: vec!["pepper one".into()],
            ..settings()
        };
        let second = hasher(&second);
        let unpeppered = plain.hash_new(GOOD.into(), vec![]).await.unwrap();
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
        // a pepper that is gone is not a wrong password
        assert!(matches!(
            plain.verify(GOOD.into(), Some(two)).await,
            Err(PasswordError::BadHash(BadHash::UnknownPepper))
        ));
    }

    #[tokio::test]
    async fn unknown_users_and_too_long_passwords_mismatch() {
        let hasher = hasher(&settings());
        assert_eq!(hasher.verify(GOOD.into(), None).await.unwrap(), Verified::Mismatch);
        let long = "x".repeat(129);
        let hash = PasswordHash::new("$argon2id$nonsense");
        assert_eq!(hasher.verify(long.as_str().into(), Some(hash)).await.unwrap(), Verified::Mismatch);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_callers_who_left_are_skipped() {
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
        // the one thread is busy: two may wait
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
    async fn there_are_as_many_places_as_can_be_worked_for_or_wait() {
        let hasher = hasher(&settings());
        // one thread, and two may wait
        let places: Vec<_> = (0..3).map(|_| hasher.reserve().unwrap()).collect();
        assert!(matches!(hasher.reserve(), Err(PasswordError::Busy { retry_after }) if retry_after.as_secs() == 1));
        assert_eq!(
            hasher.verify(GOOD.into(), None).await.unwrap(),
            Verified::Mismatch,
            "who has a place is worked for"
        );
        drop(places);
        let _place = hasher.reserve().unwrap();
    }

    #[tokio::test]
    async fn the_same_work_is_done_for_unknown_users_and_too_long_passwords() {
        let hasher = hasher(&settings());
        let known = hasher.hash_new(GOOD.into(), vec![]).await.unwrap();
        let long = "x".repeat(129);
        for (password, stored) in [(GOOD, None), ("wrong", Some(known.clone())), (&*long, Some(known)), (&*long, None)]
        {
            hasher.run(|memory| memory.fill(argon2::Block::default())).await.unwrap();
            let verified = hasher.verify(password.into(), stored).await.unwrap();
            assert_eq!(verified, Verified::Mismatch);
            let filled = hasher.run(|memory| memory.iter().filter(|block| block.as_ref() != [0; 128]).count());
            assert_eq!(filled.await.unwrap(), 64, "all of today's memory was gone through");
        }
    }

    #[tokio::test]
    async fn weak_passwords_are_refused_with_the_account_in_mind() {
        let hasher = hasher(&settings());
        let context = vec!["ada.lovelace@example.com".to_owned()];
        let refused = hasher.hash_new("AdaLovelace1".into(), context).await;
        assert!(matches!(refused, Err(PasswordError::Weak(WeakPassword::BannedWord))));
        let refused = hasher.hash_new("short".into(), vec![]).await;
        assert!(matches!(refused, Err(PasswordError::Weak(WeakPassword::TooShort { min: 8 }))));
    }

    #[tokio::test]
    async fn a_hash_that_needs_more_memory_than_today_is_checked_in_memory_of_its_own() {
        let old =
            hasher(&PasswordSettings { memory_kib: 4096, ..settings() }).hash_new(GOOD.into(), vec![]).await.unwrap();
        let hasher = hasher(&settings());
        assert_eq!(hasher.verify("wrong".into(), Some(old.clone())).await.unwrap(), Verified::Mismatch);
        assert!(matches!(hasher.verify(GOOD.into(), Some(old)).await.unwrap(), Verified::Match { upgraded: Some(_) }));
        assert_eq!(hasher.run(|memory| memory.len()).await.unwrap(), 64);
    }

    #[test]
    fn settings_that_argon2_refuses_are_an_error() {
        let settings = PasswordSettings { memory_kib: 8, parallelism: 2, ..settings() };
        assert!(matches!(PasswordHasher::start(&settings, Entropy::system()), Err(PasswordError::Settings(_))));
    }

    #[tokio::test]
    async fn the_threads_are_named_and_of_low_priority() {
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

    /// Lives as long as its thread.
    struct Life(#[expect(dead_code, reason = "dropped with the thread")] mpsc::Sender<()>);
    thread_local! {
        static LIFE: std::cell::RefCell<Option<Life>> = const { std::cell::RefCell::new(None) };
    }

    #[tokio::test]
    async fn the_threads_end_with_the_last_handle() {
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
    async fn a_panic_ends_only_its_own_job() {
        let hasher = hasher(&settings());
        let failed = hasher.run(|_| panic!("on purpose")).await;
        assert!(matches!(failed, Err::<(), _>(PasswordError::Stopped)));
        assert_eq!(hasher.verify(GOOD.into(), None).await.unwrap(), Verified::Mismatch);
    }
}
