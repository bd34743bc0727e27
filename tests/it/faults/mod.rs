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

/// Far more than the command timeout of a second: a call that takes this long hangs.
const HANG_TIMEOUT: Duration = Duration::from_secs(15);

/// Asserts that an answer has this status or is a 503 that asks for a retry; returns whether it has the status.
#[track_caller]
fn has_succeeded(answer: &Answer, status: u16) -> bool {
    if answer.status == 503 {
        assert_unavailable(answer);
        return false;
    }
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    true
}

/// Repeats a call until its answer has this status. Every other answer must be a 503, and no call may hang.
async fn retry_until<F: Future<Output = Answer>>(what: &str, status: u16, call: impl Fn() -> F) -> Answer {
    let result = Mutex::new(None);
    wait::until(what, || async {
        let answer = tokio::time::timeout(HANG_TIMEOUT, call()).await.expect("the call does not hang");
        let succeeded = has_succeeded(&answer, status);
        *result.lock().unwrap() = succeeded.then_some(answer);
        succeeded
    })
    .await;
    result.into_inner().unwrap().unwrap()
}

/// Repeats a refresh until it succeeds.
async fn refreshed(node: &Node, tokens: &Tokens) -> Tokens {
    Tokens::of(&retry_until("a refresh succeeds", 200, || node.refresh(&tokens.refresh)).await)
}

/// Waits until this many replicas have received all writes of the master.
async fn wait_until_replicated(master: &Redis, replicas: u32) {
    wait::until("the replicas have received the writes", || async {
        let timeout_millis = "1000";
        let reached = master.command(&["WAIT", &replicas.to_string(), timeout_millis]).parse::<u32>();
        reached.is_ok_and(|reached| reached >= replicas)
    })
    .await;
}
