//! A Redis that is down, hung, silent, full, busy or wrongly configured, seen over HTTP.

mod configured;
mod down;
mod refusing;
mod silent;

use std::time::Duration;

use latchkey::service::readiness::{self, Status};

use crate::{
    harness::{
        client::{Answer, PASSWORD, Tokens},
        test_cluster::{Node, TestCluster},
        wait,
    },
    store::server::Redis,
};

/// Far more than the command timeout of a second: a call that takes this long hangs.
const HANG_TIMEOUT: Duration = Duration::from_secs(15);

/// A cluster that uses this server.
pub(crate) fn cluster(server: &Redis) -> TestCluster {
    cluster_at(&server.url())
}

/// A cluster that uses the Redis at this URL.
pub(crate) fn cluster_at(url: &str) -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.config.redis.url = Some(url.into());
    cluster
}

/// Asserts a 503 with `Retry-After`.
#[track_caller]
pub(crate) fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.problem(), (503, "unavailable".to_owned()), "{answer:?}");
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{answer:?}");
}

/// Makes all calls that need the session store concurrently, as the account with this name. Asserts that each returns 503, that none
/// hangs, and that the node is not ready.
pub(crate) async fn assert_all_unavailable(node: &Node, name: &str, tokens: &Tokens) {
    let calls = async {
        tokio::join!(
            node.try_login(name, PASSWORD),
            node.refresh(&tokens.refresh),
            node.logout(&tokens.refresh),
            node.get("/v1/me", &tokens.access),
            node.get("/v1/sessions", &tokens.access),
            node.delete("/v1/sessions?keep_current=true", &tokens.access),
        )
    };
    let (login, refresh, logout, me, sessions, end_sessions) =
        tokio::time::timeout(HANG_TIMEOUT, calls).await.expect("no call hangs");
    for answer in [login, refresh, logout, me, sessions, end_sessions] {
        assert_unavailable(&answer);
    }
    assert_not_ready(node).await;
}

/// Asserts that `/livez` answers, that `/readyz` fails because of Redis, and that its response names no reason. Returns the first
/// problem of Redis, as operators see it.
pub(crate) async fn assert_not_ready(node: &Node) -> String {
    node.get_anonymously("/livez").await.expect(200);
    let last_answer = std::sync::Mutex::new(None);
    // A node reuses the result of its checks for a second, so the first answers may still be 200.
    wait::until("the node is not ready", || async {
        let answer = tokio::time::timeout(HANG_TIMEOUT, node.get_anonymously("/readyz")).await;
        let answer = answer.expect("/readyz doesn't hang");
        let has_failed = answer.status == 503;
        *last_answer.lock().unwrap() = Some(answer);
        has_failed
    })
    .await;
    let body = last_answer.into_inner().unwrap().unwrap().json();
    assert_eq!(body, serde_json::json!({ "status": "unavailable" }));
    let checks = readiness::check(&node.state).await;
    let [redis, database] = &checks[..] else { panic!("{checks:?}") };
    assert_eq!((redis.name, redis.status), ("redis", Status::Failed), "{checks:?}");
    assert_eq!(database.status, Status::Ok, "{checks:?}");
    redis.problems.first().expect("a problem").text.clone()
}

/// Waits until the node has recovered without a restart.
pub(crate) async fn wait_until_ready(node: &Node) {
    wait::until("the node is ready", || async { node.get_anonymously("/readyz").await.status == 200 }).await;
}
