//! Write timeouts: slow readers are disconnected. A client that reads fast enough may read a response for an unlimited time.

use std::collections::BTreeMap;

use tokio::io::AsyncReadExt;

use super::{Client, DATA, GOAWAY, HEADERS, HELLO, SETTINGS, SHORT, Server, within};

// Frame types of HTTP/2 (RFC 9113, section 6).
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

// Flags of frames. What 0x1 means depends on the frame type.
const NO_FLAGS: u8 = 0;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// The stream of frames that concern the whole connection.
const CONNECTION: u32 = 0;

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;

/// The initial window of a connection and of each stream, in bytes.
const DEFAULT_WINDOW: u32 = 65_535;

#[tokio::test]
async fn response_read_byte_by_byte_is_aborted() {
    let server = Server::start(|settings| settings.write_timeout = SHORT).await;
    let mut client = server.connect().await;
    client.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // Reads one byte for each round trip on another connection: far more slowly than the server requires.
    let mut other = server.connect().await;
    let reading = async {
        loop {
            // fails once the server has closed the connection
            let _ = client.stream.read_u8().await;
            other.send(HELLO).await;
            assert_eq!(other.answer().await.status, 200);
        }
    };
    // the server aborts the response: it drops the body
    tokio::select! {
        () = server.gate.wait_until_dropped() => {}
        () = reading => unreachable!("the loop has no end"),
    }
}

#[tokio::test]
async fn large_response_that_is_read_arrives_completely() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let whole = "0123456789abcdef".repeat(64 * 1024);
    let answer = client.answer().await;
    // not `assert_eq!`, which would print 1 MiB
    assert!(answer.body == whole);

    let mut client = connect_http2(&server, DEFAULT_WINDOW).await;
    send_get(&mut client, 1, b"/big").await;
    let mut body = Vec::new();
    loop {
        let (kind, flags, stream, payload) = client.frame_with_flags().await;
        match (kind, stream) {
            // `:status: 200`, entry 8 of the static table (RFC 7541, appendix A)
            (HEADERS, 1) => assert_eq!(payload[0], 0x88),
            (DATA, 1) => {
                if !payload.is_empty() {
                    let increment = u32::try_from(payload.len()).unwrap().to_be_bytes();
                    client.send_frame(WINDOW_UPDATE, NO_FLAGS, CONNECTION, &increment).await;
                    client.send_frame(WINDOW_UPDATE, NO_FLAGS, 1, &increment).await;
                }
                body.extend(payload);
                if flags & END_STREAM != 0 {
                    break;
                }
            }
            (RST_STREAM, _) => panic!("{payload:?}"),
            _ => {}
        }
    }
    assert!(String::from_utf8(body).unwrap() == whole);
}

#[tokio::test]
async fn http2_stream_without_window_is_reset_and_others_continue() {
    let server = Server::start(|settings| settings.write_timeout = SHORT).await;
    let mut client = connect_http2(&server, 0).await;
    send_get(&mut client, 1, b"/endless").await;
    send_get(&mut client, 3, b"/hello").await;
    let length_of_hello = 5_u32.to_be_bytes();
    client.send_frame(WINDOW_UPDATE, NO_FLAGS, 3, &length_of_hello).await;
    let mut received = BTreeMap::new();
    while !received.contains_key(&(RST_STREAM, 1)) || !received.contains_key(&(DATA, 3)) {
        let (kind, stream, payload) = client.frame().await;
        received.insert((kind, stream), payload);
    }
    assert_eq!(received[&(DATA, 3)], b"hello");
    server.gate.wait_until_dropped().await;

    // Later streams of the connection work.
    send_get(&mut client, 5, b"/hello").await;
    client.send_frame(WINDOW_UPDATE, NO_FLAGS, 5, &length_of_hello).await;
    assert_eq!(read_until(&mut client, DATA, 5).await, b"hello");
}

