//! Step-up with a code of a second factor.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{LONGER_THAN_RECENT, advance_and_refresh, assert_challenge, problem, reauthenticate, try_reauthenticate};
use crate::{
    accounts::signed_in,
    factors::{self, STEP, remembered_devices},
    harness::{
        client::{Client, PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

/// An account with an authenticator app, and the tokens of a session whose second factor is an hour old, and no longer recent.
async fn with_old_second_factor(cluster: &TestCluster, node: &Client) -> (factors::Enrolled, Tokens) {
    let ada = factors::account_with_app(cluster, node, "ada").await;
    let tokens = advance_and_refresh(cluster, node, &ada.tokens, Duration::from_hours(1)).await;
    (ada, tokens)
}

/// The body of a step-up with a code of the authenticator app.
fn totp_code(code: &str) -> Value {
    json!({ "method": "totp", "code": code })
}

#[tokio::test]
async fn i14_account_with_an_app_steps_up_with_its_code_and_not_with_the_password_alone() {
    let cluster = factors::cluster();
    let node = cluster.node().await;
    let (ada, tokens) = with_old_second_factor(&cluster, &node).await;
    let rename = async |access: &str, name: &str| {
        let body = json!({ "username": name });
        node.send(node.request(Method::PATCH, "/v1/me").bearer_auth(access).json(&body)).await
    };
    // 600 s is `session.recent`.
    assert_challenge(&rename(&tokens.access, "byron").await, ", acr_values=\"aal2\", max_age=\"600\"");
    let by_password = try_reauthenticate(&node, &tokens.access, json!({ "password": PASSWORD })).await;
    assert_challenge(&by_password, ", acr_values=\"aal2\"");
    let answer = try_reauthenticate(&node, &tokens.access, totp_code(&ada.app.code(&cluster.clock))).await.expect(200);
    let access = answer.text_of("access_token");
    let claims = node.verified(&access);
    assert_eq!(claims.acr, "aal2");
    assert_eq!(claims.auth_time, cluster.clock.now().as_secs());
    assert_eq!(claims.amr, ["pwd", "otp", "mfa"]);
    rename(&access, "lovelace").await.expect(200);
}

#[tokio::test]
async fn i11_codes_of_app_and_recovery_step_up_once_and_wrong_codes_are_refused() {
    let cluster = factors::cluster();
    let node = cluster.node().await;
    let (ada, tokens) = with_old_second_factor(&cluster, &node).await;
    let current_code = ada.app.code(&cluster.clock);
    let wrong =
        try_reauthenticate(&node, &tokens.access, totp_code(&factors::wrong_code(&ada.app, &cluster.clock))).await;
    assert_eq!(wrong.problem(), problem(401, "invalid_code"));
    let (first, second) = tokio::join!(
        try_reauthenticate(&node, &tokens.access, totp_code(&current_code)),
        try_reauthenticate(&node, &tokens.access, totp_code(&current_code)),
    );
    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "one of two simultaneous requests uses the code");
    cluster.advance(STEP);
    let recovery = json!({ "method": "recovery_code", "code": ada.recovery_codes[0] });
    try_reauthenticate(&node, &tokens.access, recovery.clone()).await.expect(200);
    let again = try_reauthenticate(&node, &tokens.access, recovery).await;
    assert_eq!(again.problem(), problem(401, "invalid_code"));
    let without_code = try_reauthenticate(&node, &tokens.access, json!({ "method": "totp" })).await;
    assert_eq!(without_code.problem(), problem(422, "invalid_fields"));
}

#[tokio::test]
async fn factor_that_is_added_after_a_step_up_by_password_gives_its_level_to_the_new_session() {
    let cluster = factors::cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // A factor may only be added after a recent authentication.
    let tokens = advance_and_refresh(&cluster, &node, &tokens, LONGER_THAN_RECENT).await;
    let access = reauthenticate(&node, &tokens.access, PASSWORD).await;
    let tokens = Tokens { access, ..tokens };
    let app = factors::start_totp(&node, &tokens).await;
    let answer = factors::confirm_totp(&node, &tokens, &app.code(&cluster.clock)).await.expect(200);
    let tokens = Tokens::of(&answer);
    assert_eq!(node.verified(&tokens.access).acr, "aal2");
    let refreshed = advance_and_refresh(&cluster, &node, &tokens, Duration::from_secs(60)).await;
    assert_eq!(node.verified(&refreshed.access).acr, "aal2");
}

/// The session of this test began with the password alone, because the device is remembered: without the step-up its level is `aal1`.
#[tokio::test]
async fn refreshes_keep_the_level_of_a_step_up_until_it_expires() {
    let cluster = remembered_devices::cluster();
    let node = cluster.node().await;
    let ada = factors::account_with_app(&cluster, &node, "ada").await;
    let device = remembered_devices::remember(&cluster, &node, "ada", &ada).await;
    let tokens = Tokens::of(&remembered_devices::login(&node, "ada", PASSWORD, Some(&device)).await.expect(200));
    assert_eq!(node.verified(&tokens.access).acr, "aal1");
    try_reauthenticate(&node, &tokens.access, totp_code(&ada.app.code(&cluster.clock))).await.expect(200);
    let stepped_up_at = cluster.clock.now().as_secs();
    let ttl = cluster.config.factors.step_up_ttl;

    let verify_aal2 = async |tokens: &Tokens| node.get("/v1/verify?acr=aal2", &tokens.access).await;
    let rename = async |tokens: &Tokens, name: &str| {
        signed_in(&node, tokens, Method::PATCH, "/v1/me", json!({ "username": name })).await
    };
    let second = Duration::from_secs(1);
    let tokens = advance_and_refresh(&cluster, &node, &tokens, second).await;
    rename(&tokens, "byron").await.expect(200);
    // Now the step-up expires in one second.
    let tokens = advance_and_refresh(&cluster, &node, &tokens, ttl - 2 * second).await;
    let claims = node.verified(&tokens.access);
    assert_eq!(claims.acr, "aal2");
    assert_eq!(claims.auth_time, stepped_up_at);
    verify_aal2(&tokens).await.expect(200);

    // Now the step-up expires. The session has the level of the sign-in again.
    let tokens = advance_and_refresh(&cluster, &node, &tokens, second).await;
    let claims = node.verified(&tokens.access);
    assert_eq!(claims.acr, "aal1");
    assert_eq!(claims.auth_time, stepped_up_at);
    assert_eq!(claims.amr, ["pwd"]);
    assert_challenge(&verify_aal2(&tokens).await, ", acr_values=\"aal2\"");
    assert_challenge(&rename(&tokens, "lovelace").await, ", acr_values=\"aal2\", max_age=\"600\"");
}
