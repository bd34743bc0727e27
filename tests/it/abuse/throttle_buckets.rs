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
    free: 1,
    first: Duration::from_secs(1),
    max: Duration::from_secs(20),
    known_for: Duration::from_hours(30),
    max_known: 3,
};
const HOUR: i64 = 3_600_000;

#[derive(Clone, Debug)]
enum Step {
    /// The device, if any, and the address.
    Attempt(Option<u8>, u8),
    /// The admitted bucket the attempt was counted in, if any; the device and the address.
    Trust(Option<usize>, u8, u8),
    /// The admitted bucket.
    Refund(usize),
    /// In milliseconds.
    Advance(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::option::of(0..4_u8), 0..4_u8).prop_map(|(device, address)| Step::Attempt(device, address)),
        3 => (prop::option::of(0..8_usize), 0..4_u8, 0..4_u8).prop_map(|(used, device, address)| Step::Trust(used, device, address)),
        2 => (0..8_usize).prop_map(Step::Refund),
        2 => (1..5_000_i64).prop_map(Step::Advance),
        1 => (HOUR / 2..40 * HOUR).prop_map(Step::Advance),
    ]
}

/// A bucket's name in the model: `s`, or `d` or `a` and a number.
type Name = String;

fn bucket(name: &str) -> ThrottleBucket {
    match name.split_at(1) {
        ("d", number) => ThrottleBucket::device(number),
        (_, number) => ThrottleBucket::address(number),
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct State {
    failures: i64,
    start: i64,
    over: i64,
    known: i64,
}

#[derive(Debug, Default)]
struct Model(BTreeMap<Name, State>);

impl Model {
    fn attempt(&mut self, device: Option<&str>, address: &str, now: i64) -> Result<Name, Duration> {
        let mut known =
            device.into_iter().chain([address]).filter(|name| self.0.get(*name).is_some_and(|state| now < state.known));
        let (name, free) = known.next().map_or(("s", BACKOFF.free), |name| (name, BACKOFF.free_where_recognized()));
        let mut state = self.0.get(name).copied().unwrap_or_default();
        if now >= state.over {
            (state.failures, state.start) = (0, 0);
        }
        if now < state.start {
            return Err(Duration::from_millis((state.start - now).unsigned_abs()));
        }
        state.failures += 1;
        let above = state.failures - i64::from(free);
        state.over = now + HOUR;
        if above > 0 {
            let wait = BACKOFF.first * 2_u32.pow(u32::try_from(above - 1).unwrap().min(20));
            state.start = now + i64::try_from(wait.min(BACKOFF.max).as_millis()).unwrap();
            state.over = now + 24 * HOUR;
        }
        self.0.insert(name.to_owned(), state);
        Ok(name.to_owned())
    }

    fn trust_device(&mut self, device: &str, address: &str, used: Option<&str>, now: i64) {
        let strangers = self.0.get("s").copied();
        let before = [device, address].map(|name| self.0.get(name).copied().filter(|_| used != Some(name)));
        for (name, before) in [device, address].into_iter().zip(before) {
            let known = now + i64::try_from(BACKOFF.known_for.as_millis()).unwrap();
            self.0.insert(name.to_owned(), State { known, ..before.unwrap_or_default() });
        }
        if let (Some("s"), Some(state)) = (used, strangers) {
            self.0.insert("s".to_owned(), State { failures: (state.failures - 1).max(0), start: 0, known: 0, ..state });
        }
        let most = usize::try_from(BACKOFF.max_known).unwrap();
        if self.0.len() > most + 1 {
            let mut known: Vec<_> = self
                .0
                .iter()
                .filter(|(name, _)| *name != "s")
                .map(|(name, state)| (state.known, name.clone()))
                .collect();
            known.sort();
            for (_, name) in known.iter().take(known.len() - most) {
                self.0.remove(name);
            }
        }
    }

    fn refund(&mut self, name: &str) {
        if let Some(state) = self.0.get_mut(name) {
            (state.failures, state.start) = ((state.failures - 1).max(0), 0);
        }
    }
}

async fn follow(server: &Redis, store: &RedisStores, account: &str, steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut model, mut now, mut admitted) = (Model::default(), NOW, Vec::<(Name, ThrottleBucket)>::new());
    for step in steps {
        match step {
            Step::Advance(millis) => now = now + Duration::from_millis(millis.unsigned_abs()),
            Step::Attempt(device, address) => {
                let device = device.map(|device| format!("d{device}"));
                let address = format!("a{address}");
                let (of_device, of_address) = (device.as_deref().map(bucket), bucket(&address));
                let decided =
                    store.rate_limits.admit(account, of_device.as_ref(), &of_address, BACKOFF, now).await.unwrap();
                match model.attempt(device.as_deref(), &address, now.as_millis()) {
                    Err(wait) => prop_assert_eq!(decided, ThrottleDecision::Wait(wait)),
                    Ok(name) => {
                        let ThrottleDecision::Admitted(got) = decided else {
                            return Err(TestCaseError::fail(format!("{decided:?}, not {name}")));
                        };
                        if name == "s" {
                            prop_assert!(got.is_unrecognized());
                        } else {
                            prop_assert_eq!(&got, &bucket(&name));
                        }
                        admitted.push((name, got));
                    }
                }
            }
            Step::Trust(used, device, address) => {
                let used = used.and_then(|used| admitted.get(used % admitted.len().max(1)));
                let (device, address) = (format!("d{device}"), format!("a{address}"));
                let of = used.map(|(_, bucket)| bucket);
                store
                    .rate_limits
                    .trust_device(account, &bucket(&device), &bucket(&address), of, BACKOFF, now)
                    .await
                    .unwrap();
                model.trust_device(&device, &address, used.map(|(name, _)| name.as_str()), now.as_millis());
            }
            Step::Refund(used) => {
                let Some((name, used)) = admitted.get(used % admitted.len().max(1)) else { continue };
                store.rate_limits.refund(account, used).await.unwrap();
                model.refund(name);
            }
        }
    }
    prop_assert_eq!(held(server, account), model.0);
    Ok(())
}

/// The buckets of an account in Redis.
fn held(server: &Redis, account: &str) -> BTreeMap<Name, State> {
    let text = server.command(&["HGETALL", &format!("lk:g{account}")]);
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let state = |text: &str| {
        let numbers: Vec<i64> = text.split(' ').map(|number| number.parse().unwrap()).collect();
        State { failures: numbers[0], start: numbers[1], over: numbers[2], known: numbers[3] }
    };
    lines.chunks(2).map(|pair| (pair[0].to_owned(), state(pair[1]))).collect()
}

#[test]
fn throttle_scripts_and_model_hold_the_same_buckets() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = Redis::start_with(&[]);
    let store = runtime.block_on(async { server.store() });
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let account = Cell::new(0);
    runner
        .run(&prop::collection::vec(step(), 1..50), |steps| {
            account.set(account.get() + 1);
            runtime.block_on(follow(&server, &store, &account.get().to_string(), &steps))
        })
        .unwrap();
    runtime.block_on(store.close());
}
