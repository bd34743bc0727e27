//! Tests I13 (an unverified address belongs to nobody) with the five classes of account pre-hijacking (Sudhodanan and Paverd, USENIX
//! Security 2022): an attacker sets up an account with the address of a victim, and waits for the victim to use it.

use std::time::Duration;

use latchkey::{
    domain::{
        account::{Email, NewAccount, Roles},
        client::{ClientId, SpaceSeparated},
    },
    service::clients::NewClient,
    store::sql::Permission,
};
use reqwest::Method;
use serde_json::json;

use crate::{
    accounts::{
        NEW_PASSWORD, count_mails, email, emails, first_mail, next_mail, problem, remove_mail_and_login_limits,
        request_address_change, request_reset, reset, signed_in, verify_address,
    },
    harness::{
        client::{PASSWORD, Tokens},
        test_cluster::{Node, ServiceClient, TestCluster},
    },
};

/// A cluster that allows sign-ins by mail, where an attacker has registered the address of a victim, and is signed in.
async fn squatted_account() -> (TestCluster, Node, Tokens) {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    node.register("victim").await;
    let attacker = node.login("victim").await;
    (cluster, node, attacker)
}

/// An app that may invite users and start resets.
async fn recovery_app(cluster: &TestCluster) -> ServiceClient {
    let scopes = vec!["accounts:recover".to_owned()];
    cluster.service_client_with(NewClient { name: "crm".to_owned(), scopes, ..NewClient::default() }).await
}

/// Asserts that the attacker's password, session and access token are refused.
async fn assert_locked_out(node: &Node, attacker: &Tokens) {
    node.try_login("victim", PASSWORD).await.expect(401);
    node.try_login(&email("victim"), PASSWORD).await.expect(401);
    node.refresh(&attacker.refresh).await.expect(401);
    node.get("/v1/me", &attacker.access).await.expect(401);
}

/// Classic-federated merge: the attacker sets a password, and the victim gets into the account in another way. Here that way is an
/// invitation by an app that knows the victim.
#[tokio::test]
async fn i13_classic_federated_merge_invited_victim_does_not_share_the_account_with_the_squatter() {
    let (cluster, node, attacker) = squatted_account().await;
    let app = recovery_app(&cluster).await;
    let request = node.request(Method::POST, "/v1/users/invite").basic_auth(&app.id, Some(&app.secret));
    node.send(request.json(&json!({ "email": email("victim") }))).await.expect(202);
    let (token, _) = first_mail(&cluster, "victim", "invitation").await;
    // an invitation's link sets a password, as that of a reset does
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    assert_locked_out(&node, &attacker).await;
    node.login_with("victim", NEW_PASSWORD).await;
}

/// Unexpired session: the attacker keeps a session from before the victim's recovery or verification.
#[tokio::test]
async fn i13_unexpired_session_ends_when_the_victim_recovers_or_verifies() {
    let (cluster, node, attacker) = squatted_account().await;
    let (token, _) = request_reset(&cluster, &node, "victim").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    assert_locked_out(&node, &attacker).await;

    let (cluster, node, attacker) = squatted_account().await;
    node.post("/v1/email/verification", json!({ "email": email("victim") })).await.expect(202);
    let (token, _) = first_mail(&cluster, "victim", "verify_address").await;
    // the victim knows no password of the account
    let answer = node.post("/v1/email/verify", json!({ "token": token })).await;
    assert_eq!(answer.problem(), problem(403, "proof_required"));
    let body = json!({ "token": token, "new_password": NEW_PASSWORD });
    node.post("/v1/email/verify", body).await.expect(204);
    assert_locked_out(&node, &attacker).await;
}

