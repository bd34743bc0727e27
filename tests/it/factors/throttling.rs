//! Brute-force protection of second factors. docs/factors.md calculates an attacker's chances.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection};

use super::{
    App, STEP, account_with_app, cluster, confirm_totp, factor_body, second_factor, start_totp, wrong_code,
    wrong_code_during,
};
use crate::{
    accounts::{NEW_PASSWORD, problem, request_reset, reset, signed_in, verify_address},
    degradation::assert_unavailable,
    harness::{
        client::{Answer, Client, PASSWORD},
        test_cluster::TestCluster,
    },
};

/// The number of wrong codes in a row that are checked without a wait: five (`limits.factor_backoff_after`), and a sixth,
/// which causes the first wait.
const CODES_WITHOUT_WAIT: usize = 6;

/// A cluster whose nodes trust `X-Forwarded-For`.
fn behind_proxy() -> TestCluster {
    let mut cluster = cluster();
    cluster.config.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    cluster
}

/// Sends a JSON request whose client has this address, to a node of [`behind_proxy`].
async fn post_from(node: &Client, address: &str, path: &str, body: serde_json::Value) -> Answer {
    node.send(node.request(Method::POST, path).json(&body).header("x-forwarded-for", address)).await
}

/// Signs in by password from this address, and returns the challenge for the second factor.
async fn challenge(node: &Client, address: &str) -> String {
    let body = json!({ "identifier": "ada", "password": PASSWORD });
    super::expect_challenge(&post_from(node, address, "/v1/login", body).await)
}

/// Presents a code for a challenge from this address.
async fn present_code(node: &Client, address: &str, challenge: &str, method: &str, code: &str) -> Answer {
    post_from(node, address, "/v1/login/second-factor", factor_body(challenge, method, code)).await
}

/// Sends a JSON request with a device token.
async fn post_with_device(node: &Client, device: &str, path: &str, body: serde_json::Value) -> Answer {
    node.send(node.request(Method::POST, path).json(&body).header("x-device-token", device)).await
}

/// Signs in with the second factor, so that the account recognizes the network. Advances the clock, so that the app shows another code.
async fn sign_in_from(cluster: &TestCluster, node: &Client, address: &str, app: &App) {
    let sign_in = challenge(node, address).await;
    present_code(node, address, &sign_in, "totp", &app.code(&cluster.clock)).await.expect(200);
    cluster.advance(STEP);
}

/// In a day, 14 codes of an attacker are checked, from any number of addresses: six without a wait, and one after each wait. The waits
/// double from 5 minutes up to 12 hours: the other eight codes are checked after 5, 15, 35, 75, 155, 315, 635 and 1275 minutes.
#[tokio::test]
async fn codes_from_unrecognized_addresses_share_one_count() {
    let cluster = behind_proxy();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let day = Duration::from_hours(24);
    let wrong = wrong_code_during(&ada.app, &cluster.clock, day);
    let end = cluster.clock.now() + day;
    let mut checked = 0;
    let mut host = 0;
    // 200 addresses take turns. A code is sent as soon as the last wait has passed.
    while cluster.clock.now() < end {
        let sign_in = challenge(&node, &format!("192.0.2.{host}")).await;
        let wait = loop {
            host = (host + 1) % 200;
            let answer = present_code(&node, &format!("192.0.2.{host}"), &sign_in, "totp", &wrong).await;
            if answer.status == 429 {
                // The account, not the address, has no attempts left.
                assert!(answer.header("ratelimit").starts_with("\"factor-account\";r=0;t="), "{answer:?}");
                break answer.header("retry-after").parse().unwrap();
            }
            assert_eq!(answer.problem(), problem(401, "invalid_code"));
            checked += 1;
        };
        for fresh_host in 0..20 {
            let answer = present_code(&node, &format!("198.51.100.{fresh_host}"), &sign_in, "totp", &wrong).await;
            assert_eq!(answer.status, 429, "no address has attempts of its own");
        }
        cluster.advance(Duration::from_secs(wait));
    }
    assert_eq!(checked, 14);
}

