//! Tests the proxy examples with the real proxies and the files of `examples/`, in which only addresses, ports and paths are replaced.

mod apache;
mod apache_openidc;
mod app;
mod caddy;
mod envoy;
mod haproxy;
pub(crate) mod nginx;
mod printed;
mod traefik;

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    factors,
    harness::{
        client::{Answer, Client, Tokens},
        fault_proxy::{FaultProxy, Mode},
        guard::{self, Guard},
        test_cluster::{Node, TestCluster},
        wait,
    },
    step_up::try_reauthenticate,
};
use app::App;

/// The headers in which a proxy passes the caller's identity to the app.
const IDENTITY_HEADERS: [&str; 6] =
    ["x-auth-subject", "x-auth-session", "x-auth-client", "x-auth-scope", "x-auth-roles", "x-auth-expires"];

/// The body and the cookie of requests: the app must receive both, and Latchkey neither.
const BODY: &str = "a body for the app";
const COOKIE: &str = "only-for=the-app";

/// The addresses in a proxy's configuration.
struct Addresses {
    latchkey: SocketAddr,
    app: SocketAddr,
    /// Where the proxy listens.
    listen: SocketAddr,
}

/// A proxy in front of an app.
struct Proxy {
    /// Starts the proxy. Returns its output if it does not start.
    start: fn(&Addresses) -> Result<Guard, String>,
    /// Whether the proxy's request to Latchkey times out within seconds.
    has_short_timeout: bool,
}

impl Proxy {
    /// Runs all checks: what passes to the app, what is refused, and outages of Latchkey.
    async fn check(&self) {
        let cluster = TestCluster::new();
        let node = cluster.node().await;
        let account = node.register("ada").await.text_of("id");
        // The proxy's connections to Latchkey, which the test can interrupt.
        let link = FaultProxy::start(node.address()).await;
        let app = App::start().await;
        let (proxy_process, proxy) = self.run(link.address, app.address);
        let caller = Caller { proxy, app: &app, account };
        wait::until("the proxy calls Latchkey", || caller.is_refused(None)).await;

        caller.check_request_without_token_is_refused().await;
        let tokens = node.login("ada").await;
        caller.check_identity_headers(&tokens).await;
        caller.check_spoofed_headers_are_removed(&tokens.access).await;
        caller.check_bodies_pass(&tokens.access).await;
        let sent_to_latchkey = link.sent();
        assert!(sent_to_latchkey.contains("/v1/verify"));
        for private in [BODY, COOKIE] {
            assert!(
                !sent_to_latchkey.contains(private),
                "the proxy sends more than Latchkey needs: {sent_to_latchkey}"
            );
        }
        caller.check_connections_are_reused(&tokens.access, &link).await;
        caller.check_websockets_pass(&tokens.access).await;

        node.logout(&tokens.refresh).await.expect(204);
        assert_eq!(caller.send_and_expect_refusal(Some(&tokens.access)).await.status, 401);
        caller.check_step_up(&cluster, &node).await;

        let access = node.login("ada").await.access;
        self.check_outages(&cluster, node, link, &caller, &access).await;
        drop(proxy_process);
    }

    /// Latchkey hangs, stops, restarts, loses Redis and becomes unreachable. No request reaches the app during these outages.
    async fn check_outages(
        &self,
        cluster: &TestCluster,
        node: Node,
        link: FaultProxy,
        caller: &Caller<'_>,
        access: &str,
    ) {
        wait::until("the proxy accepts the token", async || caller.passes(access).await).await;
        if self.has_short_timeout {
            link.set(Mode::Frozen);
            caller.check_token_gets_a_server_error(access).await;
            link.set(Mode::Open);
            wait::until("Latchkey answers again", async || caller.passes(access).await).await;
        }
        node.stop().await;
        caller.check_token_gets_a_server_error(access).await;

        let node = cluster.node().await;
        link.forward_to(node.address());
        wait::until("the proxy reaches Latchkey again", async || caller.passes(access).await).await;

        // Latchkey itself answers 503.
        cluster.redis.signal(Signal::STOP);
        wait::until("Latchkey answers 503", async || {
            let before = caller.app.requests();
            let answer = caller.proxy.send(caller.get(Some(access))).await;
            answer.status.is_server_error() && caller.app.requests() == before
        })
        .await;
        cluster.redis.signal(Signal::CONT);
        wait::until("the proxy accepts the token again", async || caller.passes(access).await).await;

        // Without the link, the proxy can't connect to Latchkey.
        drop(link);
        caller.check_token_gets_a_server_error(access).await;
        node.stop().await;
    }

