//! A Redis that accepts, and doesn't answer.

use rustix::process::Signal;

use super::{assert_all_unavailable, assert_not_ready, cluster, cluster_at, proxy::Proxy, ready_again};
use crate::store::server::{DURABLE, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_redis_is_unavailable_until_it_goes_on() {
    let server = Server::start("redis-server", 0, DURABLE);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.account("ada").await;
    let [tokens, other] = [node.login("ada").await, node.login("ada").await];

    server.signal(Signal::STOP);
    for _ in 0..3 {
        assert_all_unavailable(&node, "ada", &tokens).await;
    }
    server.signal(Signal::CONT);
    ready_again(&node).await;
    // what was sent to it may have been carried out since; the session that nothing was asked of may have been ended
    // by the call that ends all others, and new ones work
    assert_ne!(node.refresh(&other.refresh).await.status.as_u16() / 100, 5);
    let fresh = node.login("ada").await;
    node.refresh(&fresh.refresh).await.expect(200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_given_up_for_new_ones() {
    let server = Server::start("redis-server", 0, DURABLE);
    let proxy = Proxy::start(server.socket(), true).await;
    let cluster = cluster_at(&proxy.url());
    let node = cluster.node().await;
    node.account("ada").await;
    let tokens = node.login("ada").await;

    proxy.fall_silent();
    assert_all_unavailable(&node, "ada", &tokens).await;
    proxy.talk();
    ready_again(&node).await;
    // every connection of the pool
    for _ in 0..8 {
        node.get("/v1/me", &tokens.access).await.expect(200);
    }
    node.refresh(&tokens.refresh).await.expect(200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_silent_from_the_start_is_noticed_too() {
    let server = Server::start("redis-server", 0, DURABLE);
    let proxy = Proxy::start(server.socket(), false).await;
    let cluster = cluster_at(&proxy.url());
    let node = cluster.node().await;
    assert_not_ready(&node).await;
    proxy.talk();
    ready_again(&node).await;
    node.account("ada").await;
    node.login("ada").await;
    node.stop().await;
}
