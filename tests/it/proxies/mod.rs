//! The examples that put a plain app behind Latchkey, run with the real proxies and the very files of `examples/`: a test
//! changes nothing in them but addresses and ports.

mod app;
mod caddy;
mod envoy;
pub(crate) mod nginx;
mod relay;
mod traefik;

use std::{fs, net::SocketAddr, path::Path};

use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    client::{Answer, Client, Tokens},
    guard::{self, Guard},
    test_cluster::{Node, TestCluster},
    wait,
};
use app::App;
use relay::Relay;

/// The headers that Latchkey tells an app the caller by.
const IDENTITY: [&str; 6] =
    ["x-auth-subject", "x-auth-session", "x-auth-client", "x-auth-scope", "x-auth-roles", "x-auth-expires"];

/// What the app must get of the caller, and Latchkey must not.
const BODY: &str = "what the caller tells the app";
const COOKIE: &str = "only-for=the-app";

/// Addresses for a proxy's configuration.
struct Addresses {
    latchkey: SocketAddr,
    app: SocketAddr,
    listen: SocketAddr,
}

/// A program in front of an app.
struct Proxy {
    /// Starts it; says why it doesn't start.
    start: fn(&Addresses) -> Result<Guard, String>,
    /// Whether it gives up on a Latchkey that is silent, in seconds.
    minds_silence: bool,
}

impl Proxy {
    /// Puts it to the test.
    async fn check(&self) {
        let cluster = TestCluster::new();
        let node = cluster.node().await;
        let account = node.account("ada").await.text_of("id");
        let relay = Relay::to(address(&node)).await;
        let app = App::start().await;
        let (guard, proxy) = self.run(relay.address, app.address);
        let outside = Outside { proxy, app: &app, account };
        wait::until("the proxy asks Latchkey", || outside.is_refused(None)).await;

        outside.without_a_token_refused().await;
        let tokens = node.login("ada").await;
        outside.with_a_token_told_whose(&tokens).await;
        outside.nothing_believed(&tokens.access).await;
        outside.bodies_pass(&tokens.access).await;
        let sent = relay.sent();
        assert!(sent.contains("/v1/verify"));
        assert!(!sent.contains(BODY) && !sent.contains(COOKIE), "Latchkey was sent more than it needs: {sent}");
        outside.connections_kept(&tokens.access, &relay).await;

        node.logout(&tokens.refresh).await.expect(204);
        assert_eq!(outside.refused(Some(&tokens.access)).await.status, 401);

        let access = node.login("ada").await.access;
        self.away(&cluster, node, relay, &outside, &access).await;
        drop(guard);
    }

    /// Latchkey is silent, is stopped, comes back, has no Redis, is unreachable.
    async fn away(&self, cluster: &TestCluster, node: Node, relay: Relay, outside: &Outside<'_>, access: &str) {
        wait::until("the token is good", async || outside.passes(access).await).await;
        if self.minds_silence {
            relay.fall_silent();
            outside.refused_for_now(access).await;
            relay.lead_to(address(&node));
            wait::until("Latchkey is heard again", async || outside.passes(access).await).await;
        }
        node.stop().await;
        outside.refused_for_now(access).await;

        let node = cluster.node().await;
        relay.lead_to(address(&node));
        wait::until("Latchkey is back", async || outside.passes(access).await).await;

        // Now it is Latchkey that says so: 503.
        cluster.redis.guard.signal(Signal::STOP);
        wait::until("Latchkey says that it doesn't know", async || {
            let before = outside.app.requests();
            let answer = outside.proxy.send(outside.get(Some(access))).await;
            answer.status.is_server_error() && outside.app.requests() == before
        })
        .await;
        cluster.redis.guard.signal(Signal::CONT);
        wait::until("Latchkey knows again", async || outside.passes(access).await).await;

        drop(relay);
        outside.refused_for_now(access).await;
        node.stop().await;
    }

    /// Starts it on a free port.
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

/// Who calls from outside, and the app that is called.
struct Outside<'a> {
    proxy: Client,
    app: &'a App,
    account: String,
}

