//! The disk with the SQLite database is full.

use std::{io::Write, path::Path};

use serde_json::json;

use super::{expect_status_or_503, retry_until};
use crate::{
    binary::api_url,
    degradation::assert_unavailable,
    harness::{
        client::{Client, PASSWORD, Tokens},
        guard::{Guard, Spec},
    },
    store::server::Redis,
};

/// A shell script that mounts a small disk (2 MiB) at `$1`, visible to this process only, and executes the remaining arguments.
const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=2m tmpfs "$1" && shift && exec "$@""#;

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_refuses_writes_only() {
    let server = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let redis_setting = format!("redis.url={}", server.url());
    let database_setting = format!("database.url=sqlite://{path}/latchkey.db");
    // outside the small disk, which is for SQLite only
    let data = tempfile::tempdir().unwrap();
    let data_setting = format!("data_dir={}", data.path().display());
    let mut command = vec!["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh", &path];
    command.extend([env!("CARGO_BIN_EXE_latchkey"), "serve"]);
    // passwords are hashed with little work, to keep the test short
    for setting in [
        "listen=127.0.0.1:0",
        &data_setting,
        &redis_setting,
        &database_setting,
        "password.memory_kib=64",
        "password.iterations=1",
    ] {
        command.extend(["--set", setting]);
    }
    let spec = Spec { command: &command, stop: "KILL", folder: None, ready: "\"api\":", unprivileged: false };
    let guard = Guard::start(&spec).unwrap_or_else(|error| panic!("{error}"));
    let log = guard.log();
    let node = Client::new(api_url(&log).unwrap());
    node.register("ada").await;
    let tokens = node.login("ada").await;

    // the path goes through `/proc/PID/root`, since the small disk is mounted in the namespace of that process only
    let relative = path.trim_start_matches('/');
    let filler = Path::new("/proc").join(guard.pid().to_string()).join("root").join(relative).join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    // The write fails when the disk has no free page.
    while file.write_all(&[0; 4096]).is_ok() {}
    let register = |number: usize| {
        let body = json!({ "email": format!("user{number}@example.com"), "password": PASSWORD });
        node.post("/v1/users", body)
    };
    let mut refused = None;
    // SQLite's files may have free pages left for some accounts, but not for 200.
    for number in 0..200 {
        let answer = register(number).await;
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
    }
    assert_unavailable(&refused.expect("the disk is full"));
    // A later write may find a free page.
    for number in 200..220 {
        expect_status_or_503(&register(number).await, 201);
    }
    // These requests wait for no write to SQLite.
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    node.get("/v1/me", &tokens.access).await.expect(200);
    node.login("ada").await;

    // The space is free when no process has the file open.
    drop(file);
    std::fs::remove_file(filler).unwrap();
    retry_until("writes succeed again", 201, || register(220)).await;
    node.change_password(&tokens.access, PASSWORD, "lantern orchid seventeen").await.expect(200);
}
