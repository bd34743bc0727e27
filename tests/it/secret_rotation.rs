//! Rotation of the secret, node by node: a node that has only the old secret answers tokens of the new secret with 503, so that
//! clients retry.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::config::Secrets;
use reqwest::Method;

use crate::harness::{
    client::Tokens,
    test_cluster::{Node, TestCluster},
};

/// Starts a node with the old secret, and then a node with the new secret and the old one.
async fn nodes_during_rotation() -> (TestCluster, Node, Node) {
    let mut cluster = TestCluster::new();
    cluster.config.multi_node = true;
    let old = cluster.node().await;
    let previous = vec![cluster.config.secrets.current.clone()];
    cluster.config.secrets = Secrets { current: "the new secret of a test, 32 bytes".into(), previous };
    let new = cluster.node().await;
    (cluster, old, new)
}

/// Changes the MAC of a refresh token.
fn with_other_mac(token: &str) -> String {
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&token["lk_rt_".len()..]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    format!("lk_rt_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_token_of_newer_secret_is_retried_instead_of_refused() {
    let (cluster, old, new) = nodes_during_rotation().await;
    new.register("ada").await;
    let client = cluster.service_client("api").await;
    let tokens = new.login("ada").await;
    for answer in [old.refresh(&tokens.refresh).await, old.logout(&tokens.refresh).await] {
        assert_eq!(answer.problem(), (503, "unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), "1");
    }
    let form = [("token", tokens.refresh.as_str())];
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let request = old.request(Method::POST, path).basic_auth(&client.id, Some(&client.secret)).form(&form);
        assert_eq!(old.send(request).await.status, 503, "{path}");
    }
    let tokens = Tokens::of(&new.refresh(&tokens.refresh).await.expect(200));
    new.logout(&tokens.refresh).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_token_of_old_secret_is_accepted_by_both_nodes_during_rotation() {
    let (_cluster, old, new) = nodes_during_rotation().await;
    old.register("ada").await;
    let tokens = old.login("ada").await;
    let tokens = Tokens::of(&old.refresh(&tokens.refresh).await.expect(200));
    new.refresh(&tokens.refresh).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_token_with_invalid_mac_is_refused_by_node_that_has_all_secrets() {
    let (cluster, old, new) = nodes_during_rotation().await;
    new.register("ada").await;
    let tokens = new.login("ada").await;
    let forged = with_other_mac(&tokens.refresh);
    assert_eq!(new.refresh(&forged).await.problem(), (401, "invalid_refresh_token".to_owned()));
    // a malformed token is refused: no secret can have issued it
    assert_eq!(old.refresh(&tokens.refresh[..90]).await.problem(), (401, "invalid_refresh_token".to_owned()));

    // A new node with both secrets, as the old node is after its restart. Two seconds later it may reload the keys again, to find
    // out whether it lacks a secret: it lacks none, so it refuses the token.
    let restarted = cluster.node().await;
    cluster.advance(Duration::from_secs(2));
    assert_eq!(restarted.refresh(&forged).await.problem(), (401, "invalid_refresh_token".to_owned()));
    restarted.refresh(&tokens.refresh).await.expect(200);
}
