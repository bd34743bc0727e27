//! Registering, listing, renaming and removing passkeys.

use std::time::Duration;

use latchkey::service::accounts;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::{
    Authenticator, PASSKEY_NAME, add_passkey, audit_entries,
    authenticator::{BACKED_UP, BACKUP_ELIGIBLE, base64url},
    call, list_passkeys, register_passkey, registration_options, signed_in, stepped_up, tokens_in_json, try_sign_in,
    with_passkey,
};
use crate::{
    accounts::{email, problem, remove_mail_and_login_limits, verify_address},
    harness::{client::Tokens, test_cluster::TestCluster},
};

#[tokio::test]
async fn registered_passkey_is_listed_renamed_and_removed() {
    let (_cluster, node, tokens) = signed_in().await;
    let options = registration_options(&node, &tokens).await;
    assert_eq!(options["rp"]["id"], "auth.example.com");
    assert_eq!(options["user"]["name"], "ada@example.com");
    assert_eq!(options["attestation"], "none");
    assert_eq!(options["authenticatorSelection"]["residentKey"], "preferred");
    assert_eq!(options["authenticatorSelection"]["userVerification"], "preferred");
    let mut phone = Authenticator::new();
    phone.flags |= BACKUP_ELIGIBLE | BACKED_UP; // its passkeys are synced
    let added = add_passkey(&node, &tokens, phone.create(&options)).await.expect(201).json();
    let (passkey, tokens) = (&added["passkey"], tokens_in_json(&added["tokens"]));
    assert_eq!(passkey["name"], PASSKEY_NAME);
    assert_eq!(passkey["aaguid"], Uuid::from_bytes(phone.aaguid).to_string());
    assert_eq!(passkey["transports"], json!(["hybrid", "internal"]));
    assert_eq!(passkey["backup_eligible"], true);
    assert_eq!(passkey["backed_up"], true);
    assert_eq!(passkey["discoverable"], true);
    assert!(passkey["last_used_at"].is_null(), "{passkey}");
    assert_eq!(added["recovery_codes"].as_array().unwrap().len(), 10, "the first factor comes with recovery codes");
    let listed = list_passkeys(&node, &tokens).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(&listed[0], passkey);
    let factors = node.get("/v1/me/factors", &tokens.access).await.expect(200).json();
    assert_eq!(factors["factors"][0]["kind"], "passkey");
    assert_eq!(factors["recovery_codes_left"], 10);

    // The options of the next registration, which needs a step-up, exclude this passkey.
    let tokens = stepped_up(&node, &tokens, &mut phone).await;
    let options = registration_options(&node, &tokens).await;
    assert_eq!(options["excludeCredentials"][0]["id"], base64url(&phone.credential_id));

    let path = format!("/v1/me/passkeys/{}", passkey["id"].as_str().unwrap());
    let renamed = call(&node, &tokens, Method::PATCH, &path, &json!({ "name": " Old phone " })).await.expect(200);
    assert_eq!(renamed.text_of("name"), "Old phone", "spaces at the ends are removed");
    // U+202E would reverse the text after it
    let answer = call(&node, &tokens, Method::PATCH, &path, &json!({ "name": "a\u{202e}b" })).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));

    let removed = node.delete(&path, &tokens.access).await.expect(200);
    let tokens = Tokens::of(&removed);
    assert!(list_passkeys(&node, &tokens).await.is_empty());
    assert_eq!(node.delete(&path, &tokens.access).await.problem(), problem(404, "unknown_passkey"));
    assert_eq!(try_sign_in(&node, &mut phone).await.problem(), problem(401, "invalid_passkey"));
    let events: Vec<_> = audit_entries(&node).await.into_iter().map(|(event, _, _)| event).collect();
    for event in ["factor_added", "factor_removed"] {
        assert!(events.iter().any(|recorded| recorded == event), "{event}: {events:?}");
    }
}

