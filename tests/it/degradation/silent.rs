//! A Redis that accepts connections and does not respond.

use rustix::process::Signal;

use super::{assert_all_unavailable, assert_not_ready, cluster, cluster_at, wait_until_ready};
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::store::server::Redis;

#[tokio::test(flavor = "multi_thread")]
async fn hung_redis_returns_503_until_it_resumes() {
    let server = Redis::start();
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let other_session = node.login("ada").await;

    server.signal(Signal::STOP);
    // A timeout must not make later calls hang.
    for _ in 0..3 {
        assert_all_unavailable(&node, "ada", &tokens).await;
    }
    server.signal(Signal::CONT);
    wait_until_ready(&node).await;
    // Redis may have executed commands after they had timed out, among them the one that ends all sessions but that of `tokens`.
    let status = node.refresh(&other_session.refresh).await.status;
    assert!(!status.is_server_error(), "the session is live or has ended, so a server error is wrong: {status}");
    let new_session = node.login("ada").await;
    node.refresh(&new_session.refresh).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_replaced() {
    let server = Redis::start();
    let proxy = FaultProxy::start(server.socket()).await;
    let cluster = cluster_at(&proxy.redis_url());
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    proxy.set(Mode::Silenced);
    assert_all_unavailable(&node, "ada", &tokens).await;
    // Only new connections work from now on: those that existed while the proxy was silenced stay silent.
    proxy.set(Mode::Open);
    wait_until_ready(&node).await;
    // More requests than the pool has connections (`redis.pool_size` is 2 in tests), so that each connection is used.
    for _ in 0..8 {
        node.get("/v1/me", &tokens.access).await.expect(200);
    }
    node.refresh(&tokens.refresh).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_silent_from_the_start_is_detected() {
    let server = Redis::start();
    let proxy = FaultProxy::start(server.socket()).await;
    proxy.set(Mode::Silenced);
    let cluster = cluster_at(&proxy.redis_url());
    // The node starts nevertheless.
    let node = cluster.node().await;
    assert_not_ready(&node).await;
    proxy.set(Mode::Open);
    wait_until_ready(&node).await;
    node.register("ada").await;
    node.login("ada").await;
}
