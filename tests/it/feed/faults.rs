//! Redis goes and comes back, loses its data, is a cluster: nothing is missed, or it is said.

use std::time::Duration;

use super::{sessions, signed_out};
use crate::{
    harness::{
        client::{Answer, Client},
        sse::Feed,
        test_cluster::{ServiceClient, TestCluster},
        wait,
    },
    store::{
        deployments::cluster,
        server::{DURABLE, Server, connected},
    },
};

/// A cluster on this address.
fn cluster_at(url: &str) -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.config.redis.url = Some(url.into());
    cluster
}

/// Signs out as soon as that is possible.
async fn sign_out(client: &Client, refresh: &str) {
    wait::until("the sign-out is answered", || async {
        let answer: Answer = client.logout(refresh).await;
        answer.status == 204
    })
    .await;
}

/// Reads on until this session's end is told, coming back where the stream ends.
async fn told(client: &Client, service: &ServiceClient, feed: &mut Feed, session: &str) {
    loop {
        match feed.next().await {
            Some(event) if event.data["session_id"] == *session => return,
            Some(event) => assert!(["heartbeat", "live", "resumed", "revocation"].contains(&&*event.name), "{event:?}"),
            None => *feed = Feed::open(client, service, feed.last_id.clone().as_deref()).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed_and_started_again() {
    let mut server = Server::start("redis-server", 0, DURABLE);
    let cluster = cluster_at(&server.url());
    let service = cluster.service_client("billing").await;
    let (here, there) = (cluster.node().await, cluster.node().await);
    here.account("ada").await;
    let mut feed = Feed::open(&there, &service, None).await;
    feed.caught_up().await;
    for _ in 0..3 {
        let tokens = here.login("ada").await;
        server.kill();
        server.restart();
        // nobody knows whether this node or the other one is connected first
        sign_out(&here, &tokens.refresh).await;
        told(&there, &service, &mut feed, &tokens.session).await;
    }
    drop(feed);
    for node in [here, there] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_cut() {
    let server = Server::start("redis-server", 0, DURABLE);
    let cluster = cluster_at(&server.url());
    let service = cluster.service_client("billing").await;
    let (here, there) = (cluster.node().await, cluster.node().await);
    here.account("ada").await;
    let mut feed = Feed::open(&there, &service, None).await;
    feed.caught_up().await;
    for _ in 0..5 {
        let tokens = here.login("ada").await;
        server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        sign_out(&here, &tokens.refresh).await;
        told(&there, &service, &mut feed, &tokens.session).await;
    }
    drop(feed);
    for node in [here, there] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_loses_its_data() {
    let server = Server::start("redis-server", 0, DURABLE);
    let cluster = cluster_at(&server.url());
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    node.account("ada").await;
    signed_out(&node, "ada").await;
    let mut feed = Feed::open(&node, &service, None).await;
    assert_eq!(feed.caught_up().await.len(), 1);
    // what the node itself has not seen it can't miss: two looks at Redis later it has
    for _ in 0..2 {
        feed.moved_on().await;
    }

    server.command(&["FLUSHALL"]);
    assert_eq!(feed.before("gap").await, []);
    assert_eq!(feed.next().await.unwrap().name, "snapshot");
    assert_eq!(feed.caught_up().await.len(), 0);
    let after = signed_out(&node, "ada").await;
    assert_eq!(feed.revocation().await["session_id"], *after);
    drop(feed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nobody_can_subscribe_and_nobody_is_told_that_all_was_told() {
    let mut server = Server::start("redis-server", 0, DURABLE);
    let cluster = cluster_at(&server.url());
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    let mut feed = Feed::open(&node, &service, None).await;
    feed.caught_up().await;
    server.kill();
    feed.ended().await;
    let request = node.request(reqwest::Method::GET, "/v1/revocations");
    let refused = node.send(request.basic_auth(&service.id, Some(&service.secret))).await;
    assert_eq!(refused.problem(), (503, "unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    server.restart();
    let mut feed = Feed::open(&node, &service, None).await;
    feed.caught_up().await;
    drop(feed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster() {
    let masters = cluster().await;
    let mut cluster = cluster_at(&format!("redis-cluster://127.0.0.1:{}", masters[0].port()));
    // three servers and two nodes get connected one to another
    cluster.config.redis.command_timeout = Duration::from_secs(10);
    let service = cluster.service_client("billing").await;
    let (here, there) = (cluster.node().await, cluster.node().await);
    for node in [&here, &there] {
        connected(&node.state.redis).await;
    }
    let mut ended = Vec::new();
    for name in ["ada", "bob", "cyd", "dan"] {
        here.account(name).await;
        ended.push(signed_out(&here, name).await);
    }
    let mut feed = Feed::open(&there, &service, None).await;
    let told = feed.caught_up().await;
    let mut told = sessions(&told);
    told.sort_unstable();
    ended.sort();
    assert_eq!(told, ended);
    for name in ["ada", "bob", "cyd", "dan"] {
        let session = signed_out(&here, name).await;
        assert_eq!(feed.revocation().await["session_id"], *session);
    }
    drop(feed);
    for node in [here, there] {
        node.stop().await;
    }
}
