//! A thousand slow connections by `slowhttptest`: other clients are served, and the node closes the slow connections.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::process::{Process, raise_file_limit};
use crate::harness::{
    client::{Client, Tokens},
    guard,
};

/// The message of a test that does not find the program.
const INSTALL: &str = "this test needs slowhttptest: `apt-get install slowhttptest` (Debian, Ubuntu), `dnf install \
                       slowhttptest` (Fedora), `brew install slowhttptest` (macOS); or run `make test`, which installs it";

/// The number of slow connections.
const CONNECTIONS: usize = 1000;
/// The number of connections that must be open at once. `slowhttptest` takes a second to open all, and longer on a busy machine.
const MIN_CONCURRENT: usize = CONNECTIONS * 3 / 4;
/// The time after which the test fails, long enough for a busy machine.
const DEADLINE: Duration = Duration::from_secs(100);
/// The additional memory that the node may use for the slow connections.
const BUDGET_MIB: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_do_not_affect_others() {
    // sends a header every second
    attack("/v1/me", &["-H", "-i", "1", "-t", "GET"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_do_not_affect_others() {
    // announces a body of 8192 bytes, and sends a few bytes every second
    attack("/v1/login", &["-B", "-i", "1", "-s", "8192", "-t", "POST", "-f", "application/json"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_do_not_affect_others() {
    // reads the longest response: five bytes every second, with a TCP window of 10 to 20 bytes
    attack("/docs", &["-X", "-n", "1", "-z", "5", "-w", "10", "-y", "20"]).await;
}

/// Attacks a path with slow connections, and asserts that other requests succeed and that the node closes the connections.
async fn attack(path: &str, options: &[&str]) {
    raise_file_limit(4 * CONNECTIONS as u64);
    let process = Process::start(&[
        "http.first_byte_timeout=5s",
        "http.header_timeout=5s",
        "http.body_timeout=5s",
        // pending_bodies.rs tests the limits of unfinished bodies
        "http.max_pending_bodies_per_address=4096",
        "http.write_timeout=5s",
        "http.idle_timeout=5s",
    ]);
    let client = Client::new(process.node.client.base.clone());
    client.register("ada").await;
    let mut tokens = client.login("ada").await;
    let memory_before = process.memory_mib();
    let files_before = process.open_files();

    let tool = SlowHttpTest::start(&format!("{}{path}", client.base), options);
    let (mut most_open, mut answered) = (0, 0);
    // Another client sends requests, until enough connections were open at once and nearly all (95 %) have been closed.
    loop {
        let open = process.open_files().saturating_sub(files_before);
        most_open = most_open.max(open);
        if most_open >= MIN_CONCURRENT && open < CONNECTIONS / 20 {
            break;
        }
        assert!(
            tool.started_at.elapsed() < DEADLINE,
            "{open} of {most_open} connections are still open; {answered} answered"
        );
        tokens = Tokens::of(&client.refresh(&tokens.refresh).await.expect(200));
        client.get("/v1/me", &tokens.access).await.expect(200);
        answered += 2;
    }
    let peak = process.peak_memory_mib();
    println!("{answered} answered beside {most_open} slow ones; {memory_before} MiB before, {peak} MiB at most");
    assert!(answered > 0);
    assert!(peak <= memory_before + BUDGET_MIB, "{memory_before} MiB before, {peak} MiB at most");
}

/// The running `slowhttptest`. Killed when dropped.
struct SlowHttpTest {
    process: Child,
    started_at: Instant,
}

impl SlowHttpTest {
    fn start(url: &str, options: &[&str]) -> Self {
        let program = guard::find_programs(&["slowhttptest"], []).expect(INSTALL).join("slowhttptest");
        let mut command = Command::new(program);
        // opens up to 1000 connections a second, and stops after 120 s
        command.args(["-c", &CONNECTIONS.to_string(), "-r", "1000", "-l", "120", "-v", "0", "-u", url]).args(options);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, started_at: Instant::now() }
    }
}

impl Drop for SlowHttpTest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
