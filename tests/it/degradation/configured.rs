//! Warnings for a Redis that works and may lose acknowledged writes (I9).

use latchkey::service::readiness::{self, Check, Status};

use super::cluster;
use crate::store::server::{DURABLE, Redis};

/// The check named `redis` of a node's readiness checks, on a Redis with these arguments. A warning does not fail `/readyz`.
async fn redis_check(arguments: &[&str]) -> Check {
    let server = Redis::start_with(arguments);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    assert_eq!(node.get_anonymously("/readyz").await.expect(200).json(), serde_json::json!({ "status": "ok" }));
    let checks = readiness::check(&node.state).await;
    node.stop().await;
    // the check of Redis is the first
    checks[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_with_durable_redis_is_ok() {
    assert_eq!(redis_check(DURABLE).await, Check { name: "redis", status: Status::Ok, problems: vec![] });
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_with_redis_that_may_lose_writes_warns() {
    for (arguments, named_setting) in [
        (&["--appendonly", "no"][..], "`appendonly yes`"),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], "`appendfsync everysec`"),
        (&[DURABLE, &["--maxmemory-policy", "allkeys-lru"]].concat(), "`maxmemory-policy allkeys-lru`"),
    ] {
        let check = redis_check(arguments).await;
        assert_eq!((check.status, check.problems.len()), (Status::Warning, 1), "{arguments:?}: {check:?}");
        assert!(check.problems[0].text.contains(named_setting), "{check:?}");
    }
}
