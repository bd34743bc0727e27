//! A fault-injecting proxy in front of Redis: it delays, freezes or cuts connections, also in the middle of an exchange,
//! and replaces scripts.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
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
    /// Delays every request by this time, without limiting how many are under way.
    Slow(Duration),
    /// Forwards nothing in either direction and closes nothing.
    Frozen,
    /// Resets existing and new connections.
    Cut,
    /// Once: forwards this many bytes of the next script's request, then resets the connection.
    CutQuestion(usize),
    /// Once: forwards this many bytes of the next script's response, then closes the connection.
    CutAnswer(usize),
}

/// A running proxy.
pub struct FaultProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    socket: PathBuf,
    mode: watch::Sender<Mode>,
    /// The SHA-1 of a script and of its replacement.
    swap: Mutex<Option<(String, String)>>,
    /// Byte lengths of the last script's request and response.
    lengths: Mutex<(usize, usize)>,
}

impl FaultProxy {
    /// Starts a proxy to the Redis at this socket.
    pub async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, _) = watch::channel(Mode::Open);
        let shared = Arc::new(Shared { socket, mode, swap: Mutex::default(), lengths: Mutex::default() });
        let carriers = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&carriers);
                tokio::spawn(async move {
                    // reset instead of close: unread bytes are lost
                    let _ = rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO));
                    carry(client, &shared).await;
                });
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

    /// Replaces one script by another, both named by their SHA-1.
    pub fn swap(&self, scripts: Option<(String, String)>) {
        *self.shared.swap.lock().unwrap() = scripts;
    }

    /// Returns the byte lengths of the last script's request and response.
    pub fn lengths(&self) -> (usize, usize) {
        *self.shared.lengths.lock().unwrap()
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Returns whether these bytes call a script, and replaces the script where configured.
    fn asks_for_script(&self, bytes: &mut [u8]) -> bool {
        if let Some((from, to)) = &*self.swap.lock().unwrap() {
            let found = |bytes: &[u8]| bytes.windows(from.len()).position(|window| window == from.as_bytes());
            while let Some(at) = found(bytes) {
                bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        }
        bytes.windows(7).any(|word| word.eq_ignore_ascii_case(b"evalsha"))
    }

    /// Resets the mode after a one-time cut; returns false if another connection was first.
    fn cut_once(&self, mode: Mode) -> bool {
        self.mode.send_if_modified(|now| {
            let first = *now == mode;
            *now = if first { Mode::Open } else { *now };
            first
        })
    }
}

async fn carry(mut client: TcpStream, shared: &Shared) {
    let mut modes = shared.mode.subscribe();
    let Ok(mut server) = UnixStream::connect(&shared.socket).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut underway: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut script_asked = false;
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Cut {
            return;
        }
        let moves = mode != Mode::Frozen;
        let next = underway.front().map(|(at, _)| *at);
        tokio::select! {
            biased;
            changed = modes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if moves && next.is_some() => {
                let (_, bytes) = underway.pop_front().expect("the queue has a next chunk");
                if server.write_all(&bytes).await.is_err() { return }
            }
            read = server.read(&mut from_server), if moves => {
                let Ok(read @ 1..) = read else { return };
                let bytes = &from_server[..read];
                if std::mem::take(&mut script_asked) {
                    shared.lengths.lock().unwrap().1 = read;
                    if let Mode::CutAnswer(after) = mode && shared.cut_once(mode) {
                        // close without a reset, so that the forwarded bytes are read
                        let _ = rustix::net::sockopt::set_socket_linger(&client, None);
                        let _ = client.write_all(&bytes[..after.min(read)]).await;
                        return;
                    }
                }
                if client.write_all(bytes).await.is_err() { return }
            }
            read = client.read(&mut from_client), if moves => {
                let Ok(read @ 1..) = read else { return };
                let bytes = &mut from_client[..read];
                // a PING may follow before the response arrives
                let asks = shared.asks_for_script(bytes);
                script_asked |= asks;
                if asks {
                    shared.lengths.lock().unwrap().0 = read;
                    if let Mode::CutQuestion(after) = mode && shared.cut_once(mode) {
                        let _ = server.write_all(&bytes[..after.min(read)]).await;
                        return;
                    }
                }
                let delay = if let Mode::Slow(delay) = mode { delay } else { Duration::ZERO };
                underway.push_back((Instant::now() + delay, bytes.to_vec()));
            }
        }
    }
}
