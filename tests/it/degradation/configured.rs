//! Warnings of the readiness checks for a Redis that works, but is configured so that it may lose acknowledged writes (I9).

use latchkey::service::readiness::{self, Check, Status};

use super::cluster;
use crate::store::server::{DURABLE, Redis};

/// Runs the readiness checks of a node on a Redis with these arguments. Returns the check named `redis`. Asserts that `/readyz` succeeds,
/// which a warning does not prevent.
async fn run_redis_check(arguments: &[&str]) -> Check {
    let server = Redis::start_with(arguments);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    let ready = node.get_anonymously("/readyz").await.expect(200).json();
    assert_eq!(ready, serde_json::json!({ "status": "ok" }));
    let checks = readiness::check(&node.state).await;
    node.stop().await;
    checks.iter().find(|check| check.name == "redis").unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_with_durable_redis_is_ok() {
    let check = run_redis_check(DURABLE).await;
    assert_eq!(check, Check { name: "redis", status: Status::Ok, problems: vec![] });
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_with_redis_that_may_lose_writes_warns() {
    for (arguments, named_setting) in [
        (&["--appendonly", "no"][..], "`appendonly yes`"),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], "`appendfsync everysec`"),
        (&[DURABLE, &["--maxmemory-policy", "allkeys-lru"]].concat(), "`maxmemory-policy allkeys-lru`"),
    ] {
        let check = run_redis_check(arguments).await;
        assert_eq!(check.status, Status::Warning, "{arguments:?}: {check:?}");
        assert_eq!(check.problems.len(), 1, "{arguments:?}: {check:?}");
        assert!(check.problems[0].text.contains(named_setting), "{check:?}");
    }
}
