//! `latchkey doctor` on real servers with real faults.
//!
//! Tests that also use a running node have several threads, because a run of `latchkey doctor` blocks one of them.

use std::{fs, path::Path};

use latchkey::store::redis::embedded::server_process;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::{Service, run},
    harness::{guard, postgres, redis::Redis},
};

/// A finding of `latchkey doctor`.
#[derive(Debug)]
struct Finding {
    check: String,
    status: String,
    detail: String,
}

/// Runs `latchkey doctor`. Returns its findings and its exit code.
fn examine(folder: &Path, arguments: &[&str]) -> (Vec<Finding>, Option<i32>) {
    let output = run(folder, &[&["doctor", "--json"], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let finding = |row: Value| Finding {
        check: field(&row, "check"),
        status: field(&row, "status"),
        detail: field(&row, "detail"),
    };
    (rows.map(finding).collect(), output.status.code())
}

/// Whether there is a finding with this check, this status, and a detail that contains `text`.
fn finds(found: &[Finding], check: &str, status: &str, text: &str) -> bool {
    found.iter().any(|row| row.check == check && row.status == status && row.detail.contains(text))
}

/// Runs `latchkey migrate`.
fn migrate(folder: &Path, arguments: &[&str]) {
    let output = run(folder, &[&["migrate"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with the migrated database of a service.
fn migrated_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    migrate(folder.path(), &[]);
    folder
}

#[test]
fn doctor_without_a_service_creates_nothing_and_names_the_data_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (found, code) = examine(folder.path(), &[]);
    assert!(finds(&found, "configuration", "fail", "there is no database at"), "{found:?}");
    assert!(finds(&found, "configuration", "fail", "--data-dir"), "{found:?}");
    assert_eq!(found.len(), 1);
    assert_eq!(code, Some(1));

    // With these settings, the service uses no data directory.
    let settings = [
        "database.url=sqlite://other.db",
        // port 1 is closed
        "redis.url=redis://127.0.0.1:1",
        "secret=long enough for a secret of a test",
    ];
    let arguments: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let (found, code) = examine(folder.path(), &arguments);
    assert!(finds(&found, "database", "fail", "there is no database at other.db"), "{found:?}");
    assert_eq!(code, Some(1));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn doctor_with_durable_redis_and_new_database_passes() {
    let (folder, redis) = (migrated_folder(), Redis::start());
    let url = format!("redis.url={}", redis.url());
    let (found, code) = examine(folder.path(), &["--set", &url, "--set", "issuer=http://auth.example.com"]);
    assert!(finds(&found, "redis", "ok", "without eviction"), "{found:?}");
    assert!(finds(&found, "database", "ok", "SQLite 3"), "{found:?}");
    // The warnings are about the tests' cheap hashing and about the issuer above.
    assert!(finds(&found, "configuration", "warn", "OWASP"), "{found:?}");
    assert!(finds(&found, "configuration", "warn", "without https"), "{found:?}");
    assert_eq!(code, Some(0), "{found:?}");
}

#[test]
fn doctor_reports_the_state_of_the_signing_keys() {
    let (folder, redis) = (migrated_folder(), Redis::start());
    let url = format!("redis.url={}", redis.url());
    let (found, _) = examine(folder.path(), &["--set", &url]);
    assert!(finds(&found, "keys", "ok", "none yet"), "{found:?}");
    // the new key signs at once
    assert!(run(folder.path(), &["keys", "rotate", "--now"]).status.success());
    let (found, _) = examine(folder.path(), &["--set", &url]);
    assert!(finds(&found, "keys", "ok", "has signed for 0 days"), "{found:?}");
    // the new key is published first, and signs later
    assert!(run(folder.path(), &["keys", "rotate"]).status.success());
    let (found, _) = examine(folder.path(), &["--set", &url]);
    assert!(finds(&found, "keys", "ok", "is published and signs from"), "{found:?}");

    // keys that the configured secret can't open
    let secret = "secret=another-secret-that-is-long-enough-for-it";
    let (found, code) = examine(folder.path(), &["--set", &url, "--set", secret]);
    assert!(finds(&found, "keys", "fail", "secret_previous"), "{found:?}");
    assert_eq!(code, Some(1));
}

#[test]
fn doctor_with_redis_that_may_lose_writes_warns_and_with_a_replica_fails() {
    let (folder, redis) = (migrated_folder(), Redis::start());
    let url = format!("redis.url={}", redis.url());
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    redis.command(&["CONFIG", "SET", "appendfsync", "everysec"]);
    let (found, code) = examine(folder.path(), &["--set", &url]);
    assert!(finds(&found, "redis", "warn", "set `maxmemory-policy noeviction`"), "{found:?}");
    assert!(finds(&found, "redis", "warn", "set `appendfsync always`"), "{found:?}");
    assert_eq!(code, Some(0));

    // a replica, which refuses all writes, is a fault
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let (found, code) = examine(folder.path(), &["--set", &url]);
    assert!(finds(&found, "redis", "fail", "must lead to its master"), "{found:?}");
    assert_eq!(code, Some(1));
}

#[test]
fn doctor_with_unreachable_stores_fails_and_names_the_settings() {
    let folder = migrated_folder();
    // port 1 is closed
    let database = "database.url=postgres://nobody@127.0.0.1:1/none";
    let settings =
        ["--set", "redis.url=redis://127.0.0.1:1", "--set", database, "--set", "database.acquire_timeout=1s"];
    let (found, code) = examine(folder.path(), &settings);
    assert!(finds(&found, "redis", "fail", "LATCHKEY_REDIS_URL"), "{found:?}");
    assert!(finds(&found, "database", "fail", "LATCHKEY_DATABASE_URL"), "{found:?}");
    assert_eq!(code, Some(1));
}

#[test]
fn doctor_with_invalid_configuration_fails() {
    let folder = tempfile::tempdir().unwrap();
    // one value is above its maximum, the other below its minimum
    let (found, code) = examine(folder.path(), &["--set", "session.grace=2h", "--set", "redis.pool_size=0"]);
    assert!(finds(&found, "configuration", "fail", "session.grace"), "{found:?}");
    assert!(finds(&found, "configuration", "fail", "redis.pool_size"), "{found:?}");
    assert_eq!(found.len(), 2);
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn doctor_with_postgres_checks_its_migrations() {
    let (folder, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let server = postgres::shared();
    let database = format!("database.url={}", server.url(&server.create_database().await));
    let url = format!("redis.url={}", redis.url());
    let secret = "secret=long enough for a secret of a test";
    let settings = ["--set", &url, "--set", &database, "--set", secret];
    let (found, _) = examine(folder.path(), &settings);
    assert!(finds(&found, "database", "warn", "migrations are missing"), "{found:?}");
    migrate(folder.path(), &settings);
    let (found, code) = examine(folder.path(), &settings);
    assert!(finds(&found, "database", "ok", "PostgreSQL"), "{found:?}");
    assert_eq!(code, Some(0), "{found:?}");
}

/// The running node counts requests by their forwarding header. `doctor` compares the counts with the settings.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_compares_headers_of_proxies_with_settings() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = format!("metrics.listen=127.0.0.1:{}", guard::free_port());
    let examine = |more: &[&str]| examine(folder.path(), &[&["--set", &metrics], more].concat()).0;
    migrate(folder.path(), &[]);
    assert!(finds(&examine(&[]), "proxy", "ok", "no node answers at metrics.listen"), "no node runs yet");
    let https = ["--set", "issuer=https://auth.example.com"];
    assert!(finds(&examine(&https), "proxy", "warn", "http.trusted_proxies is empty"), "a proxy terminates TLS");

    let service = Service::start_with(folder.path(), &["serve", "--set", &metrics]);
    assert!(finds(&examine(&[]), "proxy", "ok", "no request came through a proxy yet"));
    let request = service.client.request(Method::GET, "/livez").header("x-forwarded-for", "192.0.2.1");
    service.client.send(request).await.expect(200);
    assert!(finds(&examine(&[]), "proxy", "warn", "http.trusted_proxies does not list"));
    drop(service);

    // a new node, which counts from zero and trusts the address of the test as a proxy
    let trusted = ["serve", "--set", &metrics, "--set", "http.trusted_proxies=127.0.0.1"];
    let service = Service::start_with(folder.path(), &trusted);
    service.client.get_anonymously("/livez").await.expect(200);
    assert!(finds(&examine(&[]), "proxy", "warn", "none of 1 requests"));
    let request = |header: &str| service.client.request(Method::GET, "/livez").header(header, "for=192.0.2.1");
    service.client.send(request("x-forwarded-for")).await.expect(200);
    assert!(finds(&examine(&[]), "proxy", "ok", "1 requests of trusted proxies have the header x-forwarded-for"));
    service.client.send(request("forwarded")).await.expect(200);
    assert!(finds(&examine(&[]), "proxy", "warn", "1 requests of trusted proxies have another header"));
}

/// The embedded Redis of a running node hangs: `doctor` names its process and the commands that end the outage.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_with_hung_embedded_redis_names_its_process_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let _node = Service::start_with(folder.path(), &["serve"]);
    let socket = folder.path().join("latchkey-data/redis/redis.sock");
    let process_id = server_process(&socket).await.expect("the embedded Redis listens");
    let pid = Pid::from_raw(process_id).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let (found, code) = tokio::task::block_in_place(|| examine(folder.path(), &[]));
    // before the assertions, so that the node can stop its Redis
    kill_process(pid, Signal::CONT).unwrap();
    assert!(finds(&found, "redis", "fail", &format!("kill -CONT {process_id}")), "{found:?}");
    assert!(finds(&found, "redis", "fail", &format!("kill -KILL {process_id}")), "{found:?}");
    // not the advice about a Redis that the settings name
    assert!(!finds(&found, "redis", "fail", "redis.url (LATCHKEY_REDIS_URL)"), "{found:?}");
    assert_eq!(code, Some(1));
}

/// Without a configured Redis, `doctor` starts the embedded one while it checks.
#[test]
fn doctor_with_embedded_redis_checks_and_stops_it() {
    let folder = migrated_folder();
    let output = run(folder.path(), &["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ok    redis          "), "{text}");
    assert!(!folder.path().join("latchkey-data/redis/redis.sock").exists(), "the embedded Redis has stopped");
}
