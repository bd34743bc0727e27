//! HTTP/1.1 and HTTP/2: keep-alive, pipelining, and handlers that fail.

use super::{DATA, GOAWAY, HEADERS, HELLO, SETTINGS, SHORT, Server};

#[tokio::test]
async fn connection_is_kept_alive() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.send(HELLO).await;
        assert_eq!(client.answer().await.body, "hello");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    let echo = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    client.send(&format!("{HELLO}{echo}{HELLO}")).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        bodies.push(client.answer().await.body);
    }
    assert_eq!(bodies, ["hello", "abc", "hello"]);
}

#[tokio::test]
async fn handler_error_or_panic_is_answered_and_the_connection_stays_open() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    client.send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 404);
    client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 500);
    client.send(HELLO).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_and_closed_when_idle() {
    let server = Server::start(|settings| {
        settings.idle_timeout = SHORT;
        // After GOAWAY, an idle client has this time to close the connection.
        settings.header_timeout = SHORT;
    })
    .await;
    let mut client = server.connect().await;
    // the connection preface (RFC 9113, section 3.4), with empty settings
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let (no_flags, connection_stream) = (0, 0);
    client.send_frame(SETTINGS, no_flags, connection_stream, &[]).await;
    // GET http://x/hello in HPACK: the entries 2 (`:method: GET`) and 6 (`:scheme: http`) of the static table (RFC 7541, appendix A),
    // with the bit 0x80, and then the names 4 (`:path`) and 1 (`:authority`), each with the length and the bytes of a value.
    const END_STREAM_AND_END_HEADERS: u8 = 0x5;
    client.send_frame(HEADERS, END_STREAM_AND_END_HEADERS, 1, b"\x82\x86\x04\x06/hello\x01\x01x").await;
    let mut body = Vec::new();
    loop {
        let (kind, stream, payload) = client.frame().await;
        match (kind, stream) {
            // Static table entry 8 is ":status: 200".
            (HEADERS, 1) => assert_eq!(payload[0], 0x88),
            (DATA, 1) => body.extend(payload),
            // The connection was idle.
            (GOAWAY, 0) => break,
            _ => {}
        }
    }
    assert_eq!(body, b"hello");
    client.drain().await;
}
