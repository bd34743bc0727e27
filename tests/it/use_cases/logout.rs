//! A logout ends the session of each genuine credential that the request presents.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::service::logout::{LogoutError, LogoutInput, LogoutOutcome, logout};
use serde_json::Value;

use crate::harness::test_cluster::{Node, TestCluster};

/// The numbers of credentials that were presented, of those that were genuine, and of sessions that ended.
fn outcome(presented: usize, genuine: usize, ended: usize) -> LogoutOutcome {
    LogoutOutcome { presented, genuine, ended }
}

/// Logs out with these credentials: an access token, a refresh token in the body, and one in the cookie.
async fn present(
    node: &Node,
    bearer: Option<&str>,
    body: Option<&str>,
    cookie: Option<&str>,
) -> Result<LogoutOutcome, LogoutError> {
    let owned = |token: Option<&str>| token.map(str::to_owned);
    let input = LogoutInput { bearer: owned(bearer), body_token: owned(body), cookie: owned(cookie), ip: None };
    logout(&node.state, input).await
}

#[tokio::test]
async fn logout_ends_the_session_of_each_credential_presented() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (first, second, third) = (node.login("ada").await, node.login("ada").await, node.login("ada").await);
    let all = || present(&node, Some(&first.access), Some(&second.refresh), Some(&third.refresh));
    assert_eq!(all().await.unwrap(), outcome(3, 3, 3));
    for tokens in [&first, &second, &third] {
        node.refresh(&tokens.refresh).await.expect(401);
    }
    assert_eq!(all().await.unwrap(), outcome(3, 3, 0), "a repeated logout ends no session");
    // Two credentials of one session end it once.
    let fourth = node.login("ada").await;
    let twice = present(&node, Some(&fourth.access), None, Some(&fourth.refresh)).await;
    assert_eq!(twice.unwrap(), outcome(2, 2, 1));
}

#[tokio::test]
async fn logout_with_an_expired_access_token_ends_its_session_and_that_of_the_cookie() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (first, second) = (node.login("ada").await, node.login("ada").await);
    cluster.advance(Duration::from_secs(3600));
    node.get("/v1/me", &first.access).await.expect(401);
    assert_eq!(present(&node, Some(&first.access), None, Some(&second.refresh)).await.unwrap(), outcome(2, 2, 2));
    for tokens in [&first, &second] {
        node.refresh(&tokens.refresh).await.expect(401);
    }
}

#[tokio::test]
async fn logout_with_a_broken_bearer_ends_the_session_of_the_cookie() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    for bearer in ["undefined", "", "a.b.c"] {
        let tokens = node.login("ada").await;
        assert_eq!(present(&node, Some(bearer), None, Some(&tokens.refresh)).await.unwrap(), outcome(2, 1, 1));
        node.refresh(&tokens.refresh).await.expect(401);
    }
    assert_eq!(present(&node, Some("undefined"), Some("lk_rt_x"), Some("x")).await.unwrap(), outcome(3, 0, 0));
    assert!(matches!(present(&node, None, None, None).await, Err(LogoutError::NothingPresented)));
}

/// An expired token with changed claims has an invalid signature.
#[tokio::test]
async fn logout_with_a_forged_expired_access_token_ends_nothing() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for name in ["ada", "eve"] {
        node.register(name).await;
    }
    let (owner, thief) = (node.login("ada").await, node.login("eve").await);
    let parts: Vec<&str> = thief.access.split('.').collect();
    let claims = |token: &str| -> Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
    };
    let mut forged = claims(&owner.access);
    // long before the time of the test's clock
    forged["exp"] = 1_700_000_000.into();
    let payload = BASE64_URL_SAFE_NO_PAD.encode(forged.to_string());
    let [header, signature] = [parts[0], parts[2]];
    cluster.advance(Duration::from_secs(3600));
    for token in [format!("{header}.{payload}.{signature}"), format!("{header}.{payload}.")] {
        assert_eq!(present(&node, Some(&token), None, None).await.unwrap(), outcome(1, 0, 0));
    }
    node.refresh(&owner.refresh).await.expect(200);
}