impl Outside<'_> {
    fn get(&self, access: Option<&str>) -> reqwest::RequestBuilder {
        let request = self.proxy.request(Method::GET, "/orders?of=today");
        match access {
            Some(access) => request.bearer_auth(access),
            None => request,
        }
    }

    /// Whether such a request is answered 401 by now.
    async fn is_refused(&self, access: Option<&str>) -> bool {
        self.get(access).send().await.is_ok_and(|response| response.status() == StatusCode::UNAUTHORIZED)
    }

    async fn passes(&self, access: &str) -> bool {
        self.proxy.send(self.get(Some(access))).await.status == StatusCode::OK
    }

    /// The app's answer to a request that it got: what it was asked, as JSON.
    #[track_caller]
    fn passed(&self, request: reqwest::RequestBuilder) -> impl Future<Output = Value> {
        let request = self.proxy.send(request);
        async move { request.await.expect(200).json() }
    }

    /// The answer to a request that the app didn't get.
    async fn refused(&self, access: Option<&str>) -> Answer {
        let before = self.app.requests();
        let answer = self.proxy.send(self.get(access)).await;
        assert!(!answer.status.is_success(), "{answer:?}");
        assert_eq!(self.app.requests(), before, "the app was reached: {answer:?}");
        answer
    }

    /// A good token is refused because nobody can say that it is.
    async fn refused_for_now(&self, access: &str) {
        let answer = self.refused(Some(access)).await;
        assert!(answer.status.is_server_error(), "{answer:?}");
    }

    async fn without_a_token_refused(&self) {
        let answer = self.refused(None).await.expect(401);
        assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="latchkey""#);
        for wrong in ["", "x", "eyJhbGciOiJub25lIn0.e30."] {
            let answer = self.refused(Some(wrong)).await.expect(401);
            assert!(answer.header("www-authenticate").starts_with(r#"Bearer realm="latchkey""#), "{answer:?}");
        }
        let forged = self.get(None).header("X-Auth-Subject", &self.account);
        self.proxy.send(forged).await.expect(401);
    }

    async fn with_a_token_told_whose(&self, tokens: &Tokens) {
        let asked = self.passed(self.get(Some(&tokens.access)).header("Cookie", COOKIE)).await;
        assert_eq!((&asked["method"], &asked["uri"]), (&"GET".into(), &"/orders?of=today".into()));
        assert_eq!(told(&asked, "x-auth-subject"), [self.account.as_str()], "{asked}");
        assert_eq!(told(&asked, "x-auth-session"), [tokens.session.as_str()], "{asked}");
        assert_eq!(told(&asked, "x-auth-client"), ["latchkey"], "{asked}");
        assert_eq!(told(&asked, "x-auth-scope"), ["account"], "{asked}");
        assert_eq!(told(&asked, "x-auth-roles"), [""; 0], "{asked}");
        assert_eq!(told(&asked, "x-auth-expires"), ["1800000300"], "{asked}");
        assert_eq!(told(&asked, "cookie"), [COOKIE], "{asked}");
        assert_eq!(told(&asked, "authorization"), [""; 0], "the app gets the token: {asked}");
    }

    /// What the caller sends under these names, or under names that many apps read as these, never reaches the app.
    async fn nothing_believed(&self, access: &str) {
        let honest = self.passed(self.get(Some(access))).await;
        let aliases = ['-', '_', '.', '~', '!', '#', '$', '%', '&', '\'', '*', '+', '^', '`', '|'];
        for alias in aliases {
            let mut request = self.get(Some(access));
            for name in IDENTITY {
                request = request.header(name.replace('-', &alias.to_string()), "forged").header(
                    // one separator only
                    name.replacen("auth-", &format!("auth{alias}"), 1),
                    "forged",
                );
            }
            let asked = self.passed(request).await;
            for name in IDENTITY {
                assert_eq!(told(&asked, name), told(&honest, name), "{alias}: {asked}");
            }
        }
        // Named here, a header is between the caller and the proxy only: some proxies remove what they have just set.
        for names in ["close, X-Auth-Subject, X-Auth-Session", "x-auth-session"] {
            let answer = self.proxy.send(self.get(Some(access)).header("Connection", names)).await;
            if answer.status.is_success() {
                let asked = answer.json();
                for name in IDENTITY {
                    assert_eq!(told(&asked, name), told(&honest, name), "Connection: {names}: {asked}");
                }
            }
        }
    }

    async fn bodies_pass(&self, access: &str) {
        // More than a proxy's buffers hold.
        let long = BODY.repeat(10_000);
        for body in [BODY, &long] {
            for method in [Method::POST, Method::PUT] {
                let request = self.proxy.request(method.clone(), "/orders").bearer_auth(access);
                let asked = self.passed(request.body(body.to_owned())).await;
                assert_eq!(asked["method"], method.as_str());
                assert!(asked["body"] == *body, "{method} of {} bytes", body.len());
            }
        }
        let before = self.app.requests();
        let refused = self.proxy.request(Method::POST, "/orders").body(BODY);
        self.proxy.send(refused).await.expect(401);
        assert_eq!(self.app.requests(), before);
    }

    /// Connections to Latchkey are used again.
    async fn connections_kept(&self, access: &str, relay: &Relay) {
        let before = relay.connections();
        for _ in 0..20 {
            self.passed(self.get(Some(access))).await;
        }
        let connections = relay.connections() - before;
        assert!(connections < 5, "{connections} connections to Latchkey for 20 requests");
    }
}

fn address(node: &Node) -> SocketAddr {
    node.base.strip_prefix("http://").unwrap().parse().unwrap()
}

/// The values of the header that the app got under this name, or under one that is the same to CGI, WSGI, PHP and such.
fn told<'a>(asked: &'a Value, name: &str) -> Vec<&'a str> {
    let plain = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_lowercase();
    let headers = asked["headers"].as_array().unwrap().iter();
    let same = headers.filter(|header| plain(header[0].as_str().unwrap()) == plain(name));
    same.map(|header| header[1].as_str().unwrap()).collect()
}

/// Writes the example's file to `to`, with each of `changes` made, which must be there to be made.
fn adapt(example: &str, to: &Path, changes: &[(&str, &str)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (from, into) in changes {
        // A comment that names an address is no use of it.
        let uses = text.lines().filter(|line| line.contains(from) && !line.trim_start().starts_with('#')).count();
        assert!(uses > 0, "{from} is not in {}", path.display());
        text = text.replace(from, into);
    }
    fs::write(to, text).unwrap();
}
