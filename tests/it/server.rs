//! Connections as strangers treat them: silent, slow, endless, cut. Time-outs are short, and tests wait for the event.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt;
use latchkey::{
    config::HttpSettings,
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
async fn a_silent_connection_is_closed() {
    let server = Server::start(|settings| settings.first_byte_timeout = SHORT).await;
    let mut client = server.connect().await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn slow_headers_are_closed() {
    let server = Server::start(|settings| settings.header_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("GET /hello HTTP/1.1\r\nHost: x\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn slow_headers_of_a_later_request_are_closed() {
    let server = Server::start(|settings| settings.header_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET /hello HTTP/1.1\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_half_sent_http2_preface_is_closed() {
    let server = Server::start(|settings| settings.header_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_answer() {
    let server = Server::start(|settings| settings.idle_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    assert_eq!(client.answer().await.body, "hello");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn time_outs_of_waiting_do_not_touch_a_request_in_flight() {
    let server = Server::start(|settings| {
        settings.first_byte_timeout = SHORT;
        settings.header_timeout = SHORT;
        settings.idle_timeout = SHORT;
    })
    .await;
    let mut waiting = server.connect().await;
    waiting.send(WAIT).await;
    server.gate.entered().await;
    // Three others run into all three, one after the other, while it waits.
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
async fn an_answer_nobody_reads_is_given_up() {
    let server = Server::start(|settings| settings.write_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.gate.dropped().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_with_408() {
    let server = Server::start(|settings| settings.body_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 408);
    assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_body_declared_too_big_is_refused_unread() {
    let server = Server::start(|settings| settings.max_body_bytes = 10).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 413);
    assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_client_that_sends_all_of_a_too_big_body_still_gets_its_413() {
    let server = Server::start(|settings| settings.max_body_bytes = 10).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n").await;
    client.send(&"x".repeat(500_000)).await;
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_chunked_body_that_grows_too_big_is_refused() {
    let server = Server::start(|settings| settings.max_body_bytes = 10).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("8\r\n12345678\r\n8\r\n12345678\r\n").await;
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn bodies_of_exactly_the_limit_pass() {
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
async fn a_client_that_asks_first_is_told_to_go_on_unless_its_body_is_too_big() {
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
async fn big_headers_are_answered_with_431() {
    let server = Server::start(|settings| settings.max_header_bytes = 1000).await;
    let mut client = server.connect().await;
    client.send("GET /hello HTTP/1.1\r\nHost: x\r\nX-Big: ").await;
    client.send(&"x".repeat(100_000)).await;
    assert_eq!(client.answer().await.status, 431);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn headers_below_the_limit_pass() {
    let server = Server::start(|settings| settings.max_header_bytes = 1000).await;
    let mut client = server.connect().await;
    client.send(&format!("GET /hello HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n", "x".repeat(900))).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn connections_are_kept_alive() {
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
async fn errors_and_panics_of_handlers_are_answers() {
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
async fn a_request_that_takes_too_long_is_answered_with_503() {
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
async fn shutdown_finishes_what_is_in_flight_and_refuses_what_is_new() {
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
async fn shutdown_cuts_what_is_not_done_in_time() {
    let server = Server::start(|settings| settings.shutdown_timeout = SHORT).await;
    let mut waiting = server.connect().await;
    waiting.send(WAIT).await;
    server.gate.entered().await;
    server.stop.cancel();
    assert_eq!(waiting.rest().await, "");
    within(server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn above_the_connection_limit_the_next_one_waits() {
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

/// Nothing here takes long; what hangs must fail.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("should have happened by now")
}

/// A handler that says when it is in, and stays until it is let out.
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
    let told = gate.clone();
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
                let gate = told.clone();
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
        .with(ReadBody::new(settings.max_body_bytes, settings.body_timeout))
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
            max_requests: 100,
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
            allowed_origins: vec![],
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

    /// One answer with a `Content-Length`.
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

    /// All that comes until the server closes.
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
