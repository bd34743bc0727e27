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

/// The credentials of a logout.
#[derive(Clone, Copy, Default)]
struct Credentials<'a> {
    /// An access token.
    bearer: Option<&'a str>,
    /// A refresh token in the body.
    body: Option<&'a str>,
    /// A refresh token in the cookie.
    cookie: Option<&'a str>,
}

async fn logout_with(node: &Node, credentials: Credentials<'_>) -> Result<LogoutOutcome, LogoutError> {
    let Credentials { bearer, body, cookie } = credentials;
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
    let all = Credentials { bearer: Some(&first.access), body: Some(&second.refresh), cookie: Some(&third.refresh) };
    assert_eq!(logout_with(&node, all).await.unwrap(), outcome(3, 3, 3));
    for tokens in [&first, &second, &third] {
        node.refresh(&tokens.refresh).await.expect(401);
    }
    assert_eq!(logout_with(&node, all).await.unwrap(), outcome(3, 3, 0), "a repeated logout ends no session");
    // The access token and the cookie belong to one session, which ends once.
    let fourth = node.login("ada").await;
    let twice = Credentials { bearer: Some(&fourth.access), cookie: Some(&fourth.refresh), ..Credentials::default() };
    assert_eq!(logout_with(&node, twice).await.unwrap(), outcome(2, 2, 1));
}

#[tokio::test]
async fn logout_with_an_expired_access_token_ends_its_session_and_that_of_the_cookie() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (first, second) = (node.login("ada").await, node.login("ada").await);
    cluster.advance(Duration::from_hours(1)); // access tokens expire after five minutes
    node.get("/v1/me", &first.access).await.expect(401);
    let both = Credentials { bearer: Some(&first.access), cookie: Some(&second.refresh), ..Credentials::default() };
    assert_eq!(logout_with(&node, both).await.unwrap(), outcome(2, 2, 2));
    for tokens in [&first, &second] {
        node.refresh(&tokens.refresh).await.expect(401);
    }
}

#[tokio::test]
async fn logout_with_a_broken_bearer_ends_the_session_of_the_cookie() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    // A header that a script filled from an unset variable, an empty one, and one with the shape of a JWT.
    for bearer in ["undefined", "", "a.b.c"] {
        let tokens = node.login("ada").await;
        let both = Credentials { bearer: Some(bearer), cookie: Some(&tokens.refresh), ..Credentials::default() };
        assert_eq!(logout_with(&node, both).await.unwrap(), outcome(2, 1, 1));
        node.refresh(&tokens.refresh).await.expect(401);
    }
    let broken = Credentials { bearer: Some("undefined"), body: Some("lk_rt_x"), cookie: Some("x") };
    assert_eq!(logout_with(&node, broken).await.unwrap(), outcome(3, 0, 0));
    assert!(matches!(logout_with(&node, Credentials::default()).await, Err(LogoutError::NothingPresented)));
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
    // The token has the thief's header and signature, and the owner's claims with an expired `exp`.
    let parts: Vec<&str> = thief.access.split('.').collect();
    let (header, signature) = (parts[0], parts[2]);
    let owners_payload = owner.access.split('.').nth(1).unwrap();
    let owners_claims = BASE64_URL_SAFE_NO_PAD.decode(owners_payload).unwrap();
    let mut forged: Value = serde_json::from_slice(&owners_claims).unwrap();
    // long before the time of the test's clock
    forged["exp"] = 1_700_000_000.into();
    let payload = BASE64_URL_SAFE_NO_PAD.encode(forged.to_string());
    cluster.advance(Duration::from_hours(1)); // access tokens expire after five minutes
    let unsigned = format!("{header}.{payload}.");
    for token in [format!("{header}.{payload}.{signature}"), unsigned] {
        let credentials = Credentials { bearer: Some(&token), ..Credentials::default() };
        assert_eq!(logout_with(&node, credentials).await.unwrap(), outcome(1, 0, 0));
    }
    node.refresh(&owner.refresh).await.expect(200);
}
