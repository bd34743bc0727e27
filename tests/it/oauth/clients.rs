//! Service clients: creation, rotation of secrets, disabling, and the time until nodes apply them.

use std::time::Duration;

use latchkey::service::clients::{self, ClientError, NewClient};

use super::{client_token, error, introspect, jwt_claims, post, refused};
use crate::harness::test_cluster::TestCluster;

#[tokio::test]
async fn new_client_is_found_at_once_and_unknown_ids_reload_once_a_second() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let sql = cluster.sql().await;
    let create = async |name: &str| {
        let new = NewClient { name: name.to_owned(), ..NewClient::default() };
        clients::add(&cluster.config.token, &cluster.clock, &node.state.entropy, &sql, new).await.unwrap();
    };
    let found = async |name: &str| node.state.clients.find(name).await.unwrap().is_some();
    create("early").await;
    assert!(found("early").await, "an unknown id reloads the clients at once");
    create("later").await;
    assert!(!found("later").await, "unknown ids reload the clients at most once a second");
    assert!(found("early").await, "a known id needs no reload");
    cluster.advance(Duration::from_secs(1));
    assert!(found("later").await);
}

#[tokio::test]
async fn client_id_that_is_taken_reserved_or_invalid_is_refused() {
    let cluster = TestCluster::new();
    let sql = cluster.sql().await;
    let entropy = latchkey::domain::entropy::Entropy::system();
    let add = async |name: &str, scope: &str| {
        let new = NewClient { name: name.to_owned(), scopes: vec![scope.to_owned()], ..NewClient::default() };
        clients::add(&cluster.config.token, &cluster.clock, &entropy, &sql, new).await
    };
    add("billing", "read").await.unwrap();
    assert!(matches!(add("billing", "read").await, Err(ClientError::Taken)));
    assert!(matches!(add("latchkey", "read").await, Err(ClientError::Reserved)));
    assert!(matches!(add("bill ing", "read").await, Err(ClientError::Name(_))));
    // An id of this form could be an account's.
    assert!(matches!(add("0192f0c1-2345-7abc-8def-0123456789ab", "read").await, Err(ClientError::Name(_))));
    assert!(matches!(add("other", "re ad").await, Err(ClientError::InvalidItem(_))));
    // an id that is valid and unknown, and one that is invalid
    for name in ["nobody", "no body"] {
        assert!(matches!(clients::disable(&cluster.clock, &sql, name).await, Err(ClientError::Unknown)));
        let rotated = clients::rotate_secret(&cluster.clock, &entropy, &sql, name, Duration::ZERO).await;
        assert!(matches!(rotated, Err(ClientError::Unknown)));
    }
    let all = clients::list(&sql).await.unwrap();
    let ids: Vec<&str> = all.iter().map(|client| client.id.as_str()).collect();
    assert_eq!(ids, ["billing"]);
}

#[tokio::test]
async fn rotated_secret_is_accepted_until_its_grace_period_ends() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let first = cluster.service_client("billing").await;
    let grace_period = Duration::from_hours(1);
    // returns the client with its new secret
    let rotate = async |grace: Duration| {
        let state = &node.state;
        let rotated = clients::rotate_secret(&cluster.clock, &state.entropy, &state.sql, "billing", grace).await;
        let (_, new_secret) = rotated.unwrap();
        cluster.reload_clients().await;
        let mut client = first.clone();
        client.secret = new_secret.expose().to_owned();
        client
    };
    let form = [("grant_type", "client_credentials")];
    let second = rotate(grace_period).await;
    for client in [&first, &second] {
        post(&node, "/oauth2/token", Some(client), &form).await.expect(200);
    }
    // A second rotation ends the first secret at once.
    let third = rotate(grace_period).await;
    assert_eq!(error(&post(&node, "/oauth2/token", Some(&first), &form).await), refused(401, "invalid_client"));
    for client in [&second, &third] {
        post(&node, "/oauth2/token", Some(client), &form).await.expect(200);
    }
    // A secret whose grace period has ended is refused without a reload.
    cluster.advance(grace_period);
    assert_eq!(error(&post(&node, "/oauth2/token", Some(&second), &form).await), refused(401, "invalid_client"));
    post(&node, "/oauth2/token", Some(&third), &form).await.expect(200);
    // Without a grace period, a rotation ends the former secret at once.
    let fourth = rotate(Duration::ZERO).await;
    assert_eq!(error(&post(&node, "/oauth2/token", Some(&third), &form).await), refused(401, "invalid_client"));
    post(&node, "/oauth2/token", Some(&fourth), &form).await.expect(200);
}

#[tokio::test]
async fn disabled_client_is_refused_and_its_tokens_are_inactive() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let other = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let introspecting = cluster.service_client("introspecting").await;
    let token = client_token(&node, &client).await;
    assert_eq!(introspect(&other, &introspecting, &token).await["active"], true);
    other.get("/v1/verify?allow=clients", &token).await.expect(200);
    clients::disable(&cluster.clock, &node.state.sql, "billing").await.unwrap();
    cluster.reload_clients().await;
    for node in [&node, &other] {
        for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
            // has the parameters of all three endpoints
            let form = [("grant_type", "client_credentials"), ("token", "x")];
            assert_eq!(error(&post(node, path, Some(&client), &form).await), refused(401, "invalid_client"), "{path}");
        }
        assert_eq!(introspect(node, &introspecting, &token).await, serde_json::json!({ "active": false }));
        assert_eq!(node.get("/v1/verify?allow=clients", &token).await.problem().0, 401);
    }
    assert_eq!(jwt_claims(&token)["sub"], "billing", "the refused token is the disabled client's");
    let listed = clients::list(&node.state.sql).await.unwrap();
    assert_eq!(listed.len(), 2, "the disabled client still exists");
    assert_eq!(listed.iter().filter(|client| client.is_enabled()).count(), 1);
}

#[tokio::test]
async fn authentication_of_a_loaded_client_needs_no_database() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.state.sql.close().await;
    client_token(&node, &client).await;
    assert_eq!(introspect(&node, &client, "x").await["active"], false);
    // An unknown id needs the database, which does not answer: 503, not 401. The second request comes within a second of the failed
    // reload, so the clients are not reloaded again.
    let mut unknown = client.clone();
    unknown.id = "unknown".to_owned();
    for _ in 0..2 {
        let answer = post(&node, "/oauth2/token", Some(&unknown), &[("grant_type", "client_credentials")]).await;
        assert_eq!(answer.problem(), (503, "unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), "1");
    }
}
