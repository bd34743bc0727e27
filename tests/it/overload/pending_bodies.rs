//! More unfinished request bodies than `http.max_requests`: other clients are served, and the oldest bodies are evicted first. The tests
//! use HTTP/1.1, HTTP/2, and HAProxy, which forwards bodies as they arrive.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};

use super::http2::{connect_to, frame, literal, next_frame, open_http2};
use crate::{
    harness::{
        client::{Client, PASSWORD, Tokens},
        guard::{self, Guard, Spec},
        test_cluster::{Node, TestCluster},
        wait,
    },
    server::{HEADERS, within},
};

const INSTALL: &str = "this test needs HAProxy: `apt-get install haproxy` (Debian, Ubuntu), `dnf install haproxy` (Fedora), \
                       `brew install haproxy` (macOS); or run `make test`, which installs it";

const MAX_REQUESTS: usize = 50;
/// The number of unfinished bodies: more than the requests that the node handles at once.
const UNFINISHED_BODIES: usize = MAX_REQUESTS + 100;
/// The bound on unfinished bodies of one client address.
const PER_ADDRESS: usize = 20;
/// The bound on unfinished bodies of one HTTP/2 connection.
const PER_CONNECTION: usize = 8;
/// The address of the slow client. Other clients have another address.
const SLOW_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// The flag of the last frame of a header block (RFC 9113, section 6.2).
const END_HEADERS: u8 = 0x4;

fn cluster() -> TestCluster {
    let mut cluster = TestCluster::new();
    let http = &mut cluster.config.http;
    http.max_requests = MAX_REQUESTS;
    http.max_pending_bodies = 2 * UNFINISHED_BODIES; // not reached
    http.max_pending_bodies_per_address = PER_ADDRESS;
    http.max_pending_bodies_per_connection = PER_CONNECTION;
    // longer than the test, so that only the bounds end unfinished bodies
    http.body_timeout = std::time::Duration::from_mins(10);
    cluster
}

/// The address of a server, by its base URL.
fn address(base: &str) -> SocketAddr {
    base.strip_prefix("http://").unwrap().parse().unwrap()
}

/// A sign-in request in two parts: the head with the beginning of the body, and the rest of the body.
fn login_in_two_parts() -> (String, String) {
    let body = json!({ "identifier": "ada", "password": PASSWORD }).to_string();
    let (first_part, rest) = body.split_at(10);
    let head = format!(
        "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{first_part}",
        body.len()
    );
    (head, rest.to_owned())
}

