//! Remembered devices: `factors.remember_device`, `/v1/me/devices`.
//!
//! Each `expect_challenge` asserts that the device of a sign-in does not skip the second factor.

use std::time::Duration;

use latchkey::{
    domain::{
        account::{Email, Roles},
        audit::{AuditEntry, AuditEvent},
        factor::FactorPolicy,
    },
    service::{accounts, factors, initiator::Initiator, request_origin::RequestOrigin},
    store::sql::AuditFilter,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Enrolled, STEP, account_with_app, claims, enrol, expect_challenge, factor_body};
use crate::{
    accounts::{
        NEW_PASSWORD, count_mails, email, next_mail, problem, request_address_change, request_reset, reset, signed_in,
        verify_address,
    },
    harness::{
        client::{Answer, Client, PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

const MONTH: Duration = Duration::from_hours(30 * 24);

/// In place of the token of a device that has none yet.
const NEW_DEVICE: Option<&str> = None;

/// A cluster whose devices may skip the second factor for 30 days.
pub fn cluster() -> TestCluster {
    let mut cluster = super::cluster();
    cluster.config.factors.remember_device = Some(MONTH);
    cluster
}

/// Sends a JSON request with the token of a device, if it has one.
async fn post_from_device(node: &Client, device: Option<&str>, path: &str, body: Value) -> Answer {
    let mut request = node.request(Method::POST, path).json(&body);
    if let Some(device) = device {
        request = request.header("x-device-token", device);
    }
    node.send(request).await
}

/// Signs in by password from a device.
pub async fn login(node: &Client, name: &str, password: &str, device: Option<&str>) -> Answer {
    let body = json!({ "identifier": name, "password": password, "device": "Ada's laptop" });
    post_from_device(node, device, "/v1/login", body).await
}

/// Signs in with the app from a device that has no token yet, and asks the node to remember the device. Then advances the clock, so that
/// the app shows a code that was not used. Returns the device token, and the tokens of the session.
async fn remember_with_password(
    cluster: &TestCluster,
    node: &Client,
    name: &str,
    enrolled: &Enrolled,
    password: &str,
) -> (String, Tokens) {
    let challenge = expect_challenge(&login(node, name, password, NEW_DEVICE).await);
    let mut body = factor_body(&challenge, "totp", &enrolled.app.code(&cluster.clock));
    body["remember_device"] = json!(true);
    let answer = node.post("/v1/login/second-factor", body).await.expect(200);
    cluster.advance(STEP);
    (answer.header("x-device-token").to_owned(), Tokens::of(&answer))
}

/// As [`remember_with_password`], with the password of [`Client::register`]. Returns the device token.
pub async fn remember(cluster: &TestCluster, node: &Client, name: &str, enrolled: &Enrolled) -> String {
    let (device, _) = remember_with_password(cluster, node, name, enrolled, PASSWORD).await;
    device
}

/// The remembered devices of an account.
async fn devices(node: &Client, access: &str) -> Vec<Value> {
    let answer = node.get("/v1/me/devices", access).await.expect(200);
    answer.json()["devices"].as_array().unwrap().clone()
}

#[tokio::test]
async fn i14_remembered_device_signs_in_with_the_password_at_aal1_and_step_up_asks_for_the_factor() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let challenged = login(&node, "ada", PASSWORD, NEW_DEVICE).await;
    assert_eq!(challenged.json()["remember_device_for"], MONTH.as_secs());
    let device = remember(&cluster, &node, "ada", &ada).await;

    let answer = login(&node, "ada", PASSWORD, Some(&device)).await.expect(200);
    let tokens = Tokens::of(&answer);
    let claimed = claims(&tokens.access);
    assert_eq!(claimed["acr"], "aal1");
    assert_eq!(claimed["amr"], json!(["pwd"]), "the device is no factor");
    let refreshed = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    assert_eq!(claims(&refreshed.access)["acr"], "aal1");
    assert_eq!(answer.header("x-device-token"), device, "the device keeps its token");

    let refused = node.delete("/v1/me", &refreshed.access).await;
    assert_eq!(refused.problem(), problem(401, "insufficient_user_authentication"));
    assert!(refused.header("www-authenticate").contains("acr_values=\"aal2\""), "{refused:?}");
    let reauthenticate = |body: Value| signed_in(&node, &refreshed, Method::POST, "/v1/me/reauthenticate", body);
    let refused = reauthenticate(json!({ "password": PASSWORD })).await;
    assert_eq!(refused.problem(), problem(401, "insufficient_user_authentication"));
    let code = ada.app.code(&cluster.clock);
    let reauthenticated = reauthenticate(json!({ "method": "totp", "code": code })).await.expect(200);
    assert_eq!(reauthenticated.json()["acr"], "aal2");

    // Only the device token skips the factor, and it does not replace the password.
    expect_challenge(&login(&node, "ada", PASSWORD, NEW_DEVICE).await);
    let wrong = login(&node, "ada", "not the password", Some(&device)).await;
    assert_eq!(wrong.problem(), problem(401, "invalid_credentials"));
}

#[tokio::test]
async fn device_is_remembered_only_if_its_user_wants_that_and_the_setting_is_on() {
    let mut cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let challenge = expect_challenge(&login(&node, "ada", PASSWORD, NEW_DEVICE).await);
    // This body does not ask to remember the device.
    let body = factor_body(&challenge, "totp", &ada.app.code(&cluster.clock));
    let answer = node.post("/v1/login/second-factor", body).await.expect(200);
    cluster.advance(STEP);
    expect_challenge(&login(&node, "ada", PASSWORD, Some(answer.header("x-device-token"))).await);
    let device = remember(&cluster, &node, "ada", &ada).await;
    login(&node, "ada", PASSWORD, Some(&device)).await.expect(200);

    cluster.config.factors.remember_device = None;
    let forgetful_node = cluster.node().await;
    let challenged = login(&forgetful_node, "ada", PASSWORD, Some(&device)).await;
    assert!(challenged.json()["remember_device_for"].is_null(), "{challenged:?}");
    expect_challenge(&challenged);
    // the node without the setting ignores the request to remember the device
    let unremembered = remember(&cluster, &forgetful_node, "ada", &ada).await;
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&unremembered)).await);
}

