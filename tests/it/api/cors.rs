//! CORS: which pages of other origins may call the API and read the responses.

use reqwest::Method;

use super::problem;
use crate::harness::{
    client::Answer,
    log::Log,
    test_cluster::{Node, TestCluster},
};

/// The response headers that pages may read, in the configuration of a [`TestCluster`].
const EXPOSED_HEADERS: &str =
    "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, X-Device-Token";
/// The origin in `http.allowed_origins` of a [`TestCluster`].
const ALLOWED_ORIGIN: &str = "https://app.example.com";
/// The origin of the issuer of a [`TestCluster`].
const ISSUER_ORIGIN: &str = "https://auth.example.com";
/// An origin that is not allowed.
const OTHER_ORIGIN: &str = "https://evil.example.com";

/// The user endpoints, with the methods that a preflight allows.
const USER_ENDPOINTS: [(&str, &str); 8] = [
    ("/v1/users", "POST"),
    ("/v1/login", "POST"),
    ("/v1/refresh", "POST"),
    ("/v1/logout", "POST"),
    ("/v1/me", "DELETE, GET, PATCH"),
    ("/v1/me/password", "POST"),
    ("/v1/sessions", "DELETE, GET"),
    ("/v1/sessions/0f8fad5b-d9cb-469f-a165-70867728950e", "DELETE"),
];

/// Sends the preflight of a POST, as a browser does for a page of this origin.
async fn preflight(node: &Node, path: &str, origin: &str) -> Answer {
    let request = node.request(Method::OPTIONS, path).header("origin", origin);
    node.send(request.header("access-control-request-method", "POST")).await
}

/// Calls an endpoint without a token and without a body, as a page of this origin.
async fn call(node: &Node, method: Method, path: &str, origin: &str) -> Answer {
    node.send(node.request(method, path).header("origin", origin)).await
}

/// The headers `Access-Control-Allow-Origin`, `Access-Control-Allow-Credentials` and `Vary` of a response.
fn cors_headers(answer: &Answer) -> [&str; 3] {
    ["access-control-allow-origin", "access-control-allow-credentials", "vary"].map(|name| answer.header(name))
}

#[tokio::test]
async fn preflight_of_allowed_origin_succeeds() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for origin in [ALLOWED_ORIGIN, ISSUER_ORIGIN] {
        for (path, methods) in USER_ENDPOINTS {
            let answer = preflight(&node, path, origin).await.expect(204);
            assert_eq!(cors_headers(&answer), [origin, "true", "Origin"], "{path}");
            assert_eq!(answer.header("access-control-allow-methods"), methods, "{path}");
            assert_eq!(
                answer.header("access-control-allow-headers"),
                "Authorization, Content-Type, X-Request-Id, X-Device-Token",
                "{path}"
            );
            assert_eq!(answer.header("access-control-max-age"), "7200");
            assert!(!answer.header("x-request-id").is_empty());
            assert_eq!(answer.text, "");
        }
    }
}

#[tokio::test]
async fn allowed_origins_may_read_responses_including_errors() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let me = node.request(Method::GET, "/v1/me").header("origin", ALLOWED_ORIGIN).bearer_auth(&tokens.access);
    // one byte more than `http.max_body`
    let larger_than_max_body = "x".repeat(64 * 1024 + 1);
    let too_large = node.request(Method::POST, "/v1/login").header("origin", ALLOWED_ORIGIN).body(larger_than_max_body);
    for (answer, status) in [
        (node.send(me).await, 200),
        (node.send(too_large).await, 413),
        // no token, no JSON, and a method that the path does not have
        (call(&node, Method::GET, "/v1/me", ALLOWED_ORIGIN).await, 401),
        (call(&node, Method::POST, "/v1/login", ALLOWED_ORIGIN).await, 415),
        (call(&node, Method::GET, "/v1/login", ALLOWED_ORIGIN).await, 405),
    ] {
        let answer = answer.expect(status);
        assert_eq!(cors_headers(&answer), [ALLOWED_ORIGIN, "true", "Origin"]);
        assert_eq!(answer.header("access-control-expose-headers"), EXPOSED_HEADERS);
    }
}

