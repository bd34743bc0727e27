//! Tests timeouts of connections and requests: silent and slow clients are disconnected, and requests in flight are not affected.
//!
//! An empty [`rest`](super::Client::rest) means that the server has closed the connection without a further response.

use super::{HELLO, SHORT, Server, WAIT};

#[tokio::test]
async fn silent_connection_is_closed() {
    let server = Server::start(|settings| settings.first_byte_timeout = SHORT).await;
    let mut client = server.connect().await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn connection_with_slow_headers_is_closed() {
    let server = Server::start(|settings| settings.header_timeout = SHORT).await;
    let mut client = server.connect().await;
    // without the empty line that ends the headers
    client.send("GET /hello HTTP/1.1\r\nHost: x\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn connection_with_slow_headers_of_later_request_is_closed() {
    let server = Server::start(|settings| settings.header_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET /hello HTTP/1.1\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn connection_with_partial_http2_preface_is_closed() {
    let server = Server::start(|settings| settings.header_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("PRI * HTTP/2.0\r\n").await; // "\r\nSM\r\n\r\n" would follow
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn idle_connection_is_closed_after_response() {
    let server = Server::start(|settings| settings.idle_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    assert_eq!(client.answer().await.body, "hello");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn read_timeouts_do_not_affect_request_in_flight() {
    let server = Server::start(|settings| {
        settings.first_byte_timeout = SHORT;
        settings.header_timeout = SHORT;
        settings.idle_timeout = SHORT;
    })
    .await;
    let mut waiting = server.connect().await;
    waiting.send(WAIT).await;
    server.gate.wait_until_entered().await;
    // During the request, three other connections reach the three timeouts.
    let mut silent = server.connect().await;
    assert_eq!(silent.rest().await, "");
    let mut slow = server.connect().await;
    slow.send("GET").await;
    assert_eq!(slow.rest().await, "");
    let mut idle = server.connect().await;
    idle.send(HELLO).await;
    assert_eq!(idle.answer().await.status, 200);
    assert_eq!(idle.rest().await, "");
    server.gate.open();
    assert_eq!(waiting.answer().await.body, "waited");
}

#[tokio::test]
async fn unread_response_is_aborted() {
    let server = Server::start(|settings| settings.write_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // the server drops the endless response together with the connection
    server.gate.wait_until_dropped().await;
}

#[tokio::test]
async fn slow_body_returns_408() {
    let server = Server::start(|settings| settings.body_timeout = SHORT).await;
    let mut client = server.connect().await;
    // three of ten bytes
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 408);
    assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn request_above_timeout_returns_503() {
    let server = Server::start(|settings| settings.request_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send(WAIT).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("\r\nretry-after: 1"), "{}", answer.head);
    // The connection stays open.
    client.send(HELLO).await;
    assert_eq!(client.answer().await.status, 200);
}
