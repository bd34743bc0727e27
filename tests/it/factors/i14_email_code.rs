//! I14 (factors cannot be bypassed) for codes by mail: such a code reaches no level beyond aal1, and replaces no stronger factor.

use std::time::Duration;

use latchkey::{
    domain::{account::Email, factor::FactorPolicy},
    service::accounts,
};
use reqwest::Method;
use serde_json::json;

use super::{
    App, STEP, assert_no_credentials, challenge, claims, confirm_totp,
    email_code::{WRONG_CODE, account_with_email_code, cluster, mailed_code, request_code},
    expect_challenge, recovery_codes_of, second_factor, start_totp,
};
use crate::{
    accounts::{
        NEW_PASSWORD, count_mails, email, first_mail, next_mail, problem, request_address_change, request_reset, reset,
        signed_in,
    },
    harness::client::{PASSWORD, Tokens},
};

/// A reset proves access to the mailbox only, and so does a code by mail: together they would sign in a thief of the mailbox.
#[tokio::test]
async fn i14_code_by_mail_is_refused_after_a_password_reset_until_another_factor_was_shown() {
    let cluster = cluster();
    let node = cluster.node().await;
    let (_tokens, recovery_codes) = account_with_email_code(&cluster, &node, "ada").await;
    let (token, _code) = request_reset(&cluster, &node, "ada").await;
    assert_no_credentials(&reset(&node, &token, NEW_PASSWORD).await.expect(204));
    let challenged = node.try_login("ada", NEW_PASSWORD).await;
    assert_eq!(challenged.json()["methods"], json!(["recovery_code"]));
    let challenge = expect_challenge(&challenged);
    assert_eq!(request_code(&node, &challenge).await.problem(), problem(403, "login_method_off"));
    assert_eq!(count_mails(&cluster, "ada", "second_factor_code"), 0);
    let answer = second_factor(&node, &challenge, "email_code", WRONG_CODE).await;
    assert_eq!(answer.problem(), problem(401, "invalid_code"));
    // after another reset, the methods are the same
    let (token, _code) = request_reset(&cluster, &node, "ada").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let challenged = node.try_login("ada", NEW_PASSWORD).await;
    assert_eq!(challenged.json()["methods"], json!(["recovery_code"]));
    let challenge = expect_challenge(&challenged);
    let answer = second_factor(&node, &challenge, "recovery_code", &recovery_codes[0]).await.expect(200);
    let claims_after_recovery = claims(&Tokens::of(&answer).access);
    assert_eq!(claims_after_recovery["acr"], "aal1", "a recovery code in place of the mail reaches aal1");
    assert_eq!(claims_after_recovery["amr"], json!(["pwd", "otp"]));
    // the recovery code has shown another factor, so codes by mail are accepted again
    let challenged = node.try_login("ada", NEW_PASSWORD).await;
    assert_eq!(challenged.json()["methods"], json!(["email_code", "recovery_code"]));
    let challenge = expect_challenge(&challenged);
    let code = mailed_code(&cluster, &node, "ada", &challenge).await;
    second_factor(&node, &challenge, "email_code", &code).await.expect(200);

    // A password that an operator sets proves no access to the mailbox, so codes by mail are accepted.
    let (token, _code) = request_reset(&cluster, &node, "ada").await;
    reset(&node, &token, PASSWORD).await.expect(204);
    let id = accounts::find(&node.state.sql, "ada").await.unwrap().id;
    accounts::set_password(&node.state, id, NEW_PASSWORD.into()).await.unwrap();
    let challenged = node.try_login("ada", NEW_PASSWORD).await;
    assert_eq!(challenged.json()["methods"], json!(["email_code", "recovery_code"]));
}

#[tokio::test]
async fn i14_sign_in_by_mail_is_refused_where_the_second_factor_is_a_mail() {
    let mut cluster = cluster();
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    account_with_email_code(&cluster, &node, "ada").await;
    for by_link in [false, true] {
        let before = count_mails(&cluster, "ada", "sign_in_code");
        let requested = node.post("/v1/login/code", json!({ "email": email("ada") })).await.expect(202);
        let (token, code) = next_mail(&cluster, "ada", before, "sign_in_code").await;
        let mut body = json!({ "request": requested.text_of("request") });
        if by_link {
            body["token"] = json!(token);
        } else {
            body["email"] = json!(email("ada"));
            body["code"] = json!(code);
        }
        let answer = node.post("/v1/login/code/verify", body).await;
        assert_eq!(answer.problem(), problem(403, "password_required"));
        assert_no_credentials(&answer);
        assert!(answer.json()["challenge"].is_null());
    }
}