/// An attacker who knows the password may have got the device's former token before the account had a factor.
#[tokio::test]
async fn remembered_device_gets_a_new_token_and_its_former_one_skips_nothing() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let former = login(&node, "ada", PASSWORD, NEW_DEVICE).await.expect(200).header("x-device-token").to_owned();
    let ada = enrol(&cluster, &node, "ada").await;
    let challenge = expect_challenge(&login(&node, "ada", PASSWORD, Some(&former)).await);
    let mut body = factor_body(&challenge, "totp", &ada.app.code(&cluster.clock));
    body["remember_device"] = json!(true);
    let answer = post_from_device(&node, Some(&former), "/v1/login/second-factor", body).await.expect(200);
    let device = answer.header("x-device-token");
    assert_ne!(device, former);
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&former)).await);
    login(&node, "ada", PASSWORD, Some(device)).await.expect(200);
}

#[tokio::test]
async fn device_token_of_another_account_skips_nothing() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let eve = account_with_app(&cluster, &node, "eve").await;
    let adas_device = remember(&cluster, &node, "ada", &ada).await;
    let eves_device = remember(&cluster, &node, "eve", &eve).await;
    expect_challenge(&login(&node, "eve", PASSWORD, Some(&adas_device)).await);
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&eves_device)).await);
    login(&node, "eve", PASSWORD, Some(&eves_device)).await.expect(200);
    // in the format of a device token, but never issued
    let made_up = format!("lk_dt_{}", "A".repeat(43));
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&made_up)).await);
}

