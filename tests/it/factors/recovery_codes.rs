//! Recovery codes: each replaces a code of the app once, and each use sends the account's owner a mail.

use reqwest::Method;
use serde_json::json;

use super::{account_with_app, challenge, claims, cluster, enrol, recovery_codes_of, second_factor};
use crate::{
    accounts::{count_mails, email, problem, signed_in, verify_address},
    harness::{client::Tokens, wait},
};

#[tokio::test]
async fn recovery_code_replaces_the_app_once() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    // The case and the separators of a code do not matter.
    let code = ada.recovery_codes[0].to_lowercase().replace('-', " ");
    let first = challenge(&node, "ada").await;
    let tokens = Tokens::of(&second_factor(&node, &first, "recovery_code", &code).await.expect(200));
    assert_eq!(claims(&tokens.access)["acr"], "aal2");
    let listed = node.get("/v1/me/factors", &tokens.access).await.json();
    assert_eq!(listed["recovery_codes_left"], 9, "one of ten is used");
    let second = challenge(&node, "ada").await;
    assert_eq!(second_factor(&node, &second, "recovery_code", &code).await.problem(), problem(401, "invalid_code"));
    second_factor(&node, &second, "recovery_code", &ada.recovery_codes[1]).await.expect(200);
}

#[tokio::test]
async fn new_recovery_codes_replace_the_former_ones() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let answer = signed_in(&node, &ada.tokens, Method::POST, "/v1/me/recovery-codes", json!({})).await.expect(200);
    let codes = recovery_codes_of(&answer);
    assert_eq!(codes.len(), 10);
    assert!(codes.iter().all(|code| !ada.recovery_codes.contains(code)));
    assert_eq!(claims(&Tokens::of(&answer).access)["acr"], "aal2", "the session keeps its level");
    let sign_in = challenge(&node, "ada").await;
    let refused = second_factor(&node, &sign_in, "recovery_code", &ada.recovery_codes[0]).await;
    assert_eq!(refused.problem(), problem(401, "invalid_code"));
    second_factor(&node, &sign_in, "recovery_code", &codes[0]).await.expect(200);
}

#[tokio::test]
async fn account_without_a_factor_gets_no_recovery_codes() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/me/recovery-codes", json!({})).await;
    assert_eq!(answer.problem(), problem(409, "no_second_factor"));
}

#[tokio::test]
async fn each_use_and_few_codes_left_send_the_owner_a_mail() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let ada = enrol(&cluster, &node, "ada").await;
    // The new app has a notice of its own.
    cluster.mail_to(&email("ada"), "factor_changed").await;
    for (used, code) in (1_usize..).zip(&ada.recovery_codes) {
        let challenge = challenge(&node, "ada").await;
        second_factor(&node, &challenge, "recovery_code", code).await.expect(200);
        let is_notified = || async { count_mails(&cluster, "ada", "recovery_code_used") == used };
        wait::until("the owner has a notice of each use", is_notified).await;
        // The seventh use of ten leaves three codes. It and each later use send a warning.
        let warnings = used.saturating_sub(6);
        let is_warned = || async { count_mails(&cluster, "ada", "recovery_codes_low") == warnings };
        wait::until("the owner has each warning of few codes", is_warned).await;
    }
    let mail = cluster.mail_to(&email("ada"), "recovery_codes_low").await;
    assert!(mail.text.contains("No recovery codes are left"), "{}", mail.text);
}
