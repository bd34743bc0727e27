//! Verification of the primary address: `POST /v1/email/verification` sends a mail, `POST /v1/email/verify` presents its link or code.

use std::time::Duration;

use latchkey::domain::limit::Backoff;
use reqwest::Method;
use serde_json::json;

use super::{
    NEW_PASSWORD, email, first_mail, next_mail, problem, remove_mail_and_login_limits, signed_in, verify_address,
};
use crate::harness::{client::PASSWORD, test_cluster::TestCluster, wait};

#[tokio::test]
async fn verification_with_the_session_keeps_password_and_sessions() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    assert_eq!(node.get("/v1/me", &tokens.access).await.json()["email_verified"], false);
    verify_address(&cluster, &node, "ada", &tokens).await;
    assert_eq!(node.get("/v1/me", &tokens.access).await.json()["email_verified"], true);
    node.refresh(&tokens.refresh).await.expect(200);
    node.try_login("ada", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn link_alone_is_refused_and_not_consumed_until_password_proves_the_owner() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    // Addresses are compared without regard to case.
    node.post("/v1/email/verification", json!({ "email": "ADA@example.com" })).await.expect(202);
    let (token, code) = first_mail(&cluster, "ada", "verify_address").await;
    let verify = |body| node.post("/v1/email/verify", body);
    assert_eq!(verify(json!({ "token": token })).await.problem(), problem(403, "proof_required"));
    let wrong = json!({ "token": token, "password": "not the password" });
    assert_eq!(verify(wrong).await.problem(), problem(403, "wrong_password"));
    verify(json!({ "email": email("ada"), "code": code, "password": PASSWORD })).await.expect(204);
    // The link and the code of a mail are consumed together.
    let link_afterwards = json!({ "token": token, "password": PASSWORD });
    assert_eq!(verify(link_afterwards).await.problem(), problem(401, "invalid_code"));
}

/// The link must not let its holder guess the account's password.
#[tokio::test]
async fn wrong_passwords_with_a_link_are_throttled_like_sign_ins() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.limits.login_backoff = Some(Backoff {
        failures_without_delay: 1,
        first_delay: Duration::from_secs(30),
        max_delay: Duration::from_secs(300),
        trust_ttl: Duration::from_hours(24),
        max_trusted: 10,
    });
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // The links for a changed and for an added address share one throttle.
    let (change_link, _) = super::request_address_change(&cluster, &node, &tokens, "new").await;
    let (_, added_link, _) = super::emails::add(&cluster, &node, &tokens, "added").await;
    let guess = |token: &str| node.post("/v1/email/verify", json!({ "token": token, "password": "not the password" }));
    assert_eq!(guess(&change_link).await.problem(), problem(403, "wrong_password"));
    // The login has made its network a trusted one, which has 20 × `failures_without_delay` = 20 failures without a delay. The last guess
    // of this loop is failure 21, and starts the delay.
    for _ in 0..20 {
        guess(&added_link).await;
    }
    for link in [&change_link, &added_link] {
        let answer = guess(link).await;
        assert_eq!(answer.problem(), problem(429, "too_many_requests"), "`login_backoff` applies");
        assert!(!answer.header("retry-after").is_empty());
    }
    assert_eq!(node.try_login("ada", PASSWORD).await.status, 429, "sign-ins share the throttle of links");
    // more than the longest delay of 5 minutes
    cluster.advance(Duration::from_mins(6));
    node.post("/v1/email/verify", json!({ "token": added_link, "password": PASSWORD })).await.expect(204);
}

#[tokio::test]
async fn new_password_at_verification_replaces_password_and_ends_sessions() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    node.post("/v1/email/verification", json!({ "email": email("ada") })).await.expect(202);
    let (token, _) = first_mail(&cluster, "ada", "verify_address").await;
    let body = json!({ "token": token, "new_password": NEW_PASSWORD });
    node.post("/v1/email/verify", body).await.expect(204);
    node.refresh(&tokens.refresh).await.expect(401);
    node.try_login("ada", PASSWORD).await.expect(401);
    node.try_login("ada", NEW_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn verified_and_unknown_addresses_get_no_verification_mail() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    for address in [email("ada"), email("nobody"), "not an address".to_owned()] {
        node.post("/v1/email/verification", json!({ "email": address })).await.expect(202);
    }
    wait::until("all background tasks have ended", || async { node.state.background.is_empty() }).await;
    let (any_state, limit) = (None, 100);
    let mails = node.state.sql.mails(any_state, limit).await.unwrap();
    assert_eq!(mails.len(), 1, "only `verify_address` caused a mail");
}

#[tokio::test]
async fn access_token_of_another_account_is_no_proof() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    node.register("eve").await;
    let eve = node.login("eve").await;
    node.post("/v1/email/verification", json!({ "email": email("ada") })).await.expect(202);
    let (token, _) = first_mail(&cluster, "ada", "verify_address").await;
    let answer = signed_in(&node, &eve, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    assert_eq!(answer.problem(), problem(403, "proof_required"));
}

/// Of an account's links for one purpose, only the three newest work. Without a proof of the owner, a valid link is answered with 403
/// and an invalid one with 401.
#[tokio::test]
async fn fourth_verification_mail_stops_the_first_link_and_keeps_the_later_ones() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    node.register("ada").await;
    let mut links = Vec::new();
    for mails_before in 0..4 {
        node.post("/v1/email/verification", json!({ "email": email("ada") })).await.expect(202);
        let (link, _) = next_mail(&cluster, "ada", mails_before, "verify_address").await;
        links.push(link);
        // the links differ in age
        cluster.advance(Duration::from_secs(1));
    }
    for (index, link) in links.iter().enumerate() {
        let expected = if index == 0 { problem(401, "invalid_code") } else { problem(403, "proof_required") };
        assert_eq!(node.post("/v1/email/verify", json!({ "token": link })).await.problem(), expected, "link {index}");
    }
}