#[tokio::test]
async fn stranger_who_knows_the_password_does_not_lock_the_owner_out() {
    let cluster = behind_proxy();
    let node = cluster.node().await;
    node.register("ada").await;
    let home = "198.51.100.7";
    let ada = super::enrol(&cluster, &node, "ada").await;
    sign_in_from(&cluster, &node, home, &ada.app).await;
    let wrong = wrong_code(&ada.app, &cluster.clock);
    let stranger_challenge = challenge(&node, "192.0.2.1").await;
    for _ in 0..CODES_WITHOUT_WAIT {
        assert_eq!(present_code(&node, "192.0.2.1", &stranger_challenge, "totp", &wrong).await.status, 401);
    }
    let refused = present_code(&node, "192.0.2.2", &stranger_challenge, "totp", &wrong).await;
    assert_eq!(refused.problem(), problem(429, "too_many_requests"));
    // Recovery codes are counted apart from the app's codes.
    assert_eq!(present_code(&node, "192.0.2.2", &stranger_challenge, "recovery_code", "AAAAA-AAAAA").await.status, 401);
    let owner_challenge = challenge(&node, home).await;
    present_code(&node, home, &owner_challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
    // The owner's success does not reset the stranger's count.
    assert_eq!(present_code(&node, "192.0.2.3", &stranger_challenge, "totp", &wrong).await.status, 429);
}

#[tokio::test]
async fn recognized_network_has_a_count_of_its_own_and_success_resets_it() {
    let cluster = behind_proxy();
    let node = cluster.node().await;
    node.register("ada").await;
    let home = "198.51.100.7";
    let ada = super::enrol(&cluster, &node, "ada").await;
    sign_in_from(&cluster, &node, home, &ada.app).await;
    let wrong = wrong_code(&ada.app, &cluster.clock);
    let first = challenge(&node, home).await;
    for _ in 0..CODES_WITHOUT_WAIT {
        assert_eq!(present_code(&node, home, &first, "totp", &wrong).await.status, 401);
    }
    assert_eq!(present_code(&node, home, &first, "totp", &ada.app.code(&cluster.clock)).await.status, 429);
    // The first wait is `limits.factor_backoff_first`.
    cluster.advance(Duration::from_mins(5));
    present_code(&node, home, &first, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
    // The count starts again. The clock was advanced, so `wrong` may be right by now.
    let second = challenge(&node, home).await;
    let wrong = wrong_code(&ada.app, &cluster.clock);
    for _ in 0..CODES_WITHOUT_WAIT {
        assert_eq!(present_code(&node, home, &second, "totp", &wrong).await.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn right_code_that_a_locked_database_cannot_consume_is_not_counted() {
    let mut cluster = cluster();
    // so that each request soon stops waiting for the lock
    cluster.config.database.acquire_timeout = Duration::from_millis(200);
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let sign_in = super::challenge(&node, "ada").await;
    let code = ada.app.code(&cluster.clock);
    node.register("bob").await;
    let bob = node.login("bob").await;
    let bobs_app = start_totp(&node, &bob).await;
    let step_up = |code: String| {
        let body = json!({ "method": "totp", "code": code });
        signed_in(&node, &ada.tokens, Method::POST, "/v1/me/reauthenticate", body)
    };

    // The lock lets the node read, but not write.
    let mut writer = SqliteConnection::connect(cluster.config.database.url.expose()).await.unwrap();
    writer.execute("BEGIN IMMEDIATE").await.unwrap();
    // one more attempt than would be admitted if the attempts were counted
    for _ in 0..=CODES_WITHOUT_WAIT {
        assert_unavailable(&step_up(code.clone()).await);
        assert_unavailable(&second_factor(&node, &sign_in, "totp", &code).await);
        assert_unavailable(&confirm_totp(&node, &bob, &bobs_app.code(&cluster.clock)).await);
    }
    writer.execute("COMMIT").await.unwrap();
    second_factor(&node, &sign_in, "totp", &code).await.expect(200);
    confirm_totp(&node, &bob, &bobs_app.code(&cluster.clock)).await.expect(200);
    // The sign-in has used ada's current code.
    cluster.advance(STEP);
    step_up(ada.app.code(&cluster.clock)).await.expect(200);
}

/// An attacker with the password collects device tokens before the owner adds a factor, and then tries codes with each.
#[tokio::test]
async fn devices_of_sign_ins_before_the_first_factor_share_the_attempts_of_strangers() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let login = json!({ "identifier": "ada", "password": PASSWORD });
    let mut devices = Vec::new();
    let device_count = 12;
    for _ in 0..device_count {
        let answer = node.post("/v1/login", login.clone()).await.expect(200);
        devices.push(answer.header("x-device-token").to_owned());
    }
    let ada = super::enrol(&cluster, &node, "ada").await;
    let wrong = wrong_code(&ada.app, &cluster.clock);
    let mut checked = 0;
    for device in &devices {
        let challenged = post_with_device(&node, device, "/v1/login", login.clone()).await;
        let challenge = super::expect_challenge(&challenged);
        // With attempts of their own, the devices would get more than CODES_WITHOUT_WAIT in all.
        for _ in 0..=CODES_WITHOUT_WAIT {
            let body = factor_body(&challenge, "totp", &wrong);
            let answer = post_with_device(&node, device, "/v1/login/second-factor", body).await;
            if answer.status == 429 {
                break;
            }
            assert_eq!(answer.problem(), problem(401, "invalid_code"));
            checked += 1;
        }
    }
    assert_eq!(checked, CODES_WITHOUT_WAIT);
}

#[tokio::test]
async fn password_reset_forgets_the_devices_that_the_account_recognizes() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let login = |password: &str| json!({ "identifier": "ada", "password": password });
    let device = node.post("/v1/login", login(PASSWORD)).await.expect(200).header("x-device-token").to_owned();
    // a sign-in returns the token of a recognized device, and a new token to an unknown device
    let known = post_with_device(&node, &device, "/v1/login", login(PASSWORD)).await.expect(200);
    assert_eq!(known.header("x-device-token"), device);
    let (reset_token, _code) = request_reset(&cluster, &node, "ada").await;
    reset(&node, &reset_token, NEW_PASSWORD).await.expect(204);
    let forgotten = post_with_device(&node, &device, "/v1/login", login(NEW_PASSWORD)).await.expect(200);
    assert_ne!(forgotten.header("x-device-token"), device);
}

#[tokio::test]
async fn second_steps_of_one_address_are_limited() {
    let mut cluster = cluster();
    cluster.config.limits.factor_per_address =
        Some(latchkey::domain::limit::Quota { count: 3, window: Duration::from_mins(5) });
    let node = cluster.node().await;
    for _ in 0..3 {
        // an attempt with an unknown challenge counts, too
        let answer = super::second_factor(&node, "lk_ch_x", "totp", "123456").await;
        assert_eq!(answer.problem(), problem(401, "invalid_challenge"));
    }
    let answer = super::second_factor(&node, "lk_ch_x", "totp", "123456").await;
    assert_eq!(answer.problem(), problem(429, "too_many_requests"));
    assert!(answer.header("ratelimit-policy").starts_with("\"factor-address\""), "{answer:?}");
}
