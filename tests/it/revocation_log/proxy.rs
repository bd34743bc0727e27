//! A proxy in front of Redis that can silence the subscriber's connection, freeze all connections or cut them.

use std::{net::SocketAddr, path::PathBuf};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
};

/// The fault that the proxy causes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything is forwarded.
    Open,
    /// Nothing from Redis arrives on a connection that has subscribed.
    Deaf,
    /// Nothing arrives, in either direction.
    Frozen,
    /// Connections are closed at once.
    Cut,
}

pub struct Proxy {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Open);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, socket.clone(), modes.clone()));
            }
        });
        Self { address, mode, accepting }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, socket: PathBuf, mut modes: watch::Receiver<Mode>) {
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut subscribed = false;
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Cut {
            return;
        }
        let (asks, answers) = (mode != Mode::Frozen, mode == Mode::Open || (mode == Mode::Deaf && !subscribed));
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            read = client.read(&mut from_client), if asks => {
                let Ok(read @ 1..) = read else { return };
                subscribed |= from_client[..read].windows(9).any(|word| word.eq_ignore_ascii_case(b"subscribe"));
                if server.write_all(&from_client[..read]).await.is_err() { return }
            }
            read = server.read(&mut from_server), if answers => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&from_server[..read]).await.is_err() { return }
            }
        }
    }
}
