//! The relay from a proxy to Latchkey: what goes along it is seen, and it can be cut, or fall silent.

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

/// Gone when dropped: connections to it are refused then.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    /// Where it leads; nowhere when silent.
    leads_to: watch::Sender<Option<SocketAddr>>,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    /// What the proxy sent.
    sent: Mutex<Vec<u8>>,
}

impl Relay {
    pub(super) async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (leads_to, leads) = watch::channel(Some(node));
        let seen = Arc::new(Seen::default());
        let sees = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                sees.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(relay(client, leads.clone(), Arc::clone(&sees)));
            }
        });
        Self { address, leads_to, seen, accepting }
    }

    /// How many connections there have been.
    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Everything that the proxy has sent, as far as it is text.
    pub(super) fn sent(&self) -> String {
        String::from_utf8_lossy(&self.seen.sent.lock().unwrap()).into_owned()
    }

    /// What there is falls silent, and so does what comes until [`Relay::lead_to`].
    pub(super) fn fall_silent(&self) {
        self.leads_to.send_replace(None);
    }

    /// New connections lead to this node; where the old ones led elsewhere, they end.
    pub(super) fn lead_to(&self, node: SocketAddr) {
        self.leads_to.send_replace(Some(node));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Until either side ends, or the relay leads elsewhere; silent for as long as it leads nowhere.
async fn relay(mut client: TcpStream, mut leads: watch::Receiver<Option<SocketAddr>>, seen: Arc<Seen>) {
    let leads_to = *leads.borrow_and_update();
    if let Some(node) = leads_to {
        // Nobody there: the client's connection ends without an answer.
        let Ok(mut server) = TcpStream::connect(node).await else { return };
        let ((client_in, client_out), (server_in, server_out)) = (client.split(), server.split());
        let ended = tokio::select! {
            () = copy(client_in, server_out, Some(&seen.sent)) => true,
            () = copy(server_in, client_out, None) => true,
            // the relay is gone, or leads to another node
            ended = async { leads.wait_for(|now| *now != leads_to).await.map_or(true, |now| now.is_some()) } => ended,
        };
        if ended {
            return;
        }
    }
    drop(leads.wait_for(Option::is_some).await);
    drop(client);
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, seen: Option<&Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(seen) = seen {
            seen.lock().unwrap().extend(&buffer[..read]);
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
