//! A thousand connections that are as slow as they can be, made by `slowhttptest`: others don't notice, and they are closed.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::process::{Process, open_many};
use crate::harness::{
    client::{Client, Tokens},
    guard,
};

const INSTALL: &str = "this test needs slowhttptest: `apt-get install slowhttptest` (Debian, Ubuntu), `dnf install \
                       slowhttptest` (Fedora), `brew install slowhttptest` (macOS); or run `make test`, which installs it";

const CONNECTIONS: usize = 1000;
/// So many have to be seen at once; it takes the program a second to make all of them, and longer on a busy machine.
const ENOUGH: usize = CONNECTIONS * 3 / 4;
/// For a busy machine too.
const PATIENCE: Duration = Duration::from_secs(100);
/// What the node may take for them, in MiB.
const BUDGET: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_harm_nobody() {
    // a header every second
    attack("/v1/me", &["-H", "-i", "1", "-t", "GET"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_harm_nobody() {
    attack("/v1/login", &["-B", "-i", "1", "-s", "8192", "-t", "POST", "-f", "application/json"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_harm_nobody() {
    // the longest answer that there is, five bytes a second
    attack("/docs", &["-X", "-n", "1", "-z", "5", "-w", "10", "-y", "20"]).await;
}

async fn attack(path: &str, how: &[&str]) {
    open_many(4 * CONNECTIONS as u64);
    let process = Process::start(&[
        "http.first_byte_timeout=5s",
        "http.header_timeout=5s",
        "http.body_timeout=5s",
        "http.write_timeout=5s",
        "http.idle_timeout=5s",
    ]);
    let client = Client::new(process.node.client.base.clone());
    client.account("ada").await;
    let mut tokens = client.login("ada").await;
    let (before, few) = (process.memory(), process.open_files());

    let tool = SlowHttpTest::start(&format!("{}{path}", client.base), how);
    let (mut most_open, mut asked) = (0, 0);
    // until they have been there, and aren't any more
    loop {
        let open = process.open_files().saturating_sub(few);
        most_open = most_open.max(open);
        if most_open >= ENOUGH && open < CONNECTIONS / 20 {
            break;
        }
        assert!(tool.since.elapsed() < PATIENCE, "{open} of {most_open} connections are still open; {asked} answered");
        tokens = Tokens::of(&client.refresh(&tokens.refresh).await.expect(200));
        client.get("/v1/me", &tokens.access).await.expect(200);
        asked += 2;
    }
    let most = process.most_memory();
    println!("{asked} answered beside {most_open} slow ones; {before} MiB before, {most} MiB at most");
    assert!(asked > 0);
    assert!(most <= before + BUDGET, "{before} MiB before, {most} MiB at most");
}

/// The program, running until dropped.
struct SlowHttpTest {
    program: Child,
    since: Instant,
}

impl SlowHttpTest {
    fn start(url: &str, how: &[&str]) -> Self {
        let program = guard::find_programs(&["slowhttptest"], []).expect(INSTALL).join("slowhttptest");
        let mut command = Command::new(program);
        command.args(["-c", &CONNECTIONS.to_string(), "-r", "1000", "-l", "120", "-v", "0", "-u", url]).args(how);
        let program = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { program, since: Instant::now() }
    }
}

impl Drop for SlowHttpTest {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
