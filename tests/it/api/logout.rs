//! `POST /v1/logout`: every genuine credential ends its session.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::problem;
use crate::harness::{
    client::PASSWORD,
    test_cluster::{Node, TestCluster},
};

/// The `Set-Cookie` that removes the cookie with the refresh token.
const CLEARED: &str = "__Host-latchkey=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict";

fn logout(node: &Node) -> RequestBuilder {
    node.request(Method::POST, "/v1/logout")
}

/// Signs in with the transport `cookie`. Returns the access token and the cookie.
async fn login_with_cookie(node: &Node) -> (String, String) {
    let body = json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let answer = node.post("/v1/login", body).await.expect(200);
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    (answer.text_of("access_token"), cookie)
}

async fn assert_cookie_session_ended(node: &Node, cookie: &str) {
    let refresh = node.send(node.request(Method::POST, "/v1/refresh").header("cookie", cookie)).await;
    assert_eq!(refresh.problem(), problem(401, "invalid_refresh_token"));
}

#[tokio::test]
async fn logout_ends_session_and_can_be_repeated() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let by_refresh = node.login("ada").await;
    let by_access = node.login("ada").await;
    for _ in 0..2 {
        let answer = node.logout(&by_refresh.refresh).await.expect(204);
        assert_eq!(answer.text, "");
        assert_eq!(answer.header("set-cookie"), "", "the session has no cookie to remove");
        node.send(logout(&node).bearer_auth(&by_access.access)).await.expect(204);
    }
    for ended in [by_refresh, by_access] {
        assert_eq!(node.refresh(&ended.refresh).await.problem(), problem(401, "invalid_refresh_token"));
        assert_eq!(node.get("/v1/me", &ended.access).await.problem(), problem(401, "invalid_token"));
    }
}

#[tokio::test]
async fn logout_without_credentials_requires_authentication() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for request in [logout(&node), logout(&node).json(&json!({})), logout(&node).header("cookie", "__Host-latchkey=")] {
        assert_eq!(node.send(request).await.problem(), problem(401, "authentication_required"));
    }
}

#[tokio::test]
async fn logout_with_only_invalid_credentials_succeeds_and_clears_cookie() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.logout("lk_rt_x").await.expect(204);
    // a script with an undefined variable sends `undefined`; `YTpi` is `a:b` in Base64
    for authorization in ["Bearer x", "Bearer undefined", "Bearer ", "Basic YTpi", "nonsense"] {
        node.send(logout(&node).header("authorization", authorization)).await.expect(204);
    }
    let cleared = node.send(logout(&node).header("cookie", "__Host-latchkey=nonsense")).await.expect(204);
    assert_eq!(cleared.header("set-cookie"), CLEARED);
}

#[tokio::test]
async fn logout_with_expired_or_broken_bearer_ends_cookie_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    for is_broken in [false, true] {
        let (access, cookie) = login_with_cookie(&node).await;
        // the access token, which is valid for 300 s, has expired
        cluster.advance(Duration::from_secs(600));
        let bearer = if is_broken { "undefined" } else { &access };
        let answer = node.send(logout(&node).bearer_auth(bearer).header("cookie", &cookie)).await.expect(204);
        assert_eq!(answer.header("set-cookie"), CLEARED);
        assert_cookie_session_ended(&node, &cookie).await;
    }
}

#[tokio::test]
async fn logout_with_only_an_expired_bearer_ends_its_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // the access token, which is valid for 300 s, has expired
    cluster.advance(Duration::from_secs(600));
    node.send(logout(&node).bearer_auth(&tokens.access)).await.expect(204);
    assert_eq!(node.refresh(&tokens.refresh).await.problem(), problem(401, "invalid_refresh_token"));
}

#[tokio::test]
async fn logout_with_several_credentials_ends_all_their_sessions() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (by_body, by_bearer) = (node.login("ada").await, node.login("ada").await);
    let (_, cookie) = login_with_cookie(&node).await;
    let unrelated = node.login("ada").await;
    let request = logout(&node).bearer_auth(&by_bearer.access).header("cookie", &cookie);
    let request = request.json(&json!({ "refresh_token": by_body.refresh }));
    assert_eq!(node.send(request).await.expect(204).header("set-cookie"), CLEARED);
    assert_cookie_session_ended(&node, &cookie).await;
    for ended in [by_body, by_bearer] {
        assert_eq!(node.refresh(&ended.refresh).await.problem(), problem(401, "invalid_refresh_token"));
    }
    node.refresh(&unrelated.refresh).await.expect(200);
}
