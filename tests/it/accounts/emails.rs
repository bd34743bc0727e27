//! Secondary addresses: `GET` and `POST /v1/me/emails`, `DELETE /v1/me/emails/{id}`, `POST /v1/me/emails/{id}/primary`.

use std::time::Duration;

use latchkey::{
    domain::account::Email,
    service::{
        accounts::{self, ChangeAccountError},
        delete_account::delete_due,
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    NEW_PASSWORD, count_mails, email, first_mail, next_mail, problem, remove_mail_and_login_limits,
    request_address_change, reset, signed_in, verify_address,
};
use crate::{
    harness::{
        client::{Answer, Client, PASSWORD, Tokens},
        test_cluster::{Node, TestCluster},
        wait,
    },
    mail::wait_until_mails_are_done,
};

/// Adds an address to the account of `tokens`. Returns its id, and the token and the code of the mail.
pub async fn add(cluster: &TestCluster, node: &Client, tokens: &Tokens, name: &str) -> (String, String, String) {
    let before = count_mails(cluster, name, "verify_address");
    let added = try_add(node, tokens, name).await.expect(202);
    let (token, code) = next_mail(cluster, name, before, "verify_address").await;
    (added.text_of("id"), token, code)
}

/// Adds and verifies an address. Returns its id and the tokens of the session that takes the place of the former one.
pub async fn add_verified(cluster: &TestCluster, node: &Client, tokens: &Tokens, name: &str) -> (String, Tokens) {
    let (id, token, _) = add(cluster, node, tokens, name).await;
    let answer = signed_in(node, tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    (id, Tokens::of(&answer.expect(200)))
}

/// Requests to add an address.
async fn try_add(node: &Client, tokens: &Tokens, name: &str) -> Answer {
    signed_in(node, tokens, Method::POST, "/v1/me/emails", json!({ "email": email(name) })).await
}

/// Removes an address.
async fn remove(node: &Client, tokens: &Tokens, id: &str) -> Answer {
    node.delete(&format!("/v1/me/emails/{id}"), &tokens.access).await
}

/// Makes a secondary address the primary one.
async fn make_primary(node: &Client, tokens: &Tokens, id: &str) -> Answer {
    signed_in(node, tokens, Method::POST, &format!("/v1/me/emails/{id}/primary"), json!({})).await
}

/// The addresses of the account without their domain: `ada (primary)`, `work`, `typo (not verified)`. The primary address comes
/// first. The others are sorted by name, because addresses that were added at the same time have no defined order.
pub async fn list(node: &Client, tokens: &Tokens) -> Vec<String> {
    let body = node.get("/v1/me/emails", &tokens.access).await.expect(200).json();
    let has = |address: &Value, field: &str| address[field] == json!(true);
    let mut addresses = body["emails"].as_array().unwrap().clone();
    addresses.sort_by_key(|address| (!has(address, "primary"), address["email"].to_string()));
    let describe = |address: &Value| {
        let name = address["email"].as_str().unwrap().split('@').next().unwrap();
        match (has(address, "primary"), has(address, "verified")) {
            (true, true) => format!("{name} (primary)"),
            (true, false) => format!("{name} (primary, not verified)"),
            (false, true) => name.to_owned(),
            (false, false) => format!("{name} (not verified)"),
        }
    };
    addresses.iter().map(describe).collect()
}

/// A cluster with the account `ada`, whose address is verified, and its session.
pub async fn cluster_with_verified_account() -> (TestCluster, Node, Tokens) {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    (cluster, node, tokens)
}

/// The text of a mail without its line breaks.
pub fn join_lines(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Waits until the node has done its background work and sent its mails.
pub async fn wait_until_settled(node: &Node) {
    wait::until("all work is done", || async { node.state.background.is_empty() }).await;
    wait_until_mails_are_done(&node.state.sql).await;
}

#[tokio::test]
async fn added_address_signs_in_once_it_is_verified() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let other_session = node.login("ada").await;
    let (_id, token, _code) = add(&cluster, &node, &tokens, "work").await;
    assert_eq!(list(&node, &tokens).await, ["ada (primary)", "work (not verified)"]);
    node.try_login(&email("work"), PASSWORD).await.expect(401);
    node.refresh(&other_session.refresh).await.expect(200);

    // the verification of a secondary address ends all sessions, and the caller gets a new one (I5)
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    let new = Tokens::of(&answer.expect(200));
    for former in [&tokens, &other_session] {
        node.refresh(&former.refresh).await.expect(401);
        node.get("/v1/me", &former.access).await.expect(401);
    }
    assert_eq!(list(&node, &new).await, ["ada (primary)", "work"]);
    let me = node.get("/v1/me", &new.access).await.json();
    assert_eq!(me["email"], email("ada"));
    assert_eq!(me["email_verified"], true);
    for identifier in ["work@example.com", "WORK@Example.com", "ada@example.com", "ada"] {
        node.try_login(identifier, PASSWORD).await.expect(200);
    }
    let notice = cluster.mail_to(&email("ada"), "secondary_address_changed").await;
    assert!(join_lines(&notice.text).contains("work@example.com was added"), "{}", notice.text);
}

#[tokio::test]
async fn added_address_is_verified_by_code_in_the_session_or_by_link_with_the_password() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (_, _, code) = add(&cluster, &node, &tokens, "first").await;
    let body = json!({ "email": email("first"), "code": code });
    let without_session = node.post("/v1/email/verify", body.clone()).await;
    assert_eq!(without_session.problem(), problem(401, "invalid_code"));
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", body).await.expect(200);
    let tokens = Tokens::of(&answer);

    let (_, token, _) = add(&cluster, &node, &tokens, "second").await;
    let verify = |body| node.post("/v1/email/verify", body);
    assert_eq!(verify(json!({ "token": token })).await.problem(), problem(403, "proof_required"));
    let body = json!({ "token": token, "new_password": NEW_PASSWORD });
    assert_eq!(verify(body).await.problem(), problem(403, "proof_required"), "the mail alone does not prove the owner");
    let body = json!({ "token": token, "password": PASSWORD });
    verify(body.clone()).await.expect(204);
    node.refresh(&tokens.refresh).await.expect(401);
    node.try_login(&email("second"), PASSWORD).await.expect(200);
    assert_eq!(verify(body).await.problem(), problem(401, "invalid_code"), "the link works once");
}

#[tokio::test]
async fn repeated_request_sends_the_mail_again_and_keeps_the_id() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (id, _, _) = add(&cluster, &node, &tokens, "work").await;
    let (repeated_id, token, _) = add(&cluster, &node, &tokens, "work").await;
    assert_eq!(id, repeated_id);
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    let tokens = Tokens::of(&answer.expect(200));
    assert_eq!(list(&node, &tokens).await, ["ada (primary)", "work"]);
}

