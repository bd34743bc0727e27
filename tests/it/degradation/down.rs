//! A Redis that isn't there.

use super::{assert_all_unavailable, assert_not_ready, assert_unavailable, cluster, ready_again};
use crate::{
    harness::{
        client::{PASSWORD, Tokens},
        wait,
    },
    store::server::{DURABLE, Server},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_redis_and_works_once_it_is_there() {
    let mut server = Server::stopped(DURABLE);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    let problem = assert_not_ready(&node).await;
    assert!(problem.contains("Redis is unavailable"), "{problem}");
    node.account("ada").await;
    assert_unavailable(&node.try_login("ada", PASSWORD).await);

    server.restart();
    ready_again(&node).await;
    let tokens = node.login("ada").await;
    node.refresh(&tokens.refresh).await.expect(200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_the_end_of_redis() {
    let mut server = Server::start("redis-server", 0, DURABLE);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.account("ada").await;
    let kept = node.login("ada").await;
    let refreshed = Tokens::of(&node.refresh(&node.login("ada").await.refresh).await.expect(200));
    let ended = node.login("ada").await;
    node.logout(&ended.refresh).await.expect(204);

    server.kill();
    assert_all_unavailable(&node, "ada", &kept).await;
    server.restart();
    ready_again(&node).await;
    node.refresh(&kept.refresh).await.expect(200);
    node.refresh(&refreshed.refresh).await.expect(200);
    assert_eq!(node.refresh(&ended.refresh).await.problem().0, 401);
    node.get("/v1/me", &ended.access).await.expect(401);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_vouched_for_by_memory_for_long() {
    let mut server = Server::start("redis-server", 0, DURABLE);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.account("ada").await;
    let (known, unknown) = (node.login("ada").await, node.login("ada").await);
    node.get("/v1/verify", &known.access).await.expect(200);
    server.kill();
    assert_unavailable(&node.get("/v1/verify", &unknown.access).await);
    wait::until("what is remembered counts no more", || async {
        node.get("/v1/verify", &known.access).await.status == 503
    })
    .await;
    assert_unavailable(&node.get("/v1/verify", &known.access).await);
    // what needs no Redis to be refused is refused
    assert_eq!(node.get("/v1/verify", &known.access[1..]).await.problem(), (401, "invalid_token".to_owned()));
    server.restart();
    ready_again(&node).await;
    for tokens in [&known, &unknown] {
        node.get("/v1/verify", &tokens.access).await.expect(200);
    }
    node.stop().await;
}