#[tokio::test]
async fn i14_code_by_mail_never_replaces_a_stronger_factor() {
    let cluster = cluster();
    let node = cluster.node().await;
    let (tokens, former_recovery_codes) = account_with_email_code(&cluster, &node, "ada").await;
    let app = start_totp(&node, &tokens).await;
    let answer = confirm_totp(&node, &tokens, &app.code(&cluster.clock)).await.expect(200);
    let recovery_codes = recovery_codes_of(&answer);
    assert_eq!(recovery_codes.len(), 10, "the app brings new recovery codes");
    // The confirmation used the code of this time step, so a sign-in needs the next one.
    cluster.advance(STEP);
    let challenged = node.try_login("ada", PASSWORD).await;
    assert_eq!(challenged.json()["methods"], json!(["totp", "recovery_code"]));
    let challenge = expect_challenge(&challenged);
    assert_eq!(request_code(&node, &challenge).await.problem(), problem(403, "login_method_off"));
    for (method, code) in [("email_code", WRONG_CODE), ("recovery_code", former_recovery_codes[0].as_str())] {
        let answer = second_factor(&node, &challenge, method, code).await;
        assert_eq!(answer.problem(), problem(401, "invalid_code"), "{method}");
    }
    let answer = second_factor(&node, &challenge, "totp", &app.code(&cluster.clock)).await.expect(200);
    let tokens = Tokens::of(&answer);
    assert_eq!(claims(&tokens.access)["acr"], "aal2");

    // Without the app, a code by mail is the second factor again. The recovery codes stay.
    let listed = node.get("/v1/me/factors", &tokens.access).await.json();
    let app_id = listed["factors"][0]["id"].as_str().unwrap();
    let path = format!("/v1/me/factors/totp/{app_id}");
    let tokens = Tokens::of(&node.delete(&path, &tokens.access).await.expect(200));
    let challenged = node.try_login("ada", PASSWORD).await;
    assert_eq!(challenged.json()["methods"], json!(["email_code", "recovery_code"]));
    // The session that replaced the caller's can be refreshed.
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    let answer = node.delete("/v1/me/factors/email-code", &tokens.access).await.expect(200);
    let listed = node.get("/v1/me/factors", &Tokens::of(&answer).access).await.json();
    assert_eq!(listed, json!({ "factors": [], "recovery_codes_left": 0, "email_code": false }));
    node.login("ada").await;
}

#[tokio::test]
async fn i14_code_by_mail_does_not_count_as_a_required_factor() {
    let mut cluster = cluster();
    // the account sets up codes by mail before a factor is required
    let without_policy = cluster.node().await;
    let (_, recovery_codes) = account_with_email_code(&cluster, &without_policy, "ada").await;
    cluster.config.factors.required = FactorPolicy::AllAccounts;
    cluster.config.factors.grace = Duration::from_hours(2);
    let node = cluster.node().await;
    let first = challenge(&node, "ada").await;
    let code = mailed_code(&cluster, &node, "ada", &first).await;
    let in_grace = Tokens::of(&second_factor(&node, &first, "email_code", &code).await.expect(200));
    assert_eq!(claims(&in_grace.access)["acr"], "aal1");
    let second = challenge(&node, "ada").await;
    let answer = second_factor(&node, &second, "recovery_code", &recovery_codes[0]).await.expect(200);
    assert_eq!(
        claims(&Tokens::of(&answer).access)["acr"],
        "aal1",
        "a recovery code that replaces the mail does not count either"
    );

    cluster.advance(Duration::from_hours(2));
    // the session ends with the grace period
    node.refresh(&in_grace.refresh).await.expect(401);
    let third = challenge(&node, "ada").await;
    let code = mailed_code(&cluster, &node, "ada", &third).await;
    let answer = second_factor(&node, &third, "email_code", &code).await;
    assert_eq!(answer.problem(), problem(403, "factor_enrolment_required"));
    assert_no_credentials(&answer);
    let enrolment = answer.text_of("challenge");
    let started = node.post("/v1/login/enrolment/totp", json!({ "challenge": enrolment })).await.expect(200);
    let app = App { secret: started.text_of("secret") };
    let body = json!({ "challenge": enrolment, "code": app.code(&cluster.clock) });
    let answer = node.post("/v1/login/enrolment/totp/confirm", body).await.expect(200);
    assert_eq!(claims(&Tokens::of(&answer).access)["acr"], "aal2");
}

#[tokio::test]
async fn i14_code_by_mail_steps_up_no_session() {
    let cluster = cluster();
    let node = cluster.node().await;
    let (tokens, _) = account_with_email_code(&cluster, &node, "ada").await;
    let challenge = challenge(&node, "ada").await;
    let code = mailed_code(&cluster, &node, "ada", &challenge).await;
    // a step-up does not have the method `email_code`
    let body = json!({ "method": "email_code", "code": code });
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/me/reauthenticate", body).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    let body = json!({ "password": PASSWORD });
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/me/reauthenticate", body).await.expect(200);
    assert_eq!(answer.json()["acr"], "aal1");
}

/// An address that an operator has set belongs to nobody until it is verified. Codes by mail stay switched on meanwhile.
#[tokio::test]
async fn i14_address_that_is_not_verified_gets_no_code() {
    let cluster = cluster();
    let node = cluster.node().await;
    account_with_email_code(&cluster, &node, "ada").await;
    let id = accounts::find(&node.state.sql, "ada").await.unwrap().id;
    accounts::set_email(&node.state, id, &Email::parse(&email("lovelace")).unwrap()).await.unwrap();
    let challenged = node.try_login("ada", PASSWORD).await;
    assert_eq!(challenged.json()["methods"], json!(["recovery_code"]));
    assert_eq!(request_code(&node, &expect_challenge(&challenged)).await.problem(), problem(403, "login_method_off"));
    node.post("/v1/email/verification", json!({ "email": email("lovelace") })).await.expect(202);
    let (token, _code) = first_mail(&cluster, "lovelace", "verify_address").await;
    node.post("/v1/email/verify", json!({ "token": token, "password": PASSWORD })).await.expect(204);
    let challenge = challenge(&node, "ada").await;
    let code = mailed_code(&cluster, &node, "lovelace", &challenge).await;
    second_factor(&node, &challenge, "email_code", &code).await.expect(200);
}

/// A stranger who receives the mail to the new address could set the password and read the codes.
#[tokio::test]
async fn i14_new_password_with_the_link_of_a_new_address_is_refused_where_codes_by_mail_are_on() {
    let cluster = cluster();
    let node = cluster.node().await;
    let (tokens, _) = account_with_email_code(&cluster, &node, "ada").await;
    let (token, _code) = request_address_change(&cluster, &node, &tokens, "lovelace").await;
    let body = json!({ "token": token, "new_password": NEW_PASSWORD });
    assert_eq!(node.post("/v1/email/verify", body).await.problem(), problem(403, "proof_required"));
}
