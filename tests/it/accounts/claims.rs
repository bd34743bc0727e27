//! `token.email_verified` and `token.app_metadata`: claims of the account in tokens and introspection. Changes of claims apply at once
//! (I16).

use latchkey::service::{accounts, clients::NewClient};
use reqwest::Method;
use serde_json::{Value, json};

use super::{email, problem, verify_address};
use crate::harness::{
    client::{Answer, Tokens},
    test_cluster::{Node, ServiceClient, TestCluster},
};

/// A cluster whose tokens have both claims.
fn cluster() -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.config.token.email_verified = true;
    cluster.config.token.app_metadata = vec!["plan".to_owned(), "seats".to_owned()];
    // so that no rate limit refuses a call
    cluster.config.limits.introspection_per_client = None;
    cluster
}

async fn introspect(node: &Node, client: &ServiceClient, token: &str) -> Value {
    let request = node.request(Method::POST, "/oauth2/introspect").form(&[("token", token)]);
    node.send(request.basic_auth(&client.id, Some(&client.secret))).await.expect(200).json()
}

async fn set_metadata(node: &Node, client: &ServiceClient, id: &str, metadata: Value) -> Answer {
    let path = format!("/v1/users/{id}/app-metadata");
    let request = node.request(Method::PUT, &path).basic_auth(&client.id, Some(&client.secret));
    node.send(request.json(&json!({ "app_metadata": metadata }))).await
}

/// A service client that may write `app_metadata`.
async fn metadata_client(cluster: &TestCluster) -> ServiceClient {
    let scopes = vec!["accounts:metadata".to_owned()];
    cluster.service_client_with(NewClient { name: "crm".to_owned(), scopes, ..NewClient::default() }).await
}

