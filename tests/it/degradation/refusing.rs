//! A Redis that refuses commands: nodes answer requests that need these commands with 503 until Redis has recovered.

use std::process::{Child, Command, Stdio};

use super::{assert_all_unavailable, assert_not_ready, assert_unavailable, cluster, wait_until_ready};
use crate::{
    harness::{client::PASSWORD, wait},
    store::server::Redis,
};

/// Starts `redis-cli` with a command that blocks.
fn spawn_redis_cli(server: &Redis, words: &[&str]) -> Child {
    Command::new("redis-cli").arg("-s").arg(server.socket()).args(words).stdout(Stdio::null()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_out_of_memory_ends_sessions_but_starts_none() {
    let server = Redis::start();
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let [kept, ended] = [node.login("ada").await, node.login("ada").await];

    // Redis uses more than 1 MB already. It then refuses a script whose first write may need memory. The scripts that end sessions begin
    // with a removal (lib.lua).
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    assert_unavailable(&node.refresh(&kept.refresh).await);
    assert_unavailable(&node.try_login("ada", PASSWORD).await);
    node.get("/v1/me", &kept.access).await.expect(200);
    node.logout(&ended.refresh).await.expect(204);
    node.get("/v1/me", &ended.access).await.expect(401);
    assert_eq!(server.events().len(), 1, "the event of the revocation");

    // 0 stands for no limit
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    node.refresh(&kept.refresh).await.expect(200);
    node.refresh(&ended.refresh).await.expect(401);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_at_a_redis_replica_is_not_ready() {
    let server = Redis::start();
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    // the replica of a master that does not exist
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_unavailable(&node.refresh(&tokens.refresh).await);
    assert_unavailable(&node.logout(&tokens.refresh).await);
    let problem = assert_not_ready(&node).await;
    assert!(problem.contains("replica"), "{problem}");

    server.command(&["REPLICAOF", "NO", "ONE"]);
    wait_until_ready(&node).await;
    node.refresh(&tokens.refresh).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_busy_with_script_returns_503() {
    // 10 ms after the start of a script, Redis answers other commands with BUSY
    let server = Redis::start_with(&["--lua-time-limit", "10"]);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    let mut script = spawn_redis_cli(&server, &["EVAL", "while true do end", "0"]);
    wait::until("Redis is busy", || async { server.command(&["PING"]).starts_with("BUSY") }).await;
    assert_all_unavailable(&node, "ada", &tokens).await;
    server.command(&["SCRIPT", "KILL"]);
    script.wait().unwrap();
    wait_until_ready(&node).await;
    node.refresh(&tokens.refresh).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_cannot_save_returns_503() {
    // Redis refuses writes after a failed snapshot only if `save` is set. These values start no snapshot during the test.
    let server = Redis::start_with(&["--save", "3600 1000000"]);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    // Redis renames a complete snapshot to `dump.rdb`. This fails if `dump.rdb` is a folder with content.
    let snapshot = server.folder().join("dump.rdb");
    std::fs::create_dir_all(snapshot.join("blocker")).unwrap();
    server.command(&["BGSAVE"]);
    let has_failed = || async { server.command(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err") };
    wait::until("the snapshot has failed", has_failed).await;
    assert_unavailable(&node.refresh(&tokens.refresh).await);
    assert_unavailable(&node.try_login("ada", PASSWORD).await);

    std::fs::remove_dir_all(snapshot).unwrap();
    server.command(&["SAVE"]);
    node.refresh(&tokens.refresh).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_is_loading_returns_503() {
    // while Redis loads, it answers commands after each 1,024 bytes
    let arguments = ["--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024"];
    let server = Redis::start_with(&arguments);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    // 2,000 keys with a delay of 20 ms each: Redis loads for 40 s, or until the test removes the delay
    server.command(&["DEBUG", "POPULATE", "2000", "lk-test", "100"]);
    server.command(&["CONFIG", "SET", "key-load-delay", "20000"]);
    let mut reload = spawn_redis_cli(&server, &["DEBUG", "RELOAD"]);
    wait::until("Redis is loading", || async { server.command(&["PING"]).starts_with("LOADING") }).await;
    assert_unavailable(&node.refresh(&tokens.refresh).await);
    assert_unavailable(&node.get("/v1/me", &tokens.access).await);
    assert_not_ready(&node).await;
    server.command(&["CONFIG", "SET", "key-load-delay", "0"]);
    reload.wait().unwrap();
    wait_until_ready(&node).await;
    node.refresh(&tokens.refresh).await.expect(200);
}
