//! `POST /oauth2/revoke` (RFC 7009): whose tokens it ends, and what it answers.

use latchkey::service::clients::NewClient;

use super::{client_token, error, introspect, post, refused};
use crate::harness::{events, test_cluster::TestCluster};

#[tokio::test]
async fn revoke_of_an_access_or_refresh_token_ends_the_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let introspecting = cluster.service_client("introspecting").await;
    node.register("ada").await;
    // without a client, the holder of the token signs out
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
            let refreshed = node.refresh(&tokens.refresh).await;
            assert_eq!(refreshed.problem(), (401, "invalid_refresh_token".to_owned()));
            let called = node.get("/v1/me", &tokens.access).await;
            assert_eq!(called.problem(), (401, "invalid_token".to_owned()));
            let introspection = introspect(&node, &introspecting, &tokens.access).await;
            assert_eq!(introspection["active"], false);
            assert_eq!(events::causes_of_session(&cluster.redis, account, &tokens.session), [reason]);
        }
    }
    // A wrong hint has no effect. The client id `latchkey` (`token.client_id`) stands for the sessions of the REST API.
    let tokens = node.login("ada").await;
    let with_client_id =
        [("token", tokens.refresh.as_str()), ("token_type_hint", "access_token"), ("client_id", "latchkey")];
    post(&node, "/oauth2/revoke", None, &with_client_id).await.expect(200);
    node.refresh(&tokens.refresh).await.expect(401);
}

#[tokio::test]
async fn revoke_of_an_invalid_token_answers_200() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // no token; a malformed access token and refresh token; a refresh token that is too long; an access token without its start
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
    let mut with_wrong_secret = client.clone();
    with_wrong_secret.secret = cluster.service_client("other").await.secret;
    for token in [&tokens.access, &tokens.refresh] {
        let answer = post(&node, "/oauth2/revoke", Some(&with_wrong_secret), &[("token", token)]).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"));
        // a client with a secret must send it
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
    let tokens = node.login("ada").await;
    let ended = node.login("ada").await;
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
        let answer = post(&node, "/oauth2/revoke", caller, &[("token", &service_token)]).await.expect(200);
        assert_eq!(answer.text, "");
    }
    let introspection = introspect(&node, &client, &service_token).await;
    assert_eq!(introspection["active"], true);
}
