//! The throttle scripts (`login_throttle.lua`, `trust_device.lua`, `refund.lua`) compared with a model in Rust over random
//! histories: decisions and stored buckets are equal.

use std::{cell::Cell, collections::BTreeMap, time::Duration};

use latchkey::{
    domain::limit::Backoff,
    store::redis::{RedisStores, ThrottleBucket, ThrottleDecision},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use crate::store::server::{NOW, Redis};

const BACKOFF: Backoff = Backoff {
    failures_without_delay: 1,
    first_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(20),
    trust_ttl: Duration::from_hours(30),
    max_trusted: 3,
};
const HOUR_MILLIS: i64 = 3_600_000;

#[derive(Clone, Debug)]
enum Step {
    /// Attempts a sign-in, with the token of a device or without.
    Attempt { device: Option<u8>, address: u8 },
    /// Trusts a device and an address after a sign-in. `attempt` is the index of the admitted attempt, if the sign-in had one; a sign-in by
    /// passkey has none.
    Trust { attempt: Option<usize>, device: u8, address: u8 },
    /// Refunds an admitted attempt.
    Refund { attempt: usize },
    /// Moves the clock forward.
    Advance { millis: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::option::of(0..4_u8), 0..4_u8).prop_map(|(device, address)| Step::Attempt { device, address }),
        3 => (prop::option::of(0..8_usize), 0..4_u8, 0..4_u8)
            .prop_map(|(attempt, device, address)| Step::Trust { attempt, device, address }),
        2 => (0..8_usize).prop_map(|attempt| Step::Refund { attempt }),
        // Around the delays after failures, and around the times at which failures and trust end.
        2 => (1..5_000_i64).prop_map(|millis| Step::Advance { millis }),
        1 => (HOUR_MILLIS / 2..40 * HOUR_MILLIS).prop_map(|millis| Step::Advance { millis }),
    ]
}

/// A bucket's name in the model and in Redis: [`UNRECOGNIZED`], or `d` (device) or `a` (address) and a number.
type Name = String;

/// The name of the bucket that all unrecognized devices and addresses share.
const UNRECOGNIZED: &str = "s";

fn bucket(name: &str) -> ThrottleBucket {
    match name.split_at(1) {
        ("d", number) => ThrottleBucket::device(number),
        (_, number) => ThrottleBucket::address(number),
    }
}

/// The fields of a bucket. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct State {
    failures: i64,
    /// When the next attempt is allowed.
    not_before: i64,
    /// When the failures are forgotten.
    forgotten_at: i64,
    trusted_until: i64,
}

/// The buckets of one account.
#[derive(Debug, Default)]
struct Model(BTreeMap<Name, State>);

impl Model {
    /// Counts an attempt as a failure until it is refunded. Returns the bucket that counts it, or how long to wait.
    fn attempt(&mut self, device: Option<&str>, address: &str, now: i64) -> Result<Name, Duration> {
        let is_trusted = |name: &str| self.0.get(name).is_some_and(|state| now < state.trusted_until);
        // the device takes precedence over the address
        let trusted = device.into_iter().chain([address]).find(|name| is_trusted(name));
        let (name, without_delay) = match trusted {
            Some(name) => (name, BACKOFF.failures_without_delay_if_trusted()),
            None => (UNRECOGNIZED, BACKOFF.failures_without_delay),
        };
        let mut state = self.0.get(name).copied().unwrap_or_default();
        if now >= state.forgotten_at {
            state.failures = 0;
            state.not_before = 0;
        }
        if now < state.not_before {
            return Err(Duration::from_millis((state.not_before - now).unsigned_abs()));
        }
        state.failures += 1;
        let delayed = state.failures - i64::from(without_delay);
        // Failures without a delay are forgotten after an hour, others after a day.
        state.forgotten_at = now + HOUR_MILLIS;
        if delayed > 0 {
            // 2^20 s exceeds the maximum delay by far, and does not overflow.
            let doublings = u32::try_from(delayed - 1).unwrap().min(20);
            let wait = BACKOFF.first_delay * 2_u32.pow(doublings);
            state.not_before = now + i64::try_from(wait.min(BACKOFF.max_delay).as_millis()).unwrap();
            state.forgotten_at = now + 24 * HOUR_MILLIS;
        }
        self.0.insert(name.to_owned(), state);
        Ok(name.to_owned())
    }

    /// Trusts the buckets of the device and of the address. `used` is the bucket that counted the attempt, if any. If it is one of these
    /// two, its failures are forgotten. If it is the shared bucket, the attempt is refunded. Then removes the buckets whose trust ends
    /// first, until at most `max_trusted` are left beside the shared one.
    fn trust_device(&mut self, device: &str, address: &str, used: Option<&str>, now: i64) {
        let trusted_until = now + i64::try_from(BACKOFF.trust_ttl.as_millis()).unwrap();
        for name in [device, address] {
            let former = if used == Some(name) { None } else { self.0.get(name).copied() };
            self.0.insert(name.to_owned(), State { trusted_until, ..former.unwrap_or_default() });
        }
        if used == Some(UNRECOGNIZED) {
            self.refund(UNRECOGNIZED);
        }
        let max = usize::try_from(BACKOFF.max_trusted).unwrap();
        let recognized = self.0.iter().filter(|(name, _)| *name != UNRECOGNIZED);
        let mut by_end: Vec<_> = recognized.map(|(name, state)| (state.trusted_until, name.clone())).collect();
        by_end.sort();
        for (_, name) in by_end.iter().take(by_end.len().saturating_sub(max)) {
            self.0.remove(name);
        }
    }