/// Refreshes a session, and returns its new tokens.
async fn refreshed(node: &Node, tokens: &Tokens) -> Tokens {
    Tokens::of(&node.refresh(&tokens.refresh).await.expect(200))
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_verified_address_is_in_tokens_and_introspection_of_every_node_at_once() {
    let cluster = cluster();
    let nodes = [cluster.node().await, cluster.node().await];
    let client = cluster.service_client("billing").await;
    cluster.wait_for_peers().await;
    nodes[0].register("ada").await;
    let before = nodes[0].login("ada").await;
    for node in &nodes {
        assert_eq!(node.verified(&before.access).email_verified, Some(false));
        // The second response may come from the node's cache.
        for _ in 0..2 {
            assert_eq!(introspect(node, &client, &before.access).await["email_verified"], false);
        }
    }
    verify_address(&cluster, &nodes[0], "ada", &before).await;
    for node in &nodes {
        assert_eq!(node.get("/v1/verify", &before.access).await.problem(), problem(401, "claims_changed"));
        assert_eq!(introspect(node, &client, &before.access).await, json!({ "active": false }));
    }
    let after = refreshed(&nodes[1], &before).await;
    for node in &nodes {
        assert_eq!(node.verified(&after.access).email_verified, Some(true));
        assert_eq!(introspect(node, &client, &after.access).await["email_verified"], true);
        assert_eq!(node.get("/v1/me", &after.access).await.json()["email_verified"], true);
    }
    let next = nodes[0].login("ada").await;
    assert_eq!(nodes[0].verified(&next.access).email_verified, Some(true));
    // An address that an operator sets is not verified.
    let account = accounts::find(&nodes[1].state.sql, "ada").await.unwrap().id;
    let address = latchkey::domain::account::Email::parse("ada@example.org").unwrap();
    accounts::set_email(&nodes[1].state, account, &address).await.unwrap();
    assert_eq!(nodes[0].get("/v1/me", &next.access).await.problem(), problem(401, "claims_changed"));
    let last = refreshed(&nodes[0], &next).await;
    assert_eq!(nodes[0].verified(&last.access).email_verified, Some(false));
}

#[tokio::test]
async fn tokens_without_configured_claims_have_none_and_survive_a_verification() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = metadata_client(&cluster).await;
    let id = node.register("ada").await.text_of("id");
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    set_metadata(&node, &client, &id, json!({ "plan": "gold" })).await.expect(200);
    let claims = node.verified(&tokens.access);
    assert_eq!(claims.email_verified, None);
    assert_eq!(claims.app_metadata, None);
    assert_eq!(node.get("/v1/me", &tokens.access).await.json()["app_metadata"], json!({ "plan": "gold" }));
    let introspected = introspect(&node, &client, &tokens.access).await;
    assert_eq!(introspected.get("email_verified"), None);
    assert_eq!(introspected.get("app_metadata"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_changed_metadata_is_in_the_next_token_and_older_tokens_are_refused() {
    let cluster = cluster();
    let nodes = [cluster.node().await, cluster.node().await];
    let client = metadata_client(&cluster).await;
    cluster.wait_for_peers().await;
    let id = nodes[0].register("ada").await.text_of("id");
    let before = nodes[0].login("ada").await;
    assert_eq!(introspect(&nodes[1], &client, &before.access).await.get("app_metadata"), None);
    let metadata = json!({ "plan": "gold", "seats": [1, 2], "crm_id": "not for tokens" });
    let answer = set_metadata(&nodes[0], &client, &id, metadata.clone()).await.expect(200);
    assert_eq!(answer.json(), json!({ "app_metadata": metadata }));
    assert_eq!(introspect(&nodes[1], &client, &before.access).await, json!({ "active": false }));
    let after = refreshed(&nodes[1], &before).await;
    let in_tokens = json!({ "plan": "gold", "seats": [1, 2] });
    assert_eq!(introspect(&nodes[0], &client, &after.access).await["app_metadata"], in_tokens);
    assert_eq!(Value::Object(*nodes[0].verified(&after.access).app_metadata.clone().unwrap()), in_tokens);
    // Tokens contain neither `crm_id` nor `note`, so this change refuses no token.
    set_metadata(&nodes[0], &client, &id, json!({ "plan": "gold", "seats": [1, 2], "note": "x" })).await.expect(200);
    let next = refreshed(&nodes[0], &after).await;
    assert_eq!(introspect(&nodes[0], &client, &after.access).await["active"], true);
    // Tokens of a new sign-in and of a refresh contain the members.
    for tokens in [nodes[1].login("ada").await, next] {
        assert_eq!(introspect(&nodes[0], &client, &tokens.access).await["app_metadata"], in_tokens);
    }
    set_metadata(&nodes[1], &client, &id, json!({})).await.expect(200);
    let without_metadata = nodes[0].login("ada").await;
    assert_eq!(introspect(&nodes[0], &client, &without_metadata.access).await.get("app_metadata"), None);
}

#[tokio::test]
async fn metadata_needs_the_scope_an_account_and_a_size_that_tokens_can_hold() {
    let cluster = cluster();
    let node = cluster.node().await;
    let (client, other) = (metadata_client(&cluster).await, cluster.service_client("other").await);
    let id = node.register("ada").await.text_of("id");
    let tokens = node.login("ada").await;
    let plan = json!({ "plan": "gold" });
    assert_eq!(set_metadata(&node, &other, &id, plan.clone()).await.problem(), problem(403, "forbidden"));
    let path = format!("/v1/users/{id}/app-metadata");
    let own = super::signed_in(&node, &tokens, Method::PUT, &path, json!({ "app_metadata": plan })).await;
    assert_eq!(own.problem(), problem(403, "forbidden"), "the owner can read the metadata only");
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    assert_eq!(set_metadata(&node, &client, unknown_id, plan).await.problem(), problem(404, "unknown_account"));
    // The limit is 4096 bytes for the metadata, and 1024 bytes for the members that tokens contain, here `plan`.
    for (member, size) in [("note", 5000), ("plan", 1100)] {
        let answer = set_metadata(&node, &client, &id, json!({ member: "x".repeat(size) })).await;
        assert_eq!(answer.problem(), problem(422, "invalid_fields"), "{member}");
        assert_eq!(answer.json()["errors"][0]["code"], "metadata_too_large");
    }
    // `note` is in no token, so the smaller limit does not apply.
    set_metadata(&node, &client, &id, json!({ "note": "x".repeat(3000) })).await.expect(200);
    // Metadata above the smaller limit does not prevent a sign-in.
    node.try_login(&email("ada"), crate::harness::client::PASSWORD).await.expect(200);
}
