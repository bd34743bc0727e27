//! `POST /oauth2/revoke`.

use latchkey::service::clients::NewClient;

use super::{client_token, error, introspect, post, refused};
use crate::harness::{events, test_cluster::TestCluster};

#[tokio::test]
async fn either_token_ends_the_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let audience = cluster.service_client("asking").await;
    node.account("ada").await;
    for (caller, reason) in [(None, "logout"), (Some(&client), "revoked")] {
        for by_access in [false, true] {
            let tokens = node.login("ada").await;
            let account = node.verified(&tokens.access).sub;
            let token = if by_access { &tokens.access } else { &tokens.refresh };
            for _ in 0..2 {
                let answer = post(&node, "/oauth2/revoke", caller, &[("token", token)]).await.expect(200);
                assert_eq!(answer.text, "");
            }
            assert_eq!(node.refresh(&tokens.refresh).await.problem(), (401, "invalid_refresh_token".to_owned()));
            assert_eq!(node.get("/v1/me", &tokens.access).await.problem(), (401, "invalid_token".to_owned()));
            assert_eq!(introspect(&node, &audience, &tokens.access).await["active"], false);
            assert_eq!(events::causes_of_session(&cluster.redis, account, &tokens.session), [reason]);
        }
    }
    let tokens = node.login("ada").await;
    let named = [("token", tokens.refresh.as_str()), ("token_type_hint", "access_token"), ("client_id", "latchkey")];
    post(&node, "/oauth2/revoke", None, &named).await.expect(200);
    assert_eq!(node.refresh(&tokens.refresh).await.status, 401);
}

#[tokio::test]
async fn what_is_no_token_is_no_error() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.account("ada").await;
    let tokens = node.login("ada").await;
    for token in ["x", "a.b.c", "lk_rt_x", &format!("{}x", tokens.refresh), &tokens.access[1..]] {
        for caller in [None, Some(&client)] {
            post(&node, "/oauth2/revoke", caller, &[("token", token)]).await.expect(200);
        }
    }
    node.get("/v1/me", &tokens.access).await.expect(200);
}

#[tokio::test]
async fn what_is_not_the_callers_to_revoke_stays() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let tokens = node.login("ada").await;
    let client = cluster.service_client("billing").await;
    let audiences = vec!["reports".to_owned()];
    let stranger =
        cluster.service_client_with(NewClient { name: "stranger".to_owned(), audiences, ..NewClient::default() }).await;
    for token in [&tokens.access, &tokens.refresh] {
        let answer = post(&node, "/oauth2/revoke", Some(&stranger), &[("token", token)]).await;
        assert_eq!(error(&answer), refused(400, "unauthorized_client"));
        let mut wrong = client.clone();
        wrong.secret = stranger.secret.clone();
        let answer = post(&node, "/oauth2/revoke", Some(&wrong), &[("token", token)]).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"));
        let answer = post(&node, "/oauth2/revoke", None, &[("token", token), ("client_id", "billing")]).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"));
    }
    node.get("/v1/me", &tokens.access).await.expect(200);
    let own = client_token(&node, &client).await;
    for caller in [None, Some(&client), Some(&stranger)] {
        let answer = post(&node, "/oauth2/revoke", caller, &[("token", &own)]).await;
        assert_eq!(error(&answer), refused(400, "unsupported_token_type"));
    }
    assert_eq!(introspect(&node, &client, &own).await["active"], true);
}
