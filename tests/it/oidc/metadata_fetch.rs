//! Protection against server-side request forgery by hostile URLs, and against hostile hosts, when a node fetches metadata documents.

use std::time::Duration;

use latchkey::{
    config::DynamicClientSettings,
    fetch::{FetchError, FetchPurpose, Fetched, Fetcher},
};
use serde_json::json;
use url::Url;

use crate::harness::{
    document_server::{DocumentServer, Reply},
    test_cluster,
};

/// Settings that allow the server's address and trust its certificate.
fn settings(server: &DocumentServer) -> DynamicClientSettings {
    // Only the settings of dynamic clients are used, so neither Redis nor the database needs to exist.
    let mut settings = test_cluster::config("redis://127.0.0.1:1", "sqlite:///nonexistent/latchkey.db").dynamic_clients;
    server.allow(&mut settings);
    settings
}

/// Fetches a document. Returns its body.
async fn fetch(settings: &DynamicClientSettings, url: &str) -> Result<Vec<u8>, FetchError> {
    fetch_with_freshness(settings, url).await.map(|fetched| fetched.body)
}

/// Fetches a document. Returns its body and its freshness.
async fn fetch_with_freshness(settings: &DynamicClientSettings, url: &str) -> Result<Fetched, FetchError> {
    let url = Url::parse(url).unwrap();
    Fetcher::new(settings).unwrap().get_json(&url, FetchPurpose::Authorization).await
}

