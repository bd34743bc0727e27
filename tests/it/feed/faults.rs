//! The feed while Redis restarts, loses connections or data, or is a cluster: no revocation is lost without the event `gap`.

use std::time::Duration;

use super::{log_in_and_out, session_ids};
use crate::{
    degradation::cluster_at,
    harness::{client::Client, sse::Feed, test_cluster::ServiceClient, wait},
    store::{
        deployments::redis_cluster,
        server::{Redis, wait_until_connected},
    },
};

/// Repeats the logout until it succeeds, since the node may have lost its connections to Redis.
async fn retry_logout(client: &Client, refresh: &str) {
    wait::until("the logout succeeds", || async { client.logout(refresh).await.status == 204 }).await;
}

/// Reads events until this session's revocation arrives, and resumes whenever the stream ends.
async fn wait_for_revocation(client: &Client, service: &ServiceClient, feed: &mut Feed, session: &str) {
    let revocation = async {
        loop {
            match feed.next().await {
                Some(event) if event.data["session_id"] == *session => return,
                Some(event) => {
                    // Redis has all events, so no `gap` is needed.
                    let expected = ["heartbeat", "live", "resumed", "revocation"];
                    assert!(expected.contains(&event.name.as_str()), "{event:?}");
                }
                None => {
                    let last = feed.last_id.clone();
                    *feed = Feed::open_after(client, service, last.as_deref()).await;
                }
            }
        }
    };
    wait::within_timeout("the revocation arrives", revocation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_redis_loses_no_feed_event() {
    let mut server = Redis::start();
    let cluster = cluster_at(&server.url());
    let service = cluster.service_client("billing").await;
    let (node, peer) = (cluster.node().await, cluster.node().await);
    node.register("ada").await;
    let mut feed = Feed::open(&peer, &service).await;
    feed.caught_up().await;
    // several rounds, since either node may reconnect first
    for _ in 0..3 {
        let tokens = node.login("ada").await;
        server.kill();
        server.restart();
        retry_logout(&node, &tokens.refresh).await;
        wait_for_revocation(&peer, &service, &mut feed, &tokens.session).await;
    }
    drop(feed);
    for node in [node, peer] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_survives_cut_redis_connections() {
    let server = Redis::start();
    let cluster = cluster_at(&server.url());
    let service = cluster.service_client("billing").await;
    let (node, peer) = (cluster.node().await, cluster.node().await);
    node.register("ada").await;
    let mut feed = Feed::open(&peer, &service).await;
    feed.caught_up().await;
    // several rounds, since either node may reconnect first
    for _ in 0..5 {
        let tokens = node.login("ada").await;
        server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        retry_logout(&node, &tokens.refresh).await;
        wait_for_revocation(&peer, &service, &mut feed, &tokens.session).await;
    }
    drop(feed);
    for node in [node, peer] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_redis_causes_a_gap_and_a_new_snapshot() {
    let server = Redis::start();
    let cluster = cluster_at(&server.url());
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    node.register("ada").await;
    let before = log_in_and_out(&node, "ada").await;
    let mut feed = Feed::open(&node, &service).await;
    assert_eq!(session_ids(&feed.caught_up().await), [&before]);
    // The node notices a loss only if it has applied the revocation itself; the snapshot above was read for the subscriber alone.
    // A heartbeat's id is the time at which a synchronization began. The synchronization of the first new id may have begun before
    // the logout; that of the second began after it.
    for _ in 0..2 {
        feed.wait_for_new_id().await;
    }

    server.command(&["FLUSHALL"]);
    assert_eq!(feed.events_before("gap").await, []);
    assert_eq!(feed.next().await.unwrap().name, "snapshot");
    assert!(feed.caught_up().await.is_empty());
    let after = log_in_and_out(&node, "ada").await;
    assert_eq!(feed.revocation().await["session_id"], *after);
    drop(feed);
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_without_redis_ends_and_refuses_subscribers() {
    let mut server = Redis::start();
    let cluster = cluster_at(&server.url());
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    let mut feed = Feed::open(&node, &service).await;
    feed.caught_up().await;
    server.kill();
    feed.read_to_end().await;
    let request = node.request(reqwest::Method::GET, "/v1/revocations");
    let refused = node.send(request.basic_auth(&service.id, Some(&service.secret))).await;
    assert_eq!(refused.problem(), (503, "unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    server.restart();
    let mut feed = Feed::open(&node, &service).await;
    feed.caught_up().await;
    drop(feed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_in_a_redis_cluster_sends_revocations_of_every_master() {
    let masters = redis_cluster().await;
    let mut cluster = cluster_at(&format!("redis-cluster://127.0.0.1:{}", masters[0].port()));
    // Connecting two nodes to three masters may take longer than the default.
    cluster.config.redis.command_timeout = Duration::from_secs(10);
    let service = cluster.service_client("billing").await;
    let (node, peer) = (cluster.node().await, cluster.node().await);
    for node in [&node, &peer] {
        wait_until_connected(&node.state.redis).await;
    }
    // The buckets of four accounts are, most likely, on more than one master.
    let names = ["ada", "bob", "cyd", "dan"];
    let mut ended = Vec::new();
    for name in names {
        node.register(name).await;
        ended.push(log_in_and_out(&node, name).await);
    }
    let mut feed = Feed::open(&peer, &service).await;
    let snapshot = feed.caught_up().await;
    let mut received = session_ids(&snapshot);
    // the streams of different masters have no common order
    received.sort_unstable();
    ended.sort();
    assert_eq!(received, ended);
    for name in names {
        let session = log_in_and_out(&node, name).await;
        assert_eq!(feed.revocation().await["session_id"], *session);
    }
    drop(feed);
    for node in [node, peer] {
        node.stop().await;
    }
}
