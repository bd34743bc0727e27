//! The delay from a sign-out on one node to the close of a WebSocket at a service that follows another.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use latchkey_verify::{
    Verifier,
    poem::{SessionWebSocket, Verify},
};
use poem::{EndpointExt, IntoResponse, Route, Server, get, handler, listener::TcpAcceptor};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{
    Times,
    harness::{
        client::{Client, Tokens},
        test_cluster::ServiceClient,
    },
};

/// An app whose WebSockets close with their session.
pub struct App {
    address: SocketAddr,
    verifier: Verifier,
}

#[handler]
fn listen(socket: SessionWebSocket) -> impl IntoResponse {
    socket.on_upgrade(|mut socket| async move { while let Some(Ok(_)) = socket.next().await {} })
}

impl App {
    /// Starts the app. Its verifier follows the node that listens at the issuer's address.
    pub async fn start(issuer: &str, service: &ServiceClient) -> Self {
        let verifier = Verifier::builder(issuer).audience("latchkey").client(&service.id, &service.secret);
        let verifier = verifier.build().await.unwrap();
        assert!(verifier.wait_live(Duration::from_secs(10)).await, "the feed is live");
        let app = Route::new().at("/", get(listen).with(Verify::new(verifier.clone())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Server::new_with_acceptor(TcpAcceptor::from_tokio(listener).unwrap()).run(app));
        Self { address, verifier }
    }

    /// Opens a WebSocket for each session, and signs out one after the other.
    pub async fn measure(&self, client: &Client, sessions: Vec<Tokens>) -> Vec<Times> {
        let mut sockets = Vec::new();
        for tokens in sessions {
            let mut request = format!("ws://{}/", self.address).into_client_request().unwrap();
            request.headers_mut().insert("authorization", format!("Bearer {}", tokens.access).parse().unwrap());
            sockets.push((connect_async(request).await.unwrap().0, tokens));
        }
        assert_eq!(self.verifier.status().registrations, sockets.len());
        let mut times = Vec::new();
        for (socket, tokens) in sockets {
            let closed = tokio::spawn(closed(socket));
            let requested = Instant::now();
            client.logout(&tokens.refresh).await.expect(204);
            times.push((requested, Instant::now(), closed.await.unwrap()));
        }
        times
    }
}

/// Waits for the close frame.
async fn closed(mut socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Instant {
    loop {
        if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
            assert_eq!(frame.unwrap().reason.as_str(), "session_revoked");
            return Instant::now();
        }
    }
}
