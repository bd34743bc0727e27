//! Errors at the edges: a Redis that is down, hung, silent, full, busy or wrongly configured, seen over HTTP.

mod configured;
mod down;
mod proxy;
mod refusing;
mod silent;

use std::time::Duration;

use crate::{
    harness::{
        client::{Answer, PASSWORD, Tokens},
        test_cluster::{Node, TestCluster},
        wait,
    },
    store::server::Server,
};

/// Far more than the command timeout of a second: what takes this long hangs.
const HANGS: Duration = Duration::from_secs(15);

/// A cluster on this server.
pub(crate) fn cluster(server: &Server) -> TestCluster {
    cluster_at(&server.url())
}

pub(crate) fn cluster_at(url: &str) -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.config.redis.url = Some(url.into());
    cluster
}

/// Asserts that an answer says "not now, try again".
#[track_caller]
pub(crate) fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.problem(), (503, "unavailable".to_owned()), "{answer:?}");
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{answer:?}");
}

/// Calls everything that needs the session store, at once: all of it is unavailable, and nothing hangs.
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
    let (login, refresh, logout, me, sessions, end) = tokio::time::timeout(HANGS, calls).await.expect("no call hangs");
    for answer in [login, refresh, logout, me, sessions, end] {
        assert_unavailable(&answer);
    }
    assert_not_ready(node).await;
}

/// Asserts that `/readyz` fails over Redis while `/livez` is well; gives what it says is wrong.
pub(crate) async fn assert_not_ready(node: &Node) -> String {
    node.get("/livez", "").await.expect(200);
    let ready = tokio::time::timeout(HANGS, node.get("/readyz", "")).await.expect("/readyz doesn't hang").expect(503);
    let json = ready.json();
    assert_eq!((&json["status"], &json["checks"][0]["name"]), (&"failed".into(), &"redis".into()), "{json}");
    assert_eq!(json["checks"][0]["status"], "failed");
    assert_eq!(json["checks"][1]["status"], "ok", "{json}");
    json["checks"][0]["problems"][0].as_str().expect("a problem").to_owned()
}

/// Waits until the node is ready again, without a restart.
pub(crate) async fn ready_again(node: &Node) {
    wait::until("the node is ready", || async { node.get("/readyz", "").await.status == 200 }).await;
}
