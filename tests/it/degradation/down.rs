//! A Redis that is down.

use std::time::Duration;

use super::{assert_all_unavailable, assert_not_ready, assert_unavailable, cluster, wait_until_ready};
use crate::{
    harness::{
        client::{PASSWORD, Tokens},
        log::Log,
        wait,
    },
    store::server::{DURABLE, Redis},
};

#[tokio::test(flavor = "multi_thread")]
async fn node_started_without_redis_recovers_once_redis_is_up() {
    let mut server = Redis::stopped(DURABLE);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    let problem = assert_not_ready(&node).await;
    assert!(problem.contains("Redis is unavailable"), "{problem}");
    // A registration needs the database only.
    node.register("ada").await;
    assert_unavailable(&node.try_login("ada", PASSWORD).await);

    server.restart();
    wait_until_ready(&node).await;
    let tokens = node.login("ada").await;
    node.refresh(&tokens.refresh).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_kill_of_redis() {
    let mut server = Redis::start();
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let kept = node.login("ada").await;
    let login = node.login("ada").await;
    let refreshed = Tokens::of(&node.refresh(&login.refresh).await.expect(200));
    let ended = node.login("ada").await;
    node.logout(&ended.refresh).await.expect(204);

    server.kill();
    assert_all_unavailable(&node, "ada", &kept).await;
    server.restart();
    wait_until_ready(&node).await;
    node.refresh(&kept.refresh).await.expect(200);
    node.refresh(&refreshed.refresh).await.expect(200);
    node.refresh(&ended.refresh).await.expect(401);
    node.get("/v1/me", &ended.access).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_fail_before_the_command_timeout_while_redis_refuses_connections() {
    let mut server = Redis::start();
    let mut cluster = cluster(&server);
    // far longer than the second for which the test waits below
    cluster.config.redis.command_timeout = Duration::from_secs(60);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    server.kill();
    let attempt = || tokio::time::timeout(Duration::from_secs(1), node.get("/v1/me", &tokens.access));
    let fails = async || attempt().await.is_ok_and(|answer| answer.status == 503);
    // The first failure may be that of a command in flight during the kill, so two in a row count.
    wait::until("requests fail at once", || async { fails().await && fails().await }).await;
    assert_unavailable(&attempt().await.expect("the next request fails at once"));
    server.restart();
    wait_until_ready(&node).await;
    node.get("/v1/me", &tokens.access).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_without_redis_is_logged_in_one_line_with_its_cause() {
    let server = Redis::stopped(DURABLE);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let log = Log::start();
    let answer = node.try_login("ada", PASSWORD).await;
    assert_unavailable(&answer);
    let text = String::from_utf8(log.bytes()).unwrap();
    let id = answer.header("x-request-id");
    // The test captures all levels. The default level is INFO.
    let is_shown_by_default = |line: &&str| !line.contains("TRACE") && !line.contains("DEBUG");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(id)).filter(is_shown_by_default).collect();
    let [line] = lines[..] else { panic!("{lines:#?}") };
    for part in ["WARN", "latchkey::request", "status=503", "dependency=\"redis\"", "error=\"Redis is unavailable: "] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_verification_expires_without_redis() {
    let mut server = Redis::start();
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let cached = node.login("ada").await;
    let uncached = node.login("ada").await;
    // puts only this session into the cache
    node.get("/v1/verify", &cached.access).await.expect(200);
    server.kill();
    assert_unavailable(&node.get("/v1/verify", &uncached.access).await);
    wait::until("the cached session expires", || async { node.get("/v1/verify", &cached.access).await.status == 503 })
        .await;
    assert_unavailable(&node.get("/v1/verify", &cached.access).await);
    // a malformed token is refused without Redis
    let malformed = &cached.access[1..];
    assert_eq!(node.get("/v1/verify", malformed).await.problem(), (401, "invalid_token".to_owned()));
    server.restart();
    wait_until_ready(&node).await;
    for tokens in [&cached, &uncached] {
        node.get("/v1/verify", &tokens.access).await.expect(200);
    }
}