#[tokio::test]
async fn i5_added_and_removed_passkey_end_other_sessions_and_replace_the_callers_tokens() {
    let (_cluster, node, tokens) = signed_in().await;
    let other = node.login("ada").await;
    let mut phone = Authenticator::new();
    let new_tokens = register_passkey(&node, &tokens, &mut phone).await;
    for old in [&tokens, &other] {
        node.refresh(&old.refresh).await.expect(401);
        node.get("/v1/me", &old.access).await.expect(401);
    }
    let id = list_passkeys(&node, &new_tokens).await[0]["id"].as_str().unwrap().to_owned();
    // an account with a passkey needs a step-up for the removal
    let stepped_up_tokens = stepped_up(&node, &new_tokens, &mut phone).await;
    let removed = node.delete(&format!("/v1/me/passkeys/{id}"), &stepped_up_tokens.access).await.expect(200);
    node.refresh(&stepped_up_tokens.refresh).await.expect(401); // the removal ended the session
    node.refresh(&Tokens::of(&removed).refresh).await.expect(200);
}

#[tokio::test]
async fn passkey_of_another_account_can_be_neither_seen_nor_changed() {
    let (_cluster, node, tokens, _phone) = with_passkey().await;
    let id = list_passkeys(&node, &tokens).await[0]["id"].as_str().unwrap().to_owned();
    node.register("eve").await;
    let eve = node.login("eve").await;
    assert!(list_passkeys(&node, &eve).await.is_empty());
    let path = format!("/v1/me/passkeys/{id}");
    let renamed = call(&node, &eve, Method::PATCH, &path, &json!({ "name": "mine" })).await;
    assert_eq!(renamed.problem(), problem(404, "unknown_passkey"));
    assert_eq!(node.delete(&path, &eve.access).await.problem(), problem(404, "unknown_passkey"));
    assert_eq!(list_passkeys(&node, &tokens).await[0]["name"], PASSKEY_NAME);
}

#[tokio::test]
async fn changes_of_passkeys_need_a_recent_authentication() {
    let (cluster, node, tokens, _phone) = with_passkey().await; // after a step-up
    let id = list_passkeys(&node, &tokens).await[0]["id"].as_str().unwrap().to_owned();
    let options = registration_options(&node, &tokens).await;
    // longer than `session.recent` (10 minutes), and than the lifetime of the access token, which the refresh replaces
    cluster.advance(Duration::from_mins(16));
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    let begin = call(&node, &tokens, Method::POST, "/v1/me/passkeys/options", &json!({})).await;
    let end = add_passkey(&node, &tokens, Authenticator::new().create(&options)).await;
    let remove = node.delete(&format!("/v1/me/passkeys/{id}"), &tokens.access).await;
    for answer in [begin, end, remove] {
        assert_eq!(answer.problem(), problem(401, "insufficient_user_authentication"));
    }
}

#[tokio::test]
async fn credential_is_registered_once_and_passkeys_per_account_are_limited() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.passkeys.max_per_account = 2;
    let node = cluster.node().await;
    for name in ["ada", "eve"] {
        node.register(name).await;
    }
    let (tokens, eve) = (node.login("ada").await, node.login("eve").await);
    let mut phone = Authenticator::new();
    let tokens = register_passkey(&node, &tokens, &mut phone).await;
    let tokens = stepped_up(&node, &tokens, &mut phone).await;
    // Neither the owner nor another account that knows the credential's id can register it again.
    for (tokens, expected) in [
        // The owner's options exclude the credential, so the check of the response refuses it.
        (&tokens, problem(422, "passkey_rejected")),
        (&eve, problem(409, "passkey_exists")),
    ] {
        let options = registration_options(&node, tokens).await;
        let mut copy = Authenticator::new();
        copy.credential_id.clone_from(&phone.credential_id);
        let answer = add_passkey(&node, tokens, copy.create(&options)).await;
        assert_eq!(answer.problem(), expected);
    }
    let options = registration_options(&node, &tokens).await;
    let third = Authenticator::new().create(&options);
    let tokens = register_passkey(&node, &tokens, &mut Authenticator::new()).await;
    let answer = call(&node, &tokens, Method::POST, "/v1/me/passkeys/options", &json!({})).await;
    assert_eq!(answer.problem(), problem(409, "too_many_passkeys"));
    // `third` was begun below the limit, but in a session that the registration of the second passkey has replaced.
    assert_eq!(add_passkey(&node, &tokens, third).await.problem(), problem(422, "passkey_rejected"));
    assert_eq!(list_passkeys(&node, &tokens).await.len(), 2);
}

