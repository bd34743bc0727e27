//! Common behaviour of all paths: refusals of unknown paths and malformed requests, response headers and request ids.

use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

use super::problem;
use crate::{
    factors,
    harness::{log::Log, test_cluster::TestCluster},
};

#[tokio::test]
async fn unknown_path_or_method_returns_problem() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for path in ["/nothing", "/v1", "/v1/login/", "/v1/sessions/a/b", "//", "/v1/%2e%2e/x", "/docs/x"] {
        assert_eq!(node.get_anonymously(path).await.problem(), problem(404, "not_found"), "{path}");
    }
    for (method, path, allow) in [
        (Method::GET, "/v1/login", "POST"),
        (Method::OPTIONS, "/v1/login", "POST"),
        (Method::POST, "/v1/sessions", "DELETE, GET"),
        (Method::GET, "/v1/sessions/x", "DELETE"),
        (Method::DELETE, "/v1/users", "POST"),
        (Method::POST, "/.well-known/jwks.json", "GET"),
        (Method::POST, "/docs", "GET"),
        (Method::POST, "/", "GET"),
    ] {
        let answer = node.send(node.request(method.clone(), path)).await;
        assert_eq!(answer.problem(), problem(405, "method_not_allowed"), "{method} {path}");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
    let root = node.get_anonymously("/").await.expect(303);
    assert_eq!(root.header("location"), "/docs");
}

#[tokio::test]
async fn body_that_is_no_json_object_returns_problem() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let send = |content_type: Option<&'static str>, body: &'static str| {
        let mut request = node.request(Method::POST, "/v1/login").body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        node.send(request)
    };
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx")] {
        assert_eq!(send(kind, "{}").await.problem(), problem(415, "unsupported_media_type"), "{kind:?}");
    }
    let repeated = r#"{"identifier":"ada","identifier":"bob","password":"x"}"#;
    for body in ["", "{", "[]", "null", "1", "{}{}", repeated] {
        let answer = send(Some("application/json; charset=utf-8"), body).await;
        assert_eq!(answer.problem(), problem(400, "malformed_request"), "{body}");
    }
}

#[tokio::test]
async fn oversized_body_is_refused_with_any_framing() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let max_bytes = cluster.config.http.max_body_bytes;
    let post = || node.request(Method::POST, "/v1/login").header("content-type", "application/json");
    let with_length = node.send(post().body("x".repeat(max_bytes + 1))).await;
    assert_eq!(with_length.problem(), problem(413, "payload_too_large"));
    // the same body as one chunk, without `Content-Length`; the node answers although the end of the body is never sent
    let address = node.base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", max_bytes + 1, "x".repeat(max_bytes + 1));
    stream.write_all(format!("{head}{chunk}").as_bytes()).await.unwrap();
    let mut version_and_status = [0; 12];
    stream.read_exact(&mut version_and_status).await.unwrap();
    assert_eq!(&version_and_status, b"HTTP/1.1 413");
    // the longest allowed body is read, and is no JSON
    let longest = node.send(post().body("x".repeat(max_bytes))).await;
    assert_eq!(longest.problem(), problem(400, "malformed_request"));
}

#[tokio::test]
async fn response_has_security_headers_and_keeps_a_valid_request_id() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for path in ["/livez", "/v1/me", "/nothing", "/docs"] {
        node.get_anonymously(path).await.header("x-request-id").parse::<Uuid>().unwrap();
        let kept = node.send(node.request(Method::GET, path).header("x-request-id", "trace-1234_a.b")).await;
        assert_eq!(kept.header("x-request-id"), "trace-1234_a.b");
        assert_eq!(kept.header("x-content-type-options"), "nosniff");
        assert_eq!(kept.header("content-security-policy"), "frame-ancestors 'none'");
        let caching = if path == "/docs" { "public, max-age=300" } else { "no-store" };
        assert_eq!(kept.header("cache-control"), caching);
    }
    // an id that is kept has 8 to 64 letters, digits, `-`, `_` and `.`
    for invalid in ["short", "has a space", "quote\"quote", "<script>alert(1)", &"x".repeat(65)] {
        let answer = node.send(node.request(Method::GET, "/livez").header("x-request-id", invalid)).await;
        answer.header("x-request-id").parse::<Uuid>().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_has_the_cause_of_a_failed_request_under_its_id() {
    let cluster = factors::cluster();
    let node = cluster.node().await;
    let ada = factors::account_with_app(&cluster, &node, "ada").await;
    let challenge = factors::challenge(&node, "ada").await;
    let mut database = SqliteConnection::connect(cluster.config.database.url.expose()).await.unwrap();
    // an internal error: the key of the recovery codes can't be decrypted any more
    database.execute("UPDATE recovery_keys SET sealed = x'00'").await.unwrap();
    let log = Log::start();
    let broken = factors::second_factor(&node, &challenge, "recovery_code", &ada.recovery_codes[0]).await;
    assert_eq!(broken.problem(), problem(500, "internal_error"));
    assert_eq!(broken.json()["detail"], "The log has the cause under this request id.");
    // a dependency that is down
    cluster.redis.kill();
    let unavailable = node.get("/v1/me", &ada.tokens.access).await;
    assert_eq!(unavailable.problem(), problem(503, "unavailable"));
    let log = String::from_utf8_lossy(&log.bytes()).into_owned();
    for (answer, cause) in [(broken, "the recovery key of the account"), (unavailable, "dependency=\"redis\"")] {
        let id = format!("request_id=\"{}\"", answer.header("x-request-id"));
        let has_cause = |line: &str| line.contains(&id) && line.contains(cause);
        assert!(log.lines().any(has_cause), "no line has {id} and {cause}");
    }
}

#[tokio::test]
async fn oversized_headers_return_problem() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let padding = "x".repeat(cluster.config.http.max_header_bytes + 1);
    let answer = node.send(node.request(Method::GET, "/livez").header("padding", padding)).await;
    assert_eq!(answer.problem(), problem(431, "headers_too_large"));
}

#[tokio::test]
async fn probes_report_health() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    assert_eq!(node.get_anonymously("/livez").await.expect(200).json(), json!({ "status": "ok" }));
    assert_eq!(node.get_anonymously("/readyz").await.expect(200).json(), json!({ "status": "ok" }));
}
