//! `POST /v1/users/emails/remove`: admins and service clients remove a secondary address of an account.

use std::time::Duration;

use latchkey::{domain::account::Roles, service::clients::NewClient, store::sql::AuditFilter};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    NEW_PASSWORD, count_mails, email,
    emails::{add, add_verified, cluster_with_verified_account, join_lines, list, wait_until_settled},
    first_mail, problem, reset, signed_in,
};
use crate::harness::{
    client::{PASSWORD, Tokens},
    test_cluster::{Node, ServiceClient},
};

const PATH: &str = "/v1/users/emails/remove";

/// The request to remove the address `name` from an account.
fn removal(account: &str, name: &str) -> Value {
    json!({ "account": account, "email": email(name) })
}

/// The actors and reasons of the removed addresses in the audit log.
async fn removals(node: &Node) -> Vec<(String, Option<String>)> {
    node.state.audit.flush().await.unwrap();
    let max_rows = 1000;
    let rows = node.state.sql.audit(&AuditFilter::default(), max_rows).await.unwrap();
    rows.into_iter().filter(|row| row.event == "email_removed").map(|row| (row.actor, row.reason)).collect()
}

#[tokio::test]
async fn service_client_with_the_scope_removes_a_verified_address_with_its_links_and_notifies_both_addresses() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (_id, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    let (_id, tokens) = add_verified(&cluster, &node, &tokens, "home").await;
    node.post("/v1/password/forgot", json!({ "identifier": email("work") })).await.expect(202);
    let (reset_token, _) = first_mail(&cluster, "work", "password_reset").await;
    // The count must include the notices of the two added addresses.
    wait_until_settled(&node).await;
    let notices_before = count_mails(&cluster, "ada", "secondary_address_changed");

    let remove = |client: &ServiceClient, body: Value| {
        node.send(node.request(Method::POST, PATH).basic_auth(&client.id, Some(&client.secret)).json(&body))
    };
    let without_scope = cluster.service_client("reader").await;
    assert_eq!(remove(&without_scope, removal("ada", "work")).await.problem(), problem(403, "forbidden"));
    let scopes = vec!["accounts:recover".to_owned()];
    let desk = cluster.service_client_with(NewClient { name: "desk".to_owned(), scopes, ..NewClient::default() }).await;
    for (request, status, code) in [
        (removal("nobody", "work"), 404, "unknown_account"),
        (removal("ada", "nobody"), 404, "unknown_email"),
        (removal("ada", "ada"), 409, "primary_email"),
        (json!({ "account": "ada", "email": "not an address" }), 422, "invalid_fields"),
    ] {
        assert_eq!(remove(&desk, request).await.problem(), problem(status, code));
    }
    // The refused requests have ended no session.
    node.refresh(&tokens.refresh).await.expect(200);

    // Any verified address identifies the account. Addresses are compared without regard to case.
    let request = json!({ "account": email("home"), "email": email("work").to_uppercase() });
    remove(&desk, request).await.expect(204);
    assert_eq!(remove(&desk, removal("ada", "work")).await.problem(), problem(404, "unknown_email"));
    assert_eq!(node.refresh(&tokens.refresh).await.status, 401, "all sessions ended");
    node.try_login(&email("work"), PASSWORD).await.expect(401);
    assert_eq!(reset(&node, &reset_token, NEW_PASSWORD).await.problem(), problem(401, "invalid_code"));
    let tokens = node.login_with(&email("home"), PASSWORD).await;
    assert_eq!(list(&node, &tokens).await, ["ada (primary)", "home"]);
    assert_eq!(removals(&node).await, [("client:desk".to_owned(), None)]);
    wait_until_settled(&node).await;
    assert_eq!(count_mails(&cluster, "ada", "secondary_address_changed"), notices_before + 1);
    for name in ["work", "ada"] {
        let mail = cluster.mail_to(&email(name), "secondary_address_changed").await;
        assert!(join_lines(&mail.text).contains("work@example.com was removed"), "{}", mail.text);
        assert!(!mail.text.contains("lk_ot_"), "the notice of this removal has no undo link: {}", mail.text);
    }
}

#[tokio::test]
async fn admin_removes_an_unverified_address_without_a_notice_and_other_users_are_refused() {
    let (cluster, node, ada) = cluster_with_verified_account().await;
    let (_id, typo_token, _code) = add(&cluster, &node, &ada, "typo").await;
    let id = node.register("grace").await.text_of("id");
    let grace = node.login("grace").await;
    let remove_typo =
        async |tokens: &Tokens| signed_in(&node, tokens, Method::POST, PATH, removal(&email("ada"), "typo")).await;
    assert_eq!(remove_typo(&grace).await.problem(), problem(403, "forbidden"));
    let account = id.parse().unwrap();
    let added = Roles::parse(["admin"]).unwrap();
    let removed = Roles::default();
    latchkey::service::accounts::change_roles(&node.state, account, &added, &removed).await.unwrap();
    // The change of roles has outdated the former access token.
    let tokens = node.login("grace").await;
    // an authentication counts as recent for 10 minutes
    cluster.advance(Duration::from_mins(11));
    let not_recent = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    assert_eq!(remove_typo(&not_recent).await.problem(), problem(401, "insufficient_user_authentication"));
    remove_typo(&node.login("grace").await).await.expect(204);
    // The removal of an unverified address ends no session. The refresh replaces the expired access token.
    let ada = Tokens::of(&node.refresh(&ada.refresh).await.expect(200));
    assert_eq!(list(&node, &ada).await, ["ada (primary)"]);
    let verify = json!({ "token": typo_token });
    let answer = signed_in(&node, &ada, Method::POST, "/v1/email/verify", verify).await;
    assert_eq!(answer.problem(), problem(401, "invalid_code"));
    assert_eq!(removals(&node).await, [(format!("admin:{id}"), Some("unverified".to_owned()))]);
    wait_until_settled(&node).await;
    assert_eq!(count_mails(&cluster, "ada", "secondary_address_changed"), 0);
}
