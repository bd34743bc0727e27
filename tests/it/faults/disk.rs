//! The disk that SQLite is on is full.

use std::{io::Write, path::Path};

use serde_json::json;

use super::{is_well, until_well};
use crate::{
    binary::api_url,
    degradation::assert_unavailable,
    harness::{
        client::{Client, PASSWORD, Tokens},
        guard::{Guard, Spec},
    },
    store::server::{DURABLE, Server},
};

/// Mounts a small disk that only the program sees, then becomes the program. `$1` where; the rest is the program.
const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=2m tmpfs "$1" && shift && exec "$@""#;

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_refuses_writes_only() {
    let server = Server::start("redis-server", 0, DURABLE);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let redis = format!("redis.url={}", server.url());
    let database = format!("database.url=sqlite://{path}/latchkey.db");
    // beside it, since it isn't SQLite's disk that the rest is on
    let data = tempfile::tempdir().unwrap();
    let data = format!("data_dir={}", data.path().display());
    let mut command = vec!["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh", &path];
    command.extend([env!("CARGO_BIN_EXE_latchkey"), "serve"]);
    for setting in ["listen=127.0.0.1:0", &data, &redis, &database, "password.memory_kib=64", "password.iterations=1"] {
        command.extend(["--set", setting]);
    }
    let spec = Spec { command: &command, stop: "KILL", folder: None, ready: "\"api\":", unprivileged: false };
    let guard = Guard::start(&spec).unwrap_or_else(|error| panic!("{error}"));
    let log = guard.log();
    let node = Client::new(api_url(&log).unwrap());
    node.account("ada").await;
    let tokens = node.login("ada").await;

    // the program's view of its disk
    let filler = Path::new("/proc").join(guard.pid().to_string()).join("root").join(&path[1..]).join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    // there may be room left in SQLite's own files, but not for many
    let mut refused = None;
    for number in 0..200 {
        let body = json!({ "email": format!("user{number}@example.com"), "password": PASSWORD });
        let answer = node.post("/v1/users", body).await;
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
    }
    assert_unavailable(&refused.expect("the disk is full"));
    // what is still tried may find a little room, and never anything worse than "not now"
    for number in 200..220 {
        let body = json!({ "email": format!("user{number}@example.com"), "password": PASSWORD });
        is_well(&node.post("/v1/users", body).await, 201);
    }
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    node.get("/v1/me", &tokens.access).await.expect(200);
    node.login("ada").await;

    drop(file);
    std::fs::remove_file(filler).unwrap();
    let body = json!({ "email": "last@example.com", "password": PASSWORD });
    until_well("there is room again", 201, || node.post("/v1/users", body.clone())).await;
    node.change_password(&tokens.access, PASSWORD, "lantern orchid seventeen").await.expect(204);
}
