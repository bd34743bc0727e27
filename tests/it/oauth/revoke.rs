//! `POST /oauth2/revoke`.

use latchkey::service::clients::NewClient;

use super::{client_token, error, introspect, post, refused};
use crate::harness::{events, test_cluster::TestCluster};

#[tokio::test]
async fn revoke_of_an_access_or_refresh_token_ends_the_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let introspecting = cluster.service_client("asking").await;
    node.register("ada").await;
    for (caller, reason) in [(None, "logout"), (Some(&client), "revoked")] {
        for by_access in [false, true] {
            let tokens = node.login("ada").await;
            let account = node.verified(&tokens.access).sub;
            let token = if by_access { &tokens.access } else { &tokens.refresh };
            // The second revocation is answered alike, and appends no event.
            for _ in 0..2 {
                let answer = post(&node, "/oauth2/revoke", caller, &[("token", token)]).await.expect(200);
                assert_eq!(answer.text, "");
            }
            assert_eq!(node.refresh(&tokens.refresh).await.problem(), (401, "invalid_refresh_token".to_owned()));
            assert_eq!(node.get("/v1/me", &tokens.access).await.problem(), (401, "invalid_token".to_owned()));
            assert_eq!(introspect(&node, &introspecting, &tokens.access).await["active"], false);
            assert_eq!(events::causes_of_session(&cluster.redis, account, &tokens.session), [reason]);
        }
    }
    // A wrong hint, and the client id that stands for sessions of the REST API (`token.client_id`).
    let tokens = node.login("ada").await;
    let with_client_id =
        [("token", tokens.refresh.as_str()), ("token_type_hint", "access_token"), ("client_id", "latchkey")];
    post(&node, "/oauth2/revoke", None, &with_client_id).await.expect(200);
    assert_eq!(node.refresh(&tokens.refresh).await.status, 401);
}

#[tokio::test]
async fn revoke_of_an_invalid_token_answers_200() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    for token in ["x", "a.b.c", "lk_rt_x", &format!("{}x", tokens.refresh), &tokens.access[1..]] {
        for caller in [None, Some(&client)] {
            post(&node, "/oauth2/revoke", caller, &[("token", token)]).await.expect(200);
        }
    }
    node.get("/v1/me", &tokens.access).await.expect(200);
}

#[tokio::test]
async fn revoke_with_wrong_client_credentials_is_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let client = cluster.service_client("billing").await;
    let mut wrong = client.clone();
    wrong.secret = cluster.service_client("other").await.secret;
    for token in [&tokens.access, &tokens.refresh] {
        let answer = post(&node, "/oauth2/revoke", Some(&wrong), &[("token", token)]).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"));
        let answer = post(&node, "/oauth2/revoke", None, &[("token", token), ("client_id", "billing")]).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"));
    }
    node.get("/v1/me", &tokens.access).await.expect(200);
}

/// The answer reveals nothing about a token to a client of another audience. A genuine token, a token of an ended session and a
/// forged token get the same answer.
#[tokio::test]
async fn revoke_of_a_token_that_is_not_the_callers_answers_200_and_does_nothing() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (tokens, ended) = (node.login("ada").await, node.login("ada").await);
    node.logout(&ended.refresh).await.expect(204);
    let client = cluster.service_client("billing").await;
    let audiences = vec!["reports".to_owned()];
    let stranger =
        cluster.service_client_with(NewClient { name: "stranger".to_owned(), audiences, ..NewClient::default() }).await;
    let mut answers = Vec::new();
    for token in [&tokens.access, &tokens.refresh, &ended.access, &ended.refresh, "lk_rt_x", "x"] {
        let answer = post(&node, "/oauth2/revoke", Some(&stranger), &[("token", token)]).await.expect(200);
        answers.push(answer.text);
    }
    assert!(answers.iter().all(String::is_empty), "{answers:?}");
    node.get("/v1/me", &tokens.access).await.expect(200);
    node.refresh(&tokens.refresh).await.expect(200);

    // A service client's own token has no session that could end.
    let service_token = client_token(&node, &client).await;
    for caller in [None, Some(&client), Some(&stranger)] {
        assert_eq!(post(&node, "/oauth2/revoke", caller, &[("token", &service_token)]).await.expect(200).text, "");
    }
    assert_eq!(introspect(&node, &client, &service_token).await["active"], true);
}
