//! `GET /v1/verify`, by which proxies ask whether a request has a valid token (forward auth).

use std::time::Duration;

use latchkey::service::clients::NewClient;
use reqwest::Method;

use super::problem;
use crate::harness::{monitor::Monitor, test_cluster::TestCluster, wait::until};

#[tokio::test]
async fn valid_token_returns_identity() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let account = node.register("ada").await.text_of("id");
    let tokens = node.login("ada").await;
    let answer = node.get("/v1/verify", &tokens.access).await.expect(200);
    assert_eq!(answer.text, "");
    assert_eq!(answer.header("x-auth-subject"), account);
    assert_eq!(answer.header("x-auth-session"), tokens.session);
    assert_eq!(answer.header("x-auth-client"), "latchkey");
    assert_eq!(answer.header("x-auth-scope"), "account");
    assert_eq!(answer.header("x-auth-roles"), "");
    // The test clock starts at the second 1,800,000,000, and access tokens are valid for 300 s.
    assert_eq!(answer.header("x-auth-expires"), "1800000300");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn verify_accepts_any_method_and_any_path_beneath_its_own() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
        for path in ["/v1/verify", "/v1/verify/", "/v1/verify/a/b%20c?d=e"] {
            let without_token = || node.request(method.clone(), path);
            let with_token = without_token().bearer_auth(&tokens.access);
            node.send(with_token).await.expect(200);
            assert_eq!(node.send(without_token()).await.status, 401, "{method} {path}");
        }
    }
    assert_eq!(node.get("/v1/verifying", &tokens.access).await.problem(), problem(404, "not_found"));
}

#[tokio::test]
async fn invalid_token_is_challenged() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let unauthenticated = node.send(node.request(Method::GET, "/v1/verify")).await;
    assert_eq!(unauthenticated.problem(), problem(401, "authentication_required"));
    assert_eq!(unauthenticated.header("www-authenticate"), "Bearer realm=\"latchkey\"");
    let without_first_byte = &tokens.access[1..];
    for token in [&tokens.refresh, "", "a.b.c", without_first_byte] {
        let answer = node.get("/v1/verify", token).await;
        assert_eq!(answer.problem(), problem(401, "invalid_token"));
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"latchkey\", error=\"invalid_token\"");
    }
    node.get("/v1/verify", &tokens.access).await.expect(200);
    // after the lifetime of 300 s and the leeway of 5 s
    cluster.advance(Duration::from_secs(306));
    assert_eq!(node.get("/v1/verify", &tokens.access).await.problem(), problem(401, "invalid_token"));
}

#[tokio::test]
async fn logout_is_effective_at_next_request_on_every_node() {
    let cluster = TestCluster::new();
    let (first, second) = (cluster.node().await, cluster.node().await);
    // from now on both nodes use their session caches
    cluster.wait_for_peers().await;
    first.register("ada").await;
    // repeated, because a node that learned of a logout late would not fail every time
    for _ in 0..20 {
        let tokens = first.login("ada").await;
        for node in [&first, &second] {
            node.get("/v1/verify", &tokens.access).await.expect(200);
        }
        first.logout(&tokens.refresh).await.expect(204);
        for node in [&first, &second] {
            assert_eq!(node.get("/v1/verify", &tokens.access).await.problem(), problem(401, "invalid_token"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_verification_needs_neither_redis_nor_signature_check() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // a node that has just started does not use its session cache
    until("the session cache is valid", || async { node.state.redis.revocation_log.cache_is_valid() }).await;
    node.get("/v1/verify", &tokens.access).await.expect(200);
    // each signature check is a miss of the cache of verified tokens
    let signature_checks = node.state.tokens.metrics().misses.get();
    let mut monitor = Monitor::start(&cluster.redis);
    for _ in 0..20 {
        node.get("/v1/verify", &tokens.access).await.expect(200);
    }
    let commands = monitor.commands(&cluster.redis);
    // on a busy machine the cache may become invalid for a moment, in which a request reads Redis
    assert!(commands.len() < 5, "{commands:?}");
    assert_eq!(node.state.tokens.metrics().misses.get(), signature_checks);
}

#[tokio::test]
async fn tokens_of_service_clients_are_accepted_with_allow_clients_only() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let user = node.login("ada").await.access;
    let new = NewClient { name: "billing".to_owned(), audiences: vec!["latchkey".to_owned()], ..NewClient::default() };
    let client = cluster.service_client_with(new).await;
    let request = node.request(Method::POST, "/oauth2/token").form(&[("grant_type", "client_credentials")]);
    let answer = node.send(request.basic_auth(&client.id, Some(&client.secret))).await.expect(200);
    let token = answer.text_of("access_token");

    for path in [
        "/v1/verify",
        // a proxy appends the original request's path and query, which its client has chosen
        "/v1/verify/orders?allow=clients",
        "/v1/verify/?allow=clients",
    ] {
        assert_eq!(node.get(path, &token).await.problem(), problem(401, "invalid_token"), "{path}");
        node.get(path, &user).await.expect(200);
    }
    let unknown_value = node.get("/v1/verify?allow=users", &token).await;
    assert_eq!(unknown_value.problem(), problem(400, "malformed_request"));
    let allowed = node.get("/v1/verify?allow=clients", &token).await.expect(200);
    assert_eq!(allowed.header("x-auth-subject"), client.id);
    assert_eq!(allowed.header("x-auth-session"), "", "a client's own token has no session");
    node.get("/v1/verify?allow=clients", &user).await.expect(200);
}

/// If a parameter is repeated, proxies and services differ in which value they use.
#[tokio::test]
async fn verify_with_repeated_allow_is_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let user = node.login("ada").await.access;
    // %61 is `a`
    for query in ["allow=clients&allow=users", "allow=clients&allow=clients", "allow=clients&x=1&%61llow=clients"] {
        let refused = node.get(&format!("/v1/verify?{query}"), &user).await;
        assert_eq!(refused.problem(), problem(400, "malformed_request"), "{query}");
    }
    // unknown parameters are ignored
    node.get("/v1/verify?allow=clients&rd=https://app.example.com", &user).await.expect(200);
}
