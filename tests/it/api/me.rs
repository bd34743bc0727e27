//! `GET /v1/me`.

use std::time::Duration;

use reqwest::Method;

use super::problem;
use crate::harness::test_cluster::TestCluster;

#[tokio::test]
async fn me_returns_registered_account() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let registered = node.register("ada").await.json();
    let tokens = node.login("ada").await;
    let answer = node.get("/v1/me", &tokens.access).await.expect(200);
    // `has_password` is the only member that the answer to a registration lacks
    let mut me = answer.json();
    let has_password = me.as_object_mut().unwrap().remove("has_password");
    assert_eq!(has_password, Some(true.into()));
    assert_eq!(me, registered);
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn caller_without_valid_token_is_challenged() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let unauthenticated = node.send(node.request(Method::GET, "/v1/me")).await;
    assert_eq!(unauthenticated.problem(), problem(401, "authentication_required"));
    assert_eq!(unauthenticated.header("www-authenticate"), "Bearer realm=\"latchkey\"");
    let basic = node.send(node.request(Method::GET, "/v1/me").basic_auth("ada", Some("x"))).await;
    assert_eq!(basic.problem(), problem(401, "invalid_token"));
    let tokens = node.login("ada").await;
    // two `Authorization` headers
    let twice = node.request(Method::GET, "/v1/me").bearer_auth(&tokens.access).header("authorization", "Bearer x");
    assert_eq!(node.send(twice).await.problem(), problem(401, "invalid_token"));
    // after the lifetime of 300 s and the leeway of 5 s
    cluster.advance(Duration::from_secs(306));
    let late = node.get("/v1/me", &tokens.access).await;
    assert_eq!(late.problem(), problem(401, "invalid_token"));
    assert_eq!(late.header("www-authenticate"), "Bearer realm=\"latchkey\", error=\"invalid_token\"");
}