#[tokio::test]
async fn device_is_forgotten_when_password_factors_address_roles_or_state_of_the_account_change() {
    let cluster = cluster();
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let ada = enrol(&cluster, &node, "ada").await;
    let state = &node.state;

    let device = remember(&cluster, &node, "ada", &ada).await;
    accounts::change_roles(state, id, &Roles::parse(["staff"]).unwrap(), &Roles::default()).await.unwrap();
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&device)).await);

    let device = remember(&cluster, &node, "ada", &ada).await;
    accounts::disable(state, id).await.unwrap();
    accounts::enable(state, id).await.unwrap();
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&device)).await);

    let (device, tokens) = remember_with_password(&cluster, &node, "ada", &ada, PASSWORD).await;
    signed_in(&node, &tokens, Method::POST, "/v1/me/recovery-codes", json!({})).await.expect(200);
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&device)).await);

    let (device, tokens) = remember_with_password(&cluster, &node, "ada", &ada, PASSWORD).await;
    let (token, _code) = request_address_change(&cluster, &node, &tokens, "lovelace").await;
    signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await.expect(200);
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&device)).await);

    let device = remember(&cluster, &node, "ada", &ada).await;
    accounts::set_email(state, id, &Email::parse("ada@example.com").unwrap()).await.unwrap();
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&device)).await);

    let (device, tokens) = remember_with_password(&cluster, &node, "ada", &ada, PASSWORD).await;
    node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    expect_challenge(&login(&node, "ada", NEW_PASSWORD, Some(&device)).await);

    let (device, _) = remember_with_password(&cluster, &node, "ada", &ada, NEW_PASSWORD).await;
    accounts::set_password(state, id, PASSWORD.into()).await.unwrap();
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&device)).await);

    // The next `remember` cancels the deletion, since it completes a sign-in.
    let (device, tokens) = remember_with_password(&cluster, &node, "ada", &ada, PASSWORD).await;
    node.delete("/v1/me", &tokens.access).await.expect(202);
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&device)).await);

    // After an operator has reset the factors, the device does not skip the next app either.
    let device = remember(&cluster, &node, "ada", &ada).await;
    let account = state.sql.account(id).await.unwrap().unwrap();
    factors::reset::reset(state, &account, &Initiator::Operator, &RequestOrigin::default()).await.unwrap();
    enrol(&cluster, &node, "ada").await;
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&device)).await);
}

#[tokio::test]
async fn i14_password_reset_by_mail_forgets_devices() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let ada = enrol(&cluster, &node, "ada").await;
    let device = remember(&cluster, &node, "ada", &ada).await;
    let (token, _code) = request_reset(&cluster, &node, "ada").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    expect_challenge(&login(&node, "ada", NEW_PASSWORD, Some(&device)).await);
}

#[tokio::test]
async fn i14_remembered_device_does_not_skip_the_factor_of_a_sign_in_by_mail() {
    let mut cluster = cluster();
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let ada = enrol(&cluster, &node, "ada").await;
    let device = remember(&cluster, &node, "ada", &ada).await;
    let expect_challenge_by_mail = async || {
        let mails_before = count_mails(&cluster, "ada", "sign_in_code");
        let requested = node.post("/v1/login/code", json!({ "email": email("ada") })).await.expect(202);
        let (_link_token, code) = next_mail(&cluster, "ada", mails_before, "sign_in_code").await;
        let body = json!({ "request": requested.text_of("request"), "email": email("ada"), "code": code });
        expect_challenge(&post_from_device(&node, Some(&device), "/v1/login/code/verify", body).await)
    };
    let challenge = expect_challenge_by_mail().await;
    // A sign-in by mail remembers no further device: the list has the one that was remembered before, which keeps its token.
    let mut body = factor_body(&challenge, "totp", &ada.app.code(&cluster.clock));
    body["remember_device"] = json!(true);
    let answer = post_from_device(&node, Some(&device), "/v1/login/second-factor", body).await.expect(200);
    assert_eq!(answer.header("x-device-token"), device);
    assert_eq!(devices(&node, &Tokens::of(&answer).access).await.len(), 1);
    expect_challenge_by_mail().await;
}