#[tokio::test]
async fn document_of_a_trusted_host_is_fetched() {
    let server = DocumentServer::start().await;
    server.set("/c.json?v=1", Reply::json(&json!({ "a": 1 })));
    // a media type with the suffix `+json` and a parameter
    let headers = ["Content-Type: application/client+json; charset=utf-8", "Cache-Control: max-age=60"];
    server.set("/plus", Reply::with("200 OK", &headers, b"{}"));
    let settings = settings(&server);
    assert_eq!(fetch(&settings, &server.url("/c.json?v=1")).await.unwrap(), br#"{"a":1}"#);
    let fetched = fetch_with_freshness(&settings, &server.url("/plus")).await.unwrap();
    assert_eq!(fetched.freshness, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn host_with_private_address_is_not_connected_to() {
    let server = DocumentServer::start().await;
    server.set("/c.json", Reply::json(&json!({})));
    let without_private_networks = DynamicClientSettings { private_networks: Vec::new(), ..settings(&server) };
    // `localhost` resolves to 127.0.0.1, as an attacker's domain may.
    assert_eq!(fetch(&without_private_networks, &server.url("/c.json")).await, Err(FetchError::PrivateAddress));
    // The only network that is allowed does not contain the address.
    let other_network =
        DynamicClientSettings { private_networks: vec!["10.0.0.0/8".parse().unwrap()], ..without_private_networks };
    assert_eq!(fetch(&other_network, &server.url("/c.json")).await, Err(FetchError::PrivateAddress));
    assert_eq!(server.requests("/c.json"), 0);
    // An IP address as the host is refused in any spelling, even if its network is allowed.
    for host in ["127.0.0.1", "2130706433", "0x7f000001", "0177.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"]
    {
        let outcome = fetch(&settings(&server), &format!("https://{host}:{}/c.json", server.port)).await;
        assert_eq!(outcome, Err(FetchError::IpAddress), "{host}");
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let server = DocumentServer::start().await;
    server.set("/secret", Reply::json(&json!({})));
    for code in [301, 302, 303, 307, 308] {
        for target in
            [server.url("/secret"), "http://169.254.169.254/latest/meta-data/".to_owned(), "/secret".to_owned()]
        {
            let location = format!("Location: {target}");
            let headers = ["Content-Type: application/json", location.as_str()];
            server.set("/c.json", Reply::with(&format!("{code} Redirect"), &headers, b"{}"));
            let outcome = fetch(&settings(&server), &server.url("/c.json")).await;
            assert_eq!(outcome, Err(FetchError::Status(code)), "{target}");
        }
    }
    assert_eq!(server.requests("/secret"), 0);
}

#[tokio::test]
async fn response_that_is_too_large_compressed_or_not_json_is_refused() {
    const MAX_BYTES: usize = 1024;
    let server = DocumentServer::start().await;
    let settings = DynamicClientSettings { max_document_bytes: MAX_BYTES, ..settings(&server) };
    let json_type = "Content-Type: application/json";
    let large = vec![b' '; MAX_BYTES + 1];
    // a gzip member of no bytes
    let gzip = [0x1f, 0x8b, 0x08, 0x00, 0, 0, 0, 0, 0, 0x03, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // more than 16 KiB of headers, and more than 64 headers: the limits of the fetcher
    let long_header = format!("X-Padding: {}", "x".repeat(32 << 10));
    let short_headers: Vec<String> = (0..200).map(|number| format!("X-{number}: 1")).collect();
    let mut many_headers = vec![json_type];
    many_headers.extend(short_headers.iter().map(String::as_str));
    for (name, reply, error) in [
        ("large", Reply::with("200 OK", &[json_type], &large), FetchError::TooLarge),
        ("gzip", Reply::with("200 OK", &[json_type, "Content-Encoding: gzip"], &gzip), FetchError::ContentEncoding),
        ("html", Reply::with("200 OK", &["Content-Type: text/html"], b"{}"), FetchError::ContentType),
        ("untyped", Reply::with("200 OK", &[], b"{}"), FetchError::ContentType),
        (
            "javascript",
            Reply::with("200 OK", &["Content-Type: application/javascript"], b"{}"),
            FetchError::ContentType,
        ),
        ("missing", Reply::with("404 Not Found", &[json_type], b"{}"), FetchError::Status(404)),
        ("partial", Reply::with("206 Partial", &[json_type], b"{}"), FetchError::Status(206)),
        ("long header", Reply::with("200 OK", &[json_type, &long_header], b"{}"), FetchError::Http),
        ("many headers", Reply::with("200 OK", &many_headers, b"{}"), FetchError::Http),
        ("no http", Reply { bytes: b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(), stalls: false }, FetchError::Http),
        (
            "cut", // the body has 1 of 9 bytes
            Reply {
                bytes: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{".to_vec(),
                stalls: false,
            },
            FetchError::Http,
        ),
    ] {
        server.set("/c.json", reply);
        assert_eq!(fetch(&settings, &server.url("/c.json")).await, Err(error), "{name}");
    }
    // Without a `Content-Length`, the bytes are counted as they arrive.
    let chunk = format!("{MAX_BYTES:x}\r\n{}\r\n", " ".repeat(MAX_BYTES));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    server.set("/c.json", Reply { bytes: format!("{head}{chunk}{chunk}0\r\n\r\n").into_bytes(), stalls: false });
    assert_eq!(fetch(&settings, &server.url("/c.json")).await, Err(FetchError::TooLarge));
}

#[tokio::test]
async fn fetch_from_a_stalled_host_times_out() {
    let server = DocumentServer::start().await;
    let settings = DynamicClientSettings { fetch_timeout: Duration::from_millis(300), ..settings(&server) };
    // the host sends nothing, a part of the headers, or a part of the body, and then stalls
    for bytes in
        ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"]
    {
        server.set("/c.json", Reply { bytes: bytes.as_bytes().to_vec(), stalls: true });
        assert_eq!(fetch(&settings, &server.url("/c.json")).await, Err(FetchError::Timeout), "{bytes:?}");
    }
}

#[tokio::test]
async fn host_without_trusted_certificate_is_refused() {
    let server = DocumentServer::start().await;
    let other_server = DocumentServer::start().await; // each server has its own certificate authority
    server.set("/c.json", Reply::json(&json!({})));
    let with_other_ca = DynamicClientSettings { ca_file: Some(other_server.ca_file()), ..settings(&server) };
    assert_eq!(fetch(&with_other_ca, &server.url("/c.json")).await, Err(FetchError::Tls));
    assert_eq!(server.requests("/c.json"), 0);
    let without_ca_file = DynamicClientSettings { ca_file: Some("/nonexistent/ca.pem".into()), ..settings(&server) };
    let error = Fetcher::new(&without_ca_file).unwrap_err().to_string();
    assert!(error.starts_with("dynamic_clients.ca_file: /nonexistent/ca.pem:"), "{error}");
}
