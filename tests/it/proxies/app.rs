//! A plain app without any code for tokens. It answers a request with its content as JSON, and echoes what arrives on WebSockets.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use poem::{
    EndpointExt, IntoResponse, Request, Response, handler,
    http::StatusCode,
    listener::TcpAcceptor,
    web::{Data, Json},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// The key of the example handshake in RFC 6455, section 1.3.
pub(super) const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The response to [`WEBSOCKET_KEY`] in the same example.
const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A running app. Stops when dropped.
pub(super) struct App {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl App {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let endpoint = echo.data(Arc::clone(&requests));
        let server = poem::Server::new_with_acceptor(TcpAcceptor::from_tokio(listener).unwrap());
        let serving = tokio::spawn(async move { server.run(endpoint).await.unwrap() });
        Self { address, requests, serving }
    }

    /// The number of requests that have reached the app.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[handler]
async fn echo(request: &Request, body: String, requests: Data<&Arc<AtomicUsize>>) -> Response {
    requests.fetch_add(1, Ordering::SeqCst);
    if request.header("upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
        return accept_websocket(request);
    }
    let headers: Vec<_> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?"))).collect();
    Json(json!({
        "method": request.method().as_str(),
        "uri": request.original_uri().to_string(),
        "headers": headers,
        "body": body,
    }))
    .into_response()
}

/// Accepts the handshake, sends the account that the proxy has authenticated as the first line, and echoes bytes. It sends no WebSocket
/// frames, since the proxies do not parse what follows the handshake.
fn accept_websocket(request: &Request) -> Response {
    let upgrade = request.take_upgrade().unwrap();
    let account = request.header("x-auth-subject").unwrap_or("nobody").to_owned();
    tokio::spawn(async move {
        let mut connection = upgrade.await.unwrap();
        connection.write_all(format!("{account}\n").as_bytes()).await.unwrap();
        let mut buffer = [0; 1024];
        // until the client closes the connection, which then returns 0 bytes
        while let Ok(read @ 1..) = connection.read(&mut buffer).await {
            if connection.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", WEBSOCKET_ACCEPT)
        .finish()
}
