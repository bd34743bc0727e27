//! Recovery codes: each works once, in place of the app's code, and its owner learns of each use by mail.

use reqwest::Method;
use serde_json::json;

use super::{account_with_app, challenge, claims, cluster, recovery_codes_of, second_factor};
use crate::{
    accounts::{count_mails, email, problem, signed_in, verify_address},
    harness::{client::Tokens, wait},
};

#[tokio::test]
async fn recovery_code_replaces_the_app_once() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    // Users may type a code in lower case and with other separators.
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
    assert_eq!(claims(&Tokens::of(&answer).access)["acr"], "aal2", "the level stays");
    let first = challenge(&node, "ada").await;
    let former = second_factor(&node, &first, "recovery_code", &ada.recovery_codes[0]).await;
    assert_eq!(former.problem(), problem(401, "invalid_code"));
    second_factor(&node, &first, "recovery_code", &codes[0]).await.expect(200);
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
    let ada = super::enrol(&cluster, &node, "ada").await;
    // the notice of the new factor, which is sent before those of the codes
    cluster.mail_to(&email("ada"), "factor_changed").await;
    for (used_before, code) in ada.recovery_codes.iter().enumerate() {
        let used = used_before + 1;
        let challenge = challenge(&node, "ada").await;
        second_factor(&node, &challenge, "recovery_code", code).await.expect(200);
        let is_notified = || async { count_mails(&cluster, "ada", "recovery_code_used") == used };
        wait::until("the owner has the notice", is_notified).await;
        // each use that leaves three codes or fewer sends this notice: of ten codes, the seventh use and those after it
        let expected = used.saturating_sub(6);
        let is_warned = || async { count_mails(&cluster, "ada", "recovery_codes_low") == expected };
        wait::until("the owner has the notice of few codes", is_warned).await;
    }
    let mail = cluster.mail_to(&email("ada"), "recovery_codes_low").await;
    assert!(mail.text.contains("No recovery codes are left"), "{}", mail.text);
}
