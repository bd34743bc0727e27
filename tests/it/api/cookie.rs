//! The cookie transport: where the refresh token is, and which pages may use it.

use reqwest::{Method, RequestBuilder, header::HeaderValue};
use serde_json::json;

use super::{assert_fields, problem};
use crate::harness::{
    client::{Answer, PASSWORD},
    test_cluster::{Node, TestCluster},
};

/// The `Set-Cookie` header that deletes the refresh cookie.
const CLEARED: &str = "__Host-latchkey=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict";

fn login(node: &Node, transport: &str) -> RequestBuilder {
    let body = json!({ "identifier": "ada", "password": PASSWORD, "transport": transport });
    node.request(Method::POST, "/v1/login").json(&body)
}

/// Asserts that the answer sets the refresh cookie with its attributes, and that the body holds no refresh token. Returns `name=value`.
#[track_caller]
fn expect_cookie(answer: &Answer) -> String {
    let set_cookie = answer.header("set-cookie");
    let (pair, attributes) = set_cookie.split_once("; ").expect(set_cookie);
    // 604,800 s are the 7 days of `session.idle_timeout`
    assert_eq!(attributes, "Path=/; Max-Age=604800; Secure; HttpOnly; SameSite=Strict");
    let token = pair.strip_prefix("__Host-latchkey=").expect(set_cookie);
    assert!(token.starts_with("lk_rt_"), "{token}");
    assert!(!answer.text.contains("lk_rt_"), "{}", answer.text);
    assert_fields(&answer.json(), &["access_token", "token_type", "expires_in", "refresh_expires_in", "session_id"]);
    assert_eq!(answer.header("cache-control"), "no-store");
    pair.to_owned()
}

fn with_headers(request: RequestBuilder, headers: &[(&str, &str)]) -> RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// Signs in with the transport `cookie`. Returns `name=value` of the refresh cookie.
async fn login_with_cookie(node: &Node) -> String {
    expect_cookie(&node.send(login(node, "cookie")).await.expect(200))
}

/// A request with the refresh cookie, after a cookie of another app.
fn post_with_cookie(node: &Node, path: &str, cookie: &str) -> RequestBuilder {
    node.request(Method::POST, path).header("cookie", format!("theme=dark; {cookie}"))
}

#[tokio::test]
async fn browser_signs_in_refreshes_and_signs_out() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let first = login_with_cookie(&node).await;
    let next = expect_cookie(&node.send(post_with_cookie(&node, "/v1/refresh", &first)).await.expect(200));
    assert_ne!(first, next);
    // A repeated sign-out succeeds, too.
    for _ in 0..2 {
        let signed_out = node.send(post_with_cookie(&node, "/v1/logout", &next)).await.expect(204);
        assert_eq!(signed_out.header("set-cookie"), CLEARED);
    }
    let failed = node.send(post_with_cookie(&node, "/v1/refresh", &next)).await;
    assert_eq!(failed.problem(), problem(401, "invalid_refresh_token"));
    assert_eq!(failed.header("set-cookie"), CLEARED);
}

#[tokio::test]
async fn second_sign_in_replaces_session_of_cookie() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let old = login_with_cookie(&node).await;
    let new = expect_cookie(&node.send(login(&node, "cookie").header("cookie", &old)).await.expect(200));
    node.send(post_with_cookie(&node, "/v1/refresh", &old)).await.expect(401);
    node.send(post_with_cookie(&node, "/v1/refresh", &new)).await.expect(200);
}

fn change_password(node: &Node, access: &str) -> RequestBuilder {
    let body = json!({ "current_password": PASSWORD, "new_password": "gravel lantern ostrich nine" });
    node.request(Method::POST, "/v1/me/password").bearer_auth(access).json(&body)
}

