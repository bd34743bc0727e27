//! Tests sign-in with a passkey alone.

use std::time::Duration;

use futures_util::future::join_all;
use latchkey::{config::UserVerification, domain::limit::Quota, service::accounts};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Authenticator, add_passkey, audit_entries,
    authenticator::{BACKED_UP, BACKUP_ELIGIBLE, USER_PRESENT},
    claims, list_passkeys, login_options, register_passkey, registration_options, send_login, try_sign_in,
    with_passkey,
};
use crate::{
    accounts::{problem, remove_mail_and_login_limits},
    harness::{
        client::{Answer, Client, Tokens},
        test_cluster::TestCluster,
        wait,
    },
};

#[tokio::test]
async fn sign_in_with_user_verification_reaches_aal2() {
    let (cluster, node, tokens, mut phone) = with_passkey().await;
    cluster.advance(Duration::from_mins(30)); // so that `auth_time` differs from the time of the registration
    let options = login_options(&node).await;
    assert_eq!(options["rpId"], "auth.example.com");
    assert_eq!(options["userVerification"], "required");
    assert_eq!(options["allowCredentials"], json!([]));
    let answer = send_login(&node, phone.get(&options)).await.expect(200);
    assert!(!answer.header("x-device-token").is_empty());
    let signed_in = Tokens::of(&answer);
    let signed_in_claims = claims(&signed_in);
    assert_eq!(signed_in_claims["acr"], "aal2");
    assert_eq!(signed_in_claims["amr"], json!(["hwk", "user", "mfa"]));
    assert_eq!(signed_in_claims["auth_time"], node.state.clock.now().as_secs());
    node.get("/v1/me", &signed_in.access).await.expect(200);
    // A refresh keeps the `acr`, and the session that registered the passkey continues.
    let refreshed = Tokens::of(&node.refresh(&signed_in.refresh).await.expect(200));
    assert_eq!(claims(&refreshed)["acr"], "aal2");
    node.refresh(&tokens.refresh).await.expect(200);
    let passkey = &list_passkeys(&node, &signed_in).await[0];
    assert_eq!(passkey["last_used_at"], node.state.clock.now().to_string());
}

#[tokio::test]
async fn synced_passkey_counts_as_software_key_and_sign_in_updates_its_backup_state() {
    let (_cluster, node, tokens) = super::signed_in().await;
    let mut synced = Authenticator::new();
    synced.flags |= BACKUP_ELIGIBLE;
    // synced passkeys have no signature counter
    (synced.counter, synced.counter_step) = (0, 0);
    let tokens = register_passkey(&node, &tokens, &mut synced).await;
    assert_eq!(list_passkeys(&node, &tokens).await[0]["backed_up"], false);
    synced.flags |= BACKED_UP;
    // the second sign-in shows that a counter that stays 0 is accepted
    for _ in 0..2 {
        let signed_in = Tokens::of(&try_sign_in(&node, &mut synced).await.expect(200));
        assert_eq!(claims(&signed_in)["amr"], json!(["swk", "user", "mfa"]));
    }
    assert_eq!(list_passkeys(&node, &tokens).await[0]["backed_up"], true);
}

#[tokio::test]
async fn sign_in_without_user_verification_is_refused_unless_preferred() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await; // requires user verification, which is the default
    cluster.config.passkeys.user_verification = UserVerification::Preferred;
    let lenient = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let mut key = Authenticator::new();
    key.flags = USER_PRESENT;
    let tokens = register_passkey(&node, &tokens, &mut key).await;
    assert_eq!(try_sign_in(&node, &mut key).await.problem(), problem(401, "invalid_passkey"));
    let refusal = ("passkey_refused".to_owned(), "refused".to_owned(), Some("user_not_verified".to_owned()));
    assert!(audit_entries(&node).await.contains(&refusal));
    let options = login_options(&lenient).await;
    assert_eq!(options["userVerification"], "preferred");
    // The passkey counts as the first factor, so a factor of another kind must follow. The registration came with recovery codes.
    let answer = send_login(&lenient, key.get(&options)).await;
    assert_eq!(answer.problem(), problem(403, "second_factor_required"));
    assert_eq!(answer.json()["methods"], json!(["recovery_code"]));
    let body = json!({ "challenge": answer.text_of("challenge") });
    let by_passkey = lenient.post("/v1/login/second-factor/options", body).await;
    assert_eq!(by_passkey.problem(), problem(401, "invalid_passkey"), "a passkey is no second factor after a passkey");
    assert_eq!(list_passkeys(&lenient, &tokens).await[0]["last_used_at"], json!(null), "the sign-in is not complete");
    let options = login_options(&lenient).await;
    // Without user presence, a response is refused even where user verification is only preferred.
    key.flags = 0;
    assert_eq!(send_login(&lenient, key.get(&options)).await.problem(), problem(401, "invalid_passkey"));
}

