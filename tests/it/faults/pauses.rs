//! A Redis that pauses writes, and one with a high latency.

use std::time::Duration;

use super::expect_status_or_503;
use crate::{
    degradation::{assert_unavailable, cluster, cluster_at, wait_until_ready},
    harness::{
        client::PASSWORD,
        fault_proxy::{FaultProxy, Mode},
        wait,
    },
    store::server::Redis,
};

#[tokio::test(flavor = "multi_thread")]
async fn paused_writes_keep_reads_working() {
    let server = Redis::start();
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let [kept, signed_out] = [node.login("ada").await, node.login("ada").await];

    // ten minutes in ms, longer than the test
    server.command(&["CLIENT", "PAUSE", "600000", "WRITE"]);
    assert_unavailable(&node.refresh(&signed_out.refresh).await);
    assert_unavailable(&node.logout(&signed_out.refresh).await);
    assert_unavailable(&node.try_login("ada", PASSWORD).await);
    // At first a read may fail: it may share its connection with a paused write.
    wait::until("reads are served", || async { expect_status_or_503(&node.get("/v1/me", &kept.access).await, 200) })
        .await;

    server.command(&["CLIENT", "UNPAUSE"]);
    wait_until_ready(&node).await;
    node.refresh(&kept.refresh).await.expect(200);
    // Redis may or may not have executed the paused logout. This one takes effect.
    node.logout(&signed_out.refresh).await.expect(204);
    assert_eq!(node.refresh(&signed_out.refresh).await.problem().0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_latency_of_300_ms_keeps_everything_working() {
    let server = Redis::start();
    let proxy = FaultProxy::start(server.socket()).await;
    let mut cluster = cluster_at(&proxy.redis_url());
    // leaves room for the latency and for a busy machine
    cluster.config.redis.command_timeout = Duration::from_secs(5);
    let node = cluster.node().await;
    node.register("ada").await;

    proxy.set(Mode::Slow(Duration::from_millis(300)));
    // one sign-in alone, then three sessions at once
    node.login("ada").await;
    let sessions = (0..3).map(|_| async {
        let tokens = node.login("ada").await;
        let refreshed = node.refresh(&tokens.refresh).await.expect(200);
        node.get("/v1/me", &tokens.access).await.expect(200);
        node.get("/v1/verify", &tokens.access).await.expect(200);
        node.logout(&refreshed.text_of("refresh_token")).await.expect(204);
        node.get("/v1/me", &tokens.access).await.expect(401);
        node.get("/v1/verify", &tokens.access).await.expect(401);
    });
    futures_util::future::join_all(sessions).await;
    wait_until_ready(&node).await;
}
