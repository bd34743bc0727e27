//! A proxy to Redis that can go silent: connections stay open, and no responses arrive.

use std::{net::SocketAddr, path::PathBuf};

use tokio::{
    net::{TcpListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

/// Forwards connections to a Redis.
pub struct Proxy {
    pub address: SocketAddr,
    talks: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(socket: PathBuf, talks: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (talks, listening) = watch::channel(talks);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (socket, mut talks) = (socket.clone(), listening.clone());
                tokio::spawn(async move {
                    if *talks.borrow_and_update() {
                        let mut server = UnixStream::connect(socket).await.unwrap();
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                            // the sender lives as long as the test
                            _ = talks.wait_for(|talks| !talks) => {}
                        }
                    }
                    // a silent connection stays silent
                    std::future::pending::<()>().await;
                    drop(client);
                });
            }
        });
        Self { address, talks, accepting }
    }

    /// Silences all connections, and new ones until [`Proxy::resume`].
    pub fn go_silent(&self) {
        self.talks.send_replace(false);
    }

    /// Forwards new connections. Existing ones stay silent.
    pub fn resume(&self) {
        self.talks.send_replace(true);
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
