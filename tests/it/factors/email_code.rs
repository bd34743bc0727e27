//! Codes by mail as a second factor: `factors.email_code`.

use std::time::Duration;

use latchkey::{
    domain::{account::Identifier, limit::Quota},
    service::accounts,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{challenge, claims, expect_challenge, recovery_codes_of, second_factor};
use crate::{
    accounts::{NEW_PASSWORD, count_mails, email, problem, signed_in, verify_address},
    harness::{
        client::{Answer, Client, PASSWORD, Tokens},
        test_cluster::TestCluster,
        wait,
    },
};

/// A cluster whose accounts can switch on codes by mail, without the limit on the mails.
pub fn cluster() -> TestCluster {
    let mut cluster = super::cluster();
    cluster.config.factors.email_code = true;
    cluster.config.limits.factor_mail_per_account = None;
    cluster
}

/// Registers an account, verifies its address, and switches codes by mail on. Returns its tokens and recovery codes.
pub async fn account_with_email_code(cluster: &TestCluster, node: &Client, name: &str) -> (Tokens, Vec<String>) {
    node.register(name).await;
    let tokens = node.login(name).await;
    verify_address(cluster, node, name, &tokens).await;
    let answer = enable(node, &tokens).await.expect(200);
    (Tokens::of(&answer), recovery_codes_of(&answer))
}

/// Switches codes by mail on.
async fn enable(node: &Client, tokens: &Tokens) -> Answer {
    signed_in(node, tokens, Method::POST, "/v1/me/factors/email-code", json!({})).await
}

/// Requests a code by mail for a challenge.
pub(super) async fn request_code(node: &Client, challenge: &str) -> Answer {
    node.post("/v1/login/second-factor/code", json!({ "challenge": challenge })).await
}

/// Requests a code for a challenge, and reads it from the mail.
pub async fn mailed_code(cluster: &TestCluster, node: &Client, name: &str, challenge: &str) -> String {
    let before = count_mails(cluster, name, "second_factor_code");
    request_code(node, challenge).await.expect(202);
    let arrived = || async { count_mails(cluster, name, "second_factor_code") > before };
    wait::until(&format!("{name} has a code"), arrived).await;
    cluster.mail_to(&email(name), "second_factor_code").await.code().to_owned()
}

/// A code that was not sent.
pub(super) const WRONG_CODE: &str = "2222-2222";

#[tokio::test]
async fn code_by_mail_continues_a_sign_in_at_aal1_and_works_once() {
    let cluster = cluster();
    let node = cluster.node().await;
    let (_, recovery_codes) = account_with_email_code(&cluster, &node, "ada").await;
    assert_eq!(recovery_codes.len(), 10);
    let challenged = node.try_login("ada", PASSWORD).await;
    assert_eq!(challenged.json()["methods"], json!(["email_code", "recovery_code"]));
    let first = expect_challenge(&challenged);
    assert_eq!(count_mails(&cluster, "ada", "second_factor_code"), 0, "no code is sent before the client requests one");
    let code = mailed_code(&cluster, &node, "ada", &first).await;
    let mail = cluster.mail_to(&email("ada"), "second_factor_code").await;
    assert!(!mail.text.contains("://"), "the mail has no link: {}", mail.text);

    assert_eq!(second_factor(&node, &first, "email_code", WRONG_CODE).await.problem(), problem(401, "invalid_code"));
    let tokens = Tokens::of(&second_factor(&node, &first, "email_code", &code).await.expect(200));
    let claimed = claims(&tokens.access);
    assert_eq!(claimed["acr"], "aal1");
    // password, one-time code, several channels (RFC 8176)
    assert_eq!(claimed["amr"], json!(["pwd", "otp", "mca"]));
    assert_eq!(second_factor(&node, &first, "email_code", &code).await.problem(), problem(401, "invalid_challenge"));
    let second = challenge(&node, "ada").await;
    assert_eq!(second_factor(&node, &second, "email_code", &code).await.problem(), problem(401, "invalid_code"));
}

#[tokio::test]
async fn codes_by_mail_are_off_by_default_and_need_a_verified_address_and_a_password() {
    let cluster = super::cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    assert_eq!(enable(&node, &tokens).await.problem(), problem(403, "login_method_off"));
    assert!(node.get("/v1/me/factors", &tokens.access).await.json()["email_code"].is_null());
    node.stop().await;

    let cluster = self::cluster();
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    let tokens = node.login("ada").await;
    assert_eq!(node.get("/v1/me/factors", &tokens.access).await.json()["email_code"], false);
    assert_eq!(enable(&node, &tokens).await.problem(), problem(403, "email_not_verified"));
    verify_address(&cluster, &node, "ada", &tokens).await;
    // An account without a password is refused. The test removes and restores the password in the store, since the service would end
    // the session.
    let mut change = node.state.sql.change_account(id).await.unwrap().unwrap();
    let hash = change.account.password_hash.clone().unwrap();
    change.remove_password(cluster.clock.now()).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(enable(&node, &tokens).await.problem(), problem(403, "password_required"));
    let mut change = node.state.sql.change_account(id).await.unwrap().unwrap();
    change.set_password(&hash, cluster.clock.now()).await.unwrap();
    change.commit().await.unwrap();
    let tokens = Tokens::of(&enable(&node, &tokens).await.expect(200));
    for path in ["/v1/me/factors", "/v1/me/export"] {
        assert_eq!(node.get(path, &tokens.access).await.expect(200).json()["email_code"], true, "{path}");
    }
    assert_eq!(enable(&node, &tokens).await.problem(), problem(409, "too_many_factors"));
    let mail = cluster.mail_to(&email("ada"), "factor_changed").await;
    assert!(mail.text.contains("Codes by mail were switched on"), "{}", mail.text);
}

#[tokio::test]
async fn code_works_with_its_challenge_only_and_wrong_codes_count_against_that_challenge() {
    let mut cluster = cluster();
    // wrong codes cause no delay
    cluster.config.limits.factor_backoff = None;
    let node = cluster.node().await;
    account_with_email_code(&cluster, &node, "ada").await;
    let owner = challenge(&node, "ada").await;
    let stranger = challenge(&node, "ada").await;
    let code = mailed_code(&cluster, &node, "ada", &owner).await;
    assert_eq!(second_factor(&node, &stranger, "email_code", &code).await.problem(), problem(401, "invalid_code"));
    // Five wrong codes invalidate a code. The ten of the stranger and four of the owner leave the owner's code valid.
    mailed_code(&cluster, &node, "ada", &stranger).await;
    for _ in 0..10 {
        assert_eq!(second_factor(&node, &stranger, "email_code", WRONG_CODE).await.status, 401);
    }
    for _ in 0..4 {
        assert_eq!(second_factor(&node, &owner, "email_code", WRONG_CODE).await.status, 401);
    }
    second_factor(&node, &owner, "email_code", &code).await.expect(200);
}

#[tokio::test]
async fn five_wrong_codes_invalidate_a_code_and_a_further_code_replaces_it() {
    let mut cluster = cluster();
    // wrong codes cause no delay
    cluster.config.limits.factor_backoff = None;
    let node = cluster.node().await;
    account_with_email_code(&cluster, &node, "ada").await;
    let challenge = challenge(&node, "ada").await;
    let code = mailed_code(&cluster, &node, "ada", &challenge).await;
    for _ in 0..5 {
        assert_eq!(second_factor(&node, &challenge, "email_code", WRONG_CODE).await.status, 401);
    }
    assert_eq!(second_factor(&node, &challenge, "email_code", &code).await.problem(), problem(401, "invalid_code"));
    let former = mailed_code(&cluster, &node, "ada", &challenge).await;
    let current = mailed_code(&cluster, &node, "ada", &challenge).await;
    assert_eq!(second_factor(&node, &challenge, "email_code", &former).await.problem(), problem(401, "invalid_code"));
    second_factor(&node, &challenge, "email_code", &current).await.expect(200);
}

#[tokio::test]
async fn code_expires_after_ten_minutes_and_with_its_challenge() {
    let mut cluster = cluster();
    // longer than the lifetime of a code
    cluster.config.factors.challenge_ttl = Duration::from_hours(1);
    let node = cluster.node().await;
    account_with_email_code(&cluster, &node, "ada").await;
    let first = challenge(&node, "ada").await;
    let code = mailed_code(&cluster, &node, "ada", &first).await;
    // the lifetime of a code by mail
    cluster.advance(Duration::from_mins(10));
    assert_eq!(second_factor(&node, &first, "email_code", &code).await.problem(), problem(401, "invalid_code"));
    let code = mailed_code(&cluster, &node, "ada", &first).await;
    // When an operator sets a password, the challenges of the account end.
    let id = node.state.sql.find_account(&Identifier::parse("ada")).await.unwrap().unwrap().id;
    accounts::set_password(&node.state, id, PASSWORD.into()).await.unwrap();
    assert_eq!(second_factor(&node, &first, "email_code", &code).await.problem(), problem(401, "invalid_challenge"));
    assert_eq!(request_code(&node, &first).await.problem(), problem(401, "invalid_challenge"));

    // a code does not outlive its challenge
    cluster.config.factors.challenge_ttl = Duration::from_mins(2);
    let node = cluster.node().await;
    let challenge = challenge(&node, "ada").await;
    let sent = request_code(&node, &challenge).await.expect(202);
    assert_eq!(sent.json(), json!({ "expires_in": 120 }));
}

#[tokio::test]
async fn codes_by_mail_that_are_switched_off_for_all_are_not_required() {
    let mut cluster = cluster();
    let node = cluster.node().await;
    account_with_email_code(&cluster, &node, "ada").await;
    cluster.config.factors.email_code = false;
    let node_without_codes = cluster.node().await;
    let tokens = node_without_codes.login("ada").await;
    assert_eq!(claims(&tokens.access)["amr"], json!(["pwd"]));
    // the node that has the codes switched on still requires one
    expect_challenge(&node.try_login("ada", PASSWORD).await);
}

#[tokio::test]
async fn remembered_device_skips_a_code_by_mail() {
    let mut cluster = cluster();
    cluster.config.factors.remember_device = Some(Duration::from_hours(24));
    let node = cluster.node().await;
    account_with_email_code(&cluster, &node, "ada").await;
    let challenge = challenge(&node, "ada").await;
    let code = mailed_code(&cluster, &node, "ada", &challenge).await;
    let body = json!({ "challenge": challenge, "method": "email_code", "code": code, "remember_device": true });
    let answer = node.post("/v1/login/second-factor", body).await.expect(200);
    let device = answer.header("x-device-token");
    let answer = super::remembered_devices::login(&node, "ada", PASSWORD, Some(device)).await.expect(200);
    assert_eq!(claims(&Tokens::of(&answer).access)["amr"], json!(["pwd"]));
}

/// A cluster whose nodes take a client's IP address from `X-Forwarded-For`.
fn behind_proxy() -> TestCluster {
    let mut cluster = cluster();
    cluster.config.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    cluster
}

/// Sends a JSON request with this IP address as that of its client.
async fn post_from(node: &Client, address: &str, path: &str, body: Value) -> Answer {
    node.send(node.request(Method::POST, path).json(&body).header("x-forwarded-for", address)).await
}

#[tokio::test]
async fn stranger_who_knows_the_password_uses_up_neither_the_owners_mails_nor_the_owners_attempts() {
    let mut cluster = behind_proxy();
    cluster.config.limits.factor_mail_per_account = Some(Quota { count: 2, window: Duration::from_hours(1) });
    let node = cluster.node().await;
    let home = "198.51.100.7";
    node.register("ada").await;
    let login = |address: &'static str| {
        let body = json!({ "identifier": "ada", "password": PASSWORD });
        post_from(&node, address, "/v1/login", body)
    };
    let tokens = Tokens::of(&login(home).await.expect(200));
    verify_address(&cluster, &node, "ada", &tokens).await;
    let recovery_codes = recovery_codes_of(&enable(&node, &tokens).await.expect(200));
    // The account recognizes the network at home after a second factor.
    let first = expect_challenge(&login(home).await);
    let recovery_body = super::factor_body(&first, "recovery_code", &recovery_codes[0]);
    post_from(&node, home, "/v1/login/second-factor", recovery_body).await.expect(200);

    let stranger = expect_challenge(&login("192.0.2.1").await);
    let request_code = |address: &'static str, challenge: &str| {
        post_from(&node, address, "/v1/login/second-factor/code", json!({ "challenge": challenge }))
    };
    for address in ["192.0.2.1", "192.0.2.2"] {
        request_code(address, &stranger).await.expect(202);
    }
    let refused = request_code("192.0.2.3", &stranger).await;
    assert_eq!(refused.problem(), problem(429, "too_many_requests"));
    assert!(refused.header("ratelimit").starts_with("\"factor-mail-account\";r=0;t="), "{refused:?}");
    let guess = |address: &'static str, challenge: &str, code: &str| {
        let body = super::factor_body(challenge, "email_code", code);
        post_from(&node, address, "/v1/login/second-factor", body)
    };
    // The sixth wrong code starts a delay (limits.factor_backoff_after is 5 by default). Unrecognized addresses wait together.
    for _ in 0..6 {
        assert_eq!(guess("192.0.2.1", &stranger, WRONG_CODE).await.status, 401);
    }
    assert_eq!(guess("192.0.2.4", &stranger, WRONG_CODE).await.problem(), problem(429, "too_many_requests"));

    let wait_for_mails = async |expected: usize| {
        let arrived = || async { count_mails(&cluster, "ada", "second_factor_code") == expected };
        wait::until("ada has the codes", arrived).await;
    };
    wait_for_mails(2).await;
    let owner = expect_challenge(&login(home).await);
    request_code(home, &owner).await.expect(202);
    wait_for_mails(3).await;
    let code = cluster.mail_to(&email("ada"), "second_factor_code").await.code().to_owned();
    guess(home, &owner, &code).await.expect(200);
}

