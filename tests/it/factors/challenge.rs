//! Challenges of sign-ins with a second factor: what they are bound to, and what ends them.

use std::time::Duration;

use latchkey::domain::account::Roles;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{account_with_app, challenge, cluster, factor_body, second_factor, wrong_code};
use crate::{
    accounts::{NEW_PASSWORD, problem, signed_in},
    harness::client::{PASSWORD, Tokens},
};

#[tokio::test]
async fn wrong_code_does_not_consume_the_challenge() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let challenge = challenge(&node, "ada").await;
    // fewer wrong codes than the 5 after which the account waits (`limits.factor_backoff_after`)
    for _ in 0..3 {
        let answer = second_factor(&node, &challenge, "totp", &wrong_code(&ada.app, &cluster.clock)).await;
        assert_eq!(answer.problem(), problem(401, "invalid_code"));
        super::assert_no_credentials(&answer);
    }
    let code = ada.app.code(&cluster.clock);
    second_factor(&node, &challenge, "totp", &code).await.expect(200);
    let repeated = second_factor(&node, &challenge, "totp", &code).await;
    assert_eq!(repeated.problem(), problem(401, "invalid_challenge"), "a challenge works once");
}

#[tokio::test]
async fn challenge_expires() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let challenge = challenge(&node, "ada").await;
    // the lifetime of a challenge
    cluster.advance(Duration::from_mins(10));
    let answer = second_factor(&node, &challenge, "totp", &ada.app.code(&cluster.clock)).await;
    assert_eq!(answer.problem(), problem(401, "invalid_challenge"));
}

#[tokio::test]
async fn challenge_works_for_its_account_only() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let eve = account_with_app(&cluster, &node, "eve").await;
    let challenge = challenge(&node, "ada").await;
    let answer = second_factor(&node, &challenge, "totp", &eve.app.code(&cluster.clock)).await;
    assert_eq!(answer.problem(), problem(401, "invalid_code"), "the app of another account");
    let answer = second_factor(&node, &challenge, "recovery_code", &eve.recovery_codes[0]).await;
    assert_eq!(answer.problem(), problem(401, "invalid_code"), "the recovery code of another account");
    // The first 30 characters are the prefix, the version, the purpose and the account; the secret follows. The first part of one challenge
    // and the secret of another form no challenge.
    let challenge_of_eve = super::challenge(&node, "eve").await;
    let mixed = format!("{}{}", &challenge[..30], &challenge_of_eve[30..]);
    let answer = second_factor(&node, &mixed, "totp", &ada.app.code(&cluster.clock)).await;
    assert_eq!(answer.problem(), problem(401, "invalid_challenge"));
}

#[tokio::test]
async fn challenge_works_for_its_device_only() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    // A device token has this prefix and 32 bytes in base64url.
    let device = format!("lk_dt_{}", "A".repeat(43));
    let other_device = format!("lk_dt_{}", "B".repeat(43));
    let with_device = |request: RequestBuilder, device: Option<&str>| match device {
        Some(device) => request.header("x-device-token", device),
        None => request,
    };
    let login = |device: Option<&str>| {
        let body = json!({ "identifier": "ada", "password": PASSWORD });
        node.send(with_device(node.request(Method::POST, "/v1/login").json(&body), device))
    };
    let present = |challenge: &str, device: Option<&str>| {
        let body = factor_body(challenge, "totp", &ada.app.code(&cluster.clock));
        node.send(with_device(node.request(Method::POST, "/v1/login/second-factor").json(&body), device))
    };
    let no_device = None;
    let bound = super::expect_challenge(&login(Some(&device)).await);
    assert_eq!(present(&bound, no_device).await.problem(), problem(401, "invalid_challenge"));
    assert_eq!(present(&bound, Some(&other_device)).await.problem(), problem(401, "invalid_challenge"));
    let of_no_device = super::expect_challenge(&login(no_device).await);
    assert_eq!(present(&of_no_device, Some(&device)).await.problem(), problem(401, "invalid_challenge"));
    // The refused requests have not consumed the challenge.
    present(&bound, Some(&device)).await.expect(200);
}

