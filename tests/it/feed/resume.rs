//! Resuming a feed with `Last-Event-ID`.

use serde_json::json;

use super::{log_in_and_out, session_ids};
use crate::harness::{sse::Feed, test_cluster::TestCluster};

#[tokio::test(flavor = "multi_thread")]
async fn missed_revocations_are_replayed_by_any_node() {
    let cluster = TestCluster::new();
    let service = cluster.service_client("billing").await;
    let (node, peer) = (cluster.node().await, cluster.node().await);
    node.register("ada").await;
    let mut feed = Feed::open(&peer, &service).await;
    feed.caught_up().await;
    let last = feed.last_id.clone().unwrap();
    drop(feed);
    let missed = [log_in_and_out(&node, "ada").await, log_in_and_out(&peer, "ada").await];

    for node in [&node, &peer] {
        let mut feed = Feed::open_after(node, &service, Some(&last)).await;
        let first = feed.next().await.unwrap();
        assert_eq!(first.name, "resumed");
        // 310 seconds: the lifetime of an access token (300), the leeway (5) and a margin for clocks (5)
        assert_eq!(first.data, json!({ "retain_seconds": 310 }));
        assert_eq!(session_ids(&feed.caught_up().await), missed);
    }
    for node in [node, peer] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_lose_no_revocation() {
    let cluster = TestCluster::new();
    let service = cluster.service_client("billing").await;
    let (node, peer) = (cluster.node().await, cluster.node().await);
    node.register("ada").await;
    let mut feed = Feed::open(&node, &service).await;
    feed.caught_up().await;
    let end_sessions = async {
        let mut ended = Vec::new();
        // enough logouts for the subscriber to reconnect many times meanwhile
        for _ in 0..40 {
            ended.push(log_in_and_out(&peer, "ada").await);
        }
        ended
    };
    let mut received = Vec::new();
    let read_and_reconnect = async {
        loop {
            let last = feed.last_id.clone().unwrap();
            let next_node = if received.len() % 2 == 0 { &peer } else { &node };
            feed = Feed::open_after(next_node, &service, Some(&last)).await;
            assert_eq!(feed.next().await.unwrap().name, "resumed");
            // Some reconnections interrupt the replay of missed revocations.
            let event_count = 1 + received.len() % 3;
            for _ in 0..event_count {
                let event = feed.next().await.unwrap();
                if event.name == "revocation" {
                    received.push(event.data["session_id"].as_str().unwrap().to_owned());
                }
            }
        }
    };
    let ended = tokio::select! {
        ended = end_sessions => ended,
        () = read_and_reconnect => unreachable!("the loop has no end"),
    };
    // These revocations follow the last event that was read.
    let mut feed = Feed::open_after(&node, &service, feed.last_id.clone().as_deref()).await;
    received.extend(session_ids(&feed.caught_up().await).into_iter().map(str::to_owned));
    for session in &ended {
        assert!(received.contains(session));
    }
    drop(feed);
    for node in [node, peer] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_last_event_id_causes_a_gap() {
    let cluster = TestCluster::new();
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    node.register("ada").await;
    let session = log_in_and_out(&node, "ada").await;
    let mut feed = Feed::open(&node, &service).await;
    feed.caught_up().await;
    // An id has the version of its format, which is 1, and a time in milliseconds.
    let now: i64 = feed.last_id.unwrap().strip_prefix("1-").unwrap().parse().unwrap();
    let id_at = |time: i64| format!("1-{time}");
    let hour_ms = 3_600_000;
    // Redis may have deleted events that are as old as `redis.event_retention` (1 h).
    let too_old = id_at(now - hour_ms);
    let in_the_future = id_at(now + hour_ms);
    let (of_another_version, malformed) = ("7-1", "x");
    for last in [too_old.as_str(), in_the_future.as_str(), of_another_version, malformed] {
        let mut feed = Feed::open_after(&node, &service, Some(last)).await;
        let gap = feed.next().await.unwrap();
        assert_eq!(gap.name, "gap", "{last}");
        assert!(gap.data["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{gap:?}");
        assert_eq!(feed.next().await.unwrap().name, "snapshot");
        assert_eq!(session_ids(&feed.caught_up().await), [&session]);
        assert_ne!(feed.last_id.as_deref(), Some(last));
    }
    let within_retention = id_at(now - hour_ms / 2);
    let mut feed = Feed::open_after(&node, &service, Some(&within_retention)).await;
    assert_eq!(feed.next().await.unwrap().name, "resumed");
    drop(feed);
}
