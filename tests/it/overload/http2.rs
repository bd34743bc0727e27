//! Abuse of HTTP/2: streams that are reset as soon as they are opened (CVE-2023-44487), endless headers (CVE-2024-27316), and
//! clients that send pings and settings but do not read the acknowledgements.

use std::net::SocketAddr;

use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::process::Process;
use crate::{
    harness::client::Client,
    server::{DATA, GOAWAY, HEADERS, SETTINGS, within},
};

const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// Error code (RFC 9113, section 7) of a client that no longer needs the response.
const CANCEL: u32 = 0x8;
/// Error code (RFC 9113, section 7) for a peer that causes too much load.
const ENHANCE_YOUR_CALM: u32 = 0xb;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The additional memory that the node may use: more than it needs, and much less than it would use without bounds.
const BUDGET_MIB: u64 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn connection_with_rapid_resets_is_closed() {
    const RESETS: u32 = 20_000;
    /// More than the node accepts before it closes the connection.
    const PER_CONNECTION: u32 = 500;
    let process = Process::start(&[]);
    let client = Client::new(process.node.client.base.clone());
    assert!(is_alive(&client).await);
    let before = process.memory_mib();
    let (mut sent, mut connections) = (0, 0);
    while sent < RESETS {
        let mut connection = connect(&client).await;
        let mut pairs = Vec::new();
        for number in 0..PER_CONNECTION {
            let stream_id = 2 * number + 1;
            frame(&mut pairs, HEADERS, END_STREAM | END_HEADERS, stream_id, &get_block(b"/readyz"));
            frame(&mut pairs, RST_STREAM, 0, stream_id, &CANCEL.to_be_bytes());
        }
        // fails if the node has closed the connection already
        let _ = within(connection.write_all(&pairs)).await;
        sent += PER_CONNECTION;
        connections += 1;
        assert_eq!(goaway_code(connection).await, Some(ENHANCE_YOUR_CALM));
        assert!(is_alive(&client).await, "other clients are served");
    }
    let peak = process.peak_memory_mib();
    println!("{sent} resets on {connections} connections; {before} MiB before, {peak} MiB at most");
    assert!(peak <= before + BUDGET_MIB, "{before} MiB before, {peak} MiB at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_headers_are_not_buffered() {
    /// Unbounded headers of this size would use up [`BUDGET_MIB`].
    const MAX_ACCEPTED_BYTES: usize = 64 << 20;
    let process = Process::start(&[]);
    let client = Client::new(process.node.client.base.clone());
    assert!(is_alive(&client).await);
    let before = process.memory_mib();
    for number in 0..8 {
        let mut connection = connect(&client).await;
        let mut head = Vec::new();
        frame(&mut head, HEADERS, END_STREAM, 1, &get_block(b"/livez"));
        let fields = literal(b"x-endless", &[b'x'; 100]).repeat(100);
        // without END_HEADERS, so the headers never end
        let mut more = Vec::new();
        frame(&mut more, CONTINUATION, 0, 1, &fields);
        let mut sent = 0_usize;
        let mut ended = connection.write_all(&head).await.is_err();
        while !ended {
            assert!(sent < MAX_ACCEPTED_BYTES, "the node accepted {sent} bytes of headers");
            ended = within(connection.write_all(&more)).await.is_err();
            sent += more.len();
        }
        drop(connection);
        assert!(is_alive(&client).await, "other clients are served beside connection {number}");
    }
    let peak = process.peak_memory_mib();
    assert!(peak <= before + BUDGET_MIB, "{before} MiB before, {peak} MiB at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_not_buffered_for_client_that_does_not_read() {
    const GIB: usize = 1 << 30;
    let process = Process::start(&["http.write_timeout=1s"]);
    let client = Client::new(process.node.client.base.clone());
    assert!(is_alive(&client).await);
    let before = process.memory_mib();
    let mut requests = Vec::new();
    for _ in 0..1000 {
        // a ping has 8 bytes (RFC 9113, section 6.7)
        frame(&mut requests, PING, 0, 0, b"are you?");
        frame(&mut requests, SETTINGS, 0, 0, &[]);
    }
    let mut connection = connect(&client).await;
    let mut sent = 0_usize;
    // until the node closes the connection
    while within(connection.write_all(&requests)).await.is_ok() {
        sent += requests.len();
        assert!(sent < GIB, "the node accepted {sent} bytes");
    }
    assert!(is_alive(&client).await);
    let peak = process.peak_memory_mib();
    println!("{sent} bytes; {before} MiB before, {peak} MiB at most");
    assert!(peak <= before + BUDGET_MIB, "{before} MiB before, {peak} MiB at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn header_and_body_limits_equal_those_of_http1() {
    /// Less than the maximum size of a frame, 16 KiB.
    const PART_BYTES: usize = 16_000;
    let process = Process::start(&[]);
    let client = Client::new(process.node.client.base.clone());

    let mut connection = connect(&client).await;
    let mut large = get_block(b"/livez");
    // about 39 kB, more than `http.max_header` (32 KiB)
    large.extend(literal(b"x-large", &[b'x'; 120]).repeat(300));
    let mut frames = Vec::new();
    let (first, rest) = large.split_at(PART_BYTES);
    frame(&mut frames, HEADERS, END_STREAM, 1, first);
    let mut parts = rest.chunks(PART_BYTES).peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() { END_HEADERS } else { 0 };
        frame(&mut frames, CONTINUATION, flags, 1, part);
    }
    connection.write_all(&frames).await.unwrap();
    assert_eq!(status(&mut connection, 1).await, "431");

    let mut connection = connect(&client).await;
    // A POST request, encoded as in `get_block`: entry 3 of the static table is `:method: POST`, and the path has 9 bytes.
    let mut large = vec![0x83, 0x86, 0x04, 9];
    large.extend(b"/v1/login\x01\x01x");
    large.extend(literal(b"content-type", b"application/json"));
    // one byte more than `http.max_body` (64 KiB)
    large.extend(literal(b"content-length", b"65537"));
    let mut frames = Vec::new();
    frame(&mut frames, HEADERS, END_HEADERS, 1, &large);
    frame(&mut frames, DATA, 0, 1, &[b' '; 100]);
    connection.write_all(&frames).await.unwrap();
    assert_eq!(status(&mut connection, 1).await, "413");
}

/// An HTTP/2 connection to a node.
async fn connect(client: &Client) -> TcpStream {
    connect_to(client.base.strip_prefix("http://").unwrap().parse().unwrap()).await
}

/// An HTTP/2 connection.
pub(super) async fn connect_to(address: SocketAddr) -> TcpStream {
    open_http2(TcpStream::connect(address).await.unwrap()).await
}

/// Begins HTTP/2 on a connection.
pub(super) async fn open_http2(mut stream: TcpStream) -> TcpStream {
    let mut begin = PREFACE.to_vec();
    frame(&mut begin, SETTINGS, 0, 0, &[]);
    stream.write_all(&begin).await.unwrap();
    stream
}

async fn is_alive(client: &Client) -> bool {
    client.send(client.request(Method::GET, "/livez")).await.status == 200
}

/// Appends a frame.
pub(super) fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // the length has three bytes
    to.extend(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
    to.extend(payload);
}

/// The HPACK block of a GET request for a path of `http://x`. By their numbers in the static table (RFC 7541, appendix A): 2 is
/// `:method: GET`, 6 is `:scheme: http`; `:path` (4) and `:authority` (1) have literal values. The
/// bit 0x80 marks an entry that is used with its value.
fn get_block(path: &[u8]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path);
    block.extend(b"\x01\x01x");
    block
}

/// A header field without indexing (RFC 7541, section 6.2.2).
pub(super) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![0, u8::try_from(name.len()).unwrap()];
    field.extend(name);
    field.push(u8::try_from(value.len()).unwrap());
    field.extend(value);
    field
}