#[tokio::test]
async fn challenge_ends_when_factors_roles_or_password_change_or_the_account_is_disabled() {
    let cluster = cluster();
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    let ada = super::enrol(&cluster, &node, "ada").await;
    let assert_invalid = async |challenge: &str, changed: &str| {
        let answer = second_factor(&node, challenge, "totp", &ada.app.code(&cluster.clock)).await;
        assert_eq!(answer.problem(), problem(401, "invalid_challenge"), "{changed}");
    };

    let before = challenge(&node, "ada").await;
    let renewed = signed_in(&node, &ada.tokens, Method::POST, "/v1/me/recovery-codes", json!({})).await.expect(200);
    assert_invalid(&before, "factors").await;

    let before = challenge(&node, "ada").await;
    let added = Roles::parse(["admin"]).unwrap();
    let removed = Roles::default();
    latchkey::service::accounts::change_roles(&node.state, id, &added, &removed).await.unwrap();
    assert_invalid(&before, "roles").await;

    // the change of roles has made the access token invalid
    let refreshed = node.refresh(&Tokens::of(&renewed).refresh).await.expect(200);
    let tokens = Tokens::of(&refreshed);
    let before = challenge(&node, "ada").await;
    node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    assert_invalid(&before, "password").await;

    // The function `challenge` signs in with the former password.
    let body = json!({ "identifier": "ada", "password": NEW_PASSWORD });
    let before = super::expect_challenge(&node.post("/v1/login", body).await);
    latchkey::service::accounts::disable(&node.state, id).await.unwrap();
    assert_invalid(&before, "disabled").await;
}

#[tokio::test]
async fn password_of_an_account_with_a_factor_starts_no_session_and_cancels_no_deletion() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let id = node.verified(&ada.tokens.access).claims.sub;
    // Requests the deletion. A complete sign-in cancels it.
    node.delete("/v1/me", &ada.tokens.access).await.expect(202);
    let count_sessions = async || node.state.redis.sessions.list(id, cluster.clock.now()).await.unwrap().len();
    assert_eq!(count_sessions().await, 0, "the request for deletion ends all sessions");
    let challenge = challenge(&node, "ada").await;
    let account = node.state.sql.account(id).await.unwrap().unwrap();
    assert!(account.deletion_at.is_some(), "the password alone does not cancel the deletion");
    assert_eq!(count_sessions().await, 0, "the password alone starts no session");
    second_factor(&node, &challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
    let account = node.state.sql.account(id).await.unwrap().unwrap();
    assert!(account.deletion_at.is_none());
    assert_eq!(count_sessions().await, 1);
}

#[tokio::test]
async fn second_factor_is_accepted_by_another_node() {
    let cluster = cluster();
    let nodes = [cluster.node().await, cluster.node().await];
    let ada = account_with_app(&cluster, &nodes[0], "ada").await;
    let challenge = challenge(&nodes[0], "ada").await;
    second_factor(&nodes[1], &challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
}

#[tokio::test]
async fn request_without_a_code_is_refused() {
    let cluster = cluster();
    let node = cluster.node().await;
    account_with_app(&cluster, &node, "ada").await;
    let challenge = challenge(&node, "ada").await;
    let body = json!({ "challenge": challenge, "method": "totp" });
    let answer = node.post("/v1/login/second-factor", body).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    assert_eq!(answer.json()["errors"][0]["field"], "code");
}

#[tokio::test]
async fn sign_in_to_an_account_without_a_factor_takes_one_query() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    // the first sign-in makes the device known to the account, so the second needs no notice of a new device
    node.login("ada").await;
    let before = node.state.sql.transactions();
    node.login("ada").await;
    assert_eq!(node.state.sql.transactions() - before, 1, "the query for the account's row");
}