#[tokio::test]
async fn i14_remembered_device_does_not_skip_a_required_factor() {
    let mut cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let device = remember(&cluster, &node, "ada", &ada).await;

    cluster.config.factors.required = FactorPolicy::AllAccounts;
    let strict = cluster.node().await;
    let challenged = login(&strict, "ada", PASSWORD, Some(&device)).await;
    assert!(challenged.json()["remember_device_for"].is_null(), "{challenged:?}");
    expect_challenge(&challenged);
    // A node that requires the factor remembers no device.
    let unremembered = remember(&cluster, &strict, "ada", &ada).await;
    expect_challenge(&login(&strict, "ada", PASSWORD, Some(&unremembered)).await);
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&unremembered)).await);
    assert_eq!(devices(&strict, &ada.tokens.access).await.len(), 0);

    // ada is no admin
    cluster.config.factors.required = FactorPolicy::Roles(Roles::parse(["admin"]).unwrap());
    let strict_for_admins = cluster.node().await;
    login(&strict_for_admins, "ada", PASSWORD, Some(&device)).await.expect(200);
}

#[tokio::test]
async fn device_expires_by_the_clock_and_with_a_shorter_setting() {
    let mut cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let device = remember(&cluster, &node, "ada", &ada).await;
    cluster.config.factors.remember_device = Some(Duration::from_hours(2));
    let node_with_two_hours = cluster.node().await;
    cluster.advance(Duration::from_hours(1));
    login(&node_with_two_hours, "ada", PASSWORD, Some(&device)).await.expect(200);
    cluster.advance(Duration::from_hours(1));
    expect_challenge(&login(&node_with_two_hours, "ada", PASSWORD, Some(&device)).await);
    // `remember` has advanced the clock by a step, too: one step of the month is left.
    cluster.advance(MONTH - Duration::from_hours(2) - 2 * STEP);
    let tokens = Tokens::of(&login(&node, "ada", PASSWORD, Some(&device)).await.expect(200));
    assert_eq!(devices(&node, &tokens.access).await.len(), 1);
    cluster.advance(STEP);
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&device)).await);
    assert_eq!(devices(&node, &tokens.access).await.len(), 0, "use does not extend the time");
}

#[tokio::test]
async fn devices_are_listed_and_forgotten_by_their_owner_only() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let eve = account_with_app(&cluster, &node, "eve").await;
    let older = remember(&cluster, &node, "ada", &ada).await;
    let newer = remember(&cluster, &node, "ada", &ada).await;
    let eves_device = remember(&cluster, &node, "eve", &eve).await;
    login(&node, "ada", PASSWORD, Some(&older)).await.expect(200);

    let request = node.request(Method::GET, "/v1/me/devices").bearer_auth(&ada.tokens.access);
    let answer = node.send(request.header("x-device-token", &older)).await.expect(200).json();
    let listed = answer["devices"].as_array().unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    // The newer device is listed first. Only the older one was used, and sends this request.
    for (device, is_older) in listed.iter().zip([false, true]) {
        assert_eq!(device["name"], "Ada's laptop");
        assert_eq!(device["current"], is_older, "{device}");
        assert_eq!(device["last_used_at"].is_string(), is_older, "{device}");
        assert!(device["expires_at"].is_string(), "{device}");
        assert!(device.get("digest").is_none(), "{device}");
    }
    let path = format!("/v1/me/devices/{}", listed[1]["id"].as_str().unwrap());
    assert_eq!(node.delete(&path, &eve.tokens.access).await.problem(), problem(404, "unknown_device"));
    node.delete(&path, &ada.tokens.access).await.expect(204);
    assert_eq!(node.delete(&path, &ada.tokens.access).await.problem(), problem(404, "unknown_device"));
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&older)).await);
    login(&node, "ada", PASSWORD, Some(&newer)).await.expect(200);

    for forgotten in [1, 0] {
        let answer = node.delete("/v1/me/devices", &ada.tokens.access).await.expect(200);
        assert_eq!(answer.json(), json!({ "forgotten": forgotten }));
    }
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&newer)).await);
    login(&node, "eve", PASSWORD, Some(&eves_device)).await.expect(200);
}