#[tokio::test]
async fn password_change_of_a_cookie_session_sets_the_cookie_of_its_new_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let signed_in = node.send(login(&node, "cookie")).await.expect(200);
    let old = expect_cookie(&signed_in);
    let request = change_password(&node, &signed_in.text_of("access_token")).header("cookie", &old);
    // The test cluster allows this origin.
    let from_app = [("origin", "https://app.example.com"), ("sec-fetch-site", "same-site")];
    let changed = node.send(with_headers(request, &from_app)).await.expect(200);
    let new = expect_cookie(&changed);
    assert_ne!(changed.text_of("session_id"), signed_in.text_of("session_id"));
    node.get("/v1/me", &changed.text_of("access_token")).await.expect(200);
    let refused = node.send(post_with_cookie(&node, "/v1/refresh", &old)).await;
    assert_eq!(refused.problem(), problem(401, "invalid_refresh_token"));
    expect_cookie(&node.send(post_with_cookie(&node, "/v1/refresh", &new)).await.expect(200));
}

#[tokio::test]
async fn password_change_by_a_page_of_another_site_changes_no_cookie_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let signed_in = node.send(login(&node, "cookie")).await.expect(200);
    let bearer = node.login("ada").await;
    let change_from_evil = |access: &str| change_password(&node, access).header("origin", "https://evil.example");
    let refused = node.send(change_from_evil(&signed_in.text_of("access_token"))).await;
    assert_eq!(refused.problem(), problem(403, "cross_site_request"));
    assert_eq!(refused.header("set-cookie"), "");
    // The session and the password still work.
    node.send(post_with_cookie(&node, "/v1/refresh", &expect_cookie(&signed_in))).await.expect(200);
    node.try_login("ada", PASSWORD).await.expect(200);
    // The page may change the password of a bearer session, which has no cookie.
    let changed = node.send(change_from_evil(&bearer.access)).await.expect(200);
    assert_eq!(changed.header("set-cookie"), "");
    node.refresh(&changed.text_of("refresh_token")).await.expect(200);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let token = login_with_cookie(&node).await;
    // `none` and `same-site` do not excuse an `Origin` that is not allowed.
    let foreign: [&[(&str, &str)]; 6] = [
        &[("origin", "https://evil.example"), ("sec-fetch-site", "none")],
        &[("origin", "https://evil.example")],
        &[("origin", "null"), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example.com"), ("sec-fetch-site", "same-site")],
    ];
    for headers in foreign {
        let requests = [
            // Also without a cookie: the response would sign the visitor in to the attacker's account.
            login(&node, "cookie"),
            login(&node, "cookie").header("cookie", &token),
            login(&node, "bearer").header("cookie", &token),
            post_with_cookie(&node, "/v1/refresh", &token),
            post_with_cookie(&node, "/v1/logout", &token),
        ];
        for request in requests {
            let answer = node.send(with_headers(request, headers)).await;
            assert_eq!(answer.problem(), problem(403, "cross_site_request"), "{headers:?}");
            assert_eq!(answer.header("set-cookie"), "");
        }
        // This sign-in neither sends nor sets a cookie.
        node.send(with_headers(login(&node, "bearer"), headers)).await.expect(200);
    }
    // The refused sign-outs and refreshes have not affected the session.
    node.send(post_with_cookie(&node, "/v1/refresh", &token)).await.expect(200);
}

