//! Accounts without a password: imported or invited accounts, and accounts that use passkeys and codes only.

use latchkey::domain::account::{Email, NewAccount, Roles};
use reqwest::Method;
use serde_json::json;

use super::{NEW_PASSWORD, email, emails, first_mail, problem, remove_mail_and_login_limits, reset, signed_in};
use crate::harness::{
    client::{PASSWORD, Tokens},
    test_cluster::TestCluster,
};

#[tokio::test]
async fn account_without_password_signs_in_by_mail_changes_its_data_and_sets_a_password_by_reset() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    let imported = NewAccount {
        id: node.state.entropy.account_id(cluster.clock.now()),
        email: Email::parse(&email("ada")).unwrap(),
        email_verified: true,
        username: None,
        password_hash: None,
        roles: Roles::default(),
        disabled_at: None,
        created_at: cluster.clock.now(),
        updated_at: cluster.clock.now(),
    };
    node.state.sql.insert_account(&imported).await.unwrap();
    let refused = node.try_login(&email("ada"), PASSWORD).await.problem();
    assert_eq!(refused, problem(401, "invalid_credentials"));
    // Either check may refuse an empty password first.
    let refused = node.try_login(&email("ada"), "").await.problem();
    assert!([problem(401, "invalid_credentials"), problem(422, "invalid_fields")].contains(&refused), "{refused:?}");

    // A mail's link signs in, with the `request` of the device that asked for it.
    let request = node.post("/v1/login/code", json!({ "email": email("ada") })).await.expect(202).text_of("request");
    let (token, _) = first_mail(&cluster, "ada", "sign_in_code").await;
    let answer = node.post("/v1/login/code/verify", json!({ "request": request, "token": token })).await.expect(200);
    let tokens = Tokens::of(&answer);
    assert_eq!(node.get("/v1/me", &tokens.access).await.json()["has_password"], false);

    // A change of password fails: no current password could be right.
    let refused = node.change_password(&tokens.access, "", NEW_PASSWORD).await.problem();
    assert!([problem(403, "wrong_password"), problem(422, "invalid_fields")].contains(&refused), "{refused:?}");
    // Other calls succeed. A verified or new primary address ends all sessions, and returns new tokens.
    signed_in(&node, &tokens, Method::PATCH, "/v1/me", json!({ "username": "ada" })).await.expect(200);
    node.get("/v1/me/export", &tokens.access).await.expect(200);
    node.get("/v1/me/factors", &tokens.access).await.expect(200);
    let (address_id, tokens) = emails::add_verified(&cluster, &node, &tokens, "work").await;
    let primary = format!("/v1/me/emails/{address_id}/primary");
    let changed = signed_in(&node, &tokens, Method::POST, &primary, json!({})).await.expect(200);
    let tokens = Tokens::of(&changed);
    node.refresh(&tokens.refresh).await.expect(200);

    // A reset sets a password. Its mail goes to the new primary address.
    node.post("/v1/password/forgot", json!({ "identifier": "ada" })).await.expect(202);
    let (token, _) = first_mail(&cluster, "work", "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let tokens = node.login_with("ada", NEW_PASSWORD).await;
    assert_eq!(node.get("/v1/me", &tokens.access).await.json()["has_password"], true);
}
