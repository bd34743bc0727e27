//! A proxy between the verifier and the service whose address is the issuer. Tests cut or freeze its connections and point it to
//! another node.

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

/// The fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No fault.
    Open,
    /// No bytes are forwarded in either direction.
    Frozen,
    /// Connections are closed at once.
    Cut,
    /// Connections of the feed are closed, others are forwarded.
    NoFeed,
}

pub struct FaultProxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    target: Arc<Mutex<Option<String>>>,
    requests: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Open);
        let target = Arc::new(Mutex::new(None));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn({
            let (target, requests) = (Arc::clone(&target), Arc::clone(&requests));
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let target: Option<String> = target.lock().unwrap().clone();
                    if let Some(target) = target {
                        tokio::spawn(forward(client, target, modes.clone(), Arc::clone(&requests)));
                    }
                }
            }
        });
        Self { address, mode, target, requests, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Forwards new connections to this address: `http://HOST:PORT`.
    pub fn forward_to(&self, base: &str) {
        *self.target.lock().unwrap() = Some(base.trim_start_matches("http://").to_owned());
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// The request lines of all forwarded requests.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The number of forwarded requests for a path.
    pub fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|line| line.contains(path)).count()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Forwards one connection. Requests are small: one read returns a whole request.
async fn forward(
    mut client: TcpStream,
    target: String,
    mut modes: watch::Receiver<Mode>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut is_feed = false;
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Cut || (is_feed && mode == Mode::NoFeed) {
            return;
        }
        let forwards = mode != Mode::Frozen;
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            read = client.read(&mut from_client), if forwards => {
                let Ok(read @ 1..) = read else { return };
                let text = String::from_utf8_lossy(&from_client[..read]);
                let line = text.lines().next().unwrap_or_default();
                if line.ends_with(" HTTP/1.1") {
                    is_feed |= line.contains("/v1/revocations");
                    requests.lock().unwrap().push(line.to_owned());
                }
                if is_feed && mode == Mode::NoFeed { return }
                if server.write_all(&from_client[..read]).await.is_err() { return }
            }
            read = server.read(&mut from_server), if forwards => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&from_server[..read]).await.is_err() { return }
            }
        }
    }
}
