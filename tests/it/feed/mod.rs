//! `GET /v1/revocations`: subscribers receive every revocation, or the event `gap`.

mod delivery;
mod faults;
mod kinds;
mod limits;
mod resume;

use latchkey::service::clients;
use serde_json::{Value, json};

use crate::harness::{
    client::{Client, Tokens},
    sse::Feed,
    test_cluster::TestCluster,
    wait,
};

/// Logs an account in and out. Returns the id of the ended session.
async fn log_in_and_out(client: &Client, name: &str) -> String {
    let Tokens { refresh, session, .. } = client.login(name).await;
    client.logout(&refresh).await.expect(204);
    session
}

/// Returns the ids of the sessions that revocations end. Revocations of accounts and keys name no session.
fn session_ids(revocations: &[Value]) -> Vec<&str> {
    revocations.iter().filter_map(|revocation| revocation["session_id"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_subscriber_receives_a_snapshot_and_then_live_revocations() {
    let cluster = TestCluster::new();
    let service = cluster.service_client("billing").await;
    let (node, peer) = (cluster.node().await, cluster.node().await);
    let account = node.register("ada").await.text_of("id");
    let before = log_in_and_out(&node, "ada").await;

    let mut feed = Feed::open(&peer, &service).await;
    let first = feed.next().await.unwrap();
    assert_eq!(first.name, "snapshot");
    // the lifetime of an access token (300 s), its leeway (5 s), and 5 s for clocks that differ
    assert_eq!(first.data, json!({ "retain_seconds": 310 }));
    let logout_of = |session: &str| {
        json!({
            "kind": "session", "account_id": account, "session_id": session, "reason": "logout",
            "at": "2027-01-15T08:00:00.000Z", // the test's clock, which stands still
        })
    };
    assert_eq!(feed.caught_up().await, [logout_of(&before)]);
    assert!(feed.last_id.is_some(), "the subscriber can resume after the snapshot");

    let after = log_in_and_out(&node, "ada").await;
    assert_eq!(feed.revocation().await, logout_of(&after));
    feed.wait_for_new_id().await;
    drop(feed);
    for node in [node, peer] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_id_covers_every_earlier_revocation() {
    let cluster = TestCluster::new();
    let service = cluster.service_client("billing").await;
    let (node, peer) = (cluster.node().await, cluster.node().await);
    node.register("ada").await;
    let mut feed = Feed::open(&peer, &service).await;
    feed.caught_up().await;
    // An event id is `1-MILLIS`, a time by the clock of Redis. It covers all revocations before this time.
    for _ in 0..20 {
        let session = log_in_and_out(&node, "ada").await;
        // seconds since the Unix epoch, and the microseconds of the current second
        let time = cluster.redis.command(&["TIME"]);
        let (seconds, micros) = time.split_once('\n').unwrap();
        let logged_out_at = seconds.parse::<i64>().unwrap() * 1000 + micros.parse::<i64>().unwrap() / 1000;
        let mut received = false;
        let later_id = async {
            loop {
                let event = feed.next().await.unwrap();
                received |= event.data["session_id"] == *session;
                let id: i64 = feed.last_id.as_ref().unwrap().strip_prefix("1-").unwrap().parse().unwrap();
                if id > logged_out_at {
                    break;
                }
            }
        };
        wait::within_timeout("a later id arrives", later_id).await;
        assert!(received, "the id {:?} does not cover the revocation of {session}", feed.last_id);
    }
    drop(feed);
    for node in [node, peer] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_serves_enabled_service_clients_only() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let service = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let request = || node.request(reqwest::Method::GET, "/v1/revocations");
    let wrong_secret = request().basic_auth("billing", Some("guess"));
    for request in [request(), request().bearer_auth(&tokens.access), wrong_secret] {
        let refused = node.send(request).await;
        let (status, code) = refused.problem();
        assert_eq!(status, 401);
        assert_eq!(code, "invalid_client");
        assert_eq!(refused.header("www-authenticate"), "Basic realm=\"latchkey\"");
    }

    let mut feed = Feed::open(&node, &service).await;
    feed.caught_up().await;
    let mut other = Feed::open(&node, &cluster.service_client("other").await).await;
    other.caught_up().await;
    clients::disable(&cluster.clock, &node.state.sql, "billing").await.unwrap();
    cluster.reload_clients().await;
    feed.read_to_end().await;
    let resume_after = None;
    assert_eq!(Feed::try_open(&node, &service, resume_after).await.status(), 401);
    let session = log_in_and_out(&node, "ada").await;
    assert_eq!(other.revocation().await["session_id"], *session, "another client's stream continues");
    drop(other);
}
