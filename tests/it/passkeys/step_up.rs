//! Step-up with a passkey: `POST /v1/me/reauthenticate` with `credential`.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Authenticator, audit_entries, authenticator::USER_PRESENT, call, claims, login_options, register_passkey,
    signed_in, step_up_options, stepped_up, try_sign_in, with_passkey,
};
use crate::{
    harness::client::{Answer, Client, PASSWORD, Tokens},
    step_up::{LONGER_THAN_RECENT, advance_and_refresh, assert_challenge, problem},
};

async fn reauthenticate(node: &Client, tokens: &Tokens, body: Value) -> Answer {
    call(node, tokens, Method::POST, "/v1/me/reauthenticate", &body).await
}

#[tokio::test]
async fn i14_sensitive_call_of_an_account_with_a_passkey_needs_the_passkey_and_not_only_the_password() {
    let (cluster, node, tokens) = signed_in().await;
    let mut authenticator = Authenticator::new();
    let tokens = register_passkey(&node, &tokens, &mut authenticator).await;
    let sensitive_rename = async |tokens: &Tokens, name: &str| {
        call(&node, tokens, Method::PATCH, "/v1/me", &json!({ "username": name })).await
    };
    // The registration of a passkey counts as an authentication with it.
    assert_eq!(claims(&tokens)["acr"], "aal2");
    let tokens = advance_and_refresh(&cluster, &node, &tokens, LONGER_THAN_RECENT).await;
    // 600 s is `session.recent`.
    assert_challenge(&sensitive_rename(&tokens, "lovelace").await, ", acr_values=\"aal2\", max_age=\"600\"");
    let by_password = reauthenticate(&node, &tokens, json!({ "password": PASSWORD })).await;
    assert_challenge(&by_password, ", acr_values=\"aal2\"");
    let changed = node.change_password(&tokens.access, PASSWORD, "gravel lantern ostrich nine").await;
    assert_challenge(&changed, ", acr_values=\"aal2\", max_age=\"600\"");

    let new_tokens = stepped_up(&node, &tokens, &mut authenticator).await;
    let new_claims = claims(&new_tokens);
    assert_eq!(new_claims["acr"], "aal2");
    assert_eq!(new_claims["auth_time"], cluster.clock.now().as_secs());
    let amr = new_claims["amr"].as_array().unwrap();
    assert!(amr.contains(&json!("user")) && amr.contains(&json!("mfa")), "{amr:?}");
    sensitive_rename(&new_tokens, "lovelace").await.expect(200);
    node.get("/v1/verify?acr=aal2&max_age=300", &new_tokens.access).await.expect(200);
}

#[tokio::test]
async fn passkey_without_user_verification_in_a_session_without_another_factor_is_refused_and_recorded() {
    let (_cluster, node, _tokens, mut authenticator) = with_passkey().await;
    // a session by this passkey alone
    let tokens = Tokens::of(&try_sign_in(&node, &mut authenticator).await.expect(200));
    authenticator.flags = USER_PRESENT;
    let credential = authenticator.get(&step_up_options(&node, &tokens).await);
    let refused = reauthenticate(&node, &tokens, json!({ "credential": credential })).await;
    assert_challenge(&refused, ", acr_values=\"aal2\"");
    let entry = ("reauthentication".to_owned(), "refused".to_owned(), Some("second_factor_required".to_owned()));
    assert!(audit_entries(&node).await.contains(&entry));
}

#[tokio::test]
async fn i11_passkey_response_steps_up_its_own_session_once() {
    let (_cluster, node, tokens, mut authenticator) = with_passkey().await;
    // a second session of the account
    let other = Tokens::of(&try_sign_in(&node, &mut authenticator).await.expect(200));
    let credential = authenticator.get(&step_up_options(&node, &tokens).await);
    let body = json!({ "credential": credential });
    let refused = reauthenticate(&node, &other, body.clone()).await;
    assert_eq!(refused.problem(), problem(401, "invalid_passkey"), "the challenge belongs to another session");
    reauthenticate(&node, &tokens, body).await.expect(200);
    let sign_in_response = json!({ "credential": authenticator.get(&login_options(&node).await) });
    assert_eq!(
        reauthenticate(&node, &tokens, sign_in_response).await.problem(),
        problem(401, "invalid_passkey"),
        "the challenge belongs to a sign-in"
    );
    let body = json!({ "credential": authenticator.get(&step_up_options(&node, &tokens).await) });
    reauthenticate(&node, &tokens, body.clone()).await.expect(200);
    let replayed = reauthenticate(&node, &tokens, body).await;
    assert_eq!(replayed.problem(), problem(401, "invalid_passkey"));
}
