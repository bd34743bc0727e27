//! Tests WebSockets of poem apps: they close with a code and a reason when their session ends.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use latchkey_verify::{
    Verifier,
    poem::{SessionWebSocket, Verify},
};
use poem::{EndpointExt, IntoResponse, Route, Server, get, handler, listener::TcpAcceptor, web::websocket::Message};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message as ClientMessage, client::IntoClientRequest},
};

use crate::{
    fixture::Fixture,
    harness::{client::Tokens, fault_proxy::Mode, wait},
};

/// Close codes (RFC 6455, section 7.4.1, and IANA's registry).
pub const POLICY_VIOLATION: u16 = 1008;
pub const TRY_AGAIN_LATER: u16 = 1013;

/// Echoes each message, except `token TOKEN`: the handler renews the socket with this token, and answers with the outcome.
#[handler]
fn echo(socket: SessionWebSocket) -> impl IntoResponse {
    socket.on_upgrade(|mut socket| async move {
        while let Some(Ok(Message::Text(text))) = socket.next().await {
            let answer = match text.strip_prefix("token ") {
                Some(token) => {
                    socket.renew(token).await.map_or_else(|error| error.to_string(), |_| "renewed".to_owned())
                }
                None => text,
            };
            if socket.send(Message::Text(answer)).await.is_err() {
                break;
            }
        }
    })
}

/// Keeps its socket, and neither reads from nor writes to it.
#[handler]
fn idle(socket: SessionWebSocket) -> impl IntoResponse {
    socket.on_upgrade(|socket| async move {
        let _kept = socket;
        std::future::pending::<()>().await;
    })
}

/// Serves an app with both handlers behind the verifying middleware, and `/unprotected` without the middleware.
async fn serve(verifier: &Verifier) -> SocketAddr {
    let verify = Verify::new(verifier.clone());
    let app = Route::new()
        .at("/echo", get(echo).with(verify.clone()))
        .at("/idle", get(idle).with(verify))
        .at("/unprotected", get(echo));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new_with_acceptor(TcpAcceptor::from_tokio(listener).unwrap()).run(app));
    address
}

/// A client's end of a WebSocket.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn try_open(address: SocketAddr, path: &str, access: &str) -> Result<Self, String> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {access}").parse().unwrap());
        connect_async(request).await.map(|(socket, _)| Self(socket)).map_err(|error| error.to_string())
    }

    pub async fn open(address: SocketAddr, path: &str, access: &str) -> Self {
        Self::try_open(address, path, access).await.unwrap()
    }

    /// Sends a message, and returns the next one that arrives.
    pub async fn ask(&mut self, text: &str) -> String {
        self.0.send(ClientMessage::text(text)).await.unwrap();
        self.0.next().await.unwrap().unwrap().into_text().unwrap().to_string()
    }

    /// Waits for the end of the connection. Returns the code and the reason of the close frame, or `None` if the connection ends without
    /// one.
    pub async fn closed(mut self) -> Option<(u16, String)> {
        while let Some(Ok(message)) = self.0.next().await {
            if let ClientMessage::Close(Some(frame)) = message {
                return Some((frame.code.into(), frame.reason.to_string()));
            }
        }
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_is_closed_with_the_cause_of_the_end() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let ended = fixture.node.login("ada").await;
    let live = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    let address = serve(&verifier).await;
    let mut ended_socket = Socket::open(address, "/echo", &ended.access).await;
    let mut live_socket = Socket::open(address, "/echo", &live.access).await;
    assert_eq!(ended_socket.ask("hello").await, "hello");
    assert_eq!(live_socket.ask("hello").await, "hello");

    fixture.node.logout(&ended.refresh).await.expect(204);
    assert_eq!(ended_socket.closed().await, Some((POLICY_VIOLATION, "session_revoked".to_owned())));
    assert_eq!(live_socket.ask("still here").await, "still here");
    let refused = Socket::try_open(address, "/echo", &ended.access).await;
    assert!(refused.is_err_and(|error| error.contains("401")));

    fixture.proxy.set(Mode::Frozen); // the feed's connection stays open, but nothing arrives
    fixture.clock.advance(Duration::from_secs(6)); // more than the default of `end_after_silence`, 5 s
    assert_eq!(live_socket.closed().await, Some((TRY_AGAIN_LATER, "feed_lost".to_owned())));
    wait::until("no WebSocket is registered", async || verifier.status().registrations == 0).await;
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_handler_of_a_closed_websocket_is_dropped() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    let socket = Socket::open(serve(&verifier).await, "/idle", &tokens.access).await;
    assert_eq!(verifier.status().registrations, 1);
    fixture.node.logout(&tokens.refresh).await.expect(204);
    // the connection ends because the handler is dropped with its socket; nothing polled the socket, so no close frame is sent
    assert_eq!(socket.closed().await, None);
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_is_renewed_with_a_newer_token() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let other_session = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    let mut socket = Socket::open(serve(&verifier).await, "/echo", &tokens.access).await;
    let refreshed = Tokens::of(&fixture.node.refresh(&tokens.refresh).await.expect(200));
    assert_eq!(socket.ask(&format!("token {}", refreshed.access)).await, "renewed");
    assert_eq!(socket.ask(&format!("token {}", other_session.access)).await, "the token is of another session");
    assert_eq!(verifier.status().registrations, 1);
    drop(socket);
    wait::until("the registration is gone", async || verifier.status().registrations == 0).await;
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_outside_the_middleware_is_refused() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    let refused = Socket::try_open(serve(&verifier).await, "/unprotected", &tokens.access).await;
    assert!(refused.is_err_and(|error| error.contains("401")));
    drop(verifier);
    fixture.stop().await;
}
