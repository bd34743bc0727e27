//! Tests the commands `latchkey backup` and `latchkey restore`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Output};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    binary::{Service, command, run},
    harness::{
        client::{PASSWORD, Tokens},
        postgres,
    },
};

/// The exit code of a command, and its standard output followed by its standard error.
fn outcome(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text.into_owned())
}

/// Runs a command in this folder, asserts that it succeeds, and returns its output.
#[track_caller]
fn expect_success(folder: &Path, arguments: &[&str]) -> String {
    let (code, text) = outcome(&run(folder, arguments));
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    text
}

/// Runs a command in this folder, and asserts that it fails with code 1 and an output that contains `message`.
#[track_caller]
fn assert_fails_with(folder: &Path, arguments: &[&str], message: &str) {
    let (code, text) = outcome(&run(folder, arguments));
    assert_eq!(code, Some(1), "{arguments:?}: {text}");
    assert!(text.contains(message), "{arguments:?}: {text}");
}

/// The ids of the signing keys that the service publishes.
async fn key_ids(service: &Service) -> Vec<String> {
    let jwks = service.client.get_anonymously("/.well-known/jwks.json").await.json();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_of_running_service_restores_accounts_keys_and_sessions() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let service = Service::start(old.path());
    service.client.register("ada").await;
    let kept = service.client.login("ada").await;
    let ended = service.client.login("ada").await;
    service.client.logout(&ended.refresh).await.expect(204);
    let keys = key_ids(&service).await;

    let backup = new.path().join("backup");
    let printed = expect_success(old.path(), &["backup", backup.to_str().unwrap()]);
    assert!(printed.contains("Wrote secret, latchkey.db, sessions.rdb"), "{printed}");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(&backup).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
    // The service continues during and after the backup.
    let kept = Tokens::of(&service.client.refresh(&kept.refresh).await.expect(200));
    drop(service);

    let printed = expect_success(new.path(), &["restore", "backup", "--keep-sessions"]);
    assert!(printed.contains("are live again"), "{printed}");
    let service = Service::start(new.path());
    assert_eq!(service.client.refresh(&ended.refresh).await.problem().1, "invalid_refresh_token");
    // The token was issued after the backup. The restored session accepts it, although the backup has only the token before it.
    service.client.refresh(&kept.refresh).await.expect(200);
    service.client.login("ada").await;
    assert_eq!(key_ids(&service).await, keys);
    let (code, log) = service.end(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    // The restored sessions survive a restart.
    let service = Service::start(new.path());
    service.client.refresh(&kept.refresh).await.expect(200);
    assert_eq!(service.client.refresh(&ended.refresh).await.problem().1, "invalid_refresh_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_ends_all_sessions_by_default() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let service = Service::start(old.path());
    service.client.register("ada").await;
    let session = service.client.login("ada").await;
    service.end(Signal::TERM);
    let backup = new.path().join("backup");
    expect_success(old.path(), &["backup", backup.to_str().unwrap()]);
    // The backup has the session, which ends only now.
    let service = Service::start(old.path());
    service.client.logout(&session.refresh).await.expect(204);
    drop(service);

    let printed = expect_success(new.path(), &["restore", "backup"]);
    assert!(printed.contains("No sessions were restored: everyone signs in again."), "{printed}");
    let service = Service::start(new.path());
    assert_eq!(service.client.refresh(&session.refresh).await.problem().1, "invalid_refresh_token");
    service.client.login("ada").await;
    let (_code, log) = service.end(Signal::TERM);
    assert!(
        log.contains("Redis has no sessions, and the time that nodes write") && !log.contains("\"level\":\"ERROR\""),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_over_a_service_or_of_a_damaged_backup_changes_nothing() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let service = Service::start(old.path());
    service.client.register("ada").await;
    service.end(Signal::TERM);
    let backup = new.path().join("backup");
    let path = backup.to_str().unwrap();
    expect_success(old.path(), &["backup", path]);

    assert_fails_with(old.path(), &["backup", path], "the directory is not empty");
    // The restore looks for the database first, then for the secret, and then for sessions.
    assert_fails_with(old.path(), &["restore", path], "latchkey.db exists: restore into an empty data directory");
    let data = old.path().join("latchkey-data");
    fs::remove_file(data.join("latchkey.db")).unwrap();
    assert_fails_with(old.path(), &["restore", path], "secret exists: restore into an empty data directory");
    fs::remove_file(data.join("secret")).unwrap();
    assert_fails_with(old.path(), &["restore", path], "redis has sessions");

    let mut bytes = fs::read(backup.join("latchkey.db")).unwrap();
    let middle = bytes.len() / 2;
    // flips one bit
    bytes[middle] ^= 1;
    fs::write(backup.join("latchkey.db"), bytes).unwrap();
    assert_fails_with(new.path(), &["restore", "backup"], "latchkey.db is damaged");
    fs::remove_file(backup.join("backup.json")).unwrap();
    assert_fails_with(new.path(), &["restore", "backup"], "not a complete backup");
    assert!(!new.path().join("latchkey-data").exists(), "nothing was created");
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_without_secret_says_that_the_service_needs_the_former_secret() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let command_with_secret = |folder: &Path, arguments: &[&str]| {
        let mut command = command(folder, arguments);
        command.env("LATCHKEY_SECRET", "a secret that is kept outside of the data directory");
        command
    };
    let service = Service::spawn(command_with_secret(old.path(), &["serve"])).unwrap();
    service.client.register("ada").await;
    service.end(Signal::TERM);
    let backup = new.path().join("backup");
    let output =
        command_with_secret(old.path(), &["backup", backup.to_str().unwrap(), "--no-sessions"]).output().unwrap();
    let (code, text) = outcome(&output);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Wrote latchkey.db to"), "{text}");
    let manifest: Value = serde_json::from_slice(&fs::read(backup.join("backup.json")).unwrap()).unwrap();
    assert_eq!(manifest.get("service_was_running"), None, "unknown in a backup without sessions");

    let printed = expect_success(new.path(), &["restore", "backup"]);
    assert!(printed.contains("The backup has no secret, and none is configured."), "{printed}");
    let Err(log) = Service::try_start_with(new.path(), &["serve"]) else { panic!("the node started") };
    assert!(log.contains("configure the secret that the service used before"), "{log}");
    let service = Service::spawn(command_with_secret(new.path(), &["serve"])).unwrap();
    service.client.login("ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_with_postgres_lacks_the_database_and_prints_the_command_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = postgres::shared().create_database().await;
    let url = format!("database.url={}", postgres::shared().url(&database));
    let run_with_postgres = |arguments: &[&str]| {
        let output = command(folder.path(), &[arguments, &["--set", &url]].concat()).output().unwrap();
        outcome(&output)
    };
    let service = Service::start_with(folder.path(), &["serve", "--set", &url]);
    service.client.register("ada").await;
    let session = service.client.login("ada").await;
    let (code, text) = run_with_postgres(&["backup", "copy"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Wrote secret, sessions.rdb") && text.contains("pg_dump --format=custom"), "{text}");
    service.end(Signal::TERM);

    // The node's machine is lost, but not the database. Without the database's URL, the restore expects a database in the backup.
    fs::remove_dir_all(folder.path().join("latchkey-data")).unwrap();
    let message = "the backup has no database: it was made with PostgreSQL";
    assert_fails_with(folder.path(), &["restore", "copy"], message);
    let (code, text) = run_with_postgres(&["restore", "copy", "--keep-sessions"]);
    assert_eq!(code, Some(0), "{text}");
    let service = Service::start_with(folder.path(), &["serve", "--set", &url]);
    service.client.refresh(&session.refresh).await.expect(200);
    service.client.login_with("ada", PASSWORD).await;
}