/// Reads the next frame, and returns its kind, its stream and its payload. None at the end of the connection.
pub(super) async fn next_frame(stream: &mut TcpStream) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    within(stream.read_exact(&mut head)).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    within(stream.read_exact(&mut payload)).await.ok()?;
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// Reads to the end, and returns the error code of the last GOAWAY.
async fn goaway_code(mut stream: TcpStream) -> Option<u32> {
    let mut code = None;
    while let Some((kind, _, payload)) = next_frame(&mut stream).await {
        if kind == GOAWAY {
            // after the last stream's id (RFC 9113, section 6.8)
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    code
}

/// The status of the response on a stream. HPACK encodes it as an entry of the static table, or as a literal whose name is an entry.
async fn status(stream: &mut TcpStream, stream_id: u32) -> String {
    loop {
        match next_frame(stream).await.expect("a response") {
            (HEADERS, id, block) if id == stream_id => {
                return match block[0] {
                    0x8c => "400".to_owned(),
                    0x8d => "404".to_owned(),
                    0x8e => "500".to_owned(),
                    // a literal named by entry 8, in plain text or in the Huffman code
                    _ => {
                        let (length, is_huffman_coded) = (usize::from(block[1] & 0x7f), block[1] & 0x80 != 0);
                        digits(&block[2..2 + length], is_huffman_coded)
                    }
                };
            }
            (RST_STREAM | GOAWAY, _, payload) => panic!("no response: {payload:?}"),
            _ => {}
        }
    }
}

/// Decodes digits in plain text or in the Huffman code (RFC 7541, appendix B), where 0 to 2 have five bits and 3 to 9 have six.
fn digits(text: &[u8], is_huffman_coded: bool) -> String {
    if !is_huffman_coded {
        return String::from_utf8(text.to_vec()).unwrap();
    }
    let bits: String = text.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut rest = bits.as_str();
    let mut digits = String::new();
    while rest.len() >= 5 {
        let five = u32::from_str_radix(&rest[..5], 2).unwrap();
        let (digit, length) = match five {
            0..=2 => (five, 5),
            // only the padding of the last byte is left
            _ if rest.len() < 6 => break,
            // the codes of 3 to 9 are 0x19 to 0x1f
            _ => (u32::from_str_radix(&rest[..6], 2).unwrap().wrapping_sub(0x19 - 3), 6),
        };
        // not a digit: the padding, whose bits are all one
        let Some(digit) = char::from_digit(digit, 10) else { break };
        digits.push(digit);
        rest = &rest[length..];
    }
    digits
}
