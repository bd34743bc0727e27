//! Tests the routes `/hello`, `/chat` and `/vault` of the example app, with a Latchkey node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

#[path = "../../../clients/rust/tests/service/harness.rs"]
mod harness;

use futures_util::{SinkExt, StreamExt};
use harness::{
    client::Client,
    fault_proxy::FaultProxy,
    test_cluster::{Node, ServiceClient, TestCluster},
    wait,
};
use latchkey::domain::clock::Clock;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

/// The process of the app, and a client that calls it. The process is killed when this value is dropped.
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
        // the app prints the URL of its route `/hello`
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base =
            line.trim_end().strip_suffix("/hello").unwrap_or_else(|| panic!("the app printed {line}")).to_owned();
        Self { child, client: Client::new(base) }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.child.kill()); // fails if the app has already exited
        drop(self.child.wait());
    }
}

/// The app and its issuer. Each test drops the app before it stops the node, which drains its connections.
struct Fixture {
    app: App,
    node: Node,
    // kept running until the end of the test
    _proxy: FaultProxy,
    _cluster: TestCluster,
}

impl Fixture {
    async fn start() -> Self {
        let mut cluster = TestCluster::new();
        // the app is a process of its own, which checks tokens by the real time
        cluster.clock = Clock::System;
        // The issuer is the proxy's URL: the node needs the issuer before its own address is known.
        let proxy = FaultProxy::start_without_target().await;
        cluster.config.issuer = proxy.http_url();
        let node = cluster.node().await;
        proxy.forward_to(node.address());
        let client = cluster.service_client("hello").await;
        // `App::start` blocks until the app has called the node. The node runs in this runtime, which must not stop meanwhile.
        let app = tokio::task::block_in_place(|| App::start(&proxy.http_url(), &client));
        Self { app, node, _proxy: proxy, _cluster: cluster }
    }
}

/// The WebSocket of a member of the chat.
struct Member(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Member {
    async fn join(app: &App, access: &str) -> Self {
        let url = format!("{}/chat", app.client.base.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {access}").parse().unwrap());
        let (socket, _response) = connect_async(request).await.unwrap();
        Self(socket)
    }

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        self.0.next().await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poem_example_closes_the_chat_of_a_user_who_signs_out() {
    let Fixture { app, node, _proxy, _cluster } = Fixture::start().await;
    let (ada_id, bob_id) = (node.register("ada").await.text_of("id"), node.register("bob").await.text_of("id"));
    let (ada_tokens, bob_tokens) = (node.login("ada").await, node.login("bob").await);
    let mut ada_chat = Member::join(&app, &ada_tokens.access).await;
    // the answer shows that ada has joined before bob speaks
    ada_chat.say("hello").await;
    assert_eq!(ada_chat.next().await, Message::text(format!("{ada_id}: hello")));
    let mut bob_chat = Member::join(&app, &bob_tokens.access).await;
    bob_chat.say("hi").await;
    for member in [&mut ada_chat, &mut bob_chat] {
        assert_eq!(member.next().await, Message::text(format!("{bob_id}: hi")));
    }
    node.logout(&ada_tokens.refresh).await.expect(204);
    let Message::Close(Some(frame)) = ada_chat.next().await else { panic!("the chat is not closed") };
    assert_eq!(u16::from(frame.code), 1008, "policy violation (RFC 6455, section 7.4.1)");
    assert_eq!(frame.reason.as_str(), "session_revoked");
    bob_chat.say("alone").await;
    assert_eq!(bob_chat.next().await, Message::text(format!("{bob_id}: alone")));
    drop(app);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poem_example_accepts_token_until_logout() {
    let Fixture { app, node, _proxy, _cluster } = Fixture::start().await;
    let account = node.register("ada").await.text_of("id");
    let (first, second) = (node.login("ada").await, node.login("ada").await);
    let greeting = format!("Hello, {account}!\n");
    for tokens in [&first, &second] {
        assert_eq!(app.client.get("/hello", &tokens.access).await.expect(200).text, greeting);
    }
    let without_token = app.client.get_anonymously("/hello").await.expect(401);
    assert_eq!(without_token.header("www-authenticate"), r#"Bearer realm="latchkey""#);
    // a refresh token is not accepted as an access token
    app.client.get("/hello", &first.refresh).await.expect(401);

    node.logout(&first.refresh).await.expect(204);
    // the app learns of the sign-out from the feed, which may be later than the answer
    wait::until("the token is refused", async || app.client.get("/hello", &first.access).await.status == 401).await;
    // the token stays refused
    app.client.get("/hello", &first.access).await.expect(401);
    assert_eq!(app.client.get("/hello", &second.access).await.expect(200).text, greeting);
    drop(app);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poem_example_asks_for_a_second_factor_with_the_challenge_of_rfc_9470() {
    let Fixture { app, node, _proxy, _cluster } = Fixture::start().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let answer = app.client.get("/vault", &tokens.access).await.expect(401);
    let challenge = answer.header("www-authenticate");
    let expected = "error=\"insufficient_user_authentication\", acr_values=\"aal2\", max_age=\"300\"";
    assert!(challenge.ends_with(expected), "{challenge}");
    let post = async |path: &str, access: &str, body: serde_json::Value| {
        let request = node.request(reqwest::Method::POST, path).bearer_auth(access).json(&body);
        node.send(request).await.expect(200)
    };
    let secret = post("/v1/me/factors/totp", &tokens.access, serde_json::json!({})).await.text_of("secret");
    let code_in = |seconds: i64| {
        // for oathtool, `@` marks a Unix time
        let at = format!("@{}", Clock::System.now().as_secs() + seconds);
        let output = Command::new("oathtool").args(["--totp", "--base32", "--now", &at, &secret]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let first_code = serde_json::json!({ "code": code_in(0) });
    // To confirm an authenticator app is to authenticate with a second factor: the new access token has `acr` aal2.
    let enrolled = post("/v1/me/factors/totp/confirm", &tokens.access, first_code).await.text_of("access_token");
    app.client.get("/vault", &enrolled).await.expect(200);
    // Steps up with the code of the next 30 s, since each code is accepted once.
    let next_code = serde_json::json!({ "method": "totp", "code": code_in(30) });
    let stepped_up = post("/v1/me/reauthenticate", &enrolled, next_code).await.text_of("access_token");
    let greeting = app.client.get("/vault", &stepped_up).await.expect(200).text;
    assert!(greeting.contains("with aal2"), "{greeting}");
    drop(app);
    node.stop().await;
}