#[tokio::test]
async fn model_outside_the_allow_list_is_refused() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.passkeys.allowed_aaguids = vec![Uuid::from_bytes([9; 16]).to_string().parse().unwrap()];
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let options = registration_options(&node, &tokens).await;
    assert_eq!(options["attestation"], "direct", "browsers then report the authenticator's model");
    let answer = add_passkey(&node, &tokens, Authenticator::new().create(&options)).await;
    assert_eq!(answer.problem(), problem(403, "passkey_model_not_allowed"));
    let mut allowed = Authenticator::new();
    allowed.aaguid = [9; 16]; // the model on the allow list
    register_passkey(&node, &tokens, &mut allowed).await;
}

#[tokio::test]
async fn passkey_calls_without_relying_party_are_refused_and_name_the_setting() {
    let mut cluster = TestCluster::new();
    cluster.config.passkeys.relying_party = None; // as with `passkeys.enabled = false`
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let begin = call(&node, &tokens, Method::POST, "/v1/me/passkeys/options", &json!({})).await;
    assert_eq!(begin.problem(), problem(403, "login_method_off"));
    assert!(begin.text_of("detail").contains("passkeys.enabled"));
    let login = node.post("/v1/login/passkey/options", json!({})).await;
    assert_eq!(login.problem(), problem(403, "login_method_off"));
    let answer = node.send(node.request(Method::GET, "/.well-known/webauthn")).await;
    assert_eq!(answer.problem(), problem(404, "not_found"));
}

#[tokio::test]
async fn related_origins_are_the_web_origins_of_issuer_and_apps() {
    let mut cluster = TestCluster::new();
    let relying_party = cluster.config.passkeys.relying_party.as_mut().unwrap();
    // the origin of an Android app, which is not a web origin
    relying_party.origins.push("android:apk-key-hash:pNiP5iKyQ8JwgGOaKA1zGPUPJIS0-2H5Vq8NV5l8Lp8".to_owned());
    let node = cluster.node().await;
    let answer = node.send(node.request(Method::GET, "/.well-known/webauthn")).await.expect(200);
    assert_eq!(answer.json(), json!({ "origins": ["https://auth.example.com", "https://app.example.com"] }));
    assert!(answer.header("content-type").starts_with("application/json"), "{answer:?}");
    assert!(answer.header("cache-control").contains("max-age"), "{answer:?}");
}

#[tokio::test]
async fn added_passkey_sends_a_notice_to_the_owner() {
    let (cluster, node, tokens) = signed_in().await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    register_passkey(&node, &tokens, &mut Authenticator::new()).await;
    let mail = cluster.mail_to(&email("ada"), "factor_changed").await;
    assert!(mail.text.contains("passkey"), "{}", mail.text);
}

#[tokio::test]
async fn deleted_account_leaves_no_passkey() {
    let (cluster, node, _tokens, mut phone) = with_passkey().await;
    let id = accounts::find(&node.state.sql, "ada").await.unwrap().id;
    accounts::delete(&node.state, id).await.unwrap();
    assert!(cluster.sql().await.passkeys(id).await.unwrap().is_empty());
    assert_eq!(try_sign_in(&node, &mut phone).await.problem(), problem(401, "invalid_passkey"));
}
