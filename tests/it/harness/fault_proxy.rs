//! A fault-injecting proxy in front of Redis or of a node: it delays, freezes or cuts connections, also in the middle of an
//! exchange, replaces scripts, and records what clients send to a node.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
    time::Instant,
};

/// The fault to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forwards everything.
    Open,
    /// Delays every request by this time, without limiting how many requests are in transit.
    Slow(Duration),
    /// Forwards nothing in either direction and closes nothing.
    Frozen,
    /// As [`Mode::Frozen`], but the connections that exist in this mode stay frozen in later modes, until [`Mode::Cut`].
    Silenced,
    /// Resets existing and new connections.
    Cut,
    /// Forwards nothing from the server to subscribers, of Redis channels or of the revocation feed.
    MuteSubscribers,
    /// Closes the connections of subscribers, of Redis channels or of the revocation feed, and forwards the others.
    CutSubscribers,
    /// Once: forwards this many bytes of the next script's request, then resets the connection.
    CutRequest(usize),
    /// Once: forwards this many bytes of the next script's response, then closes the connection.
    CutResponse(usize),
}

/// The server behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The Unix socket of a Redis.
    Socket(PathBuf),
    /// The address of a node.
    Address(SocketAddr),
}

impl From<PathBuf> for Target {
    fn from(socket: PathBuf) -> Self {
        Self::Socket(socket)
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

/// A running proxy. Closes its connections when dropped.
pub struct FaultProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// The state that the connections of a proxy share.
struct Shared {
    /// None until [`FaultProxy::forward_to`] sets a target: connections are closed.
    target: watch::Sender<Option<Target>>,
    mode: watch::Sender<Mode>,
    /// The SHA-1 of a script, and that of its replacement.
    swap: Mutex<Option<(String, String)>>,
    /// Bytes of the last script's request.
    request_length: AtomicUsize,
    /// Bytes of the last script's response.
    response_length: AtomicUsize,
    /// The number of connections so far.
    connections: AtomicUsize,
    /// Bytes that clients sent to a node, one item per read.
    sent: Mutex<Vec<Vec<u8>>>,
}

impl FaultProxy {
    /// Starts a proxy to this server.
    pub async fn start(target: impl Into<Target>) -> Self {
        Self::run(Some(target.into())).await
    }

    /// Starts a proxy whose server is not known yet; [`FaultProxy::forward_to`] sets it.
    pub async fn start_without_target() -> Self {
        Self::run(None).await
    }

    async fn run(target: Option<Target>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: watch::Sender::new(target),
            mode: watch::Sender::new(Mode::Open),
            swap: Mutex::default(),
            request_length: AtomicUsize::default(),
            response_length: AtomicUsize::default(),
            connections: AtomicUsize::default(),
            sent: Mutex::default(),
        });
        let accept_state = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&accept_state);
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move { relay(client, &shared).await });
            }
        });
        Self { address, shared, accepting }
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    pub fn mode(&self) -> Mode {
        *self.shared.mode.borrow()
    }

    /// Forwards new connections to this server. Connections to another one are closed.
    pub fn forward_to(&self, target: impl Into<Target>) {
        let target = Some(target.into());
        // Setting the same target again must not close connections: every notified change closes them.
        self.shared.target.send_if_modified(|current| {
            let changes = *current != target;
            *current = target;
            changes
        });
    }

    /// Replaces the first script by the second in every call, both named by their SHA-1. `None` replaces none.
    pub fn swap_script(&self, scripts: Option<(String, String)>) {
        *self.shared.swap.lock().unwrap() = scripts;
    }

    /// Returns the byte lengths of the last script's request and response.
    pub fn last_script_lengths(&self) -> (usize, usize) {
        let request = self.shared.request_length.load(Ordering::SeqCst);
        let response = self.shared.response_length.load(Ordering::SeqCst);
        (request, response)
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Everything that clients have sent to a node, as text.
    pub fn sent(&self) -> String {
        String::from_utf8_lossy(&self.shared.sent.lock().unwrap().concat()).into_owned()
    }

    /// The request lines that clients have sent to a node. Requests are small: one read returns a whole request.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.shared.sent.lock().unwrap();
        let lines = sent.iter().map(|bytes| {
            let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            String::from_utf8_lossy(line).into_owned()
        });
        lines.filter(|line| line.ends_with(" HTTP/1.1")).collect()
    }

    /// The number of requests to a node whose path contains `part`.
    pub fn count_requests(&self, part: &str) -> usize {
        self.requests().iter().filter(|line| line.contains(part)).count()
    }

    /// The value for `redis.url` that leads to the proxy.
    pub fn redis_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The base URL of the node behind the proxy.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(Mode::Cut);
    }
}

