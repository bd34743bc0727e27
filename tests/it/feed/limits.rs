//! Limits of the feed: nodes disconnect slow subscribers, limit the number of subscribers, and end every stream at shutdown.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use latchkey::{
    domain::{entropy::Entropy, event::EndReason, ids::AccountId},
    store::redis::AccountSessions,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use super::log_in_and_out;
use crate::harness::{
    client::Client,
    sse::Feed,
    test_cluster::{Node, ServiceClient, TestCluster},
    wait,
};

/// For subscriptions that do not resume.
const NO_LAST_ID: Option<&str> = None;

/// Appends `thousands` × 1000 account revocations. The accounts have no sessions, which makes no difference to the events.
async fn revoke_thousands(node: &Node, thousands: u64) {
    let now = node.state.clock.now();
    for _ in 0..thousands {
        let revocations = (0..1000).map(|_| {
            let account = AccountId(Entropy::system().uuid());
            // On a busy machine a command may time out. Repeating it has no further effect.
            wait::until("the revocation succeeds", move || async move {
                let sessions = AccountSessions::all(account);
                node.state.redis.sessions.revoke_all(sessions, EndReason::Disabled, now).await.is_ok()
            })
        });
        join_all(revocations).await;
    }
}

/// Subscribes, and reads up to the text `until` but no further. Events pile up until the socket's buffers are full.
async fn stalled_subscriber(client: &Client, service: &ServiceClient, until: &str) -> TcpStream {
    let mut stream = TcpStream::connect(client.base.strip_prefix("http://").unwrap()).await.unwrap();
    let credentials = BASE64_STANDARD.encode(format!("{}:{}", service.id, service.secret));
    let request = format!("GET /v1/revocations HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = String::new();
    while !read.contains(until) {
        read.push(stream.read_u8().await.unwrap().into());
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_subscriber_is_dropped_and_others_receive_everything() {
    let mut cluster = TestCluster::new();
    cluster.config.redis.command_timeout = Duration::from_secs(10); // for 1000 concurrent revocations
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    // These settings apply to the peer only. It has the subscribers.
    cluster.config.feed.max_subscribers = 2;
    cluster.config.http.write_timeout = Duration::from_secs(1);
    let peer = cluster.node().await;
    let _slow = stalled_subscriber(&peer, &service, "event: live").await;
    let mut quick = Feed::open(&peer, &service).await;
    quick.caught_up().await;
    let (received, mut progress) = watch::channel(0); // the revocations that the quick subscriber has received
    let quick_task = tokio::spawn(async move {
        // The logout below is the last event.
        while quick.revocation().await["reason"] != "logout" {
            received.send_modify(|received| *received += 1);
        }
    });
    assert_eq!(Feed::try_open(&peer, &service, NO_LAST_ID).await.status(), 503);

    // A third subscription succeeds once the peer has dropped the slow subscriber. Each round waits until the quick subscriber has
    // received everything, so that only the slow one falls behind.
    let mut revoked = 0;
    while Feed::try_open(&peer, &service, NO_LAST_ID).await.status() == 503 {
        assert!(revoked < 100_000, "the slow subscriber was not dropped");
        revoke_thousands(&node, 1).await;
        revoked += 1000;
        progress.wait_for(|received| *received == revoked).await.unwrap();
    }
    node.register("ada").await;
    log_in_and_out(&node, "ada").await;
    quick_task.await.unwrap();
    for node in [node, peer] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_subscriber_is_dropped_during_its_snapshot() {
    let mut cluster = TestCluster::new();
    cluster.config.feed.max_subscribers = 1;
    cluster.config.redis.command_timeout = Duration::from_secs(10); // for 1000 concurrent revocations
    cluster.config.http.write_timeout = Duration::from_millis(200);
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    // The snapshot is larger than the socket's buffers.
    revoke_thousands(&node, 40).await;
    let slow = stalled_subscriber(&node, &service, "event: snapshot").await;
    // With one subscriber allowed, this succeeds once the slow subscriber is dropped.
    let mut quick = Feed::open(&node, &service).await;
    assert_eq!(quick.caught_up().await.len(), 40_000);
    drop((slow, quick));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_above_the_limit_get_503_with_retry_after() {
    let mut cluster = TestCluster::new();
    cluster.config.feed.max_subscribers = 2;
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    let mut subscribers = [Feed::open(&node, &service).await, Feed::open(&node, &service).await];
    for feed in &mut subscribers {
        feed.caught_up().await;
    }
    let request = node.request(reqwest::Method::GET, "/v1/revocations");
    let refused = node.send(request.basic_auth(&service.id, Some(&service.secret))).await;
    assert_eq!(refused.problem(), (503, "unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");

    let [first, _second] = subscribers;
    drop(first);
    wait::until("a subscription is free", || async {
        Feed::try_open(&node, &service, NO_LAST_ID).await.status() == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_at_its_limit_of_subscribers_is_refused_while_other_clients_subscribe() {
    let mut cluster = TestCluster::new();
    cluster.config.feed.max_subscribers_per_client = 1;
    let billing = cluster.service_client("billing").await;
    let search = cluster.service_client("search").await;
    let node = cluster.node().await;
    let mut first = Feed::open(&node, &billing).await;
    first.caught_up().await;
    let request = node.request(reqwest::Method::GET, "/v1/revocations");
    let refused = node.send(request.basic_auth(&billing.id, Some(&billing.secret))).await;
    assert_eq!(refused.problem(), (503, "unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    let mut other = Feed::open(&node, &search).await;
    other.caught_up().await;

    drop(first);

    wait::until("the client may subscribe again", || async {
        Feed::try_open(&node, &billing, NO_LAST_ID).await.status() == 200
    })
    .await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_all_streams() {
    let mut cluster = TestCluster::new();
    // A shutdown that waited for the streams would take this long.
    cluster.config.http.shutdown_timeout = Duration::from_hours(1);
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    let mut feeds = [Feed::open(&node, &service).await, Feed::open(&node, &service).await];
    for feed in &mut feeds {
        feed.caught_up().await;
    }
    node.stop().await;
    for feed in feeds {
        feed.read_to_end().await;
    }
}

/// Resident memory of this process, in bytes.
fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")).unwrap();
    kib.trim().parse::<u64>().unwrap() * 1024
}

/// Runs in a process of its own, since memory is measured by process.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_that_do_not_read_use_little_memory() {
    const ALONE: &str = "LATCHKEY_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["feed::limits::subscribers_that_do_not_read_use_little_memory", "--exact", "--nocapture"])
            .env(ALONE, "yes")
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{child:?}");
        return;
    }
    let mut cluster = TestCluster::new();
    cluster.config.redis.command_timeout = Duration::from_secs(10); // for 1000 concurrent revocations
    // Subscribers that do not read stay connected for this long.
    cluster.config.http.write_timeout = Duration::from_hours(1);
    let node = cluster.node().await;
    let service = cluster.service_client("billing").await;
    // warms up the allocator, the connections and the code paths
    revoke_thousands(&node, 1).await;
    let mut feed = Feed::open(&node, &service).await;
    assert_eq!(feed.caught_up().await.len(), 1000);
    drop(feed);

    // Copies of all events for the 30 subscribers below would take over 200 MB.
    // These 15 begin a snapshot of 1000 events, and do not read the 40,000 events that follow it.
    let mut early = Vec::new();
    for _ in 0..15 {
        early.push(stalled_subscriber(&node, &service, "event: snapshot").await);
    }
    revoke_thousands(&node, 30).await;
    let before = resident_memory();
    // These 15 do not read their snapshot of 31,000 events.
    let mut late = Vec::new();
    for _ in 0..15 {
        late.push(stalled_subscriber(&node, &service, "event: snapshot").await);
    }
    revoke_thousands(&node, 10).await;
    let growth = resident_memory().saturating_sub(before);
    let limit = 64 << 20; // 64 MiB, less than a third of the copies
    assert!(growth < limit, "{growth} bytes");
    drop((early, late));
}
