//! Changes to service clients by an operator.

use std::time::Duration;

use latchkey::{
    service::clients::{self, ClientError},
    store::sql::AuditFilter,
};
use reqwest::Method;

use crate::harness::test_cluster::{ServiceClient, TestCluster};

#[tokio::test]
async fn disabled_or_deleted_client_gets_no_token_until_an_operator_enables_or_adds_it_again() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let (clock, sql, entropy) = (&cluster.clock, &node.state.sql, &node.state.entropy);
    let request_token = |client: &ServiceClient| {
        let request = node.request(Method::POST, "/oauth2/token").form(&[("grant_type", "client_credentials")]);
        node.send(request.basic_auth(&client.id, Some(&client.secret)))
    };
    request_token(&client).await.expect(200);

    clients::disable(clock, sql, "billing").await.unwrap();
    cluster.reload_clients().await;
    request_token(&client).await.expect(401);
    assert!(!clients::show(sql, "billing").await.unwrap().is_enabled());
    let grace = Duration::ZERO;
    let rotated = clients::rotate_secret(clock, entropy, sql, "billing", grace).await;
    assert!(matches!(rotated, Err(ClientError::Disabled)));

    clients::enable(clock, sql, "billing").await.unwrap();
    cluster.reload_clients().await;
    request_token(&client).await.expect(200);
    assert!(clients::show(sql, "billing").await.unwrap().is_enabled());

    clients::delete(clock, sql, "billing").await.unwrap();
    cluster.reload_clients().await;
    request_token(&client).await.expect(401);
    // a deleted client, and a text that is no valid name
    for name in ["billing", "no name"] {
        assert!(matches!(clients::show(sql, name).await, Err(ClientError::Unknown)));
        assert!(matches!(clients::enable(clock, sql, name).await, Err(ClientError::Unknown)));
        assert!(matches!(clients::delete(clock, sql, name).await, Err(ClientError::Unknown)));
    }
    // The name can be used for a new client, which has another secret.
    let new = cluster.service_client("billing").await;
    request_token(&client).await.expect(401);
    request_token(&new).await.expect(200);

    let limit = 100;
    let rows = sql.audit(&AuditFilter::default(), limit).await.unwrap();
    // A refused token request is recorded as `client_authentication`, which is no change of a client.
    let mut changes: Vec<_> = rows.iter().map(|row| row.event.as_str()).collect();
    changes.retain(|event| event.starts_with("client_") && *event != "client_authentication");
    changes.sort_unstable();
    let expected = ["client_added", "client_added", "client_deleted", "client_disabled", "client_enabled"];
    assert_eq!(changes, expected);
}