#[tokio::test]
async fn change_of_addresses_does_not_renew_the_authentication() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let auth_time = node.verified(&tokens.access).auth_time;
    // a renewed authentication would have a later time
    cluster.advance(Duration::from_mins(2));
    let (id, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    assert_eq!(node.verified(&tokens.access).auth_time, auth_time);
    cluster.advance(Duration::from_mins(2));
    let tokens = Tokens::of(&remove(&node, &tokens, &id).await.expect(200));
    let claims = node.verified(&tokens.access);
    assert_eq!(claims.auth_time, auth_time);
    assert_eq!(claims.amr.as_slice(), ["pwd"]);
    assert_eq!(claims.acr.as_str(), "aal1");
}

#[tokio::test]
async fn reset_mail_goes_to_the_verified_address_that_was_typed() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (_, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    add(&cluster, &node, &tokens, "unverified").await;
    for name in ["unverified", "work"] {
        let typed = email(name).to_uppercase();
        node.post("/v1/password/forgot", json!({ "identifier": typed })).await.expect(202);
    }
    let (token, code) = first_mail(&cluster, "work", "password_reset").await;
    wait_until_settled(&node).await;
    assert_eq!(["ada", "unverified"].map(|name| count_mails(&cluster, name, "password_reset")), [0, 0]);
    let by_code = |identifier: String| {
        node.post("/v1/password/reset", json!({ "identifier": identifier, "code": code, "new_password": NEW_PASSWORD }))
    };
    assert_eq!(by_code(email("ada")).await.problem(), problem(401, "invalid_code"), "the mail went to another address");
    by_code(email("work")).await.expect(204);
    assert_eq!(
        reset(&node, &token, PASSWORD).await.problem(),
        problem(401, "invalid_code"),
        "the link and the code of a mail work once together"
    );
    node.refresh(&tokens.refresh).await.expect(401);
    let tokens = node.login_with(&email("work"), NEW_PASSWORD).await;
    let expected = ["ada (primary)", "unverified (not verified)", "work"];
    assert_eq!(list(&node, &tokens).await, expected);
    cluster.mail_to(&email("ada"), "password_changed").await;

    node.post("/v1/password/forgot", json!({ "identifier": email("work") })).await.expect(202);
    let earlier_mails = 1;
    let (token, _) = next_mail(&cluster, "work", earlier_mails, "password_reset").await;
    // back to the first password
    reset(&node, &token, PASSWORD).await.expect(204);
    node.login("ada").await;
}

