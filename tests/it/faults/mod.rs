//! One fault per test, with real servers: no call hangs, no answer is a 500, and the node recovers without a restart.
//! `degradation` tests a Redis that is down, hung, full, loading or busy; `history` injects faults at random.

mod cluster;
mod database;
mod disk;
mod node;
mod password;
mod pauses;
mod resets;
mod sentinel;

use std::{sync::Mutex, time::Duration};

use crate::{
    degradation::assert_unavailable,
    harness::{
        client::{Answer, Tokens},
        test_cluster::Node,
        wait,
    },
    store::server::Redis,
};

/// A call that takes this long hangs: `redis.command_timeout` is a second.
const HANG_TIMEOUT: Duration = Duration::from_secs(15);

/// Asserts that an answer has this status or is a 503 that asks for a retry. Returns false for a 503.
#[track_caller]
fn expect_status_or_503(answer: &Answer, status: u16) -> bool {
    if answer.status == 503 {
        assert_unavailable(answer);
        return false;
    }
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    true
}

/// Repeats a call until its answer has this status. Every other answer must be a 503, and no call may hang. `condition` names what the
/// test waits for, for the message of a failure.
async fn retry_until<F: Future<Output = Answer>>(condition: &str, status: u16, call: impl Fn() -> F) -> Answer {
    // in a mutex, because `wait::until` only learns whether to stop
    let last_answer = Mutex::new(None);
    wait::until(condition, || async {
        let answer = tokio::time::timeout(HANG_TIMEOUT, call()).await.expect("the call does not hang");
        let has_status = expect_status_or_503(&answer, status);
        *last_answer.lock().unwrap() = Some(answer);
        has_status
    })
    .await;
    last_answer.into_inner().unwrap().unwrap()
}

/// Repeats a refresh until it succeeds, and returns the new tokens.
async fn refresh_with_retries(node: &Node, tokens: &Tokens) -> Tokens {
    let answer = retry_until("a refresh succeeds", 200, || node.refresh(&tokens.refresh)).await;
    Tokens::of(&answer)
}

/// Waits until this many replicas have received all writes of the master.
async fn wait_until_replicated(master: &Redis, replicas: u32) {
    wait::until("the replicas have received the writes", || async {
        let timeout_millis = "1000";
        let answer = master.command(&["WAIT", &replicas.to_string(), timeout_millis]);
        answer.parse::<u32>().is_ok_and(|reached| reached >= replicas)
    })
    .await;
}
