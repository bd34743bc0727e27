//! Runs the app with a Latchkey node.
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

/// The app and its issuer.
struct Fixture {
    app: App,
    node: Node,
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
        // the app calls the node, which runs in this runtime, before it prints its address
        let app = tokio::task::block_in_place(|| App::start(&proxy.http_url(), &client));
        Self { app, node, _proxy: proxy, _cluster: cluster }
    }
}

/// A member of the chat.
struct Member(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Member {
    async fn join(app: &App, access: &str) -> Self {
        let url = format!("{}/chat", app.client.base.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {access}").parse().unwrap());
        Self(connect_async(request).await.unwrap().0)
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
    let (ada, bob) = (node.register("ada").await.text_of("id"), node.register("bob").await.text_of("id"));
    let (ada_tokens, bob_tokens) = (node.login("ada").await, node.login("bob").await);
    let mut first = Member::join(&app, &ada_tokens.access).await;
    first.say("hello").await;
    assert_eq!(first.next().await, Message::text(format!("{ada}: hello")));
    let mut second = Member::join(&app, &bob_tokens.access).await;
    second.say("hi").await;
    for member in [&mut first, &mut second] {
        assert_eq!(member.next().await, Message::text(format!("{bob}: hi")));
    }
    node.logout(&ada_tokens.refresh).await.expect(204);
    let Message::Close(Some(frame)) = first.next().await else { panic!("the chat is not closed") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1008, "session_revoked"));
    second.say("alone").await;
    assert_eq!(second.next().await, Message::text(format!("{bob}: alone")));
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
    let nobody = app.client.send(app.client.request(reqwest::Method::GET, "/hello")).await.expect(401);
    assert_eq!(nobody.header("www-authenticate"), r#"Bearer realm="latchkey""#);
    // a refresh token is not accepted as an access token
    app.client.get("/hello", &first.refresh).await.expect(401);

    node.logout(&first.refresh).await.expect(204);
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
    // Sets up an authenticator app, which makes the session strong. Then steps up with the code of the next 30 s, since each code
    // is accepted once.
    let post = async |path: &str, access: &str, body: serde_json::Value| {
        let request = node.request(reqwest::Method::POST, path).bearer_auth(access).json(&body);
        node.send(request).await.expect(200)
    };
    let secret = post("/v1/me/factors/totp", &tokens.access, serde_json::json!({})).await.text_of("secret");
    let code_in = |seconds: i64| {
        let at = format!("@{}", Clock::System.now().as_secs() + seconds);
        let output = Command::new("oathtool").args(["--totp", "--base32", "--now", &at, &secret]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let first_code = serde_json::json!({ "code": code_in(0) });
    let strong = post("/v1/me/factors/totp/confirm", &tokens.access, first_code).await.text_of("access_token");
    app.client.get("/vault", &strong).await.expect(200);
    let next_code = serde_json::json!({ "method": "totp", "code": code_in(30) });
    let stepped_up = post("/v1/me/reauthenticate", &strong, next_code).await.text_of("access_token");
    let greeting = app.client.get("/vault", &stepped_up).await.expect(200).text;
    assert!(greeting.contains("with aal2"), "{greeting}");
    drop(app);
    node.stop().await;
}