#[tokio::test]
async fn sign_in_code_goes_to_the_verified_address_that_was_typed() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    add_verified(&cluster, &node, &tokens, "work").await;
    let request = node.post("/v1/login/code", json!({ "email": email("work") })).await.expect(202).text_of("request");
    let (_, code) = first_mail(&cluster, "work", "sign_in_code").await;
    let body = json!({ "request": request, "email": email("work"), "code": code });
    node.post("/v1/login/code/verify", body.clone()).await.expect(200);
    assert_eq!(node.post("/v1/login/code/verify", body).await.problem(), problem(401, "invalid_code"));
    assert_eq!(count_mails(&cluster, "ada", "sign_in_code"), 0);
    node.try_login("ada", PASSWORD).await.expect(200);
}

/// A link in a mail shows that its holder reads the mails of the secondary address, and nothing about the primary one.
#[tokio::test]
async fn reset_and_sign_in_by_a_secondary_address_do_not_verify_the_primary_one() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    node.register("typo").await;
    let tokens = node.login("typo").await;
    let (_, tokens) = add_verified(&cluster, &node, &tokens, "right").await;
    assert_eq!(list(&node, &tokens).await, ["typo (primary, not verified)", "right"]);
    node.post("/v1/password/forgot", json!({ "identifier": email("right") })).await.expect(202);
    let (token, _) = first_mail(&cluster, "right", "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    cluster.mail_to(&email("right"), "password_changed").await;

    let request = node.post("/v1/login/code", json!({ "email": email("right") })).await.expect(202).text_of("request");
    let (token, _) = first_mail(&cluster, "right", "sign_in_code").await;
    let answer = node.post("/v1/login/code/verify", json!({ "request": request, "token": token })).await.expect(200);
    let tokens = Tokens::of(&answer);
    assert_eq!(list(&node, &tokens).await, ["typo (primary, not verified)", "right"]);
    node.try_login("typo", NEW_PASSWORD).await.expect(200);
    wait_until_settled(&node).await;
    assert!(cluster.mails_to(&email("typo")).is_empty(), "an unverified address belongs to nobody");
}

/// A flood of requests for one address does not prevent mails to another address of the account.
#[tokio::test]
async fn mails_are_limited_per_address() {
    let mut cluster = TestCluster::new();
    // the test is about limits.mail_per_account alone
    cluster.config.limits.recovery_per_address = None;
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    add_verified(&cluster, &node, &tokens, "work").await;
    // limits.mail_per_account allows one mail of each kind to each address in 5 minutes
    for _ in 0..20 {
        node.post("/v1/password/forgot", json!({ "identifier": email("ada") })).await.expect(202);
    }
    for _ in 0..20 {
        node.post("/v1/password/forgot", json!({ "identifier": email("work") })).await.expect(202);
    }
    let (token, _) = first_mail(&cluster, "work", "password_reset").await;
    wait_until_settled(&node).await;
    assert_eq!(["ada", "work"].map(|name| count_mails(&cluster, name, "password_reset")), [1, 1]);
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
}

