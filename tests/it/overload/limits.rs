//! Limits that are for all callers together.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{client::PASSWORD, test_cluster::TestCluster, wait},
    server::within,
};

#[tokio::test(flavor = "multi_thread")]
async fn above_so_many_requests_at_once_others_are_told_to_come_again() {
    let mut cluster = TestCluster::new();
    cluster.config.http.max_requests = 2;
    let node = cluster.node().await;
    node.account("ada").await;
    let body = json!({ "identifier": "ada", "password": PASSWORD }).to_string();
    let (begun, rest) = body.split_at(10);

    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(node.base.strip_prefix("http://").unwrap()).await.unwrap();
        let head = format!(
            "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{begun}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let ask = |path: &'static str| node.send(node.request(Method::GET, path));
    wait::until("both have begun", || async { ask("/openapi.json").await.status == 503 }).await;
    let refused = node.try_login("ada", PASSWORD).await;
    assert_eq!(refused.problem(), (503, "unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    for path in ["/livez", "/readyz"] {
        ask(path).await.expect(200);
    }

    for mut stream in slow {
        stream.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    node.login("ada").await;
    node.stop().await;
}

/// Connections are files, and a shell gives its programs few.
#[test]
fn the_service_takes_as_many_files_as_it_may_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Command::new("sh")
        .args(["-c", "ulimit -S -n 200 && ulimit -H -n 1000 && exec \"$0\" serve", env!("CARGO_BIN_EXE_latchkey")])
        .current_dir(folder.path())
        .env("LATCHKEY_LISTEN", "127.0.0.1:0")
        .env("LATCHKEY_LOG_FORMAT", "text")
        // nothing is asked of it
        .env("LATCHKEY_REDIS_URL", "redis://127.0.0.1:1")
        .env("LATCHKEY_LOG_FILTER", "latchkey::cli=info")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    let mut lines = BufReader::new(node.stderr.take().unwrap()).lines();
    let started = lines.any(|line| {
        log += &line.unwrap();
        log.contains(" api=")
    });
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.id()));
    node.kill().unwrap();
    node.wait().unwrap();
    assert!(started, "{log}");
    let limits = limits.unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().next(), Some("1000"));
    assert!(log.contains("the limit of open files is 1000"), "{log}");
}