#[tokio::test]
async fn http2_stream_whose_window_grows_by_bytes_is_reset() {
    let server = Server::start(|settings| settings.write_timeout = SHORT).await;
    let mut client = connect_http2(&server, 1).await;
    send_get(&mut client, 1, b"/endless").await;
    loop {
        match client.frame().await {
            (DATA, 1, _) => client.send_frame(WINDOW_UPDATE, NO_FLAGS, 1, &1_u32.to_be_bytes()).await,
            (RST_STREAM, 1, _) => break,
            _ => {}
        }
    }
    server.gate.wait_until_dropped().await;
}

/// All timeouts are short. Idle connections reach them meanwhile, which shows that enough time has passed.
#[tokio::test]
async fn event_stream_that_is_read_has_no_timeout() {
    let server = Server::start(|settings| {
        settings.header_timeout = SHORT;
        settings.idle_timeout = SHORT;
        settings.write_timeout = SHORT;
        settings.request_timeout = SHORT;
    })
    .await;
    let mut first = server.connect().await;
    first.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = connect_http2(&server, DEFAULT_WINDOW).await;
    send_get(&mut second, 1, b"/events").await;
    read_until(&mut second, HEADERS, 1).await;
    // the handlers of both event streams wait
    for _ in 0..2 {
        server.gate.wait_until_entered().await;
    }
    // two rounds, in each of which the idle connections reach their timeouts before the event streams send an event
    for _ in 0..2 {
        let mut idle = server.connect().await;
        idle.send(HELLO).await;
        assert_eq!(idle.answer().await.status, 200);
        assert_eq!(idle.rest().await, "");
        let mut idle = connect_http2(&server, DEFAULT_WINDOW).await;
        read_until(&mut idle, GOAWAY, CONNECTION).await;
        idle.drain().await;

        // once for each event stream
        server.gate.open();
        server.gate.open();
        let mut event = [0; 11];
        within(first.stream.read_exact(&mut event)).await.unwrap();
        assert_eq!(&event, b"6\r\nevent\n\r\n", "a chunk of 6 bytes");
        assert_eq!(read_until(&mut second, DATA, 1).await, b"event\n");
    }
}

#[tokio::test]
async fn event_stream_ends_when_server_stops() {
    let server = Server::start(|_| {}).await;
    let mut first = server.connect().await;
    first.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = connect_http2(&server, DEFAULT_WINDOW).await;
    send_get(&mut second, 1, b"/events").await;
    read_until(&mut second, HEADERS, 1).await;

    server.stop.cancel();
    assert_eq!(first.rest().await, "0\r\n\r\n", "the last chunk");
    // The server sends a ping to make sure that the client has received the GOAWAY, and then ends the connection (RFC 9113, section 6.8).
    let mut ended = false;
    let mut pinged = false;
    while !ended || !pinged {
        match second.frame_with_flags().await {
            (DATA, flags, 1, payload) => {
                assert_eq!(payload, b"");
                ended = flags & END_STREAM != 0;
            }
            (PING, NO_FLAGS, CONNECTION, payload) => {
                second.send_frame(PING, ACK, CONNECTION, &payload).await;
                pinged = true;
            }
            _ => {}
        }
    }
    second.drain().await;
    within(server.ended).await.unwrap().unwrap();
}

/// An HTTP/2 connection that grants each stream this window, in bytes.
async fn connect_http2(server: &Server, window: u32) -> Client {
    let mut client = server.connect().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    settings.extend(window.to_be_bytes());
    client.send_frame(SETTINGS, NO_FLAGS, CONNECTION, &settings).await;
    client
}

/// Sends a GET request for `http://x` and a path on a stream, whose number must be odd and higher than those before. The header block has
/// the static entries 2 (`:method: GET`) and 6 (`:scheme: http`), and values for 4 (`:path`) and 1 (`:authority`) (RFC 7541, appendix A).
async fn send_get(client: &mut Client, stream: u32, path: &[u8]) {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path);
    block.extend(b"\x01\x01x");
    client.send_frame(HEADERS, END_STREAM | END_HEADERS, stream, &block).await;
}

/// Reads frames until one of this type arrives on this stream, and returns its payload.
async fn read_until(client: &mut Client, kind: u8, stream: u32) -> Vec<u8> {
    loop {
        let (next_kind, next_stream, payload) = client.frame().await;
        if (next_kind, next_stream) == (kind, stream) {
            return payload;
        }
    }
}