#[tokio::test]
async fn secondary_address_made_primary_keeps_the_former_primary_which_can_undo_the_change() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (id, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    let answer = make_primary(&node, &tokens, &id).await.expect(200);
    node.refresh(&tokens.refresh).await.expect(401);
    let tokens = Tokens::of(&answer);
    assert_eq!(list(&node, &tokens).await, ["work (primary)", "ada"]);
    let me = node.get("/v1/me", &tokens.access).await.json();
    assert_eq!(me["email"], email("work"));
    assert_eq!(me["email_verified"], true);
    for name in ["work", "ada"] {
        node.try_login(&email(name), PASSWORD).await.expect(200);
    }
    let notice = cluster.mail_to(&email("work"), "secondary_address_changed").await;
    assert!(join_lines(&notice.text).contains("is now the primary address"), "{}", notice.text);
    let undo = cluster.mail_to(&email("ada"), "address_changed").await.token().to_owned();

    // the undo link works even after a thief has removed the former address
    let emails = node.get("/v1/me/emails", &tokens.access).await.json()["emails"].clone();
    let former = &emails[1];
    assert_eq!(former["email"], email("ada"));
    let tokens = Tokens::of(&remove(&node, &tokens, former["id"].as_str().unwrap()).await.expect(200));
    node.post("/v1/email/undo", json!({ "token": undo })).await.expect(204);
    node.refresh(&tokens.refresh).await.expect(401);
    for name in ["work", "ada"] {
        node.try_login(&email(name), PASSWORD).await.expect(401);
    }
    // the undo has removed the password and sent this link
    let (token, _) = first_mail(&cluster, "ada", "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let tokens = node.login_with(&email("ada"), NEW_PASSWORD).await;
    assert_eq!(list(&node, &tokens).await, ["ada (primary)"]);
}

#[tokio::test]
async fn removed_address_is_notified_loses_its_sign_in_and_can_be_registered() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (id, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    node.post("/v1/password/forgot", json!({ "identifier": email("work") })).await.expect(202);
    let (reset_token, _) = first_mail(&cluster, "work", "password_reset").await;
    let new = Tokens::of(&remove(&node, &tokens, &id).await.expect(200));
    node.refresh(&tokens.refresh).await.expect(401);
    assert_eq!(list(&node, &new).await, ["ada (primary)"]);
    assert_eq!(remove(&node, &new, &id).await.problem(), problem(404, "unknown_email"));
    node.try_login(&email("work"), PASSWORD).await.expect(401);
    assert_eq!(reset(&node, &reset_token, NEW_PASSWORD).await.problem(), problem(401, "invalid_code"));
    wait_until_settled(&node).await;
    for name in ["work", "ada"] {
        let mail = cluster.mail_to(&email(name), "secondary_address_changed").await;
        assert!(join_lines(&mail.text).contains("work@example.com was removed"), "{}", mail.text);
    }
    node.register("work").await;
    let owner = node.login("work").await;
    verify_address(&cluster, &node, "work", &owner).await;
}

#[tokio::test]
async fn removal_of_an_unverified_address_invalidates_its_link_and_sends_no_notice() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (id, token, _) = add(&cluster, &node, &tokens, "typo").await;
    remove(&node, &tokens, &id).await.expect(204);
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    assert_eq!(answer.problem(), problem(401, "invalid_code"));
    node.refresh(&tokens.refresh).await.expect(200);
    wait_until_settled(&node).await;
    assert_eq!(count_mails(&cluster, "ada", "secondary_address_changed"), 0);
}

#[tokio::test]
async fn invalid_changes_of_addresses_are_refused_with_their_codes() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    // so that no limit refuses a call: the changes of addresses count as password changes
    cluster.config.limits.password_change_per_account = None;
    // the account has `ada`, `work` and `home`
    cluster.config.account.max_emails = 3;
    let node = cluster.node().await;
    // the primary address has the id of the account
    let primary = node.register("ada").await.text_of("id");
    let tokens = node.login("ada").await;
    let (work, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    let (home, _, _) = add(&cluster, &node, &tokens, "home").await;
    assert_eq!(try_add(&node, &tokens, "another").await.problem(), problem(409, "too_many_emails"));
    for known in ["ada", "work"] {
        assert_eq!(try_add(&node, &tokens, known).await.problem(), problem(409, "email_exists"));
    }
    let body = json!({ "email": "not an address" });
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/me/emails", body).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    assert_eq!(answer.json()["errors"][0]["code"], "invalid_email");
    for refused in [remove(&node, &tokens, &primary).await, make_primary(&node, &tokens, &primary).await] {
        assert_eq!(refused.problem(), problem(409, "primary_email"));
    }
    assert_eq!(make_primary(&node, &tokens, &home).await.problem(), problem(403, "email_not_verified"));
    // to `eve`, the address of another account does not exist
    node.register("eve").await;
    let eve = node.login("eve").await;
    for refused in [remove(&node, &eve, &work).await, make_primary(&node, &eve, &work).await] {
        assert_eq!(refused.problem(), problem(404, "unknown_email"));
    }
    assert_eq!(list(&node, &eve).await, ["eve (primary, not verified)"]);
    node.try_login(&email("work"), PASSWORD).await.expect(200);
}

