//! I3 for service clients: after a session has ended, introspection answers inactive on every node.

use crate::harness::test_cluster::{Node, TestCluster};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread")]
async fn i3_introspection_after_any_end_of_session_is_inactive_on_every_node() {
    let cluster = TestCluster::new();
    let first = cluster.node().await;
    let second = cluster.node().await;
    let client = cluster.service_client("billing").await;
    first.register("ada").await;
    let is_active = async |node: &Node, token: &str| {
        let request = node.request(Method::POST, "/oauth2/introspect").form(&[("token", token)]);
        let answer = node.send(request.basic_auth(&client.id, Some(&client.secret))).await.expect(200);
        answer.json()["active"] == true
    };
    cluster.wait_for_peers().await; // nodes cache nothing before
    for ending in ["logout", "revoke without a client", "revoke as a client", "delete all"] {
        let tokens = first.login("ada").await;
        // Both nodes cache the session.
        for node in [&first, &second] {
            assert!(is_active(node, &tokens.access).await);
            assert!(is_active(node, &tokens.refresh).await);
        }
        let revoke = first.request(Method::POST, "/oauth2/revoke").form(&[("token", &tokens.refresh)]);
        match ending {
            "logout" => {
                first.logout(&tokens.refresh).await.expect(204);
            }
            "revoke without a client" => {
                first.send(revoke).await.expect(200);
            }
            "revoke as a client" => {
                first.send(revoke.basic_auth(&client.id, Some(&client.secret))).await.expect(200);
            }
            "delete all" => {
                first.delete("/v1/sessions", &tokens.access).await.expect(200);
            }
            _ => unreachable!(),
        }
        for node in [&first, &second] {
            assert!(!is_active(node, &tokens.access).await, "{ending}");
            assert!(!is_active(node, &tokens.refresh).await, "{ending}");
        }
    }
}

#[tokio::test]
async fn i3_introspection_on_a_node_without_the_session_cached_is_inactive_after_logout() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    // The peer gets no request before the logout, so it has not cached the session.
    let peer = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    node.logout(&tokens.refresh).await.expect(204);
    for token in [&tokens.access, &tokens.refresh] {
        let request = peer.request(Method::POST, "/oauth2/introspect").form(&[("token", token)]);
        let answer = peer.send(request.basic_auth(&client.id, Some(&client.secret))).await.expect(200);
        assert_eq!(answer.text, "{\"active\":false}");
    }
}
