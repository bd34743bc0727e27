//! The introspection cache answers a repeated request as long as the token, its key, its session and the client are valid.

use std::time::Duration;

use latchkey::{
    crypto::key_rotation::SigningStart,
    domain::{entropy::Entropy, limit::Quota},
    service::{clients, keys},
};
use reqwest::Method;
use serde_json::json;

use super::{error, introspect, post, refused};
use crate::harness::{
    client::{Answer, Tokens},
    test_cluster::{Node, ServiceClient, TestCluster},
    wait,
};

/// Starts a node, signs in, and introspects the access token as a new client until the response is cached.
async fn start_with_cached_introspection(cluster: &TestCluster) -> (Node, ServiceClient, Tokens) {
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // A response is cached only while its session may be cached.
    wait::until("the session cache is valid", || async { node.state.redis.revocation_log.cache_is_valid() }).await;
    assert!(is_active(&node, &client, &tokens).await);
    let before = hits(&node);
    wait::until("the response is cached", || async {
        is_active(&node, &client, &tokens).await && hits(&node) > before
    })
    .await;
    (node, client, tokens)
}

async fn is_active(node: &Node, client: &ServiceClient, tokens: &Tokens) -> bool {
    introspect(node, client, &tokens.access).await["active"] == true
}

/// The number of hits of the introspection cache.
fn hits(node: &Node) -> u64 {
    let text = node.state.metrics.render().unwrap();
    let name = "latchkey_cache_lookups_total{cache=\"introspections\",outcome=\"hit\"} ";
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    value.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_introspection_equals_the_uncached_response() {
    let cluster = TestCluster::new();
    let (node, client, tokens) = start_with_cached_introspection(&cluster).await;
    let comparable = |answer: Answer| {
        let mut headers = answer.headers;
        assert!(headers.remove("x-request-id").is_some());
        headers.remove("date");
        (answer.status, headers, answer.text)
    };
    let introspect_again = async |further_fields: &[(&str, &str)]| {
        let form = [&[("token", tokens.access.as_str())], further_fields].concat();
        comparable(post(&node, "/oauth2/introspect", Some(&client), &form).await)
    };
    // a request with other bytes than the cached one
    let uncached = introspect_again(&[("token_type_hint", "access_token")]).await;
    let cached = repeat_until_cached(&node, || introspect_again(&[])).await;
    assert_eq!(uncached, cached);
    let introspect_with_request_id = || async {
        let request = node.request(Method::POST, "/oauth2/introspect").form(&[("token", &tokens.access)]);
        let request = request.basic_auth(&client.id, Some(&client.secret)).header("x-request-id", "of-the-caller");
        node.send(request).await
    };
    let cached = repeat_until_cached(&node, introspect_with_request_id).await;
    assert_eq!(cached.header("x-request-id"), "of-the-caller");
}

/// Repeats a request until the cache answers it. On a busy machine the session cache may be invalid for a moment.
async fn repeat_until_cached<T>(node: &Node, send: impl AsyncFn() -> T) -> T {
    for _ in 0..100 {
        let before = hits(node);
        let answer = send().await;
        if hits(node) > before {
            return answer;
        }
    }
    panic!("no response came from the cache");
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_introspection_ends_with_the_token_its_key_or_its_session() {
    let cluster = TestCluster::new();
    let (node, client, tokens) = start_with_cached_introspection(&cluster).await;
    let inactive = json!({ "active": false });
    // the token is valid for 300 s, and the leeway is 5 s
    cluster.advance(Duration::from_secs(304));
    assert!(is_active(&node, &client, &tokens).await, "within the leeway");
    cluster.advance(Duration::from_secs(1));
    assert_eq!(introspect(&node, &client, &tokens.access).await, inactive, "expired");

    let ended = node.login("ada").await;
    let of_retired_key = node.login("ada").await;
    // repeated, so that both responses are cached
    for _ in 0..3 {
        assert!(is_active(&node, &client, &ended).await);
        assert!(is_active(&node, &client, &of_retired_key).await);
    }
    node.logout(&ended.refresh).await.expect(204);
    assert_eq!(introspect(&node, &client, &ended.access).await, inactive, "signed out");

    let kid = super::jwt_header(&of_retired_key.access)["kid"].as_str().unwrap().to_owned();
    keys::rotate(&node.state.config, &cluster.clock, &Entropy::system(), &node.state.sql, SigningStart::Now)
        .await
        .unwrap();
    node.state.keys.reload().await.unwrap();
    assert!(
        is_active(&node, &client, &of_retired_key).await,
        "a replaced key is trusted until its tokens have expired"
    );
    keys::retire(&cluster.clock, &node.state.sql, &node.state.redis.revocation_log, &kid).await.unwrap();
    node.state.keys.reload().await.unwrap();
    assert_eq!(introspect(&node, &client, &of_retired_key.access).await, inactive, "signed by a key that was retired");
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_introspection_ends_when_the_secret_expires_or_the_client_is_disabled() {
    let cluster = TestCluster::new();
    let (node, client, tokens) = start_with_cached_introspection(&cluster).await;
    let introspect_again = async |client: &ServiceClient| {
        post(&node, "/oauth2/introspect", Some(client), &[("token", tokens.access.as_str())]).await
    };
    let sql = cluster.sql().await;
    let grace = Duration::from_secs(60);
    let (_, secret) = clients::rotate_secret(&cluster.clock, &Entropy::system(), &sql, "billing", grace).await.unwrap();
    let renewed = ServiceClient { id: client.id.clone(), secret: secret.expose().to_owned() };
    cluster.reload_clients().await;
    // repeated, so that both responses are cached
    for _ in 0..2 {
        introspect_again(&client).await.expect(200);
        introspect_again(&renewed).await.expect(200);
    }
    cluster.advance(grace);
    assert_eq!(
        error(&introspect_again(&client).await),
        refused(401, "invalid_client"),
        "the grace period of the former secret has ended"
    );
    introspect_again(&renewed).await.expect(200);
    clients::disable(&cluster.clock, &sql, "billing").await.unwrap();
    cluster.reload_clients().await;
    assert_eq!(error(&introspect_again(&renewed).await), refused(401, "invalid_client"));
    sql.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_differs_is_not_answered_from_the_introspection_cache() {
    let cluster = TestCluster::new();
    let (node, client, tokens) = start_with_cached_introspection(&cluster).await;
    let before = hits(&node);
    let request = || node.request(Method::POST, "/oauth2/introspect").form(&[("token", &tokens.access)]);
    // one character of the secret differs
    let mut wrong_secret = client.secret.clone();
    let another_character = if &wrong_secret[10..11] == "A" { "B" } else { "A" };
    wrong_secret.replace_range(10..11, another_character);
    let requests = [
        (request().basic_auth(&client.id, Some(&wrong_secret)), 401),
        // two credentials
        (request().basic_auth(&client.id, Some(&client.secret)).bearer_auth(&tokens.access), 400),
        (request().bearer_auth(&tokens.access), 401),
        (request(), 401),
    ];
    for (request, status) in requests {
        node.send(request).await.expect(status);
    }
    let plain_text = node
        .request(Method::POST, "/oauth2/introspect")
        .basic_auth(&client.id, Some(&client.secret))
        .header("content-type", "text/plain")
        .body(format!("token={}", tokens.access));
    assert_eq!(error(&node.send(plain_text).await), refused(400, "invalid_request"));
    let get = node.request(Method::GET, "/oauth2/introspect").basic_auth(&client.id, Some(&client.secret));
    assert_eq!(node.send(get).await.status, 405);
    assert_eq!(hits(&node), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_introspection_counts_towards_the_rate_limit() {
    let mut cluster = TestCluster::new();
    let quota = Quota { count: 20, window: Duration::from_secs(60) };
    cluster.config.limits.introspection_per_client = Some(quota);
    let (node, client, tokens) = start_with_cached_introspection(&cluster).await;
    let introspect_again =
        async || post(&node, "/oauth2/introspect", Some(&client), &[("token", tokens.access.as_str())]).await;
    let mut answered = 0;
    let over_limit = loop {
        let answer = introspect_again().await;
        if answer.status != 200 {
            break answer;
        }
        answered += 1;
        // `start_with_cached_introspection` has used a part of the quota.
        assert!(answered < quota.count, "the quota did not apply");
    };
    assert_eq!(over_limit.status, 429);
    assert!(over_limit.header("ratelimit").starts_with("\"introspection-client\";r=0"), "{over_limit:?}");
    cluster.advance(quota.window);
    introspect_again().await.expect(200);
}
