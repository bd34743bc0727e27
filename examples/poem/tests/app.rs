//! Runs the app with the service: a token is accepted until its session ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

#[path = "../../../clients/rust/tests/service/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../../../clients/rust/tests/service/proxy.rs"]
mod proxy;

use harness::{
    client::Client,
    test_cluster::{ServiceClient, TestCluster},
    wait,
};
use latchkey::domain::clock::Clock;
use proxy::FaultProxy;

/// The app. It is stopped when dropped.
struct App {
    child: Child,
    client: Client,
}

impl App {
    fn start(issuer: &str, client: &ServiceClient) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_latchkey-example-poem"))
            .env("LATCHKEY_ISSUER", issuer)
            .env("LATCHKEY_CLIENT_ID", &client.id)
            .env("LATCHKEY_CLIENT_SECRET", &client.secret)
            .env("LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base = line.trim_end().strip_suffix("/hello").expect(&line).to_owned();
        Self { child, client: Client::new(base) }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poem_example_accepts_token_until_logout() {
    let mut cluster = TestCluster::new();
    cluster.clock = Clock::System;
    let proxy = FaultProxy::start().await;
    cluster.config.issuer = proxy.url();
    let node = cluster.node().await;
    proxy.forward_to(&node.client.base);
    let client = cluster.service_client("hello").await;
    let account = node.account("ada").await.text_of("id");
    let (one, other) = (node.login("ada").await, node.login("ada").await);
    let app = tokio::task::block_in_place(|| App::start(&proxy.url(), &client));
    let greeting = format!("Hello, {account}!\n");
    for tokens in [&one, &other] {
        assert_eq!(app.client.get("/hello", &tokens.access).await.expect(200).text, greeting);
    }
    let nobody = app.client.send(app.client.request(reqwest::Method::GET, "/hello")).await.expect(401);
    assert_eq!(nobody.header("www-authenticate"), r#"Bearer realm="latchkey""#);
    app.client.get("/hello", &one.refresh).await.expect(401);

    node.logout(&one.refresh).await.expect(204);
    wait::until("the token is refused", async || app.client.get("/hello", &one.access).await.status == 401).await;
    app.client.get("/hello", &one.access).await.expect(401);
    assert_eq!(app.client.get("/hello", &other.access).await.expect(200).text, greeting);
    drop(app);
    node.stop().await;
}
