//! The Redis password changes while a node is running.

use super::expect_status_or_503;
use crate::{
    degradation::{assert_all_unavailable, assert_not_ready, cluster_at, wait_until_ready},
    harness::wait,
    store::server::{DURABLE, Redis},
};

#[tokio::test(flavor = "multi_thread")]
async fn changed_redis_password_makes_node_unavailable_until_it_is_restored() {
    let server = Redis::with_port(DURABLE);
    // `resetpass` removes the former password, `>` adds one, and the last three arguments permit all keys, channels and commands.
    let set_password = |password: &str| {
        let password = format!(">{password}");
        server.command(&["ACL", "SETUSER", "latchkey", "on", "resetpass", &password, "~*", "&*", "+@all"]);
    };
    set_password("first");
    let cluster = cluster_at(&format!("redis://latchkey:first@127.0.0.1:{}", server.port()));
    let node = cluster.node().await;
    wait_until_ready(&node).await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    // Redis keeps the open connections and refuses new ones. A call that needs a new connection is answered with a 503.
    set_password("second");
    expect_status_or_503(&node.get("/v1/me", &tokens.access).await, 200);
    // closes the open connections
    server.command(&["CLIENT", "KILL", "USER", "latchkey"]);
    assert_all_unavailable(&node, "ada", &tokens).await;
    let refused = "the server refused the user or password of redis.url";
    wait::until("the problem names the password", || async { assert_not_ready(&node).await.contains(refused) }).await;

    set_password("first");
    wait_until_ready(&node).await;
    node.get("/v1/me", &tokens.access).await.expect(200);
    node.refresh(&tokens.refresh).await.expect(200);
}
