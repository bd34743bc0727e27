//! I13: An unverified address belongs to nobody. The five classes of account pre-hijacking (Sudhodanan and Paverd, USENIX
//! Security 2022): an attacker sets up an account with the address of a victim, and waits for the victim to use it.

use latchkey::{domain::account::NewAccount, service::clients::NewClient};
use reqwest::Method;
use serde_json::json;

use crate::{
    accounts::{
        NEW_PASSWORD, change_mail, count, email, next_mail, problem, reset, reset_mail, signed_in, verify,
        without_limits,
    },
    harness::{
        client::{PASSWORD, Tokens},
        test_cluster::{Node, TestCluster},
    },
};

/// A cluster where an attacker has registered the address of a victim, and is signed in.
async fn squatted() -> (TestCluster, Node, Tokens) {
    let mut cluster = TestCluster::new();
    without_limits(&mut cluster);
    let node = cluster.node().await;
    node.account("victim").await;
    let attacker = node.login("victim").await;
    (cluster, node, attacker)
}

/// Asserts that password, session and access token of the attacker are refused.
async fn assert_locked_out(node: &Node, attacker: &Tokens) {
    node.try_login("victim", PASSWORD).await.expect(401);
    node.try_login(&email("victim"), PASSWORD).await.expect(401);
    node.refresh(&attacker.refresh).await.expect(401);
    node.get("/v1/me", &attacker.access).await.expect(401);
}

/// Classic-federated merge: the victim arrives by another way than the attacker, who set a password. As far as it applies: the
/// other way is an invitation of the app, which knows the victim.
#[tokio::test]
async fn i13_classic_federated_merge_invited_victim_does_not_share_the_account_with_the_squatter() {
    let (cluster, node, attacker) = squatted().await;
    let scopes = vec!["accounts:recover".to_owned()];
    let new = NewClient { name: "crm".to_owned(), scopes, ..NewClient::default() };
    let client = cluster.service_client_with(new).await;
    let request = node.request(Method::POST, "/v1/users/invite").basic_auth(&client.id, Some(&client.secret));
    node.send(request.json(&json!({ "email": email("victim") }))).await.expect(202);
    let (token, _) = next_mail(&cluster, "victim", 0, "invitation").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    assert_locked_out(&node, &attacker).await;
    node.login_with("victim", NEW_PASSWORD).await;
}

/// Unexpired session: the attacker keeps a session from before the victim's recovery or verification.
#[tokio::test]
async fn i13_unexpired_session_ends_when_the_victim_recovers_or_verifies() {
    let (cluster, node, attacker) = squatted().await;
    let (token, _) = reset_mail(&cluster, &node, "victim").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    assert_locked_out(&node, &attacker).await;

    let (cluster, node, attacker) = squatted().await;
    node.post("/v1/email/verification", json!({ "email": email("victim") })).await.expect(202);
    let (token, _) = next_mail(&cluster, "victim", 0, "verify_address").await;
    // the victim knows no password of the account
    let answer = node.post("/v1/email/verify", json!({ "token": token })).await;
    assert_eq!(answer.problem(), problem(403, "proof_required"));
    let body = json!({ "token": token, "new_password": NEW_PASSWORD });
    node.post("/v1/email/verify", body).await.expect(204);
    assert_locked_out(&node, &attacker).await;
}

