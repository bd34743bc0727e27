//! Step-up as other services see it: `/v1/verify` with `acr` and `max_age`, and introspection.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::{advance_and_refresh, assert_challenge, problem, reauthenticate};
use crate::harness::{
    client::PASSWORD,
    test_cluster::{Node, ServiceClient, TestCluster},
};

async fn introspect(node: &Node, client: &ServiceClient, token: &str) -> Value {
    let request = node.request(Method::POST, "/oauth2/introspect").form(&[("token", token)]);
    node.send(request.basic_auth(&client.id, Some(&client.secret))).await.expect(200).json()
}

#[tokio::test]
async fn verify_with_max_age_and_acr_passes_tokens_that_are_recent_and_strong_enough() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    for path in ["/v1/verify?max_age=300", "/v1/verify?acr=aal1", "/v1/verify?acr=aal1&max_age=0"] {
        node.get(path, &tokens.access).await.expect(200);
    }
    assert_challenge(&node.get("/v1/verify?acr=aal2", &tokens.access).await, ", acr_values=\"aal2\"");
    let both = node.get("/v1/verify?acr=aal2&max_age=300", &tokens.access).await;
    assert_challenge(&both, ", acr_values=\"aal2\", max_age=\"300\"");
    // The authentication is now 301 seconds old.
    let tokens = advance_and_refresh(&cluster, &node, &tokens, Duration::from_secs(301)).await;
    assert_challenge(&node.get("/v1/verify?max_age=300", &tokens.access).await, ", max_age=\"300\"");
    node.get("/v1/verify?max_age=301", &tokens.access).await.expect(200);
    let access = reauthenticate(&node, &tokens.access, PASSWORD).await;
    node.get("/v1/verify?acr=aal1&max_age=300", &access).await.expect(200);
    // Unknown values, and repeated parameters.
    for query in ["acr=aal9", "max_age=-1", "max_age=x", "acr=aal1&acr=aal2", "max_age=1&max_age=2"] {
        let answer = node.get(&format!("/v1/verify?{query}"), &access).await;
        assert_eq!(answer.problem(), problem(400, "malformed_request"), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn introspection_of_an_older_token_returns_the_authentication_that_the_session_has_now() {
    let mut cluster = TestCluster::new();
    cluster.config.limits.introspection_per_client = None;
    // A token issued before the step-up must be valid afterwards.
    cluster.config.token.access_ttl = Duration::from_hours(1);
    let nodes = [cluster.node().await, cluster.node().await];
    let client = cluster.service_client("billing").await;
    // From now on the nodes use their caches.
    cluster.wait_for_peers().await;
    nodes[0].register("ada").await;
    let tokens = nodes[0].login("ada").await;
    let signed_in_at = cluster.clock.now().as_secs();
    // The node answers the second request from its introspection cache.
    for _ in 0..2 {
        assert_eq!(introspect(&nodes[0], &client, &tokens.access).await["auth_time"], signed_in_at);
    }
    cluster.advance(Duration::from_secs(60));
    let access = reauthenticate(&nodes[0], &tokens.access, PASSWORD).await;
    // Both nodes return the step-up, and the first one does so for the older token as well. Responses with a step-up are not cached: the second
    // round gets the same answers.
    for _ in 0..2 {
        for (node, token) in [(&nodes[0], &tokens.access), (&nodes[0], &access), (&nodes[1], &access)] {
            let found = introspect(node, &client, token).await;
            assert_eq!(found["auth_time"], signed_in_at + 60);
            assert_eq!(found["acr"], "aal1");
            assert_eq!(found["amr"][0], "pwd");
        }
    }
    // The session of another sign-in, without a step-up, has the time of its sign-in.
    cluster.advance(Duration::from_secs(60));
    let plain = nodes[0].login("ada").await;
    assert_eq!(introspect(&nodes[0], &client, &plain.access).await["auth_time"], signed_in_at + 120);
}
