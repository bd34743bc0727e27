//! Random histories: simulated users log in, refresh, check, log out and revoke on several nodes while faults are injected
//! at random. Every answer is checked for linearizability against a small model of a session.
//!
//! These tests use the real clock, because the nodes are separate processes.

mod check;
mod checker_tests;
mod faults;
mod model;
mod mutations;
pub(crate) mod nodes;
pub(crate) mod random;
mod record;
mod user;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use futures_util::future::join_all;

use nodes::ProcessCluster;
use random::Random;
use record::{Record, Verdict};
use user::User;

/// The number of users, each with an account of its own.
const USERS: usize = 16;
/// The random stream of the first user. The faults have the streams 1 and 2.
const FIRST_USER_STREAM: u64 = 100;

/// Reads a number from the environment. `HISTORY_SEED` repeats the choices of a run, `HISTORY_SECONDS` sets its length.
fn env_number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Runs simulated users on these nodes for `length`, with or without faults, and checks all answers. `seed` determines the random choices
/// of users and faults. The users' names begin with `name_prefix`.
async fn history(
    cluster: &ProcessCluster,
    name_prefix: &str,
    seed: u64,
    length: Duration,
    with_faults: bool,
) -> (Record, Verdict) {
    let record = Record::new();
    {
        let register = |number: usize| {
            let random = Random::new(seed, FIRST_USER_STREAM + u64::try_from(number).unwrap());
            User::register(cluster, &record, number, format!("{name_prefix}{number}"), random)
        };
        let mut users = join_all((0..USERS).map(register)).await;
        let end = record.elapsed() + length;
        // a thread for each kind of fault, since starting and stopping servers blocks
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                if with_faults {
                    let for_redis = Random::new(seed, 1);
                    let for_nodes = Random::new(seed, 2);
                    scope.spawn(|| runtime.block_on(faults::inject_into_redis(cluster, &record, for_redis, end)));
                    scope.spawn(|| runtime.block_on(faults::inject_into_nodes(cluster, &record, for_nodes, end)));
                }
                runtime.block_on(join_all(users.iter_mut().map(|user| user.run(end))));
            });
        });
        cluster.wait_until_ready().await;
        join_all(users.iter_mut().map(User::use_all_sessions)).await;
    }
    let verdict = record.verdict(&cluster.rules());
    (record, verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn random_history_with_faults_matches_the_session_model() {
    // the standard hasher has random keys: each run gets another seed
    let random = || RandomState::new().build_hasher().finish();
    let seed = env_number("HISTORY_SEED").unwrap_or_else(random);
    let length = Duration::from_secs(env_number("HISTORY_SECONDS").unwrap_or(60));
    println!("HISTORY_SEED={seed} HISTORY_SECONDS={}", length.as_secs());
    let cluster = ProcessCluster::start(3).await;
    let with_faults = true;
    let (record, verdict) = history(&cluster, "user", seed, length, with_faults).await;
    println!("{verdict}");
    let violations = &verdict.violations;
    if !violations.is_empty() {
        println!("Injected faults:\n{}", record.faults());
        for (number, node) in cluster.nodes.iter().enumerate() {
            println!("Last log lines of node {number}:\n{}", node.log());
        }
        panic!("{} violations with HISTORY_SEED={seed}:\n{}", violations.len(), violations.join("\n"));
    }
    // fails if the users did too little to test the model
    assert!(verdict.sessions > 0 && verdict.tokens > 0 && verdict.reuses > 0 && verdict.ends > 0, "{verdict}");
}
