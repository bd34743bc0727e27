//! A plain app that knows nothing of Latchkey: it answers every request with what it was asked.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use poem::{EndpointExt, Request, handler, listener::TcpAcceptor, web::Data, web::Json};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// It runs until dropped.
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

    /// How many requests have reached it.
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
async fn echo(request: &Request, body: String, requests: Data<&Arc<AtomicUsize>>) -> Json<Value> {
    requests.fetch_add(1, Ordering::SeqCst);
    let headers = request.headers().iter();
    let headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?"))).collect();
    Json(json!({
        "method": request.method().as_str(),
        "uri": request.original_uri().to_string(),
        "headers": headers,
        "body": body,
    }))
}
