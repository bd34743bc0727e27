//! The cookie transport: where the refresh token is, and whose pages may use it.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{fields, problem};
use crate::harness::{
    client::{Answer, PASSWORD},
    test_cluster::{Node, TestCluster},
};

const CLEARED: &str = "__Host-latchkey=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict";

fn login(node: &Node, transport: &str) -> RequestBuilder {
    let body = json!({ "identifier": "ada", "password": PASSWORD, "transport": transport });
    node.request(Method::POST, "/v1/login").json(&body)
}

/// `name=value` of the cookie in an answer that has one as it should be, and no token in its body.
#[track_caller]
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie");
    let (pair, attributes) = set.split_once("; ").expect(set);
    assert_eq!(attributes, "Path=/; Max-Age=604800; Secure; HttpOnly; SameSite=Strict");
    let token = pair.strip_prefix("__Host-latchkey=").expect(set);
    assert!(token.starts_with("lk_rt_"), "{token}");
    assert!(!answer.text.contains("lk_rt_"), "{}", answer.text);
    fields(&answer.json(), &["access_token", "token_type", "expires_in", "refresh_expires_in", "session_id"]);
    assert_eq!(answer.header("cache-control"), "no-store");
    pair.to_owned()
}

fn with(node: &Node, path: &str, cookie: &str) -> RequestBuilder {
    node.request(Method::POST, path).header("cookie", format!("theme=dark; {cookie}"))
}

#[tokio::test]
async fn a_browser_signs_in_refreshes_and_signs_out() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let first = cookie(&node.send(login(&node, "cookie")).await.expect(200));
    let next = cookie(&node.send(with(&node, "/v1/refresh", &first)).await.expect(200));
    assert_ne!(first, next);
    for _ in 0..2 {
        let out = node.send(with(&node, "/v1/logout", &next)).await.expect(204);
        assert_eq!(out.header("set-cookie"), CLEARED);
    }
    let failed = node.send(with(&node, "/v1/refresh", &next)).await;
    assert_eq!(failed.problem(), problem(401, "invalid_refresh_token"));
    assert_eq!(failed.header("set-cookie"), CLEARED);
}

#[tokio::test]
async fn signing_in_again_replaces_the_session_of_the_cookie() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let old = cookie(&node.send(login(&node, "cookie")).await.expect(200));
    let new = cookie(&node.send(login(&node, "cookie").header("cookie", &old)).await.expect(200));
    node.send(with(&node, "/v1/refresh", &old)).await.expect(401);
    node.send(with(&node, "/v1/refresh", &new)).await.expect(200);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let token = cookie(&node.send(login(&node, "cookie")).await.expect(200));
    let foreign: [&[(&str, &str)]; 5] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null"), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example.com"), ("sec-fetch-site", "same-site")],
    ];
    for headers in foreign {
        let requests = [
            // without a cookie too: it would sign the visitor in as somebody else
            login(&node, "cookie"),
            login(&node, "cookie").header("cookie", &token),
            login(&node, "bearer").header("cookie", &token),
            with(&node, "/v1/refresh", &token),
            with(&node, "/v1/logout", &token),
        ];
        for request in requests {
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let answer = node.send(request).await;
            assert_eq!(answer.problem(), problem(403, "cross_site_request"), "{headers:?}");
            assert_eq!(answer.header("set-cookie"), "");
        }
        // a token in the body is nothing that a page of another site has
        let request = login(&node, "bearer");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        node.send(request).await.expect(200);
    }
    node.send(with(&node, "/v1/refresh", &token)).await.expect(200);
}

#[tokio::test]
async fn own_pages_and_allowed_ones_are_let_in() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let mut token = cookie(&node.send(login(&node, "cookie")).await.expect(200));
    let own: [&[(&str, &str)]; 4] = [
        &[("origin", "https://auth.example.com")],
        &[("origin", "https://app.example.com"), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ];
    for headers in own {
        for path in ["/v1/refresh", "/v1/login"] {
            let request = if path == "/v1/login" { login(&node, "cookie") } else { with(&node, path, &token) };
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            token = cookie(&node.send(request).await.expect(200));
        }
    }
}

#[tokio::test]
async fn other_cookies_may_hold_anything() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let token = node.login("ada").await.refresh;
    for (before, status) in
        [(&b"lang=fran\xe7ais; "[..], 200), (b"__Host-latchkey=; ", 200), ("\u{2003}".as_bytes(), 401)]
    {
        let value = [before, b"__Host-latchkey=", token.as_bytes()].concat();
        let value = reqwest::header::HeaderValue::from_bytes(&value).unwrap();
        node.send(node.request(reqwest::Method::POST, "/v1/refresh").header("cookie", value)).await.expect(status);
    }
}