#[tokio::test]
async fn code_by_mail_is_unreadable_in_database_and_redis_and_resets_no_password() {
    let cluster = cluster();
    let node = cluster.node().await;
    account_with_email_code(&cluster, &node, "ada").await;
    let challenge = challenge(&node, "ada").await;
    let code = mailed_code(&cluster, &node, "ada", &challenge).await;
    let database = std::fs::read(cluster.folder().join("latchkey.db")).unwrap();
    let wal = std::fs::read(cluster.folder().join("latchkey.db-wal")).unwrap_or_default();
    let code_without_hyphen = code.replace('-', "");
    for secret in [&code, &code_without_hyphen] {
        for (place, bytes) in [("database", &database), ("write-ahead log", &wal), ("redis", &cluster.redis.dump())] {
            let has_secret = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!has_secret, "the {place} has the code");
        }
    }
    let body = json!({ "identifier": "ada", "code": code, "new_password": NEW_PASSWORD });
    assert_eq!(node.post("/v1/password/reset", body).await.problem(), problem(401, "invalid_code"));
}

/// Sixteen concurrent requests present one challenge and one code by mail.
#[tokio::test(flavor = "multi_thread")]
async fn i11_code_by_mail_works_once_among_sixteen_racers_on_two_nodes() {
    let cluster = cluster();
    let nodes = [cluster.node().await, cluster.node().await];
    account_with_email_code(&cluster, &nodes[0], "ada").await;
    // repeated, because a fault would not show in every race
    for _ in 0..2 {
        let challenge = challenge(&nodes[0], "ada").await;
        let code = mailed_code(&cluster, &nodes[0], "ada", &challenge).await;
        let race = (0..16).map(|racer| second_factor(&nodes[racer % 2], &challenge, "email_code", &code));
        let answers = futures_util::future::join_all(race).await;
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(won, 1, "{answers:?}");
    }
}
