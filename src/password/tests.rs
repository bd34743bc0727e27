//! Tests of the hasher as a whole: hashes, upgrades, the queue and the threads.

use std::sync::mpsc;

use super::*;

/// Settings with cheap hashes, one thread and a queue of two.
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
        max_import_work: 32, // in argon2id hashes with the default settings
        pepper: None,
        previous_peppers: Vec::new(),
    }
}

fn hasher(settings: &PasswordSettings) -> PasswordHasher {
    PasswordHasher::start(settings, Entropy::system()).unwrap()
}

/// The hash of a new password that the policy accepts.
pub(super) async fn hash(hasher: &PasswordHasher, password: &str) -> PasswordHash {
    let account_words = vec![];
    hasher.hash_new(hasher.check_new(password.into()).unwrap(), account_words).await.unwrap()
}

/// A password that the policy accepts.
const GOOD: &str = "tidal engine verse marmalade";

#[tokio::test]
async fn hash_matches_its_own_password_only() {
    let hasher = hasher(&settings());
    // 128 characters (`max_length`), of one and of four bytes each. Steps of 37 avoid sequences, which are weak.
    let spread = |first: u32, count: u32| -> String {
        (0..128_u32).filter_map(|n| char::from_u32(first + n * 37 % count)).collect()
    };
    let (ascii, wide) = (spread(u32::from('!'), 94), spread(u32::from('🌀'), 256));
    for good in [GOOD.to_owned(), "日本語のパスワード四つ".to_owned(), " tidal engine verse ".to_owned(), ascii, wide]
    {
        let hash = hash(&hasher, &good).await;
        assert!(hash.expose().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", hash.expose());
        let right = hasher.verify(good.as_str().into(), Some(hash.clone())).await.unwrap();
        assert_eq!(right, Verified::Match { upgraded: None });
        for other in [format!("{good}x"), good.to_uppercase(), good.chars().skip(1).collect(), String::new()] {
            // a script without capital letters
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
    let without_pepper = hasher(&settings());
    let with_one = hasher(&PasswordSettings { pepper: Some("pepper one".into()), ..settings() });
    let with_two = PasswordSettings {
        pepper: Some("pepper two".into()),
        previous_peppers: vec!["pepper one".into()],
        ..settings()
    };
    let with_two = hasher(&with_two);
    let unpeppered = hash(&without_pepper, GOOD).await;
    let verified = with_one.verify(GOOD.into(), Some(unpeppered)).await.unwrap();
    let Verified::Match { upgraded: Some(one) } = verified else { panic!("{verified:?}") };
    // `keyid` names the pepper
    assert!(one.expose().contains(",keyid="), "{}", one.expose());
    assert_eq!(with_one.verify(GOOD.into(), Some(one.clone())).await.unwrap(), Verified::Match { upgraded: None });
    let verified = with_two.verify(GOOD.into(), Some(one)).await.unwrap();
    let Verified::Match { upgraded: Some(two) } = verified else { panic!("{verified:?}") };
    assert_eq!(with_two.verify("wrong".into(), Some(two.clone())).await.unwrap(), Verified::Mismatch);
    // A hash whose pepper was removed is an error, not a wrong password.
    let verified = without_pepper.verify(GOOD.into(), Some(two)).await;
    assert!(matches!(verified, Err(PasswordError::BadHash(BadHash::UnknownPepper))));
}

#[tokio::test]
async fn verify_of_imported_password_longer_than_max_length_matches() {
    // more than the 128 characters of `max_length`, but at most `MAX_VERIFIED_BYTES`
    let long = "tidal engine verse ".repeat(40);
    let lenient = hasher(&PasswordSettings { max_length: 1024, ..settings() });
    let hash = hash(&lenient, &long).await;
    let verified = hasher(&settings()).verify(long.as_str().into(), Some(hash)).await.unwrap();
    assert_eq!(verified, Verified::Match { upgraded: None });
}

#[tokio::test]
async fn verify_of_unknown_account_or_too_long_password_is_a_mismatch() {
    let hasher = hasher(&settings());
    assert_eq!(hasher.verify(GOOD.into(), None).await.unwrap(), Verified::Mismatch);
    let long = "x".repeat(MAX_VERIFIED_BYTES + 1);
    // A hash that would be an error if it were read.
    let hash = PasswordHash::new("$argon2id$nonsense");
    assert_eq!(hasher.verify(long.as_str().into(), Some(hash)).await.unwrap(), Verified::Mismatch);
}

#[tokio::test]
async fn full_queue_refuses_and_cancelled_calls_are_skipped() {
    let hasher = hasher(&settings());
    let (started_tx, started_rx) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let blocker = hasher.clone();
    let blocked = tokio::spawn(async move {
        blocker
            .run(move |_| {
                started_tx.send(()).unwrap();
                released.recv().unwrap();
            })
            .await
    });
    tokio::task::spawn_blocking(move || started_rx.recv().unwrap()).await.unwrap();
    // The only thread is busy, and the queue has room for two.
    let (ran_tx, ran_rx) = mpsc::channel();
    let mut cancelled = Box::pin(hasher.run(move |_| ran_tx.send(())));
    let mut waiting = Box::pin(hasher.verify(GOOD.into(), None));
    // the first poll of a call enqueues its job
    let result = futures_util::FutureExt::now_or_never(&mut cancelled);
    assert!(result.is_none());
    let result = futures_util::FutureExt::now_or_never(&mut waiting);
    assert!(result.is_none());
    assert_eq!(hasher.queue_depth(), 2);
    let refused = hasher.verify(GOOD.into(), None).await;
    assert!(matches!(refused, Err(PasswordError::Busy { retry_after }) if retry_after >= Duration::from_secs(1)));
    drop(cancelled);
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    assert_eq!(waiting.await.unwrap(), Verified::Mismatch);
    assert!(ran_rx.recv().is_err(), "the job of the cancelled call was skipped");
    assert_eq!(hasher.queue_depth(), 0);
}

#[tokio::test]
async fn reserve_beyond_threads_and_queue_is_refused() {
    let hasher = hasher(&settings());
    // One thread and a queue of two: three slots.
    let reservations: Vec<_> = (0..3).map(|_| hasher.reserve().unwrap()).collect();
    assert!(matches!(hasher.reserve(), Err(PasswordError::Busy { retry_after }) if retry_after.as_secs() == 1));
    // `verify` takes no slot: only jobs fill the queue
    assert_eq!(hasher.verify(GOOD.into(), None).await.unwrap(), Verified::Mismatch, "a caller with a slot is served");
    drop(reservations);
    // the slots are free again
    let _reservation = hasher.reserve().unwrap();
}

#[tokio::test]
async fn verify_does_the_same_work_for_unknown_accounts_and_too_long_passwords() {
    let hasher = hasher(&settings());
    let stored = hash(&hasher, GOOD).await;
    let long = "x".repeat(MAX_VERIFIED_BYTES + 1);
    let long = long.as_str();
    for (password, stored) in [(GOOD, None), ("wrong", Some(stored.clone())), (long, Some(stored)), (long, None)] {
        // clears the buffer, so that the blocks (128 words, 1 KiB) that argon2 fills can be counted
        hasher.run(|memory| memory.fill(argon2::Block::default())).await.unwrap();
        let verified = hasher.verify(password.into(), stored).await.unwrap();
        assert_eq!(verified, Verified::Mismatch);
        let filled = hasher.run(|memory| memory.iter().filter(|block| block.as_ref() != [0; 128]).count());
        assert_eq!(filled.await.unwrap(), 64, "argon2 filled the whole buffer, the configured 64 KiB");
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
    assert_eq!(hasher.run(|memory| memory.len()).await.unwrap(), 64, "the buffer still has 64 blocks of 1 KiB");
}

#[test]
fn start_with_parameters_that_argon2_refuses_is_an_error() {
    // Argon2 needs at least 8 KiB for each lane.
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
    // the lowest priority
    assert_eq!(nice, 19);
    assert_eq!(format!("{policy:?}"), "Normal(Idle)");
}

/// A value in the storage of a thread. The sender is dropped when the thread ends, and its receiver then gets an error.
struct ThreadGuard(#[expect(dead_code, reason = "dropped with the thread")] mpsc::Sender<()>);
thread_local! {
    static THREAD_GUARD: std::cell::RefCell<Option<ThreadGuard>> = const { std::cell::RefCell::new(None) };
}

#[tokio::test]
async fn threads_end_when_the_last_hasher_is_dropped() {
    let hasher = hasher(&settings());
    let (alive, ended) = mpsc::channel();
    hasher.run(move |_| THREAD_GUARD.set(Some(ThreadGuard(alive)))).await.unwrap();
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
    let failed = hasher.run::<()>(|_| panic!("on purpose")).await;
    // the caller can't distinguish a job that panicked from a thread that has ended
    assert!(matches!(failed, Err(PasswordError::Stopped)));
    assert_eq!(hasher.verify(GOOD.into(), None).await.unwrap(), Verified::Mismatch);
}
