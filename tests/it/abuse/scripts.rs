//! The rate-limit script compared with its model in Rust, and the throttle scripts step by step.

use std::{cell::Cell, time::Duration};

use latchkey::{
    domain::{
        clock::Timestamp,
        limit::{Backoff, Quota, count_request},
    },
    store::redis::{RedisStores, ThrottleBucket, ThrottleDecision},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::store::server::{NOW, Redis};

const BACKOFF: Backoff = Backoff {
    failures_without_delay: 3,
    first_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(60),
    trust_ttl: Duration::from_hours(24),
    max_trusted: 4,
};

/// The bucket of a successful sign-in whose attempt the throttle has not counted.
const NOT_COUNTED: Option<&ThrottleBucket> = None;

/// The device of a caller who sends no device token.
const NO_DEVICE: Option<&ThrottleBucket> = None;

#[test]
fn rate_limit_script_and_model_decide_alike() {
    // proptest runs synchronous code, and the store needs a runtime
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = Redis::start_with(&[]);
    let store = runtime.block_on(async { server.store() });
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    // each case counts the requests of a new subject
    let subject = Cell::new(0);
    // the quota's count and window (s), and the pauses between the requests (ms)
    let inputs = (1..20_u32, 600..10_000_u64, prop::collection::vec(0..400_000_u64, 1..60));
    runner
        .run(&inputs, |(count, secs, pauses)| {
            subject.set(subject.get() + 1);
            let quota = Quota { count, window: Duration::from_secs(secs) };
            let mut full_at = None;
            let mut now = NOW;
            for pause_millis in pauses {
                now = now + Duration::from_millis(pause_millis);
                let model = count_request(quota, full_at, now);
                let refused_for =
                    runtime.block_on(store.rate_limits.count_request(&subject.get().to_string(), quota, now)).unwrap();
                prop_assert_eq!(refused_for, model.refused_for);
                full_at = Some(model.full_at);
            }
            Ok(())
        })
        .unwrap();
    runtime.block_on(store.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_rate_limits_and_login_throttles_expire() {
    let server = Redis::start_with(&[]);
    let store = server.store();
    let quota = Quota { count: 10, window: Duration::from_secs(1000) };
    let ttl_millis = |key: &str| -> i64 { server.command(&["PTTL", key]).trim().parse().unwrap() };
    store.rate_limits.count_request("x", quota, NOW).await.unwrap();
    // the key of the rate limit of the subject `x`
    let ttl = ttl_millis("lk:lx");
    // one of ten requests is regained in 100 s; the script adds a second
    assert!((1..=101_000).contains(&ttl), "{ttl}");
    let (device, address) = (ThrottleBucket::device("d"), ThrottleBucket::address("a"));
    store.rate_limits.admit("x", NO_DEVICE, &address, BACKOFF, NOW).await.unwrap();
    // the key of the login throttle of the account `x`
    let ttl = ttl_millis("lk:gx");
    // failures without a delay are forgotten after an hour
    assert!((1..=3_600_000).contains(&ttl), "{ttl}");
    store.rate_limits.trust_device("x", &device, &address, NOT_COUNTED, BACKOFF, NOW).await.unwrap();
    let ttl = ttl_millis("lk:gx");
    // a trusted device is remembered for `BACKOFF.trust_ttl`, 24 hours
    assert!((3_600_001..=86_400_000).contains(&ttl), "{ttl}");
    store.close().await;
}

/// Attempts to sign in to the account `x`. Returns the bucket that counts the attempt, or the time to wait.
async fn attempt(
    store: &RedisStores,
    device: Option<&ThrottleBucket>,
    address: &str,
    now: Timestamp,
) -> Result<ThrottleBucket, Duration> {
    match store.rate_limits.admit("x", device, &ThrottleBucket::address(address), BACKOFF, now).await.unwrap() {
        ThrottleDecision::Admitted(bucket) => Ok(bucket),
        ThrottleDecision::Wait(wait) => Err(wait),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_throttle_delays_unrecognized_callers_but_not_recognized_devices() {
    let server = Redis::start_with(&[]);
    let store = server.store();
    let (device, home) = (ThrottleBucket::device("d"), ThrottleBucket::address("home"));
    let mut now = NOW;
    let bucket = attempt(&store, Some(&device), "home", now).await.unwrap();
    assert!(bucket.is_unrecognized());
    store.rate_limits.trust_device("x", &device, &home, Some(&bucket), BACKOFF, now).await.unwrap();

    for _ in 0..BACKOFF.failures_without_delay {
        assert!(attempt(&store, NO_DEVICE, "afar", now).await.unwrap().is_unrecognized());
    }
    // Each further attempt of an unrecognized caller doubles the delay of all of them, up to `max_delay`. The device and the address that
    // have signed in are admitted, and `refund` takes back the failure that each attempt counts in advance.
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        let wait = Duration::from_secs(wait);
        assert!(attempt(&store, NO_DEVICE, "afar", now).await.is_ok());
        assert_eq!(attempt(&store, NO_DEVICE, "elsewhere", now).await, Err(wait));
        assert_eq!(attempt(&store, Some(&device), "afar", now).await, Ok(device.clone()));
        store.rate_limits.refund("x", &device).await.unwrap();
        assert_eq!(attempt(&store, NO_DEVICE, "home", now).await, Ok(home.clone()));
        store.rate_limits.refund("x", &home).await.unwrap();
        now = now + wait;
    }

    // A trusted device waits after its own failures, and is not trusted any more after `trust_ttl`.
    for _ in 0..=BACKOFF.failures_without_delay_if_trusted() {
        assert!(attempt(&store, Some(&device), "afar", now).await.is_ok());
    }
    assert_eq!(attempt(&store, Some(&device), "afar", now).await, Err(Duration::from_secs(1)));
    assert_eq!(attempt(&store, NO_DEVICE, "home", now).await, Ok(home), "the address has no failures");
    let later = now + BACKOFF.trust_ttl * 2;
    assert!(attempt(&store, Some(&device), "home", later).await.unwrap().is_unrecognized());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_device_is_throttled_with_unrecognized_callers() {
    let server = Redis::start_with(&[]);
    let store = server.store();
    let (device, home) = (ThrottleBucket::device("d"), ThrottleBucket::address("home"));
    // without devices this has no effect
    store.rate_limits.forget_devices("x").await.unwrap();
    store.rate_limits.trust_device("x", &device, &home, NOT_COUNTED, BACKOFF, NOW).await.unwrap();
    for _ in 0..=BACKOFF.failures_without_delay {
        assert!(attempt(&store, NO_DEVICE, "afar", NOW).await.unwrap().is_unrecognized());
    }
    assert_eq!(attempt(&store, Some(&device), "home", NOW).await, Ok(device.clone()));
    store.rate_limits.forget_devices("x").await.unwrap();
    assert_eq!(attempt(&store, Some(&device), "home", NOW).await, Err(BACKOFF.first_delay));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn login_throttle_evicts_least_recently_seen_device() {
    let server = Redis::start_with(&[]);
    let store = server.store();
    for number in 0..20_u64 {
        let now = NOW + Duration::from_secs(number);
        let name = number.to_string();
        let device = ThrottleBucket::device(&name);
        let address = ThrottleBucket::address(&name);
        store.rate_limits.trust_device("x", &device, &address, NOT_COUNTED, BACKOFF, now).await.unwrap();
        let buckets: u32 = server.command(&["HLEN", "lk:gx"]).trim().parse().unwrap();
        // the trusted buckets, and that of unrecognized callers
        assert!(buckets <= BACKOFF.max_trusted + 1, "{buckets} buckets");
    }
    let now = NOW + Duration::from_secs(20);
    let (oldest, newest) = (ThrottleBucket::device("0"), ThrottleBucket::device("19"));
    // from the evicted address `1`, so that only the device is recognized
    assert_eq!(attempt(&store, Some(&newest), "1", now).await, Ok(newest.clone()));
    assert!(attempt(&store, Some(&oldest), "0", now).await.unwrap().is_unrecognized());
    store.close().await;
}
