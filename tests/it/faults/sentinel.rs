//! A master under Sentinel is killed or hangs: Sentinel promotes a replica, and the nodes connect to the promoted replica.

use rustix::process::Signal;

use super::{expect_status_or_503, refresh_with_retries, retry_until, wait_until_replicated};
use crate::{
    degradation::{cluster_at, wait_until_ready},
    harness::{
        guard::{self, Guard, Spec},
        sse::Feed,
        wait,
    },
    store::server::{DURABLE, Redis},
};

/// The number of replicas of the master.
const REPLICAS: u32 = 1;

/// Starts a Sentinel that watches a master under the name `main`. Its quorum is 1: it decides alone that the master is down. Returns the
/// port of the Sentinel, too.
fn start_sentinel(master: &Redis) -> (Guard, u16) {
    let port = guard::free_port();
    let folder = guard::folder("sentinel");
    let file = folder.join("sentinel.conf");
    let conf = format!(
        "port {port}\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 1000\n\
         sentinel failover-timeout main 5000\n",
        folder.display(),
        master.port()
    );
    std::fs::write(&file, conf).unwrap();
    let spec = Spec {
        command: &["redis-server", file.to_str().unwrap(), "--sentinel"],
        stop: "KILL",
        folder: Some(&folder),
        ready: "+monitor",
        unprivileged: false,
    };
    (Guard::start(&spec).unwrap(), port)
}

/// Starts a master with a replica, and a Sentinel that knows both. Returns the port of the Sentinel, too.
async fn start_replicated_redis() -> (Redis, Redis, Guard, u16) {
    let master = Redis::with_port(DURABLE);
    let replica = Redis::with_port(&[DURABLE, &["--replicaof", "127.0.0.1", &master.port().to_string()]].concat());
    let linked = || async { replica.command(&["INFO", "replication"]).contains("master_link_status:up") };
    wait::until("the replica is connected to its master", linked).await;
    let (sentinel, port) = start_sentinel(&master);
    wait::until("Sentinel knows the replica", || async { sentinel.log().contains("+slave") }).await;
    (master, replica, sentinel, port)
}

/// The output of `ROLE`, which begins with `master` or `slave`. It is empty if the server's role changes meanwhile, since the server
/// then closes the connection.
fn role(server: &Redis) -> String {
    let output = std::process::Command::new("redis-cli").arg("-s").arg(server.socket()).arg("ROLE").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends a signal to the master, and waits until Sentinel promotes the replica. Asserts that live sessions stay live, that ended
/// sessions stay ended, and that the feed has all revocations.
async fn assert_follows_promoted_replica(fault: Signal) {
    let (master, replica, _sentinel, port) = start_replicated_redis().await;
    let cluster = cluster_at(&format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=main"));
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    wait_until_ready(&nodes[0]).await;
    let kept = nodes[0].login("ada").await;
    let ended = nodes[0].login("ada").await;
    let service = cluster.service_client("billing").await;
    let mut feed = Feed::open(&nodes[1], &service).await;
    feed.caught_up().await;
    nodes[0].logout(&ended.refresh).await.expect(204);
    assert_eq!(feed.revocation().await["session_id"], ended.session);
    // The new id covers the logout above. A feed that resumes after it must have the next logout.
    feed.wait_for_new_id().await;
    let last_id = feed.last_id.clone();
    drop(feed);
    // The feed has no subscriber during this logout.
    let ended_unseen = nodes[0].login("ada").await;
    nodes[0].logout(&ended_unseen.refresh).await.expect(204);
    wait_until_replicated(&master, REPLICAS).await;

    master.signal(fault);
    wait::until("the replica is promoted", || async {
        for node in &nodes {
            expect_status_or_503(&node.get("/v1/me", &kept.access).await, 200);
        }
        role(&replica).starts_with("master")
    })
    .await;
    let mut tokens = kept;
    for node in &nodes {
        tokens = refresh_with_retries(node, &tokens).await;
        retry_until("an ended session stays ended", 401, || node.refresh(&ended.refresh)).await;
        wait_until_ready(node).await;
    }
    // The promoted replica has the revocation that had no subscriber, and receives new ones.
    let mut feed = Feed::open_after(&nodes[1], &service, last_id.as_deref()).await;
    let missed = feed.caught_up().await;
    assert!(missed.iter().any(|revocation| revocation["session_id"] == ended_unseen.session.as_str()), "{missed:?}");
    nodes[1].get("/v1/verify", &tokens.access).await.expect(200);
    retry_until("a logout succeeds", 204, || nodes[0].logout(&tokens.refresh)).await;
    // Skips revocations of other sessions.
    while feed.revocation().await["session_id"] != tokens.session.as_str() {}
    assert_eq!(nodes[1].get("/v1/verify", &tokens.access).await.status, 401);
    drop(feed);
    for node in nodes {
        node.stop().await;
    }
    // Undoes the fault: a stopped master continues. A killed master needs nothing.
    if fault == Signal::STOP {
        master.signal(Signal::CONT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_follow_the_replica_that_sentinel_promotes_for_a_killed_master() {
    assert_follows_promoted_replica(Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_follow_the_replica_that_sentinel_promotes_for_a_hung_master() {
    assert_follows_promoted_replica(Signal::STOP).await;
}

/// After a manual failover the former master keeps answering, as a replica. The node must connect to the new master.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_leave_a_master_that_sentinel_demotes() {
    let (master, replica, _sentinel, port) = start_replicated_redis().await;
    let cluster = cluster_at(&format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=main"));
    let node = cluster.node().await;
    node.register("ada").await;
    wait_until_ready(&node).await;
    let tokens = node.login("ada").await;
    wait_until_replicated(&master, REPLICAS).await;

    let port = port.to_string();
    let failover = ["-p", &port, "SENTINEL", "FAILOVER", "main"];
    assert!(std::process::Command::new("redis-cli").args(failover).status().unwrap().success());
    wait::until("the roles are exchanged", || async {
        expect_status_or_503(&node.get("/v1/me", &tokens.access).await, 200);
        role(&replica).starts_with("master") && role(&master).starts_with("slave")
    })
    .await;
    let tokens = refresh_with_retries(&node, &tokens).await;
    // A second refresh shows that the new master has stored the first one.
    refresh_with_retries(&node, &tokens).await;
    wait_until_ready(&node).await;
}