    /// Starts the proxy on a free port. Tries again if another process has taken the port meanwhile.
    fn run(&self, latchkey: SocketAddr, app: SocketAddr) -> (Guard, Client) {
        let mut last_error = String::new();
        for _ in 0..5 {
            let listen = SocketAddr::from(([127, 0, 0, 1], guard::free_port()));
            match (self.start)(&Addresses { latchkey, app, listen }) {
                Ok(guard) => return (guard, Client::new(format!("http://{listen}"))),
                Err(error) => last_error = error,
            }
        }
        panic!("{last_error}");
    }
}

/// A caller of the app through the proxy.
struct Caller<'a> {
    proxy: Client,
    app: &'a App,
    account: String,
}

impl Caller<'_> {
    fn get(&self, access: Option<&str>) -> reqwest::RequestBuilder {
        let request = self.proxy.request(Method::GET, "/orders?of=today");
        match access {
            Some(access) => request.bearer_auth(access),
            None => request,
        }
    }

    /// Whether a request is answered with 401.
    async fn is_refused(&self, access: Option<&str>) -> bool {
        self.get(access).send().await.is_ok_and(|response| response.status() == StatusCode::UNAUTHORIZED)
    }

    /// Whether a request with this token reaches the app.
    async fn passes(&self, access: &str) -> bool {
        self.proxy.send(self.get(Some(access))).await.status == StatusCode::OK
    }

    /// Sends a request, and asserts that it reaches the app. Returns the request as the app received it.
    async fn send_and_expect_pass(&self, request: reqwest::RequestBuilder) -> Value {
        self.proxy.send(request).await.expect(200).json()
    }

    /// Sends a request, and asserts that it does not reach the app.
    async fn send_and_expect_refusal(&self, access: Option<&str>) -> Answer {
        let before = self.app.requests();
        let answer = self.proxy.send(self.get(access)).await;
        assert!(!answer.status.is_success(), "{answer:?}");
        assert_eq!(self.app.requests(), before, "the request reached the app: {answer:?}");
        answer
    }

    /// Asserts that a valid token is refused with a server error, because the proxy can't verify it.
    async fn check_token_gets_a_server_error(&self, access: &str) {
        let answer = self.send_and_expect_refusal(Some(access)).await;
        assert!(answer.status.is_server_error(), "{answer:?}");
    }

    async fn check_request_without_token_is_refused(&self) {
        let answer = self.send_and_expect_refusal(None).await.expect(401);
        assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="latchkey""#);
        // The last one is a JWT without a signature (`alg` is `none`).
        for wrong in ["", "x", "eyJhbGciOiJub25lIn0.e30."] {
            let answer = self.send_and_expect_refusal(Some(wrong)).await.expect(401);
            assert!(answer.header("www-authenticate").starts_with(r#"Bearer realm="latchkey""#), "{answer:?}");
        }
        let forged = self.get(None).header("X-Auth-Subject", &self.account);
        self.proxy.send(forged).await.expect(401);
    }

    async fn check_identity_headers(&self, tokens: &Tokens) {
        let received = self.send_and_expect_pass(self.get(Some(&tokens.access)).header("Cookie", COOKIE)).await;
        assert_eq!(received["method"], "GET");
        assert_eq!(received["uri"], "/orders?of=today");
        assert_eq!(values(&received, "x-auth-subject"), [self.account.as_str()], "{received}");
        assert_eq!(values(&received, "x-auth-session"), [tokens.session.as_str()], "{received}");
        assert_eq!(values(&received, "x-auth-client"), ["latchkey"], "{received}");
        assert_eq!(values(&received, "x-auth-scope"), ["account"], "{received}");
        assert!(values(&received, "x-auth-roles").is_empty(), "the account has no roles: {received}");
        // The manual clock stands at 1800000000, and an access token is valid for 300 s.
        assert_eq!(values(&received, "x-auth-expires"), ["1800000300"], "{received}");
        assert_eq!(values(&received, "cookie"), [COOKIE], "{received}");
        assert!(values(&received, "authorization").is_empty(), "the app gets the token: {received}");
    }

    /// Identity headers of the caller do not reach the app, nor do headers whose names many apps treat as equal.
    async fn check_spoofed_headers_are_removed(&self, access: &str) {
        let honest = self.send_and_expect_pass(self.get(Some(access))).await;
        let aliases = ['-', '_', '.', '~', '!', '#', '$', '%', '&', '\'', '*', '+', '^', '`', '|'];
        for alias in aliases {
            let mut request = self.get(Some(access));
            for name in IDENTITY_HEADERS {
                let both_replaced = name.replace('-', &alias.to_string());
                let second_replaced = name.replace("auth-", &format!("auth{alias}"));
                request = request.header(both_replaced, "forged").header(second_replaced, "forged");
            }
            let received = self.send_and_expect_pass(request).await;
            for name in IDENTITY_HEADERS {
                assert_eq!(values(&received, name), values(&honest, name), "{alias}: {received}");
            }
        }
        // Headers named in `Connection` are hop-by-hop. A proxy that removes them last would also remove the identity headers that it has set.
        // It may refuse such a request.
        for names in ["close, X-Auth-Subject, X-Auth-Session", "x-auth-session"] {
            let answer = self.proxy.send(self.get(Some(access)).header("Connection", names)).await;
            if answer.status.is_success() {
                let received = answer.json();
                for name in IDENTITY_HEADERS {
                    assert_eq!(values(&received, name), values(&honest, name), "Connection: {names}: {received}");
                }
            }
        }
    }

    async fn check_bodies_pass(&self, access: &str) {
        // The second body exceeds the proxies' buffers.
        let long = BODY.repeat(10_000);
        for body in [BODY, &long] {
            for method in [Method::POST, Method::PUT] {
                let request = self.proxy.request(method.clone(), "/orders").bearer_auth(access);
                let received = self.send_and_expect_pass(request.body(body.to_owned())).await;
                assert_eq!(received["method"], method.as_str());
                assert!(received["body"] == *body, "{method} of {} bytes", body.len());
            }
        }
        let before = self.app.requests();
        let without_token = self.proxy.request(Method::POST, "/orders").body(BODY);
        self.proxy.send(without_token).await.expect(401);
        assert_eq!(self.app.requests(), before);
    }

    /// A WebSocket handshake passes with a valid token only, and the app receives the caller's identity.
    async fn check_websockets_pass(&self, access: &str) {
        let without_token = "";
        let (head, _) = self.open_websocket(without_token).await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
        let (head, mut connection) = self.open_websocket(&format!("Authorization: Bearer {access}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The app first sends the account that the proxy has named, and then echoes all bytes.
        let mut line = String::new();
        connection.read_line(&mut line).await.unwrap();
        assert_eq!(line.trim_end(), self.account);
        let sent = b"bytes in both directions";
        for _ in 0..3 {
            connection.write_all(sent).await.unwrap();
            let mut echoed = vec![0; sent.len()];
            connection.read_exact(&mut echoed).await.unwrap();
            assert_eq!(echoed, sent);
        }
    }

    /// Sends a WebSocket handshake (RFC 6455, section 4.1). Returns the head of the response, and the connection.
    async fn open_websocket(&self, headers: &str) -> (String, BufReader<TcpStream>) {
        let host = self.proxy.base.trim_start_matches("http://");
        let mut connection = BufReader::new(TcpStream::connect(host).await.unwrap());
        let handshake = format!(
            "GET /socket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n{headers}\r\n",
            app::WEBSOCKET_KEY
        );
        connection.write_all(handshake.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(connection.read_line(&mut head).await.unwrap() > 0, "the connection was closed: {head}");
        }
        (head, connection)
    }

    /// `/vault/` requires two factors within the last five minutes. Other tokens get the challenge of RFC 9470, and pass after a step-up.
    async fn check_step_up(&self, cluster: &TestCluster, node: &Node) {
        node.register("vera").await;
        let one_factor = node.login("vera").await;
        self.check_vault_is_refused(&one_factor.access).await;
        self.send_and_expect_pass(self.get(Some(&one_factor.access))).await;
        let two_factors = factors::enrol(cluster, node, "vera").await;
        let received = self.send_and_expect_pass(self.vault(&two_factors.tokens.access)).await;
        assert_eq!(received["uri"], "/vault/gold?of=today", "{received}");
        assert_eq!(values(&received, "x-auth-session"), [two_factors.tokens.session.as_str()], "{received}");

        // One second more than `/vault/` allows.
        cluster.advance(Duration::from_secs(301));
        let late = Tokens::of(&node.refresh(&two_factors.tokens.refresh).await.expect(200));
        self.check_vault_is_refused(&late.access).await;
        self.send_and_expect_pass(self.get(Some(&late.access))).await;
        let body = json!({ "method": "totp", "code": two_factors.app.code(&cluster.clock) });
        let stepped_up = try_reauthenticate(node, &late.access, body).await.expect(200);
        self.send_and_expect_pass(self.vault(&stepped_up.text_of("access_token"))).await;
    }

    fn vault(&self, access: &str) -> reqwest::RequestBuilder {
        self.proxy.request(Method::GET, "/vault/gold?of=today").bearer_auth(access)
    }

    /// Asserts that a token is refused for `/vault/` with the challenge, also if the path is spelled differently.
    async fn check_vault_is_refused(&self, access: &str) {
        let before = self.app.requests();
        let answer = self.proxy.send(self.vault(access)).await.expect(401);
        let challenge = "Bearer realm=\"latchkey\", error=\"insufficient_user_authentication\", acr_values=\"aal2\", max_age=\"300\"";
        assert_eq!(answer.header("www-authenticate"), challenge);
        let host = self.proxy.base.trim_start_matches("http://");
        for path in [
            "/vault/gold?acr=aal1",
            "/vault/gold?of=today&acr=aal1&max_age=99999",
            "/%76ault/gold",
            "//vault/gold",
            "/orders/../vault/gold",
            "/orders/%2e%2e/vault/gold",
            "/./vault/gold",
        ] {
            let mut connection = BufReader::new(TcpStream::connect(host).await.unwrap());
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {access}\r\nConnection: close\r\n\r\n"
            );
            connection.write_all(request.as_bytes()).await.unwrap();
            let mut status = String::new();
            connection.read_line(&mut status).await.unwrap();
            assert!(status.starts_with("HTTP/1.1 4"), "{path}: {status}");
        }
        assert_eq!(self.app.requests(), before, "a request reached the app");
    }

    /// The proxy reuses its connections to Latchkey.
    async fn check_connections_are_reused(&self, access: &str, link: &FaultProxy) {
        let before = link.connections();
        for _ in 0..20 {
            self.send_and_expect_pass(self.get(Some(access))).await;
        }
        let connections = link.connections() - before;
        // A proxy may open a few, for example one for each worker.
        assert!(connections < 5, "{connections} connections to Latchkey for 20 requests");
    }
}

/// The values of a header that the app received, also under other names that CGI, WSGI and PHP treat as equal to this name.
fn values<'a>(received: &'a Value, name: &str) -> Vec<&'a str> {
    let normalized = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_lowercase();
    let headers = received["headers"].as_array().unwrap().iter();
    let equal = headers.filter(|header| normalized(header[0].as_str().unwrap()) == normalized(name));
    equal.map(|header| header[1].as_str().unwrap()).collect()
}

/// Copies a file of `examples` to `target`, and replaces the first text of each change, which the file must contain, with the second.
fn copy_example(example: &str, target: &Path, changes: &[(&str, &str)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (from, into) in changes {
        // An occurrence in a comment does not count.
        let uses = text.lines().filter(|line| line.contains(from) && !line.trim_start().starts_with('#')).count();
        assert!(uses > 0, "{from} is not in {}", path.display());
        text = text.replace(from, into);
    }
    fs::write(target, text).unwrap();
}