/// Trojan identifier: the attacker adds an identifier of their own, and recovers the account with it later. The attacker's
/// own account gets the victim's address, with the victim's click, and its former address is the trojan.
#[tokio::test]
async fn i13_trojan_identifier_gives_no_way_back_into_the_account() {
    let (cluster, node, attacker) = squatted().await;
    // a username
    signed_in(&node, &attacker, Method::PATCH, "/v1/me", json!({ "username": "trojan" })).await.expect(200);
    node.post("/v1/password/forgot", json!({ "identifier": email("victim") })).await.expect(202);
    let (token, _) = next_mail(&cluster, "victim", 0, "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let before = count(&cluster, "victim", "password_reset");
    node.post("/v1/password/forgot", json!({ "identifier": "trojan" })).await.expect(202);
    next_mail(&cluster, "victim", before, "password_reset").await;
    node.try_login("trojan", PASSWORD).await.expect(401);

    // an address
    node.account("attacker").await;
    let attacker = node.login("attacker").await;
    verify(&cluster, &node, "attacker", &attacker).await;
    let (token, code) = change_mail(&cluster, &node, &attacker, "other").await;
    for body in [json!({ "token": token }), json!({ "email": email("other"), "code": code })] {
        let answer = node.post("/v1/email/verify", body).await;
        assert!([problem(403, "proof_required"), problem(401, "invalid_code")].contains(&answer.problem()));
    }
    let me = node.get("/v1/me", &attacker.access).await.json();
    assert_eq!(me["email"], email("attacker"), "the victim's click alone gives the account no address");
}

/// Unexpired change of address: the attacker starts a change to an own address, and confirms it after the victim's recovery.
#[tokio::test]
async fn i13_unexpired_email_change_is_void_after_the_victims_recovery() {
    let (cluster, node, attacker) = squatted().await;
    let (change, code) = change_mail(&cluster, &node, &attacker, "attacker").await;
    let (token, _) = reset_mail(&cluster, &node, "victim").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    for body in [
        json!({ "token": change, "password": NEW_PASSWORD }),
        json!({ "token": change, "new_password": PASSWORD }),
        json!({ "email": email("attacker"), "code": code, "password": PASSWORD }),
    ] {
        assert_eq!(node.post("/v1/email/verify", body).await.problem(), problem(401, "invalid_code"));
    }
    let victim = node.login_with("victim", NEW_PASSWORD).await;
    assert_eq!(node.get("/v1/me", &victim.access).await.json()["email"], email("victim"));
}

/// Non-verifying provider: an account comes from a system that did not verify the address. As far as it applies: an import.
#[tokio::test]
async fn i13_non_verifying_provider_imported_unverified_address_belongs_to_who_verifies_it() {
    let (cluster, node, attacker) = squatted().await;
    // the victim proves the address for an account of their own
    node.account("mine").await;
    let mine = node.login("mine").await;
    let (token, _) = change_mail(&cluster, &node, &mine, "victim").await;
    let answer = signed_in(&node, &mine, Method::POST, "/v1/email/verify", json!({ "token": token })).await.expect(200);
    let mine = Tokens::of(&answer);
    let me = node.get("/v1/me", &mine.access).await.json();
    assert_eq!((&me["email"], &me["email_verified"]), (&json!(email("victim")), &json!(true)));
    // the attacker's account has lost it, and signs in by it no more
    assert_eq!(node.get("/v1/me", &attacker.access).await.json()["email"], "");
    node.try_login(&email("victim"), PASSWORD).await.expect(200);
    let owner = Tokens::of(&node.try_login(&email("victim"), PASSWORD).await);
    assert_eq!(node.get("/v1/me", &owner.access).await.json()["id"], me["id"]);

    // an import whose system had not verified the address gives it to nobody
    let imported = NewAccount {
        id: node.state.entropy.account_id(cluster.clock.now()),
        email: latchkey::domain::account::Email::parse(&email("imported")).unwrap(),
        email_verified: false,
        username: None,
        password_hash: None,
        roles: latchkey::domain::account::Roles::default(),
        disabled_at: None,
        created_at: cluster.clock.now(),
        updated_at: cluster.clock.now(),
    };
    node.state.sql.insert_account(&imported).await.unwrap();
    node.post("/v1/password/forgot", json!({ "identifier": email("imported") })).await.expect(202);
    let (token, _) = next_mail(&cluster, "imported", 0, "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let owner = node.login_with(&email("imported"), NEW_PASSWORD).await;
    assert_eq!(node.get("/v1/me", &owner.access).await.json()["email_verified"], true);
}