/// Slow clients over HTTP/1.1, and the number of them that the node has evicted with status 408.
struct SlowClients {
    evicted: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl SlowClients {
    async fn start(to: SocketAddr, count: usize) -> Self {
        let evicted = Arc::new(AtomicUsize::new(0));
        let mut clients = Vec::new();
        for mut stream in unfinished_http1_bodies(to, count).await {
            let evicted = Arc::clone(&evicted);
            clients.push(tokio::spawn(async move {
                let mut response = String::new();
                stream.read_to_string(&mut response).await.unwrap();
                assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
                assert!(response.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{response}");
                assert!(response.contains("\"code\":\"request_timeout\""), "{response}");
                evicted.fetch_add(1, Ordering::SeqCst);
            }));
        }
        Self { evicted, clients }
    }

    async fn wait_for_evictions(&self, count: usize) {
        wait::until("the oldest bodies are evicted", || async { self.evicted.load(Ordering::SeqCst) == count }).await;
    }
}

impl Drop for SlowClients {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

/// A connection of the slow client.
async fn connect_slow(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((SLOW_ADDRESS, 0))).unwrap();
    within(socket.connect(to)).await.unwrap()
}

/// Opens connections of the slow client, and sends the first part of a sign-in on each.
async fn unfinished_http1_bodies(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = connect_slow(to).await;
        let (head, _rest) = login_in_two_parts();
        within(stream.write_all(head.as_bytes())).await.unwrap();
        streams.push(stream);
    }
    streams
}

/// Waits until the node has evicted this many bodies of one client.
async fn wait_for_evictions_by_address(node: &Node, count: usize) {
    let line = format!("latchkey_evicted_request_bodies_total{{bound=\"address\"}} {count}\n");
    wait::until("the oldest bodies are evicted", || async { node.state.metrics.render().unwrap().contains(&line) })
        .await;
}

/// Asserts that requests of another client succeed.
async fn assert_others_are_served(client: &Client, tokens: &mut Tokens) {
    for _ in 0..5 {
        *tokens = Tokens::of(&client.refresh(&tokens.refresh).await.expect(200));
        client.get("/v1/me", &tokens.access).await.expect(200);
        client.get("/v1/verify", &tokens.access).await.expect(200);
        client.login("ada").await;
        client.send(client.request(Method::GET, "/.well-known/jwks.json")).await.expect(200);
    }
}

/// Registers `ada`. Asserts that other clients and an honest slow client are served during an attack, which leaves bodies unfinished.
async fn assert_served_beside_slow_bodies(node: &Node, client: &Client, attack: impl AsyncFnOnce()) {
    client.register("ada").await;
    let mut tokens = client.login("ada").await;
    // an honest client on a slow network, whose request begins before the attack
    let (head, rest) = login_in_two_parts();
    let mut honest = TcpStream::connect(address(&client.base)).await.unwrap();
    honest.write_all(head.as_bytes()).await.unwrap();
    attack().await;
    assert_others_are_served(client, &mut tokens).await;
    honest.write_all(rest.as_bytes()).await.unwrap();
    let mut response = String::new();
    within(honest.read_to_string(&mut response)).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    // The bound that the honest client shares with the attacker was not reached.
    let metrics = node.state.metrics.render().unwrap();
    assert!(metrics.contains("latchkey_evicted_request_bodies_total{bound=\"total\"} 0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_http1_bodies_above_max_requests_do_not_affect_others() {
    let cluster = cluster();
    let node = cluster.node().await;
    // Holds the clients, so that the bodies that the node keeps stay unfinished during the whole test.
    let mut slow = None;
    assert_served_beside_slow_bodies(&node, &node.client, async || {
        let clients = SlowClients::start(address(&node.base), UNFINISHED_BODIES).await;
        clients.wait_for_evictions(UNFINISHED_BODIES - PER_ADDRESS).await;
        slow = Some(clients);
    })
    .await;
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_above_total_bound_evict_oldest_of_all() {
    let mut cluster = cluster();
    // Only the total bound is reached.
    cluster.config.http.max_pending_bodies = MAX_REQUESTS;
    cluster.config.http.max_pending_bodies_per_address = 10 * UNFINISHED_BODIES;
    let node = cluster.node().await;
    node.register("ada").await;
    let mut tokens = node.login("ada").await;
    let slow = SlowClients::start(address(&node.base), UNFINISHED_BODIES).await;
    slow.wait_for_evictions(UNFINISHED_BODIES - MAX_REQUESTS).await;
    assert_others_are_served(&node, &mut tokens).await;
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_http2_bodies_above_max_requests_do_not_affect_others() {
    let mut cluster = cluster();
    // Only the bound of a connection is reached.
    cluster.config.http.max_pending_bodies_per_address = 10 * UNFINISHED_BODIES;
    let node = cluster.node().await;
    node.register("ada").await;
    let mut tokens = node.login("ada").await;
    // Four connections with 400 bodies in total. Of each connection, the node keeps PER_CONNECTION.
    let mut connections = Vec::new();
    let streams_each: u32 = 100;
    for _ in 0..4 {
        let mut connection = unfinished_http2_bodies(connect_to(address(&node.base)).await, streams_each).await;
        wait_for_responses(&mut connection, streams_each as usize - PER_CONNECTION).await;
        connections.push(connection);
    }
    assert_others_are_served(&node, &mut tokens).await;
    drop(connections);
}

/// Opens streams on an HTTP/2 connection, each with the headers of a sign-in whose body does not arrive.
async fn unfinished_http2_bodies(mut connection: TcpStream, count: u32) -> TcpStream {
    let mut frames = Vec::new();
    for number in 0..count {
        // POST http://x/v1/login in HPACK. By their numbers in the static table (RFC 7541, appendix A): 3 is `:method: POST`, 6 is
        // `:scheme: http`; `:path` (4, of nine bytes) and `:authority` (1) have literal values.
        let mut block = vec![0x83, 0x86, 0x04, 9];
        block.extend(b"/v1/login\x01\x01x");
        block.extend(literal(b"content-type", b"application/json"));
        block.extend(literal(b"content-length", b"100"));
        let stream_id = 2 * number + 1; // those of a client are odd
        frame(&mut frames, HEADERS, END_HEADERS, stream_id, &block);
    }
    within(connection.write_all(&frames)).await.unwrap();
    connection
}

/// Waits until this many streams of a connection have a response, which shows that the node has evicted their bodies.
async fn wait_for_responses(connection: &mut TcpStream, count: usize) {
    let mut responses = 0;
    while responses < count {
        let (kind, ..) = within(next_frame(connection)).await.expect("the connection stays open");
        if kind == HEADERS {
            responses += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_through_streaming_proxy_do_not_affect_others() {
    let mut cluster = cluster();
    cluster.config.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let node = cluster.node().await;
    let (proxy, http1, http2) = haproxy(address(&node.base));
    let client = Client::new(format!("http://{http1}"));
    wait::until("HAProxy is ready", || async {
        client.request(Method::GET, "/livez").send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let mut slow = None;
    assert_served_beside_slow_bodies(&node, &client, async || {
        // HAProxy forwards no response before the body is complete, so the test reads the evictions from the node's metrics.
        let streams = unfinished_http1_bodies(http1, UNFINISHED_BODIES).await;
        wait_for_evictions_by_address(&node, UNFINISHED_BODIES - PER_ADDRESS).await;
        // HAProxy opens many connections to the node for one HTTP/2 connection of the client. It allows a client 100 streams.
        let stream_count: u32 = 90;
        let connection = unfinished_http2_bodies(open_http2(connect_slow(http2).await).await, stream_count).await;
        wait_for_evictions_by_address(&node, UNFINISHED_BODIES - PER_ADDRESS + stream_count as usize).await;
        slow = Some((streams, connection));
    })
    .await;
    drop((slow, proxy));
}

/// Starts HAProxy with its default buffering. Returns its addresses for HTTP/1.1 and for HTTP/2.
fn haproxy(node: SocketAddr) -> (Guard, SocketAddr, SocketAddr) {
    let program = guard::find_programs(&["haproxy"], []).expect(INSTALL).join("haproxy");
    let folder = guard::folder("latchkey-haproxy-");
    let http1 = SocketAddr::from((Ipv4Addr::LOCALHOST, guard::free_port()));
    let http2 = SocketAddr::from((Ipv4Addr::LOCALHOST, guard::free_port()));
    let settings = folder.join("haproxy.cfg");
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  option forwardfor\n\
         frontend http1\n  bind {http1}\n  default_backend latchkey\n\
         frontend http2\n  bind {http2} proto h2\n  default_backend latchkey\n\
         backend latchkey\n  server node {node}\n"
    );
    std::fs::write(&settings, text).unwrap();
    let command = [program.to_str().unwrap(), "-db", "-f", settings.to_str().unwrap()];
    // HAProxy prints nothing when it is ready: the caller waits for it. The guard prints `guarded`.
    let spec = Spec { command: &command, stop: "TERM", folder: Some(&folder), ready: "guarded ", unprivileged: false };
    (Guard::start(&spec).unwrap_or_else(|error| panic!("{error}")), http1, http2)
}