/// Trojan identifier: the attacker adds an identifier of their own, and recovers the account with it later. In the second part, the
/// attacker changes the address of their own account to the victim's and waits for the victim's click. The trojan is the former address.
#[tokio::test]
async fn i13_trojan_identifier_gives_no_way_back_into_the_account() {
    let (cluster, node, attacker) = squatted_account().await;
    // The trojan is a username. It signs in to the victim's account, but the mail of a reset goes to the victim.
    signed_in(&node, &attacker, Method::PATCH, "/v1/me", json!({ "username": "trojan" })).await.expect(200);
    node.post("/v1/password/forgot", json!({ "identifier": email("victim") })).await.expect(202);
    let (token, _) = first_mail(&cluster, "victim", "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let before = count_mails(&cluster, "victim", "password_reset");
    node.post("/v1/password/forgot", json!({ "identifier": "trojan" })).await.expect(202);
    next_mail(&cluster, "victim", before, "password_reset").await;
    node.try_login("trojan", PASSWORD).await.expect(401);

    // The trojan is the former address (`attacker`), and `other` is the victim's address.
    node.register("attacker").await;
    let attacker = node.login("attacker").await;
    verify_address(&cluster, &node, "attacker", &attacker).await;
    let (token, code) = request_address_change(&cluster, &node, &attacker, "other").await;
    for body in [
        json!({ "token": token }),
        json!({ "token": token, "new_password": NEW_PASSWORD }),
        json!({ "email": email("other"), "code": code }),
        json!({ "email": email("other"), "code": code, "new_password": NEW_PASSWORD }),
    ] {
        // 403 for the link, 401 for the code: a code needs the account's session
        let refusal = node.post("/v1/email/verify", body).await.problem();
        assert!([problem(403, "proof_required"), problem(401, "invalid_code")].contains(&refusal), "{refusal:?}");
    }
    let me = node.get("/v1/me", &attacker.access).await.json();
    assert_eq!(me["email"], email("attacker"), "the victim's click alone gives the account no address");
}

/// Unexpired consent and trojan identifier: the attacker has consented to an app, and has a former address, which an undo restores.
#[tokio::test]
async fn i13_consent_and_former_address_of_a_squatter_do_not_survive_recovery_verification_or_sign_in_by_mail() {
    for victims_proof in ["reset", "verification", "sign_in_by_mail"] {
        let mut cluster = TestCluster::new();
        remove_mail_and_login_limits(&mut cluster);
        cluster.config.login.email_code = true;
        let node = cluster.node().await;
        let id = node.register("victim").await.text_of("id").parse().unwrap();
        let now = cluster.clock.now();
        let app = ClientId::parse("trojan").unwrap();
        let scope = SpaceSeparated::parse(["openid"]).unwrap();
        let allowed = Permission { scope: &scope, resources: &SpaceSeparated::default() };
        node.state.sql.add_consent(id, &app, allowed, now).await.unwrap();
        let mut change = node.state.sql.change_account(id).await.unwrap().unwrap();
        let former = Email::parse(&email("trojan")).unwrap();
        let undo_until = now + Duration::from_hours(72);
        change.add_former_address(&former, now, undo_until).await.unwrap();
        change.commit().await.unwrap();
        match victims_proof {
            "reset" => {
                let (token, _) = request_reset(&cluster, &node, "victim").await;
                reset(&node, &token, NEW_PASSWORD).await.expect(204);
            }
            "verification" => {
                node.post("/v1/email/verification", json!({ "email": email("victim") })).await.expect(202);
                let (token, _) = first_mail(&cluster, "victim", "verify_address").await;
                let body = json!({ "token": token, "new_password": NEW_PASSWORD });
                node.post("/v1/email/verify", body).await.expect(204);
            }
            "sign_in_by_mail" => {
                let body = json!({ "email": email("victim") });
                let request = node.post("/v1/login/code", body).await.expect(202).text_of("request");
                let (token, _) = first_mail(&cluster, "victim", "sign_in_code").await;
                let body = json!({ "request": request, "token": token });
                node.post("/v1/login/code/verify", body).await.expect(200);
            }
            other => unreachable!("{other}"),
        }
        assert!(node.state.sql.consents(id).await.unwrap().is_empty(), "{victims_proof}");
        assert!(node.state.sql.former_addresses(id, now).await.unwrap().is_empty(), "{victims_proof}");
    }
}

/// Unexpired change of address: the attacker starts a change to their own address, and tries to confirm it after the victim's recovery.
#[tokio::test]
async fn i13_unexpired_email_change_is_void_after_the_victims_recovery() {
    let (cluster, node, attacker) = squatted_account().await;
    let (change_token, code) = request_address_change(&cluster, &node, &attacker, "attacker").await;
    let (reset_token, _) = request_reset(&cluster, &node, "victim").await;
    reset(&node, &reset_token, NEW_PASSWORD).await.expect(204);
    // neither the victim's password nor one that the attacker knows confirms the change
    for body in [
        json!({ "token": change_token, "password": NEW_PASSWORD }),
        json!({ "token": change_token, "new_password": PASSWORD }),
        json!({ "email": email("attacker"), "code": code, "password": PASSWORD }),
    ] {
        assert_eq!(node.post("/v1/email/verify", body).await.problem(), problem(401, "invalid_code"));
    }
    let victim = node.login_with("victim", NEW_PASSWORD).await;
    assert_eq!(node.get("/v1/me", &victim.access).await.json()["email"], email("victim"));
}

/// Non-verifying provider: an account has an address that nobody has verified. In the second part, the account is imported.
#[tokio::test]
async fn i13_non_verifying_provider_imported_address_belongs_to_the_account_that_verifies_it() {
    let (cluster, node, attacker) = squatted_account().await;
    // the victim proves the address for an account of their own
    node.register("mine").await;
    let victim = node.login("mine").await;
    let (token, _) = request_address_change(&cluster, &node, &victim, "victim").await;
    let answer =
        signed_in(&node, &victim, Method::POST, "/v1/email/verify", json!({ "token": token })).await.expect(200);
    let victim = Tokens::of(&answer);
    let me = node.get("/v1/me", &victim.access).await.json();
    assert_eq!(me["email"], email("victim"));
    assert_eq!(me["email_verified"], true);
    // The attacker's account has lost the address, which now signs in to the victim's account.
    assert_eq!(node.get("/v1/me", &attacker.access).await.json()["email"], "");
    let owner = Tokens::of(&node.try_login(&email("victim"), PASSWORD).await.expect(200));
    assert_eq!(node.get("/v1/me", &owner.access).await.json()["id"], me["id"]);

    // An unverified address of an imported account belongs to nobody until it is verified.
    let imported = NewAccount {
        id: node.state.entropy.account_id(cluster.clock.now()),
        email: Email::parse(&email("imported")).unwrap(),
        email_verified: false,
        username: None,
        password_hash: None,
        roles: Roles::default(),
        disabled_at: None,
        created_at: cluster.clock.now(),
        updated_at: cluster.clock.now(),
    };
    node.state.sql.insert_account(&imported).await.unwrap();
    node.post("/v1/password/forgot", json!({ "identifier": email("imported") })).await.expect(202);
    let (token, _) = first_mail(&cluster, "imported", "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let owner = node.login_with(&email("imported"), NEW_PASSWORD).await;
    assert_eq!(node.get("/v1/me", &owner.access).await.json()["email_verified"], true);
}

/// An account without an address cannot get the link by mail. A link that is returned to an app sets a password, and verifies no address.
#[tokio::test]
async fn i13_reset_of_an_account_that_has_lost_its_address_is_not_mailed_and_verifies_nothing() {
    let (cluster, node, _) = squatted_account().await;
    node.register("mine").await;
    let victim = node.login("mine").await;
    let (token, _) = request_address_change(&cluster, &node, &victim, "victim").await;
    signed_in(&node, &victim, Method::POST, "/v1/email/verify", json!({ "token": token })).await.expect(200);
    let app = recovery_app(&cluster).await;
    let start_reset = async |body: serde_json::Value| {
        let request = node.request(Method::POST, "/v1/users/reset").basic_auth(&app.id, Some(&app.secret));
        node.send(request.json(&body)).await
    };
    // the username `victim` is still that of the attacker's account
    assert_eq!(start_reset(json!({ "account": "victim" })).await.problem(), problem(404, "unknown_email"));
    let returned = start_reset(json!({ "account": "victim", "delivery": "return" })).await.expect(202);
    reset(&node, &returned.text_of("token"), NEW_PASSWORD).await.expect(204);
    let session = node.login_with("victim", NEW_PASSWORD).await;
    let me = node.get("/v1/me", &session.access).await.expect(200).json();
    assert_eq!(me["email"], "");
    assert_eq!(me["email_verified"], false);
}

/// A cluster where an attacker has registered the address of a victim, and has added and verified an address of their own.
async fn squatted_with_own_address() -> (TestCluster, Node, Tokens) {
    let (cluster, node, attacker) = squatted_account().await;
    let (_id, attacker) = emails::add_verified(&cluster, &node, &attacker, "attacker").await;
    node.try_login(&email("attacker"), PASSWORD).await.expect(200);
    (cluster, node, attacker)
}

/// Asserts that the account has lost the attacker's own address, which neither signs in to the account nor recovers it.
async fn assert_attackers_address_gone(cluster: &TestCluster, node: &Node) {
    node.try_login(&email("attacker"), NEW_PASSWORD).await.expect(401);
    let before = count_mails(cluster, "attacker", "password_reset");
    node.post("/v1/password/forgot", json!({ "identifier": email("attacker") })).await.expect(202);
    node.post("/v1/login/code", json!({ "email": email("attacker") })).await.expect(202);
    emails::wait_until_settled(node).await;
    assert_eq!(count_mails(cluster, "attacker", "password_reset"), before);
    assert_eq!(count_mails(cluster, "attacker", "sign_in_code"), 0);
    let victim = node.login_with("victim", NEW_PASSWORD).await;
    assert_eq!(emails::list(node, &victim).await, ["victim (primary)"]);
}

/// Classic-federated merge: an app invites the victim, whose address is the primary one of the attacker's account.
#[tokio::test]
async fn i13_classic_federated_merge_invitation_removes_the_squatters_secondary_address() {
    let (cluster, node, attacker) = squatted_with_own_address().await;
    let app = recovery_app(&cluster).await;
    let invite = |name: &str| {
        let request = node.request(Method::POST, "/v1/users/invite").basic_auth(&app.id, Some(&app.secret));
        node.send(request.json(&json!({ "email": email(name) })))
    };
    assert_eq!(
        invite("attacker").await.problem(),
        problem(409, "email_taken"),
        "a verified secondary address is owned"
    );
    invite("victim").await.expect(202);
    let (token, _) = first_mail(&cluster, "victim", "invitation").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    assert_locked_out(&node, &attacker).await;
    assert_attackers_address_gone(&cluster, &node).await;
}

/// Unexpired session and trojan identifier: the attacker has a verified address of their own in the account, and a session.
#[tokio::test]
async fn i13_trojan_secondary_address_is_removed_when_the_victim_recovers_or_verifies() {
    let (cluster, node, attacker) = squatted_with_own_address().await;
    let (token, _) = request_reset(&cluster, &node, "victim").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    assert_locked_out(&node, &attacker).await;
    assert_attackers_address_gone(&cluster, &node).await;

    let (cluster, node, attacker) = squatted_with_own_address().await;
    node.post("/v1/email/verification", json!({ "email": email("victim") })).await.expect(202);
    let (token, _) = first_mail(&cluster, "victim", "verify_address").await;
    node.post("/v1/email/verify", json!({ "token": token, "new_password": NEW_PASSWORD })).await.expect(204);
    assert_locked_out(&node, &attacker).await;
    assert_attackers_address_gone(&cluster, &node).await;
}

/// Trojan identifier: the attacker adds the victim's address (`other`) to their own account, so that the victim would sign in there.
#[tokio::test]
async fn i13_trojan_secondary_address_of_the_victim_is_not_verified_by_the_victims_click() {
    let (cluster, node, attacker) = squatted_account().await;
    let (_id, token, code) = emails::add(&cluster, &node, &attacker, "other").await;
    for body in [
        json!({ "token": token }),
        json!({ "token": token, "new_password": NEW_PASSWORD }),
        json!({ "email": email("other"), "code": code, "password": PASSWORD }),
    ] {
        let refusal = node.post("/v1/email/verify", body).await.problem();
        assert!([problem(403, "proof_required"), problem(401, "invalid_code")].contains(&refusal), "{refusal:?}");
    }
    node.try_login(&email("other"), PASSWORD).await.expect(401);
    // Nor does the address recover the attacker's account.
    node.post("/v1/password/forgot", json!({ "identifier": email("other") })).await.expect(202);
    emails::wait_until_settled(&node).await;
    assert_eq!(["other", "victim"].map(|name| count_mails(&cluster, name, "password_reset")), [0, 0]);
    // The victim registers and verifies the address. The link of the attacker's account does not work afterwards.
    node.register("other").await;
    let victim = node.login("other").await;
    verify_address(&cluster, &node, "other", &victim).await;
    let late = signed_in(&node, &attacker, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    assert_eq!(late.problem(), problem(409, "email_taken"));
    let found = Tokens::of(&node.try_login(&email("other"), PASSWORD).await.expect(200));
    let found_id = node.get("/v1/me", &found.access).await.text_of("id");
    let victims_id = node.get("/v1/me", &victim.access).await.text_of("id");
    assert_eq!(found_id, victims_id);
}

/// Unexpired change of address: the attacker adds their own address, and tries to verify it after the victim's recovery.
#[tokio::test]
async fn i13_unexpired_secondary_address_is_void_after_the_victims_recovery() {
    let (cluster, node, attacker) = squatted_account().await;
    let (_id, token, code) = emails::add(&cluster, &node, &attacker, "attacker").await;
    let (reset_token, _) = request_reset(&cluster, &node, "victim").await;
    reset(&node, &reset_token, NEW_PASSWORD).await.expect(204);
    let victim = node.login_with("victim", NEW_PASSWORD).await;
    for body in [json!({ "token": token, "password": NEW_PASSWORD }), json!({ "token": token })] {
        assert_eq!(node.post("/v1/email/verify", body).await.problem(), problem(401, "invalid_code"));
    }
    let body = json!({ "email": email("attacker"), "code": code });
    let answer = signed_in(&node, &victim, Method::POST, "/v1/email/verify", body).await;
    assert_eq!(answer.problem(), problem(401, "invalid_code"));
    assert_attackers_address_gone(&cluster, &node).await;
}

/// Non-verifying provider: an account has addresses that no user has verified. The account that verifies such an address owns it, also as a
/// secondary address. The account that had it as its unverified primary address loses it.
#[tokio::test]
async fn i13_non_verifying_provider_secondary_address_belongs_to_the_account_that_verifies_it() {
    let (cluster, node, attacker) = squatted_account().await;
    emails::add(&cluster, &node, &attacker, "claimed").await;
    // The attacker's account has two unverified addresses: "victim" is the primary one, "claimed" a secondary one.
    node.register("mine").await;
    let victim = node.login("mine").await;
    let (_id, victim) = emails::add_verified(&cluster, &node, &victim, "claimed").await;
    let (_id, victim) = emails::add_verified(&cluster, &node, &victim, "victim").await;
    assert_eq!(
        node.get("/v1/me", &attacker.access).await.json()["email"],
        "",
        "the attacker's account has lost its primary address"
    );
    assert_eq!(emails::list(&node, &attacker).await, ["claimed (not verified)"]);
    let id = node.get("/v1/me", &victim.access).await.text_of("id");
    for name in ["claimed", "victim"] {
        let found = Tokens::of(&node.try_login(&email(name), PASSWORD).await.expect(200));
        assert_eq!(node.get("/v1/me", &found.access).await.text_of("id"), id);
    }
    // A verified secondary address cannot be registered, like a verified primary one.
    let answer = node.post("/v1/users", json!({ "email": email("claimed"), "password": PASSWORD })).await;
    assert_eq!(answer.problem(), problem(409, "email_taken"));
}
