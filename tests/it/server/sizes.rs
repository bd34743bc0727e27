//! Limits on the size of bodies and headers.

use super::Server;

/// The maximum size of a body in these tests, in bytes.
const BODY_LIMIT: usize = 10;

#[tokio::test]
async fn body_declared_too_large_is_refused_before_it_is_read() {
    let server = Server::start(|settings| settings.max_body_bytes = BODY_LIMIT).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 413);
    // The server would have to read the body before the next request, so it closes the connection.
    assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
    assert_eq!(client.rest().await, "", "nothing follows until the connection is closed");
}

#[tokio::test]
async fn client_that_sends_oversized_body_receives_413() {
    let server = Server::start(|settings| settings.max_body_bytes = BODY_LIMIT).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n").await;
    // Far more than the limit: the server must not reset the connection before the client has the answer.
    client.send(&"x".repeat(500_000)).await;
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn chunked_body_above_limit_is_refused() {
    let server = Server::start(|settings| settings.max_body_bytes = BODY_LIMIT).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("8\r\n12345678\r\n8\r\n12345678\r\n").await; // two chunks of 8 bytes
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn body_of_exactly_the_limit_passes() {
    let server = Server::start(|settings| settings.max_body_bytes = BODY_LIMIT).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1234567890").await;
    assert_eq!(client.answer().await.body, "1234567890");
    // A chunk of 0xa bytes, and the last chunk, which is empty.
    client
        .send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n1234567890\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.body, "1234567890");
}

#[tokio::test]
async fn expect_continue_is_confirmed_unless_body_is_too_large() {
    let server = Server::start(|settings| settings.max_body_bytes = BODY_LIMIT).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 100);
    client.send("abc").await;
    assert_eq!(client.answer().await.body, "abc");
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn oversized_headers_return_431() {
    let server = Server::start(|settings| settings.max_header_bytes = 1000).await;
    let mut client = server.connect().await;
    client.send("GET /hello HTTP/1.1\r\nHost: x\r\nX-Big: ").await;
    client.send(&"x".repeat(100_000)).await;
    assert_eq!(client.answer().await.status, 431);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn headers_below_limit_pass() {
    let server = Server::start(|settings| settings.max_header_bytes = 1000).await;
    let mut client = server.connect().await;
    // The request line and the names of the headers fit into the other 100 bytes.
    client.send(&format!("GET /hello HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n", "x".repeat(900))).await;
    assert_eq!(client.answer().await.status, 200);
}
