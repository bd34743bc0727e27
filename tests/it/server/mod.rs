//! Tests limits and timeouts of the server's connections, with handlers for these tests. The tested timeouts are short, and the
//! tests wait for their effect.

mod connections;
mod protocol;
mod shutdown;
mod sizes;
mod slow_readers;
mod timeouts;

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

/// A timeout that no test reaches.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// A timeout whose effect a test waits for.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

pub(crate) const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";

// Frame types of HTTP/2 (RFC 9113, section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;

/// Fails the test if a future does not complete within 30 s.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("a step hangs")
}

/// Holds handlers until a test lets them continue, and reports what they do.
#[derive(Clone)]
pub(crate) struct Gate {
    /// One permit for each handler that has entered.
    entered: Arc<Semaphore>,
    /// One permit for each handler that may continue.
    open: Arc<Semaphore>,
    /// Notified when the server has dropped the response of `/endless`.
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

    /// Reports that a handler has entered, and waits for a permit to continue.
    pub(crate) async fn pass(&self) {
        self.entered.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }

    /// Waits until a handler has entered.
    pub(crate) async fn wait_until_entered(&self) {
        within(self.entered.acquire()).await.unwrap().forget();
    }

    /// Lets one handler continue.
    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    /// Waits until the server has dropped the response of `/endless`.
    pub(crate) async fn wait_until_dropped(&self) {
        within(self.dropped.notified()).await;
    }
}

struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The handlers of the tests. `/wait` answers once the gate opens. `/events` sends an event each time that the gate opens, until the server
/// stops. The body of `/endless` never ends. The body of `/big` has 1 MiB.
fn endpoint(gate: Gate, settings: &HttpSettings) -> impl Endpoint + 'static {
    // `gate` moves into the handler of `/wait`, so the other handlers have clones.
    let endless_dropped = Arc::clone(&gate.dropped);
    let events_gate = gate.clone();
    Route::new()
        .at("/hello", get(make(|_| async { "hello" })))
        .at(
            "/panic",
            get(make(|_| async {
                // without the condition, the block would have the type `!`, which is no response
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
                let dropped = NotifyOnDrop(Arc::clone(&endless_dropped));
                async move {
                    poem::Body::from_bytes_stream(futures_util::stream::repeat_with(move || {
                        // The use moves `dropped` into the body, so that it is dropped with the body.
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

/// A running server with the handlers of [`endpoint`].
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Gate,
    /// Stops the server when it is cancelled.
    pub(crate) stop: CancellationToken,
    /// Completes with the result of [`server::run`].
    pub(crate) ended: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Starts a server. `change` changes its settings, which have long timeouts and high limits.
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
            max_body_bytes: 1024 * 1024,
            max_header_bytes: 16 * 1024,
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

/// A connection to the server.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

/// A response of HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &str) {
        within(self.stream.write_all(bytes.as_bytes())).await.unwrap();
    }

    /// Sends an HTTP/2 frame (RFC 9113, section 4.1): a length of 24 bits, the type, the flags, the stream and the payload.
    pub(crate) async fn send_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap();
        let mut frame = length.to_be_bytes()[1..].to_vec(); // the lower 24 bits
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        within(self.stream.write_all(&frame)).await.unwrap();
    }

    /// Reads the next HTTP/2 frame. Returns its type, its stream and its payload.
    pub(crate) async fn frame(&mut self) -> (u8, u32, Vec<u8>) {
        let (kind, _flags, stream, payload) = self.frame_with_flags().await;
        (kind, stream, payload)
    }

    /// Reads the next HTTP/2 frame. Returns its type, its flags, its stream and its payload.
    pub(crate) async fn frame_with_flags(&mut self) -> (u8, u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        within(self.stream.read_exact(&mut head)).await.unwrap();
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let mut payload = vec![0; length as usize];
        within(self.stream.read_exact(&mut payload)).await.unwrap();
        (kind, flags, stream, payload)
    }

    /// Reads one response. Without a `Content-Length`, its body is empty.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(within(self.stream.read_u8()).await.unwrap().into());
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |digits| digits.parse().unwrap());
        let mut body = vec![0; length];
        within(self.stream.read_exact(&mut body)).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// Reads text until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        within(self.stream.read_to_string(&mut rest)).await.unwrap();
        rest
    }

    /// Reads and discards bytes until the server closes the connection.
    pub(crate) async fn drain(&mut self) {
        let mut rest = Vec::new();
        within(self.stream.read_to_end(&mut rest)).await.unwrap();
    }
}
