//! The way from the verifier to the service, on which connections can be cut or made to freeze, and which can lead to another
//! node: its address is the issuer.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All is well.
    Open,
    /// Nothing arrives, in either direction.
    Frozen,
    /// Connections are closed at once.
    Cut,
    /// The feed is cut, other calls go through.
    NoFeed,
}

pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    target: Arc<Mutex<Option<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Open);
        let target = Arc::new(Mutex::new(None));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn({
            let (target, asked) = (Arc::clone(&target), Arc::clone(&asked));
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let target: Option<String> = target.lock().unwrap().clone();
                    if let Some(target) = target {
                        tokio::spawn(carry(client, target, modes.clone(), Arc::clone(&asked)));
                    }
                }
            }
        });
        Self { address, mode, target, asked, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Leads new connections to this address: `http://HOST:PORT`.
    pub fn lead_to(&self, base: &str) {
        *self.target.lock().unwrap() = Some(base.trim_start_matches("http://").to_owned());
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// The first lines of all requests that went through.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// How many requests for a path went through.
    pub fn asked_for(&self, path: &str) -> usize {
        self.asked().iter().filter(|line| line.contains(path)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Requests are small: one read takes a whole one.
async fn carry(
    mut client: TcpStream,
    target: String,
    mut modes: watch::Receiver<Mode>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut is_feed = false;
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Cut || (is_feed && mode == Mode::NoFeed) {
            return;
        }
        let carries = mode != Mode::Frozen;
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            read = client.read(&mut from_client), if carries => {
                let Ok(read @ 1..) = read else { return };
                let text = String::from_utf8_lossy(&from_client[..read]);
                let line = text.lines().next().unwrap_or_default();
                if line.ends_with(" HTTP/1.1") {
                    is_feed |= line.contains("/v1/revocations");
                    asked.lock().unwrap().push(line.to_owned());
                }
                if is_feed && mode == Mode::NoFeed { return }
                if server.write_all(&from_client[..read]).await.is_err() { return }
            }
            read = server.read(&mut from_server), if carries => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&from_server[..read]).await.is_err() { return }
            }
        }
    }
}