#[tokio::test]
async fn further_device_replaces_the_oldest_one() {
    let mut cluster = cluster();
    cluster.config.factors.max_remembered_devices = 2;
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let mut remembered = Vec::new();
    for _ in 0..3 {
        remembered.push(remember(&cluster, &node, "ada", &ada).await);
    }
    expect_challenge(&login(&node, "ada", PASSWORD, Some(&remembered[0])).await);
    for device in &remembered[1..] {
        login(&node, "ada", PASSWORD, Some(device)).await.expect(200);
    }
    assert_eq!(devices(&node, &ada.tokens.access).await.len(), 2);
}

#[tokio::test]
async fn database_and_redis_hold_no_device_token_and_events_and_export_name_the_device() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let device = remember(&cluster, &node, "ada", &ada).await;
    login(&node, "ada", PASSWORD, Some(&device)).await.expect(200);
    let database = std::fs::read(cluster.folder().join("latchkey.db")).unwrap();
    let wal = std::fs::read(cluster.folder().join("latchkey.db-wal")).unwrap_or_default();
    let secret = device.strip_prefix("lk_dt_").unwrap().as_bytes();
    for (place, bytes) in [("database", database), ("write-ahead log", wal), ("redis", cluster.redis.dump())] {
        let has_secret = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!has_secret, "{place}");
    }
    let exported = node.get("/v1/me/export", &ada.tokens.access).await.expect(200).json();
    let id = exported["devices"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(exported["devices"][0]["name"], "Ada's laptop");
    node.delete(&format!("/v1/me/devices/{id}"), &ada.tokens.access).await.expect(204);
    let text = node.state.metrics.render().unwrap();
    let line = "latchkey_second_factors_total{method=\"remembered_device\",outcome=\"success\"} 1";
    assert!(text.contains(line), "{text}");
    node.stop().await;
    let rows = cluster.sql().await.audit(&AuditFilter::default(), 100).await.unwrap();
    for event in ["device_remembered", "device_forgotten"] {
        assert!(rows.iter().any(|row| row.event == event && row.detail.as_deref() == Some(id.as_str())), "{event}");
    }
    let with_skipped_factor = rows.iter().filter(|row| row.reason.as_deref() == Some("remembered_device"));
    let events: Vec<&str> = with_skipped_factor.map(|row| row.event.as_str()).collect();
    assert_eq!(events, ["sign_in"]);
}

#[tokio::test]
async fn deleted_account_leaves_no_remembered_device() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    remember(&cluster, &node, "ada", &ada).await;
    let id = node.verified(&ada.tokens.access).claims.sub;
    accounts::delete(&node.state, id).await.unwrap();
    // `forget_devices` writes this entry only if it finds a device, so any event will do.
    let entry = AuditEntry::new(node.state.clock.now(), AuditEvent::Lost);
    let forgotten = node.state.sql.forget_devices(id, entry).await.unwrap();
    assert_eq!(forgotten, 0);
}

/// Sixteen concurrent requests present one challenge and ask to remember the device. One is accepted, and remembers the device. Several
/// threads let the requests run at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn i11_sixteen_racers_with_one_challenge_remember_one_device() {
    let cluster = cluster();
    let nodes = [cluster.node().await, cluster.node().await];
    let ada = account_with_app(&cluster, &nodes[0], "ada").await;
    let challenge = expect_challenge(&login(&nodes[0], "ada", PASSWORD, NEW_DEVICE).await);
    let mut body = factor_body(&challenge, "totp", &ada.app.code(&cluster.clock));
    body["remember_device"] = json!(true);
    let race = (0..16).map(|racer| nodes[racer % 2].post("/v1/login/second-factor", body.clone()));
    let answers = futures_util::future::join_all(race).await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(devices(&nodes[1], &Tokens::of(won[0]).access).await.len(), 1);
    login(&nodes[1], "ada", PASSWORD, Some(won[0].header("x-device-token"))).await.expect(200);
}
