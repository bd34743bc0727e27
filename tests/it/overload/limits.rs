//! Limits that all clients share: concurrent requests, and open files.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use reqwest::Method;
use rustix::process::Signal;

use crate::{
    harness::{client::PASSWORD, wait},
    store::server::Redis,
};

#[tokio::test(flavor = "multi_thread")]
async fn requests_above_limit_return_503_and_probes_are_exempt() {
    let redis = Redis::start();
    let mut cluster = crate::degradation::cluster(&redis);
    cluster.config.http.max_requests = 2;
    // longer than the test
    cluster.config.redis.command_timeout = Duration::from_mins(1);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    redis.signal(Signal::STOP); // Redis answers no command until it gets CONT
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let client = node.client.clone();
            let token = tokens.refresh.clone();
            tokio::spawn(async move {
                loop {
                    let answer = client.refresh(&token).await;
                    // refused if a poll below was being handled
                    if answer.status != 503 {
                        return answer;
                    }
                }
            })
        })
        .collect();
    let call = |path: &'static str| node.send(node.request(Method::GET, path));
    wait::until("both requests wait for Redis", || async { call("/openapi.json").await.status == 503 }).await;
    let refused = node.try_login("ada", PASSWORD).await;
    assert_eq!(refused.problem(), (503, "unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    call("/livez").await.expect(200);

    redis.signal(Signal::CONT);
    for refresh in waiting {
        refresh.await.unwrap().expect(200);
    }
    // the limit counts no request that has ended
    node.login("ada").await;
}

/// Each connection is an open file, and shells set a low soft limit of open files.
#[test]
fn service_raises_its_limit_of_open_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Command::new("sh")
        // the shell replaces itself with the program `$0`
        .args(["-c", "ulimit -S -n 200 && ulimit -H -n 1000 && exec \"$0\" serve", env!("CARGO_BIN_EXE_latchkey")])
        .current_dir(folder.path())
        .env("LATCHKEY_LISTEN", "127.0.0.1:0")
        .env("LATCHKEY_LOG_FORMAT", "text")
        // no server listens there: this test needs no Redis
        .env("LATCHKEY_REDIS_URL", "redis://127.0.0.1:1")
        .env("LATCHKEY_LOG_FILTER", "latchkey::cli=info")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    let mut lines = BufReader::new(node.stderr.take().unwrap()).lines();
    // The log line `started` has the field `api`.
    let started = lines.any(|line| {
        log += &line.unwrap();
        log.contains(" api=")
    });
    // read while the process exists, unwrapped after it has ended: a panic before would leave it running
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.id()));
    node.kill().unwrap();
    node.wait().unwrap();
    assert!(started, "{log}");
    let limits = limits.unwrap();
    // the columns are the soft limit, the hard limit and the unit
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(open_files.split_whitespace().next(), Some("1000"));
    assert!(log.contains("the limit of open files is 1000"), "{log}");
}
