//! Tests WebSockets and other upgraded connections behind the tower layer: the layer closes them when their session ends.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use latchkey_verify::{Verifier, tower::VerifyLayer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};
use tower::{Layer, service_fn};

use crate::{
    fixture::Fixture,
    harness::{fault_proxy::Mode, wait},
    websocket::{POLICY_VIOLATION, Socket, TRY_AGAIN_LATER},
};

/// Serves a service behind the layer with hyper, as axum does. `/echo` is a WebSocket that sends each message back. `/raw` switches
/// to the protocol `echo-bytes`, which sends each byte back. Any other path refuses the upgrade.
///
/// Returns the service's address, and a channel that receives the name of each handler that has ended: `echo`, `raw` or `refused`.
async fn serve(verifier: &Verifier) -> (SocketAddr, mpsc::UnboundedReceiver<&'static str>) {
    let (ended, ended_handlers) = mpsc::unbounded_channel();
    let handlers = service_fn(move |mut request: Request<Incoming>| {
        let ended = ended.clone();
        async move {
            let mut response = Response::new(String::new());
            let upgrade = hyper::upgrade::on(&mut request);
            match request.uri().path() {
                "/echo" => {
                    accept_upgrade(&mut response, request.headers(), "websocket");
                    tokio::spawn(async move {
                        let stream = TokioIo::new(upgrade.await.unwrap());
                        let config = None; // the defaults
                        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, config).await;
                        while let Some(Ok(message @ Message::Text(_))) = socket.next().await {
                            socket.send(message).await.unwrap();
                        }
                        let _ = ended.send("echo"); // fails if the test has ended
                    });
                }
                "/raw" => {
                    accept_upgrade(&mut response, request.headers(), "echo-bytes");
                    tokio::spawn(async move {
                        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                        let _ = tokio::io::copy(&mut reader, &mut writer).await;
                        let _ = ended.send("raw");
                    });
                }
                _ => {
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                    tokio::spawn(async move {
                        assert!(upgrade.await.is_err());
                        let _ = ended.send("refused");
                    });
                }
            }
            Ok::<_, Infallible>(response)
        }
    });
    let protected = VerifyLayer::new(verifier.clone()).layer(handlers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(protected.clone());
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    (address, ended_handlers)
}

/// Makes the response switch to a protocol. A WebSocket's request has a key, which the response confirms.
fn accept_upgrade(response: &mut Response<String>, request: &HeaderMap, protocol: &'static str) {
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
    headers.insert(header::UPGRADE, protocol.parse().unwrap());
    if let Some(key) = request.get(header::SEC_WEBSOCKET_KEY) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()).parse().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layer_closes_websocket_with_the_cause_of_the_end() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = [fixture.node.login("ada").await, fixture.node.login("ada").await];
    let verifier = fixture.verifier().await;
    let (address, mut ended_handlers) = serve(&verifier).await;
    let mut first = Socket::open(address, "/echo", &tokens[0].access).await;
    let mut second = Socket::open(address, "/echo", &tokens[1].access).await;
    // longer than the layer's buffers of 16 KiB
    let long = "a".repeat(100_000);
    for text in ["hello", &long] {
        assert_eq!(first.ask(text).await, text);
        assert_eq!(second.ask(text).await, text);
    }
    assert_eq!(verifier.status().registrations, 2, "one for each open connection");
    fixture.node.logout(&tokens[0].refresh).await.expect(204);
    assert_eq!(first.closed().await, Some((POLICY_VIOLATION, "session_revoked".to_owned())));
    assert_eq!(ended_handlers.recv().await, Some("echo"));
    assert_eq!(second.ask("still here").await, "still here");
    // stops the feed for longer than the default of `end_after_silence`, 5 s
    fixture.proxy.set(Mode::Frozen);
    fixture.clock.advance(Duration::from_secs(6));
    assert_eq!(second.closed().await, Some((TRY_AGAIN_LATER, "feed_lost".to_owned())));
    assert_eq!(ended_handlers.recv().await, Some("echo"));
    wait::until("nothing is registered", async || verifier.status().registrations == 0).await;
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layer_closes_upgraded_connection_of_any_protocol() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    let (address, mut ended_handlers) = serve(&verifier).await;
    let mut stream = send_upgrade(address, "/raw", &tokens.access).await;
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    stream.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"ping");
    fixture.node.logout(&tokens.refresh).await.expect(204);
    assert_eq!(stream.read(&mut echoed).await.unwrap(), 0, "the connection is closed");
    assert_eq!(ended_handlers.recv().await, Some("raw"));
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_refused_by_handler_or_layer_leaves_no_registration() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    let (address, mut ended_handlers) = serve(&verifier).await;
    let mut stream = send_upgrade(address, "/other", &tokens.access).await;
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(ended_handlers.recv().await, Some("refused"));
    let refused_by_layer = Socket::try_open(address, "/echo", "not-a-token").await;
    assert!(refused_by_layer.is_err_and(|error| error.contains("401")));
    assert_eq!(verifier.status().registrations, 0);
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_goes_away_ends_the_handler_and_its_registration() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    let (address, mut ended_handlers) = serve(&verifier).await;
    let mut socket = Socket::open(address, "/echo", &tokens.access).await;
    assert_eq!(socket.ask("hello").await, "hello");
    drop(socket);
    assert_eq!(ended_handlers.recv().await, Some("echo"));
    wait::until("nothing is registered", async || verifier.status().registrations == 0).await;
    drop(verifier);
    fixture.stop().await;
}

/// Sends a request to switch to the protocol `echo-bytes`, on a new connection.
async fn send_upgrade(address: SocketAddr, path: &str, access: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: echo-bytes\r\nauthorization: Bearer {access}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads the status line and the headers of a response, and nothing of what follows.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