#[tokio::test]
async fn other_origins_get_no_cors_headers() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    for origin in [
        OTHER_ORIGIN,
        // the origin of a sandboxed frame
        "null",
        "",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://APP.example.com",
        "https://app.example.com, https://evil.example.com",
    ] {
        for (path, methods) in USER_ENDPOINTS {
            let answer = preflight(&node, path, origin).await;
            assert_eq!(answer.problem(), problem(405, "method_not_allowed"), "{origin} {path}");
            assert_eq!(answer.header("allow"), methods);
            assert_eq!(cors_headers(&answer), ["", "", "Origin"], "{origin} {path}");
        }
        let me = node.request(Method::GET, "/v1/me").header("origin", origin).bearer_auth(&tokens.access);
        assert_eq!(cors_headers(&node.send(me).await.expect(200)), ["", "", "Origin"]);
    }
    // a request without an origin does not come from a page of another origin
    assert_eq!(cors_headers(&node.get("/v1/me", &tokens.access).await.expect(200)), ["", "", "Origin"]);
    // without a requested method, the request is no preflight
    let options = call(&node, Method::OPTIONS, "/v1/me", ALLOWED_ORIGIN).await;
    assert_eq!(options.problem(), problem(405, "method_not_allowed"));
}

#[tokio::test]
async fn oauth_endpoints_are_shared_without_credentials() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for path in ["/oauth2/token", "/oauth2/revoke"] {
        let answer = preflight(&node, path, ALLOWED_ORIGIN).await.expect(204);
        assert_eq!(cors_headers(&answer), [ALLOWED_ORIGIN, "", "Origin"]);
        assert_eq!(answer.header("access-control-allow-methods"), "POST");
        // the endpoint exists, and refuses a request without parameters
        let refused = call(&node, Method::POST, path, ALLOWED_ORIGIN).await;
        assert!(refused.status.is_client_error(), "{refused:?}");
        assert_ne!(refused.status, 404, "{refused:?}");
        assert_eq!(cors_headers(&refused), [ALLOWED_ORIGIN, "", "Origin"]);
        assert_eq!(cors_headers(&call(&node, Method::POST, path, OTHER_ORIGIN).await), ["", "", "Origin"]);
    }
}

#[tokio::test]
async fn public_documents_are_shared_with_every_origin() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for path in [
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/openapi.json",
        "/openapi.yaml",
        "/docs",
    ] {
        for origin in [OTHER_ORIGIN, ALLOWED_ORIGIN] {
            let answer = preflight(&node, path, origin).await.expect(204);
            assert_eq!(cors_headers(&answer), ["*", "", ""]);
            assert_eq!(answer.header("access-control-allow-methods"), "GET");
            let answer = call(&node, Method::GET, path, origin).await.expect(200);
            // the response may vary by other headers than `Origin`
            assert_eq!(cors_headers(&answer)[..2], ["*", ""]);
            assert!(!answer.header("vary").contains("Origin"));
        }
        // also without an origin: a cache may give the response to a page of any origin
        assert_eq!(cors_headers(&node.send(node.request(Method::GET, path)).await.expect(200))[..2], ["*", ""]);
    }
}

#[tokio::test]
async fn service_endpoints_are_shared_with_no_origin() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    // The last two paths do not exist.
    for path in
        ["/v1/verify", "/v1/revocations", "/oauth2/introspect", "/livez", "/readyz", "/nothing", "/v1/sessions/a/b"]
    {
        let answer = preflight(&node, path, ALLOWED_ORIGIN).await;
        assert_eq!(cors_headers(&answer), ["", "", ""], "{path}");
        assert_ne!(answer.status, 204, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_origin_that_is_not_allowed_is_logged_once_with_its_name() {
    let log = Log::start();
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let refused = ["https://not-allowed.example.net", "https://nor-this.example.net"];
    for _ in 0..3 {
        for origin in refused {
            call(&node, Method::GET, "/v1/me", origin).await.expect(401);
        }
        call(&node, Method::GET, "/v1/me", ALLOWED_ORIGIN).await.expect(401);
    }
    let text = String::from_utf8_lossy(&log.bytes()).into_owned();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("http.allowed_origins")).collect();
    for origin in refused {
        assert_eq!(lines.iter().filter(|line| line.contains(origin)).count(), 1, "{origin}: {lines:?}");
    }
    assert!(lines.iter().all(|line| !line.contains(ALLOWED_ORIGIN)), "{lines:?}");
}
