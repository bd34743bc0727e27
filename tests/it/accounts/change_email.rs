//! Change of the primary address: `POST /v1/me/email`, its confirmation, and `POST /v1/email/undo`.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{
    NEW_PASSWORD, count_mails, email, emails::add_verified, first_mail, problem, remove_mail_and_login_limits,
    request_address_change, reset, signed_in, verify_address,
};
use crate::{
    harness::{
        client::{PASSWORD, Tokens},
        test_cluster::{Node, TestCluster},
    },
    mail::wait_until_mails_are_done,
};

/// A cluster without limits on mails, its node, and a session of the account `name`, whose address is not verified.
async fn cluster_with_account(name: &str) -> (TestCluster, Node, Tokens) {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    node.register(name).await;
    let tokens = node.login(name).await;
    (cluster, node, tokens)
}

#[tokio::test]
async fn confirmed_change_replaces_address_and_session_and_notifies_the_former_address() {
    let (cluster, node, tokens) = cluster_with_account("ada").await;
    let other_session = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let (token, _) = request_address_change(&cluster, &node, &tokens, "lovelace").await;
    assert_eq!(
        node.get("/v1/me", &tokens.access).await.json()["email"],
        email("ada"),
        "the address changes only when it is confirmed"
    );

    let answer = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    let new = Tokens::of(&answer.expect(200));
    for former in [&tokens, &other_session] {
        node.refresh(&former.refresh).await.expect(401);
        node.get("/v1/me", &former.access).await.expect(401);
    }
    let me = node.get("/v1/me", &new.access).await.expect(200).json();
    assert_eq!(me["email"], email("lovelace"));
    assert_eq!(me["email_verified"], true);
    node.try_login(&email("lovelace"), PASSWORD).await.expect(200);
    node.try_login(&email("ada"), PASSWORD).await.expect(401);
    cluster.mail_to(&email("ada"), "address_changed").await;
}

#[tokio::test]
async fn change_is_confirmed_by_code_in_the_session_or_by_link_with_password() {
    let (cluster, node, tokens) = cluster_with_account("ada").await;
    let (_, code) = request_address_change(&cluster, &node, &tokens, "first").await;
    let body = json!({ "email": email("first"), "code": code });
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", body).await.expect(200);
    let tokens = Tokens::of(&answer);
    let (token, _) = request_address_change(&cluster, &node, &tokens, "second").await;
    let verify = |body| node.post("/v1/email/verify", body);
    assert_eq!(verify(json!({ "token": token })).await.problem(), problem(403, "proof_required"));
    verify(json!({ "token": token, "password": PASSWORD })).await.expect(204);
    node.refresh(&tokens.refresh).await.expect(401);
    node.try_login(&email("second"), PASSWORD).await.expect(200);
}

