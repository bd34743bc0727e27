//! The connection from a proxy to Latchkey: it is recorded, and a test can cut or freeze it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// When dropped, connections are refused.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    /// The node that connections are forwarded to; none while frozen.
    target: watch::Sender<Option<SocketAddr>>,
    record: Arc<Record>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Record {
    connections: AtomicUsize,
    /// The bytes that the proxy sent.
    sent: Mutex<Vec<u8>>,
}

impl Relay {
    pub(super) async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, targets) = watch::channel(Some(node));
        let record = Arc::new(Record::default());
        let recorder = Arc::clone(&record);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                recorder.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(relay(client, targets.clone(), Arc::clone(&recorder)));
            }
        });
        Self { address, target, record, accepting }
    }

    /// The number of connections so far.
    pub(super) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Everything that the proxy has sent, as text.
    pub(super) fn sent(&self) -> String {
        String::from_utf8_lossy(&self.record.sent.lock().unwrap()).into_owned()
    }

    /// Forwards nothing on current and new connections until [`Relay::forward_to`].
    pub(super) fn freeze(&self) {
        self.target.send_replace(None);
    }

    /// Forwards new connections to this node. Connections to another node are closed.
    pub(super) fn forward_to(&self, node: SocketAddr) {
        self.target.send_replace(Some(node));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Forwards one connection until either side closes it or the target changes.
async fn relay(mut client: TcpStream, mut targets: watch::Receiver<Option<SocketAddr>>, record: Arc<Record>) {
    let target = *targets.borrow_and_update();
    if let Some(node) = target {
        // The node is down: the client's connection is closed.
        let Ok(mut server) = TcpStream::connect(node).await else { return };
        let ((client_in, client_out), (server_in, server_out)) = (client.split(), server.split());
        let ended = tokio::select! {
            () = copy(client_in, server_out, Some(&record.sent)) => true,
            () = copy(server_in, client_out, None) => true,
            // the relay was dropped, or the target has changed
            ended = async { targets.wait_for(|now| *now != target).await.map_or(true, |now| now.is_some()) } => ended,
        };
        if ended {
            return;
        }
    }
    drop(targets.wait_for(Option::is_some).await);
    drop(client);
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, record: Option<&Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(record) = record {
            record.lock().unwrap().extend(&buffer[..read]);
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