impl Shared {
    /// Replaces the script that these bytes call, if [`FaultProxy::swap_script`] has configured a replacement.
    fn replace_script(&self, bytes: &mut [u8]) {
        if let Some((from, to)) = &*self.swap.lock().unwrap() {
            let find = |bytes: &[u8]| bytes.windows(from.len()).position(|window| window == from.as_bytes());
            // Both names have the length of a SHA-1, so the request keeps its length.
            while let Some(start) = find(bytes) {
                bytes[start..start + to.len()].copy_from_slice(to.as_bytes());
            }
        }
    }

    /// Claims a one-time cut for a connection, and sets [`Mode::Open`]. Returns false if another connection was first.
    fn claim_cut(&self, mode: Mode) -> bool {
        self.mode.send_if_modified(|current| {
            let is_first = *current == mode;
            if is_first {
                *current = Mode::Open;
            }
            is_first
        })
    }
}

/// Whether the bytes contain a word, in upper or lower case.
fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Makes the connection end with a reset when it is dropped: unread bytes are lost.
fn reset_on_drop(client: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO));
}

/// Connects a client to the current target, if there is one, and forwards the connection.
async fn relay(client: TcpStream, shared: &Shared) {
    let mut targets = shared.target.subscribe();
    let target = targets.borrow_and_update().clone();
    let records = matches!(target, Some(Target::Address(_))); // a node
    match target {
        None => {} // returning closes the connection
        Some(Target::Socket(path)) => {
            if let Ok(server) = UnixStream::connect(path).await {
                forward(client, server, shared, targets, records).await;
            }
        }
        Some(Target::Address(address)) => {
            if let Ok(server) = TcpStream::connect(address).await {
                forward(client, server, shared, targets, records).await;
            }
        }
    }
}

/// Forwards one connection until a side or a fault closes it, or the target changes. With `records`, stores what the client sends.
async fn forward(
    mut client: TcpStream,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Shared,
    mut targets: watch::Receiver<Option<Target>>,
    records: bool,
) {
    let mut modes = shared.mode.subscribe();
    let mut from_client = vec![0; 64 * 1024];
    let mut from_server = vec![0; 64 * 1024];
    // what the client has sent and the server has not received yet, with the time to forward it
    let mut in_transit: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut awaits_script_response = false;
    let mut is_subscriber = false;
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Cut {
            return reset_on_drop(&client);
        }
        if mode == Mode::Silenced {
            let _ = modes.wait_for(|mode| *mode == Mode::Cut).await;
            return reset_on_drop(&client);
        }
        if mode == Mode::CutSubscribers && is_subscriber {
            return;
        }
        let forwards = mode != Mode::Frozen;
        let forwards_responses = forwards && !(mode == Mode::MuteSubscribers && is_subscriber);
        let next_due = in_transit.front().map(|(due, _)| *due);
        tokio::select! {
            biased; // a new mode or target comes before any data
            changed = modes.changed() => if changed.is_err() { return },
            _ = targets.changed() => return,
            () = tokio::time::sleep_until(next_due.unwrap_or_else(Instant::now)), if forwards && next_due.is_some() => {
                let (_, bytes) = in_transit.pop_front().expect("the queue has a next chunk");
                if server.write_all(&bytes).await.is_err() { return }
            }
            read = server.read(&mut from_server), if forwards_responses => {
                let Ok(read @ 1..) = read else { return }; // 0: the server has closed the connection
                let bytes = &from_server[..read];
                if awaits_script_response {
                    awaits_script_response = false;
                    shared.response_length.store(read, Ordering::SeqCst);
                    if let Mode::CutResponse(after) = mode && shared.claim_cut(mode) {
                        let _ = client.write_all(&bytes[..after.min(read)]).await;
                        return;
                    }
                }
                if client.write_all(bytes).await.is_err() { return }
            }
            read = client.read(&mut from_client), if forwards => {
                let Ok(read @ 1..) = read else { return };
                let bytes = &mut from_client[..read];
                if records {
                    shared.sent.lock().unwrap().push(bytes.to_vec());
                }
                is_subscriber |= contains(bytes, b"subscribe") || contains(bytes, b"/v1/revocations");
                if mode == Mode::CutSubscribers && is_subscriber {
                    return;
                }
                shared.replace_script(bytes);
                let calls_script = contains(bytes, b"evalsha");
                if calls_script {
                    awaits_script_response = true;
                    shared.request_length.store(read, Ordering::SeqCst);
                    if let Mode::CutRequest(after) = mode && shared.claim_cut(mode) {
                        let _ = server.write_all(&bytes[..after.min(read)]).await;
                        return reset_on_drop(&client);
                    }
                }
                let delay = if let Mode::Slow(delay) = mode { delay } else { Duration::ZERO };
                in_transit.push_back((Instant::now() + delay, bytes.to_vec()));
            }
        }
    }
}