/// A stranger who receives the mail to a mistyped address must not get the account with that mail alone.
#[tokio::test]
async fn new_password_with_the_link_of_a_new_address_is_refused_if_the_account_has_a_verified_address() {
    let (cluster, node, owner) = cluster_with_account("ada").await;
    verify_address(&cluster, &node, "ada", &owner).await;
    let (token, _) = request_address_change(&cluster, &node, &owner, "mistyped").await;
    let body = json!({ "token": token, "new_password": NEW_PASSWORD });
    assert_eq!(node.post("/v1/email/verify", body).await.problem(), problem(403, "proof_required"));
    node.refresh(&owner.refresh).await.expect(200);
    node.post("/v1/email/verify", json!({ "token": token, "password": PASSWORD })).await.expect(204);

    // an account is owned even if its only verified address is a secondary one
    node.register("grace").await;
    let grace = node.login("grace").await;
    let (_address_id, grace) = add_verified(&cluster, &node, &grace, "grace.work").await;
    let (token, _) = request_address_change(&cluster, &node, &grace, "wrong").await;
    let body = json!({ "token": token, "new_password": NEW_PASSWORD });
    assert_eq!(node.post("/v1/email/verify", body).await.problem(), problem(403, "proof_required"));

    // an account without a verified address belongs to the person who verifies one
    node.register("typo").await;
    let typo = node.login("typo").await;
    let (token, _) = request_address_change(&cluster, &node, &typo, "right").await;
    node.post("/v1/email/verify", json!({ "token": token, "new_password": NEW_PASSWORD })).await.expect(204);
    node.try_login(&email("right"), NEW_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn later_request_replaces_the_earlier_address() {
    let (cluster, node, tokens) = cluster_with_account("ada").await;
    let (first_token, _) = request_address_change(&cluster, &node, &tokens, "first").await;
    request_address_change(&cluster, &node, &tokens, "second").await;
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": first_token })).await;
    assert_eq!(answer.problem(), problem(401, "invalid_code"));
}

#[tokio::test]
async fn address_that_another_account_has_verified_is_answered_like_a_free_one_and_its_owner_gets_a_mail() {
    let (cluster, node, ada) = cluster_with_account("ada").await;
    node.register("grace").await;
    let grace = node.login("grace").await;
    verify_address(&cluster, &node, "grace", &grace).await;
    let body = json!({ "email": email("grace") });
    let taken = signed_in(&node, &ada, Method::POST, "/v1/me/email", body).await.expect(202);
    let free =
        signed_in(&node, &ada, Method::POST, "/v1/me/email", json!({ "email": email("free") })).await.expect(202);
    assert_eq!(taken.text, free.text);
    assert_eq!(taken.headers.len(), free.headers.len(), "no header shows that the address is taken");
    cluster.mail_to(&email("grace"), "address_taken").await;
}

#[tokio::test]
async fn undo_restores_the_address_and_ends_the_thiefs_password_and_later_change() {
    let (cluster, node, owner) = cluster_with_account("ada").await;
    verify_address(&cluster, &node, "ada", &owner).await;
    // the thief knows the password
    let thief = node.login("ada").await;
    let (token, _) = request_address_change(&cluster, &node, &thief, "thief").await;
    let answer =
        signed_in(&node, &thief, Method::POST, "/v1/email/verify", json!({ "token": token })).await.expect(200);
    // the change has ended the session, and the thief has the new one
    let thief = Tokens::of(&answer);
    let undo = cluster.mail_to(&email("ada"), "address_changed").await.token().to_owned();
    // then the thief changes the password, and the address once more
    node.change_password(&thief.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    let thief = node.login_with(&email("thief"), NEW_PASSWORD).await;
    let (second_change, _) = request_address_change(&cluster, &node, &thief, "second").await;
    node.post("/v1/email/verify", json!({ "token": second_change, "password": NEW_PASSWORD })).await.expect(204);

    node.post("/v1/email/undo", json!({ "token": undo })).await.expect(204);
    // the link works once
    node.post("/v1/email/undo", json!({ "token": undo })).await.expect(401);
    // No password works: the undo has removed the thief's, and has mailed a reset link to the restored address.
    for password in [NEW_PASSWORD, PASSWORD] {
        node.try_login("ada", password).await.expect(401);
    }
    let (token, _) = first_mail(&cluster, "ada", "password_reset").await;
    let owners_password = "marble thicket saddle forty";
    reset(&node, &token, owners_password).await.expect(204);
    let tokens = node.login_with(&email("ada"), owners_password).await;
    assert_eq!(node.get("/v1/me", &tokens.access).await.json()["email"], email("ada"));
    // only the first change had an undo link
    wait_until_mails_are_done(&node.state.sql).await;
    assert_eq!(count_mails(&cluster, "thief", "address_changed"), 0, "the thief's own second change has no undo link");
}

#[tokio::test]
async fn undo_link_expires_after_the_window() {
    let (cluster, node, tokens) = cluster_with_account("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let (token, _) = request_address_change(&cluster, &node, &tokens, "new").await;
    signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await.expect(200);
    let undo = cluster.mail_to(&email("ada"), "address_changed").await.token().to_owned();
    // the window for undoing is 72 hours
    cluster.advance(Duration::from_hours(72));
    assert_eq!(node.post("/v1/email/undo", json!({ "token": undo })).await.problem(), problem(401, "invalid_code"));
}

#[tokio::test]
async fn unverified_former_address_gets_no_mail() {
    let (cluster, node, tokens) = cluster_with_account("typo").await;
    let (token, _) = request_address_change(&cluster, &node, &tokens, "right").await;
    signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await.expect(200);
    wait_until_mails_are_done(&node.state.sql).await;
    assert!(cluster.mails_to(&email("typo")).is_empty());
}

#[tokio::test]
async fn change_of_address_or_username_and_deletion_need_a_recent_authentication() {
    let (cluster, node, tokens) = cluster_with_account("ada").await;
    // an authentication counts as recent for 10 minutes; the refresh renews the access token, and not the authentication
    cluster.advance(Duration::from_mins(11));
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    for (method, path, body) in [
        (Method::POST, "/v1/me/email", json!({ "email": email("new") })),
        (Method::PATCH, "/v1/me", json!({ "username": "lovelace" })),
        (Method::DELETE, "/v1/me", json!({})),
    ] {
        let answer = signed_in(&node, &tokens, method, path, body).await;
        assert_eq!(answer.problem(), problem(401, "insufficient_user_authentication"), "{path}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.contains("error=\"insufficient_user_authentication\""), "{challenge}");
        assert!(challenge.ends_with("max_age=\"600\""), "{challenge}");
    }
}
