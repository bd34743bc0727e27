//! The limits and timeouts of connections. Timeouts are short, and tests wait for the event.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt;
use latchkey::{
    config::{ForwardedHeader, HttpSettings},
    http::{
        middleware::{body::ReadBody, timeout::RequestTimeout},
        shutdown::Stopping,
    },
    runtime::Cores,
    server,
};
use poem::{Endpoint, EndpointExt, Route, endpoint::make, get, post};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn silent_connection_is_closed() {
    let server = Server::start(|settings| settings.first_byte_timeout = SHORT).await;
    let mut client = server.connect().await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn connection_with_slow_headers_is_closed() {
    let server = Server::start(|settings| settings.header_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("GET /hello HTTP/1.1\r\nHost: x\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn connection_with_slow_headers_of_later_request_is_closed() {
    let server = Server::start(|settings| settings.header_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET /hello HTTP/1.1\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn connection_with_partial_http2_preface_is_closed() {
    let server = Server::start(|settings| settings.header_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn idle_connection_is_closed_after_response() {
    let server = Server::start(|settings| settings.idle_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    assert_eq!(client.answer().await.body, "hello");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn read_timeouts_do_not_affect_request_in_flight() {
    let server = Server::start(|settings| {
        settings.first_byte_timeout = SHORT;
        settings.header_timeout = SHORT;
        settings.idle_timeout = SHORT;
    })
    .await;
    let mut waiting = server.connect().await;
    waiting.send(WAIT).await;
    server.gate.entered().await;
    // three other connections run into the three timeouts meanwhile
    assert_eq!(server.connect().await.rest().await, "");
    let mut slow = server.connect().await;
    slow.send("GET").await;
    assert_eq!(slow.rest().await, "");
    let mut idle = server.connect().await;
    idle.send(HELLO).await;
    assert_eq!(idle.answer().await.status, 200);
    assert_eq!(idle.rest().await, "");
    server.gate.open();
    assert_eq!(waiting.answer().await.body, "waited");
}

#[tokio::test]
async fn unread_response_is_aborted() {
    let server = Server::start(|settings| settings.write_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.gate.dropped().await;
}

#[tokio::test]
async fn slow_body_returns_408() {
    let server = Server::start(|settings| settings.body_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 408);
    assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn body_declared_too_large_is_refused_unread() {
    let server = Server::start(|settings| settings.max_body_bytes = 10).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 413);
    assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn client_that_sends_oversized_body_receives_413() {
    let server = Server::start(|settings| settings.max_body_bytes = 10).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n").await;
    client.send(&"x".repeat(500_000)).await;
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn chunked_body_above_limit_is_refused() {
    let server = Server::start(|settings| settings.max_body_bytes = 10).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("8\r\n12345678\r\n8\r\n12345678\r\n").await;
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn body_of_exactly_the_limit_passes() {
    let server = Server::start(|settings| settings.max_body_bytes = 10).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1234567890").await;
    assert_eq!(client.answer().await.body, "1234567890");
    client
        .send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n1234567890\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.body, "1234567890");
}

#[tokio::test]
async fn expect_continue_is_confirmed_unless_body_is_too_large() {
    let server = Server::start(|settings| settings.max_body_bytes = 10).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 100);
    client.send("abc").await;
    assert_eq!(client.answer().await.body, "abc");
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn oversized_headers_return_431() {
    let server = Server::start(|settings| settings.max_header_bytes = 1000).await;
    let mut client = server.connect().await;
    client.send("GET /hello HTTP/1.1\r\nHost: x\r\nX-Big: ").await;
    client.send(&"x".repeat(100_000)).await;
    assert_eq!(client.answer().await.status, 431);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn headers_below_limit_pass() {
    let server = Server::start(|settings| settings.max_header_bytes = 1000).await;
    let mut client = server.connect().await;
    client.send(&format!("GET /hello HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n", "x".repeat(900))).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn connection_is_kept_alive() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.send(HELLO).await;
        assert_eq!(client.answer().await.body, "hello");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    client.send(&format!("{HELLO}POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc{HELLO}")).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        bodies.push(client.answer().await.body);
    }
    assert_eq!(bodies, ["hello", "abc", "hello"]);
}

#[tokio::test]
async fn handler_error_or_panic_returns_response() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    client.send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 404);
    client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 500);
    client.send(HELLO).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn request_above_timeout_returns_503() {
    let server = Server::start(|settings| settings.request_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send(WAIT).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("\r\nretry-after: 1"), "{}", answer.head);
    client.send(HELLO).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn shutdown_finishes_requests_in_flight_and_refuses_new_ones() {
    let server = Server::start(|_| {}).await;
    let mut idle = server.connect().await;
    idle.send(HELLO).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut waiting = server.connect().await;
    waiting.send(WAIT).await;
    server.gate.entered().await;

    server.stop.cancel();
    assert_eq!(idle.rest().await, "");
    within(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    server.gate.open();
    let answer = waiting.answer().await;
    assert_eq!(answer.body, "waited");
    assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
    assert_eq!(waiting.rest().await, "");
    within(server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_cuts_off_requests_after_timeout() {
    let server = Server::start(|settings| settings.shutdown_timeout = SHORT).await;
    let mut waiting = server.connect().await;
    waiting.send(WAIT).await;
    server.gate.entered().await;
    server.stop.cancel();
    assert_eq!(waiting.rest().await, "");
    within(server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn connection_above_limit_waits() {
    let server = Server::start(|settings| settings.max_connections = 1).await;
    let mut first = server.connect().await;
    first.send(HELLO).await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = server.connect().await;
    second.send(HELLO).await;
    first.send(HELLO).await;
    assert_eq!(first.answer().await.status, 200);
    let nothing = second.stream.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn connection_above_address_limit_is_closed() {
    let server = Server::start(|settings| settings.max_connections_per_address = 2).await;
    let mut open = [server.connect().await, server.connect().await];
    for client in &mut open {
        client.send(HELLO).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let mut refused = server.connect().await;
    assert_eq!(within(refused.stream.read(&mut [0; 1])).await.ok().unwrap_or_default(), 0);
    let [first, _second] = open;
    drop(first);
    // the server notices the end of the first connection at some time
    loop {
        let mut client = server.connect().await;
        let _ = client.stream.write_all(HELLO.as_bytes()).await;
        let mut start = [0; 12];
        if within(client.stream.read_exact(&mut start)).await.is_ok() {
            assert_eq!(&start, b"HTTP/1.1 200");
            break;
        }
    }
}

#[tokio::test]
async fn connections_of_trusted_proxy_have_no_address_limit() {
    let server = Server::start(|settings| {
        settings.max_connections_per_address = 1;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut open = [server.connect().await, server.connect().await, server.connect().await];
    for client in &mut open {
        client.send(HELLO).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_and_closed_when_idle() {
    let server = Server::start(|settings| {
        settings.idle_timeout = SHORT;
        settings.header_timeout = SHORT;
    })
    .await;
    let mut client = server.connect().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.send_frame(SETTINGS, 0, 0, &[]).await;
    // GET http://x/hello: static table entries 2 and 6, then literals named by entries 4 and 1 (RFC 7541, appendix A).
    const END_STREAM_AND_HEADERS: u8 = 0x5;
    client.send_frame(HEADERS, END_STREAM_AND_HEADERS, 1, b"\x82\x86\x04\x06/hello\x01\x01x").await;
    let mut body = Vec::new();
    loop {
        let (kind, stream, payload) = client.frame().await;
        match (kind, stream) {
            // Static table entry 8 is ":status: 200".
            (HEADERS, 1) => assert_eq!(payload[0], 0x88),
            (DATA, 1) => body.extend(payload),
            (GOAWAY, 0) => break,
            _ => {}
        }
    }
    assert_eq!(body, b"hello");
    client.drain().await;
}

pub(crate) const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;

/// Fails a future that hangs.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("a step hangs")
}

/// A handler that reports when it is entered and blocks until the gate opens.
#[derive(Clone)]
pub(crate) struct Gate {
    entered: Arc<Semaphore>,
    open: Arc<Semaphore>,
    dropped: Arc<Notify>,
}

impl Gate {
    fn new() -> Self {
        Self {
            entered: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
            dropped: Arc::new(Notify::new()),
        }
    }

    pub(crate) async fn pass(&self) {
        self.entered.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }

    pub(crate) async fn entered(&self) {
        within(self.entered.acquire()).await.unwrap().forget();
    }

    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    pub(crate) async fn dropped(&self) {
        within(self.dropped.notified()).await;
    }
}

struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn endpoint(gate: Gate, settings: &HttpSettings) -> impl Endpoint + 'static {
    let endless = Arc::clone(&gate.dropped);
    let events_gate = gate.clone();
    Route::new()
        .at("/hello", get(make(|_| async { "hello" })))
        .at(
            "/panic",
            get(make(|_| async {
                if true {
                    panic!("on purpose")
                }
            })),
        )
        .at("/echo", post(make(|mut req| async move { req.take_body().into_bytes().await.unwrap() })))
        .at(
            "/wait",
            get(make(move |_| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    "waited"
                }
            })),
        )
        .at(
            "/endless",
            get(make(move |_| {
                let dropped = NotifyOnDrop(Arc::clone(&endless));
                async move {
                    poem::Body::from_bytes_stream(futures_util::stream::repeat_with(move || {
                        let _alive = &dropped;
                        Ok::<_, std::io::Error>(vec![b'x'; 64 * 1024])
                    }))
                }
            })),
        )
        .at("/big", get(make(|_| async { "0123456789abcdef".repeat(64 * 1024) })))
        .at(
            "/events",
            get(make(move |request| {
                let gate = events_gate.clone();
                let Stopping(stop) = Stopping::of(&request);
                async move {
                    let events = futures_util::stream::unfold(gate, |gate| async {
                        gate.pass().await;
                        Some((Ok::<_, std::io::Error>("event\n"), gate))
                    });
                    poem::Body::from_bytes_stream(events.take_until(stop.cancelled_owned()))
                }
            })),
        )
        .with(ReadBody::new(settings))
        .with(RequestTimeout::new(settings.request_timeout))
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Gate,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(change: impl FnOnce(&mut HttpSettings)) -> Self {
        let mut settings = HttpSettings {
            max_connections: 100,
            max_connections_per_address: 100,
            max_requests: 100,
            max_pending_bodies: 100,
            max_pending_bodies_per_address: 100,
            max_pending_bodies_per_connection: 8,
            first_byte_timeout: LONG,
            header_timeout: LONG,
            body_timeout: LONG,
            request_timeout: LONG,
            idle_timeout: LONG,
            write_timeout: LONG,
            max_body_bytes: 1 << 20,
            max_header_bytes: 16 << 10,
            shutdown_timeout: LONG,
            drain_delay: Duration::ZERO,
            trusted_proxies: vec![],
            forwarded_header: ForwardedHeader::XForwardedFor,
            allowed_origins: vec![],
            docs: true,
        };
        change(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::new();
        let endpoint = endpoint(gate.clone(), &settings);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let cores = Cores::start().unwrap();
        let ended = tokio::spawn(async move { server::run(endpoint, listener, &settings, &cores, stopped).await });
        Self { address, gate, stop, ended }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap() }
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &str) {
        within(self.stream.write_all(bytes.as_bytes())).await.unwrap();
    }

    pub(crate) async fn send_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        within(self.stream.write_all(&frame)).await.unwrap();
    }

    pub(crate) async fn frame(&mut self) -> (u8, u32, Vec<u8>) {
        let (kind, _, stream, payload) = self.frame_with_flags().await;
        (kind, stream, payload)
    }

    pub(crate) async fn frame_with_flags(&mut self) -> (u8, u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        within(self.stream.read_exact(&mut head)).await.unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        within(self.stream.read_exact(&mut payload)).await.unwrap();
        (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
    }

    /// Reads one response with a `Content-Length`.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(within(self.stream.read_u8()).await.unwrap().into());
        }
        let head = head.to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        within(self.stream.read_exact(&mut body)).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// Reads until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        within(self.stream.read_to_string(&mut rest)).await.unwrap();
        rest
    }

    pub(crate) async fn drain(&mut self) {
        let mut rest = Vec::new();
        within(self.stream.read_to_end(&mut rest)).await.unwrap();
    }
}