#[tokio::test]
async fn own_and_allowed_pages_are_accepted() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let mut token = login_with_cookie(&node).await;
    let accepted: [&[(&str, &str)]; 4] = [
        // the issuer
        &[("origin", "https://auth.example.com")],
        // one of `http.allowed_origins`
        &[("origin", "https://app.example.com"), ("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "same-origin")],
        // the user's own action
        &[("sec-fetch-site", "none")],
    ];
    for headers in accepted {
        let refresh = with_headers(post_with_cookie(&node, "/v1/refresh", &token), headers);
        expect_cookie(&node.send(refresh).await.expect(200));
        let sign_in = with_headers(login(&node, "cookie"), headers);
        token = expect_cookie(&node.send(sign_in).await.expect(200));
    }
}

#[tokio::test]
async fn other_cookies_may_hold_any_bytes() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let token = node.login("ada").await.refresh;
    for (preceding, status) in [
        // ISO 8859-1, which is not UTF-8
        (&b"lang=fran\xe7ais; "[..], 200),
        // an empty cookie of the same name is skipped
        (b"__Host-latchkey=; ", 200),
        // an em space is a part of the cookie's name, so there is no refresh cookie
        ("\u{2003}".as_bytes(), 401),
    ] {
        let cookies = [preceding, b"__Host-latchkey=", token.as_bytes()].concat();
        let cookies = HeaderValue::from_bytes(&cookies).unwrap();
        node.send(node.request(Method::POST, "/v1/refresh").header("cookie", cookies)).await.expect(status);
    }
}

#[tokio::test]
async fn sign_in_whose_cookie_the_browser_would_drop_is_refused() {
    let mut cluster = TestCluster::new();
    let allowed = [
        "https://app.example.com",
        "https://my.app",
        "http://localhost:3000",
        "http://vm:5173",
        "http://127.0.0.1:3000",
    ];
    cluster.config.http.allowed_origins = allowed.map(str::to_owned).to_vec();
    let node = cluster.node().await;
    node.register("ada").await;
    let dropped: [&[(&str, &str)]; 4] = [
        &[("origin", "https://app.example.com"), ("sec-fetch-site", "cross-site")],
        &[("origin", "http://localhost:3000"), ("sec-fetch-site", "cross-site")],
        // over plain http, except on localhost, browsers send no Sec-Fetch-Site and keep no secure cookie
        &[("origin", "http://vm:5173"), ("host", "vm:8080")],
        // another site than the issuer, https://auth.example.com
        &[("origin", "https://my.app")],
    ];
    for headers in dropped {
        let refused = node.send(with_headers(login(&node, "cookie"), headers)).await;
        assert_eq!(refused.problem(), problem(403, "cookie_cross_site"), "{headers:?}");
        assert_eq!(refused.header("set-cookie"), "");
        node.send(with_headers(login(&node, "bearer"), headers)).await.expect(200);
    }
    let kept: [&[(&str, &str)]; 4] = [
        &[("origin", "http://127.0.0.1:3000"), ("sec-fetch-site", "same-site")],
        &[("origin", "http://localhost:3000"), ("host", "localhost:8080")],
        // the same site as the issuer
        &[("origin", "https://app.example.com")],
        // not a browser
        &[],
    ];
    for headers in kept {
        expect_cookie(&node.send(with_headers(login(&node, "cookie"), headers)).await.expect(200));
    }
}

/// A page of another site may refresh bearer sessions only: the response for a cookie session sets the cookie.
#[tokio::test]
async fn cross_site_refresh_with_token_of_cookie_session_sets_no_cookie() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let pair = login_with_cookie(&node).await;
    let token = pair.strip_prefix("__Host-latchkey=").unwrap();
    let refresh = || node.request(Method::POST, "/v1/refresh").json(&json!({ "refresh_token": token }));
    let cross_site = refresh().header("origin", "https://evil.example").header("sec-fetch-site", "cross-site");
    let refused = node.send(cross_site).await;
    assert_eq!(refused.problem(), problem(401, "invalid_refresh_token"));
    assert_eq!(refused.header("set-cookie"), "");
    expect_cookie(&node.send(refresh()).await.expect(200));
}

#[tokio::test]
async fn refresh_without_token_requires_authentication() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for request in [
        node.request(Method::POST, "/v1/refresh"),
        node.request(Method::POST, "/v1/refresh").json(&json!({})),
        node.request(Method::POST, "/v1/refresh").json(&json!({ "refresh_token": null })),
    ] {
        assert_eq!(node.send(request).await.problem(), problem(401, "authentication_required"));
    }
}