#[tokio::test]
async fn changes_of_addresses_need_a_recent_authentication() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (id, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    // an authentication counts as recent for 10 minutes (session.recent)
    cluster.advance(Duration::from_mins(11));
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    for refused in [
        try_add(&node, &tokens, "new").await,
        remove(&node, &tokens, &id).await,
        make_primary(&node, &tokens, &id).await,
    ] {
        assert_eq!(refused.problem(), problem(401, "insufficient_user_authentication"));
    }
    // the list needs no recent authentication
    list(&node, &tokens).await;
}

/// An owner reports a change with the link of its notice. Afterwards the thief's address must not lead into the account.
#[tokio::test]
async fn report_of_an_added_address_removes_it_and_keeps_older_ones() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    add_verified(&cluster, &node, &tokens, "old").await;
    // more than the 72 hours in which a report removes an added address
    cluster.advance(Duration::from_hours(80));
    let thief = node.login("ada").await;
    let before = count_mails(&cluster, "ada", "secondary_address_changed");
    let (_, thief) = add_verified(&cluster, &node, &thief, "thief").await;
    wait::until("the owner has a notice", || async {
        count_mails(&cluster, "ada", "secondary_address_changed") > before
    })
    .await;
    let report_token = cluster.mail_to(&email("ada"), "secondary_address_changed").await.token().to_owned();
    node.post("/v1/account/secure", json!({ "token": report_token })).await.expect(204);
    node.refresh(&thief.refresh).await.expect(401);
    node.post("/v1/password/forgot", json!({ "identifier": email("thief") })).await.expect(202);
    // the report has sent this link
    let (token, _) = first_mail(&cluster, "ada", "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let tokens = node.login_with(&email("old"), NEW_PASSWORD).await;
    assert_eq!(list(&node, &tokens).await, ["ada (primary)", "old"]);
    wait_until_settled(&node).await;
    assert_eq!(count_mails(&cluster, "thief", "password_reset"), 0);
}

#[tokio::test]
async fn secondary_address_that_becomes_primary_by_change_or_by_operator_is_stored_once() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (_, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    let (_, tokens) = add_verified(&cluster, &node, &tokens, "home").await;
    let (token, _) = request_address_change(&cluster, &node, &tokens, "work").await;
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    let tokens = Tokens::of(&answer.expect(200));
    assert_eq!(list(&node, &tokens).await, ["work (primary)", "home"]);
    // the operator makes a verified secondary address the primary one
    let id = node.get("/v1/me", &tokens.access).await.text_of("id").parse().unwrap();
    let address = |name: &str| Email::parse(&email(name)).unwrap();
    accounts::set_email(&node.state, id, &address("home")).await.unwrap();
    assert_eq!(list(&node, &tokens).await, ["home (primary)"], "the address is verified already; `work` is replaced");
    node.register("grace").await;
    let grace = node.login("grace").await;
    add_verified(&cluster, &node, &grace, "desk").await;
    let taken = accounts::set_email(&node.state, id, &address("desk")).await;
    assert!(matches!(taken, Err(ChangeAccountError::EmailTaken)), "{taken:?}");
}

#[tokio::test]
async fn deleted_account_frees_its_addresses_and_the_export_lists_them() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (_, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    add(&cluster, &node, &tokens, "home").await;
    let export = node.get("/v1/me/export", &tokens.access).await.expect(200).json();
    let exported = export["secondary_emails"].as_array().unwrap();
    assert_eq!(exported.len(), 2);
    // The addresses were added at the same time, so their order is undefined.
    for (name, is_verified) in [("home", false), ("work", true)] {
        let address = exported.iter().find(|address| address["email"] == email(name)).unwrap();
        assert_eq!(address["verified"], is_verified, "{name}");
    }
    // audit events are written with a delay
    node.state.audit.flush().await.unwrap();
    let events = node.get("/v1/me/export", &tokens.access).await.expect(200).json()["events"].clone();
    assert!(events.as_array().unwrap().iter().any(|event| event["event"] == "email_added"), "{events}");
    signed_in(&node, &tokens, Method::DELETE, "/v1/me", json!({})).await.expect(202);
    // the grace period after which the account is deleted
    cluster.advance(Duration::from_hours(14 * 24));
    assert_eq!(delete_due(&node.state).await.unwrap(), 1);
    node.register("work").await;
    let owner = node.login("work").await;
    verify_address(&cluster, &node, "work", &owner).await;
}
