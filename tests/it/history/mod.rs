//! Histories: many users sign in, refresh, look, sign out and revoke on several nodes while faults strike at random, and
//! everything they were answered is checked against a small model of a session.
//!
//! Here, and only here, users and faults take their time by the real clock: the nodes are programs of their own.

mod check;
mod checker_tests;
mod faults;
mod model;
mod mutations;
pub(crate) mod nodes;
mod random;
mod record;
mod user;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use futures_util::future::join_all;

use nodes::Bench;
use random::Random;
use record::{Record, Verdict};
use user::User;

const USERS: usize = 16;

/// A number from the environment: `HISTORY_SEED` repeats a run's choices, `HISTORY_SECONDS` makes it longer.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// What users were answered while they lived on these nodes, and faults struck them.
async fn history(bench: &Bench, names: &str, seed: u64, length: Duration, with_faults: bool) -> (Record, Verdict) {
    let record = Record::new();
    {
        let register = |number: usize| {
            let random = Random::new(seed, 100 + u64::try_from(number).unwrap());
            User::register(bench, &record, number, format!("{names}{number}"), random)
        };
        let mut users = join_all((0..USERS).map(register)).await;
        let done = record.elapsed() + length;
        // each on a thread of its own, since starting and stopping servers blocks
        let here = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                if with_faults {
                    let (of_redis, of_nodes) = (Random::new(seed, 1), Random::new(seed, 2));
                    scope.spawn(|| here.block_on(faults::of_redis(bench, &record, of_redis, done)));
                    scope.spawn(|| here.block_on(faults::of_nodes(bench, &record, of_nodes, done)));
                }
                here.block_on(join_all(users.iter_mut().map(|user| user.live(done))));
            });
        });
        bench.ready().await;
        join_all(users.iter_mut().map(User::take_stock)).await;
    }
    let verdict = record.verdict(&bench.rules());
    (record, verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nobody_gets_back_in() {
    // a different one every time: the keys of a hasher are random
    let random = || RandomState::new().build_hasher().finish();
    let seed = given("HISTORY_SEED").unwrap_or_else(random);
    let length = Duration::from_secs(given("HISTORY_SECONDS").unwrap_or(60));
    println!("HISTORY_SEED={seed} HISTORY_SECONDS={}", length.as_secs());
    let bench = Bench::start(3).await;
    let (record, verdict) = history(&bench, "user", seed, length, true).await;
    println!("{verdict}");
    let violations = &verdict.violations;
    if !violations.is_empty() {
        println!("What struck:\n{}", record.faults());
        for (number, node) in bench.nodes.iter().enumerate() {
            println!("What node {number} said last:\n{}", node.log());
        }
        panic!("{} violations with HISTORY_SEED={seed}:\n{}", violations.len(), violations.join("\n"));
    }
    assert!(verdict.sessions > 0 && verdict.tokens > 0 && verdict.reuses > 0 && verdict.ends > 0, "{verdict}");
}