    /// Takes back a failure of a bucket, and ends the bucket's delay.
    fn refund(&mut self, name: &str) {
        if let Some(state) = self.0.get_mut(name) {
            state.failures = (state.failures - 1).max(0);
            state.not_before = 0;
        }
    }
}

/// Runs the steps with the scripts and with the model. Fails where they decide differently, or if their buckets differ at the end.
async fn run_steps(server: &Redis, store: &RedisStores, account: &str, steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut model, mut now) = (Model::default(), NOW);
    // For each admitted attempt, the bucket that counted it: in the model and in Redis.
    let mut admitted = Vec::<(Name, ThrottleBucket)>::new();
    for step in steps {
        match step {
            Step::Advance { millis } => now = now + Duration::from_millis(millis.unsigned_abs()),
            Step::Attempt { device, address } => {
                let device = device.map(|device| format!("d{device}"));
                let address = format!("a{address}");
                let (device_bucket, address_bucket) = (device.as_deref().map(bucket), bucket(&address));
                let decided = store
                    .rate_limits
                    .admit(account, device_bucket.as_ref(), &address_bucket, BACKOFF, now)
                    .await
                    .unwrap();
                match model.attempt(device.as_deref(), &address, now.as_millis()) {
                    Err(wait) => prop_assert_eq!(decided, ThrottleDecision::Wait(wait)),
                    Ok(name) => {
                        let ThrottleDecision::Admitted(admitted_bucket) = decided else {
                            return Err(TestCaseError::fail(format!("{decided:?}, but the model admits {name}")));
                        };
                        if name == UNRECOGNIZED {
                            prop_assert!(admitted_bucket.is_unrecognized());
                        } else {
                            prop_assert_eq!(&admitted_bucket, &bucket(&name));
                        }
                        admitted.push((name, admitted_bucket));
                    }
                }
            }
            Step::Trust { attempt, device, address } => {
                // The index wraps around. If no attempt was admitted, `get` finds none.
                let used = attempt.and_then(|index| admitted.get(index % admitted.len().max(1)));
                let (device, address) = (format!("d{device}"), format!("a{address}"));
                let used_bucket = used.map(|(_, bucket)| bucket);
                store
                    .rate_limits
                    .trust_device(account, &bucket(&device), &bucket(&address), used_bucket, BACKOFF, now)
                    .await
                    .unwrap();
                model.trust_device(&device, &address, used.map(|(name, _)| name.as_str()), now.as_millis());
            }
            Step::Refund { attempt } => {
                let Some((name, used)) = admitted.get(attempt % admitted.len().max(1)) else { continue };
                store.rate_limits.refund(account, used).await.unwrap();
                model.refund(name);
            }
        }
    }
    prop_assert_eq!(stored_buckets(server, account), model.0);
    Ok(())
}

/// The buckets of an account in Redis.
fn stored_buckets(server: &Redis, account: &str) -> BTreeMap<Name, State> {
    let text = server.command(&["HGETALL", &format!("lk:g{account}")]);
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let state = |text: &str| {
        let numbers: Vec<i64> = text.split(' ').map(|number| number.parse().unwrap()).collect();
        State { failures: numbers[0], not_before: numbers[1], forgotten_at: numbers[2], trusted_until: numbers[3] }
    };
    lines.chunks(2).map(|pair| (pair[0].to_owned(), state(pair[1]))).collect()
}

#[test]
fn throttle_scripts_and_model_hold_the_same_buckets() {
    // proptest runs synchronous code, and the store needs a runtime
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = Redis::start_with(&[]);
    let store = runtime.block_on(async { server.store() });
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    // each case has an account of its own
    let account = Cell::new(0);
    runner
        .run(&prop::collection::vec(step(), 1..50), |steps| {
            account.set(account.get() + 1);
            runtime.block_on(run_steps(&server, &store, &account.get().to_string(), &steps))
        })
        .unwrap();
    runtime.block_on(store.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_without_any_attempt_keeps_at_most_max_trusted_buckets() {
    let server = Redis::start_with(&[]);
    let store = server.store();
    // Each of the two sign-ins trusts two buckets.
    let steps = [
        Step::Trust { attempt: None, device: 0, address: 0 },
        Step::Advance { millis: 1 },
        Step::Trust { attempt: None, device: 1, address: 1 },
    ];
    run_steps(&server, &store, "ada", &steps).await.unwrap();
    let stored = stored_buckets(&server, "ada");
    assert_eq!(stored.len(), usize::try_from(BACKOFF.max_trusted).unwrap(), "{stored:?}");
    store.close().await;
}