#[tokio::test]
async fn cookie_transport_sets_the_cookie_and_pages_of_other_sites_cannot_use_it() {
    let (_cluster, node, _tokens, mut phone) = with_passkey().await;
    let options = login_options(&node).await;
    let body = json!({ "credential": phone.get(&options), "transport": "cookie" });
    let request = node.request(Method::POST, "/v1/login/passkey").header("origin", "https://evil.example");
    let answer = node.send(request.header("sec-fetch-site", "cross-site").json(&body)).await;
    assert_eq!(answer.problem(), problem(403, "cross_site_request"));
    // The refused call did not consume the challenge.
    let answer = node.post("/v1/login/passkey", body).await.expect(200);
    assert!(answer.header("set-cookie").starts_with("__Host-latchkey"), "{answer:?}");
    assert!(answer.json().get("refresh_token").is_none());
}

#[tokio::test]
async fn unknown_passkey_and_passkey_of_disabled_account_get_identical_responses() {
    let (_cluster, node, _tokens, mut phone) = with_passkey().await;
    // an unknown passkey that names the account of the registered passkey
    let mut unknown = Authenticator::new();
    unknown.user_handle.clone_from(&phone.user_handle);
    let with_unknown = try_sign_in(&node, &mut unknown).await;
    let id = accounts::find(&node.state.sql, "ada").await.unwrap().id;
    accounts::disable(&node.state, id).await.unwrap();
    let with_disabled = try_sign_in(&node, &mut phone).await;
    for answer in [&with_unknown, &with_disabled] {
        assert_eq!(answer.problem(), problem(401, "invalid_passkey"));
    }
    assert_eq!(with_unknown.text_of("detail"), with_disabled.text_of("detail"));
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_response_of_a_passkey_works_once_among_sixteen_racers_on_two_nodes() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let tokens = nodes[0].login("ada").await;
    let mut phone = Authenticator::new();
    let options = registration_options(&nodes[0], &tokens).await;
    let credential = phone.create(&options);
    let race = (0..16).map(|racer| add_passkey(&nodes[racer % 2], &tokens, credential.clone()));
    let added = join_all(race).await.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(added, 1, "registrations");
    // A synced passkey has no signature counter, so only the challenge can reveal a repeated response.
    let mut synced = Authenticator::new();
    (synced.counter, synced.counter_step) = (0, 0);
    nodes[0].register("eve").await;
    let tokens = nodes[0].login("eve").await;
    register_passkey(&nodes[0], &tokens, &mut synced).await;
    let options = login_options(&nodes[0]).await;
    let credential = synced.get(&options);
    let race = (0..16).map(|racer| send_login(&nodes[racer % 2], credential.clone()));
    let answers = join_all(race).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(accepted.len(), 1, "{answers:?}");
    for answer in refused {
        assert_eq!(answer.problem(), problem(401, "invalid_passkey"));
    }
}

#[tokio::test]
async fn challenge_expires() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.passkeys.timeout = Duration::from_millis(1); // the lifetime of a challenge
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let options = registration_options(&node, &tokens).await;
    let redis_key = format!("lk:w{}", options["challenge"].as_str().unwrap());
    let has_expired = || async { !String::from_utf8_lossy(&cluster.redis.dump()).contains(&redis_key) };
    wait::until("the challenge has expired", has_expired).await;
    let answer = add_passkey(&node, &tokens, Authenticator::new().create(&options)).await;
    assert_eq!(answer.problem(), problem(422, "passkey_rejected"));
}

#[tokio::test]
async fn sign_ins_and_options_are_limited_by_ip_address() {
    let mut cluster = TestCluster::new();
    cluster.config.limits.passkey_per_address = Some(Quota { count: 2, window: Duration::from_mins(1) });
    let node = cluster.node().await;
    // The options and the first sign-in use up the quota of two.
    let options = login_options(&node).await;
    sign_in_with_new_key(&node, &options).await.expect(401);
    let refused = sign_in_with_new_key(&node, &options).await;
    assert_eq!(refused.problem(), problem(429, "too_many_requests"));
    assert!(refused.header("ratelimit-policy").contains("passkey-address"));
}

/// Signs in with a key that no account has registered.
async fn sign_in_with_new_key(node: &Client, options: &Value) -> Answer {
    send_login(node, Authenticator::new().get(options)).await
}
