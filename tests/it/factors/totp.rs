//! Authenticator apps: `/v1/me/factors/totp`, and sign-in with their codes.

use std::{process::Command, time::Duration};

use latchkey::{
    crypto::totp::TotpSecret,
    service::{
        clients::NewClient,
        factors::reseal::{Resealed, reseal},
    },
    store::sql::AuditFilter,
};
use reqwest::Method;
use serde_json::json;

use super::{
    App, STEP, account_with_app, challenge, claims, cluster, confirm_totp, enrol, expect_challenge, factor_body,
    recovery_codes_of, second_factor, start_totp, wrong_code,
};
use crate::{
    accounts::{problem, signed_in},
    harness::client::{PASSWORD, Tokens},
    openapi_external::{succeed, tool},
};

#[tokio::test]
async fn sign_in_with_an_authenticator_app_reaches_aal2() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let answer = node.try_login("ada", PASSWORD).await;
    let body = answer.json();
    assert_eq!(body["methods"], json!(["totp", "recovery_code"]));
    assert_eq!(body["expires_in"], 600, "a challenge of a sign-in works for ten minutes");
    let challenge = expect_challenge(&answer);
    let answer = second_factor(&node, &challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
    assert!(answer.header("x-device-token").starts_with("lk_dt_"), "{answer:?}");
    let tokens = Tokens::of(&answer);
    let claimed = claims(&tokens.access);
    assert_eq!(claimed["acr"], "aal2");
    assert_eq!(claimed["amr"], json!(["pwd", "otp", "mfa"]));
    assert_eq!(claimed["auth_time"], cluster.clock.now().as_secs());
    let refreshed = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    assert_eq!(claims(&refreshed.access)["acr"], "aal2", "a refresh keeps the level");
}

#[tokio::test]
async fn enrolment_shows_the_secret_as_text_uri_and_qr_code() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let body = json!({ "label": "Ada's phone" });
    let started = signed_in(&node, &tokens, Method::POST, "/v1/me/factors/totp", body).await.expect(200);
    let (secret, uri, image) = (started.text_of("secret"), started.text_of("uri"), started.text_of("qr_code"));
    assert_eq!(secret.len(), 32, "160 bits in base32");
    assert!(uri.starts_with("otpauth://totp/") && uri.contains(&format!("secret={secret}&")), "{uri}");
    assert!(uri.contains("ada@example.com") && uri.ends_with("&algorithm=SHA1&digits=6&period=30"), "{uri}");
    assert!(image.contains("<svg ") && !image.contains("<script"), "{image}");
    assert_eq!(started.header("cache-control"), "no-store");
    // An app that is not confirmed is not listed, and the password alone signs in.
    assert_eq!(node.get("/v1/me/factors", &tokens.access).await.json()["factors"], json!([]));
    node.login("ada").await;

    let app = App { secret };
    let wrong = confirm_totp(&node, &tokens, &wrong_code(&app, &cluster.clock)).await;
    assert_eq!(wrong.problem(), problem(401, "invalid_code"));
    let confirmed = confirm_totp(&node, &tokens, &app.code(&cluster.clock)).await.expect(200);
    let tokens = Tokens::of(&confirmed);
    assert_eq!(recovery_codes_of(&confirmed).len(), 10);
    assert_eq!(claims(&tokens.access)["acr"], "aal2", "password and code were shown");
    let listed = node.get("/v1/me/factors", &tokens.access).await.expect(200).json();
    assert_eq!(listed["factors"][0]["label"], "Ada's phone");
    assert_eq!(listed["factors"][0]["kind"], "totp");
    assert_eq!(listed["recovery_codes_left"], 10);
}

/// The Python library pyotp reads the URI of the QR code, and the service accepts the codes that pyotp computes.
#[tokio::test(flavor = "multi_thread")]
async fn codes_of_an_independent_library_that_reads_the_uri_are_accepted() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let started = signed_in(&node, &tokens, Method::POST, "/v1/me/factors/totp", json!({})).await.expect(200);
    let uri = started.text_of("uri");
    // evaluates a Python expression of the app and the cluster's time
    let pyotp = |expression: &str| {
        let program = format!(
            "import pyotp, sys; app = pyotp.parse_uri(sys.argv[1]); now = int(sys.argv[2]); print({expression})"
        );
        let mut command = Command::new(tool("python"));
        let now = cluster.clock.now().as_secs().to_string();
        String::from_utf8(succeed(command.args(["-c", &program, &uri, &now])).stdout).unwrap().trim().to_owned()
    };
    assert_eq!(pyotp("app.issuer, app.name, app.digits, app.interval"), "Latchkey ada@example.com 6 30");
    confirm_totp(&node, &tokens, &pyotp("app.at(now)")).await.expect(200);
    cluster.advance(STEP);
    let sign_in = challenge(&node, "ada").await;
    let early = second_factor(&node, &sign_in, "totp", &pyotp("app.at(now + 60)")).await;
    assert_eq!(early.problem(), problem(401, "invalid_code"), "two steps early");
    second_factor(&node, &sign_in, "totp", &pyotp("app.at(now)")).await.expect(200);
}

#[tokio::test]
async fn adding_a_factor_ends_all_other_sessions_and_replaces_the_callers() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let other = node.login("ada").await;
    let caller = node.login("ada").await;
    let app = start_totp(&node, &caller).await;
    let answer = confirm_totp(&node, &caller, &app.code(&cluster.clock)).await.expect(200);
    assert_eq!(node.refresh(&other.refresh).await.status, 401);
    assert_eq!(node.refresh(&caller.refresh).await.status, 401);
    assert_eq!(node.get("/v1/me", &caller.access).await.status, 401);
    node.get("/v1/me", &Tokens::of(&answer).access).await.expect(200);
}

#[tokio::test]
async fn code_works_once_and_at_most_one_step_early_or_late() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let code = ada.app.code(&cluster.clock);
    let first = challenge(&node, "ada").await;
    let second = challenge(&node, "ada").await;
    second_factor(&node, &first, "totp", &code).await.expect(200);
    assert_eq!(
        second_factor(&node, &second, "totp", &code).await.problem(),
        problem(401, "invalid_code"),
        "the code was used before"
    );
    // A code must be of a later step than the last accepted code. So the clock advances by two steps, and the code that is one step
    // late comes before the one that is early.
    cluster.advance(2 * STEP);
    for (seconds, status) in [(-60, 401), (60, 401), (-30, 200), (30, 200)] {
        let challenge = challenge(&node, "ada").await;
        let code = ada.app.code_after(&cluster.clock, seconds);
        assert_eq!(second_factor(&node, &challenge, "totp", &code).await.status, status, "{seconds} s");
    }
    // The last accepted code was of the next step, so the code of this step is too old.
    let challenge = challenge(&node, "ada").await;
    let code = ada.app.code(&cluster.clock);
    assert_eq!(second_factor(&node, &challenge, "totp", &code).await.status, 401);
}

#[tokio::test]
async fn second_app_can_be_added_renamed_and_removed() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let second = start_totp(&node, &ada.tokens).await;
    let answer = confirm_totp(&node, &ada.tokens, &second.code(&cluster.clock)).await.expect(200);
    assert!(recovery_codes_of(&answer).is_empty(), "the recovery codes of the first app stay");
    let tokens = Tokens::of(&answer);
    let third = signed_in(&node, &tokens, Method::POST, "/v1/me/factors/totp", json!({})).await;
    assert_eq!(third.problem(), problem(409, "too_many_factors"), "an account has at most two apps");

    let listed = node.get("/v1/me/factors", &tokens.access).await.json();
    let id = |index: usize| listed["factors"][index]["id"].as_str().unwrap().to_owned();
    let second_path = format!("/v1/me/factors/totp/{}", id(1));
    signed_in(&node, &tokens, Method::PATCH, &second_path, json!({ "label": "New phone" })).await.expect(204);
    let renamed = node.get("/v1/me/factors", &tokens.access).await.json();
    assert_eq!(renamed["factors"][1]["label"], "New phone");

    let first_path = format!("/v1/me/factors/totp/{}", id(0));
    let answer = node.delete(&first_path, &tokens.access).await.expect(200);
    let tokens = Tokens::of(&answer);
    assert_eq!(node.delete(&first_path, &tokens.access).await.problem(), problem(404, "unknown_factor"));
    // The second app's code of this step was used to confirm the app.
    cluster.advance(STEP);
    let sign_in = challenge(&node, "ada").await;
    let code = ada.app.code(&cluster.clock);
    assert_eq!(second_factor(&node, &sign_in, "totp", &code).await.problem(), problem(401, "invalid_code"));
    second_factor(&node, &sign_in, "totp", &second.code(&cluster.clock)).await.expect(200);

    // The recovery codes are removed with the last app, and the password alone signs in.
    let answer = node.delete(&second_path, &tokens.access).await.expect(200);
    let listed = node.get("/v1/me/factors", &Tokens::of(&answer).access).await.json();
    assert_eq!(listed, json!({ "factors": [], "recovery_codes_left": 0 }));
    node.login("ada").await;
}

#[tokio::test]
async fn changing_factors_needs_a_recent_authentication() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let listed = node.get("/v1/me/factors", &ada.tokens.access).await.json();
    let path = format!("/v1/me/factors/totp/{}", listed["factors"][0]["id"].as_str().unwrap());
    // An authentication is recent for 10 minutes. The access token has expired, too.
    cluster.advance(Duration::from_hours(2));
    let tokens = Tokens::of(&node.refresh(&ada.tokens.refresh).await.expect(200));
    let calls = [
        (Method::POST, "/v1/me/factors/totp", json!({})),
        (Method::POST, "/v1/me/factors/totp/confirm", json!({ "code": "123456" })),
        (Method::PATCH, &path, json!({ "label": "x" })),
        (Method::DELETE, &path, json!({})),
        (Method::POST, "/v1/me/recovery-codes", json!({})),
    ];
    for (method, path, body) in calls {
        let answer = signed_in(&node, &tokens, method, path, body).await;
        assert_eq!(answer.problem(), problem(401, "insufficient_user_authentication"), "{path}");
    }
}

#[tokio::test]
async fn enrolment_that_is_not_confirmed_expires_and_is_replaced_by_a_later_one() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let replaced = start_totp(&node, &tokens).await;
    let app = start_totp(&node, &tokens).await;
    let answer = confirm_totp(&node, &tokens, &replaced.code(&cluster.clock)).await;
    assert_eq!(answer.problem(), problem(401, "invalid_code"));
    // An enrolment must be confirmed within 15 minutes. The access token has expired by then.
    cluster.advance(Duration::from_mins(15));
    let tokens = node.login("ada").await;
    assert_eq!(confirm_totp(&node, &tokens, &app.code(&cluster.clock)).await.problem(), problem(401, "invalid_code"));
    let app = start_totp(&node, &tokens).await;
    confirm_totp(&node, &tokens, &app.code(&cluster.clock)).await.expect(200);
}

#[tokio::test]
async fn secrets_and_codes_are_unreadable_in_database_and_redis() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let challenge = challenge(&node, "ada").await;
    let database = std::fs::read(cluster.folder().join("latchkey.db")).unwrap();
    let wal = std::fs::read(cluster.folder().join("latchkey.db-wal")).unwrap_or_default();
    let redis = cluster.redis.dump();
    let totp_secret = TotpSecret::from_base32(&ada.app.secret).unwrap();
    let mut secrets: Vec<Vec<u8>> = vec![ada.app.secret.clone().into_bytes(), totp_secret.expose().to_vec()];
    for code in &ada.recovery_codes {
        let without_hyphens = code.replace('-', "");
        secrets.extend([code.clone().into_bytes(), without_hyphens.into_bytes()]);
    }
    let challenge_without_prefix = challenge.strip_prefix("lk_ch_").unwrap();
    secrets.push(challenge_without_prefix.as_bytes().to_vec());
    for (place, bytes) in [("database", &database), ("write-ahead log", &wal), ("redis", &redis)] {
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_slice()), "{place}");
        }
    }
}

/// The operator configures a new secret without the former one, and removes the signing keys, which nobody can decrypt any more.
#[tokio::test]
async fn codes_of_factors_under_a_lost_secret_are_refused_until_the_factors_are_reset() {
    let mut cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    node.stop().await;
    cluster.config.secrets.current = "another secret that is long enough for it".into();
    cluster.execute_sql("DELETE FROM signing_keys").await;
    let node = cluster.node().await;
    let sign_in = challenge(&node, "ada").await;
    // The brute-force protection, which allows six wrong codes in a row, does not count these codes.
    for _ in 0..12 {
        let code = ada.app.code(&cluster.clock);
        assert_eq!(second_factor(&node, &sign_in, "totp", &code).await.problem(), problem(401, "invalid_code"));
    }
    let recovery = second_factor(&node, &sign_in, "recovery_code", &ada.recovery_codes[0]).await;
    assert_eq!(recovery.problem(), problem(401, "invalid_code"));
    let resealed = reseal(&node.state).await.unwrap();
    assert_eq!(resealed, Resealed { count: 0, undecryptable: 2 }, "the app and the recovery key");
    let scopes = vec!["accounts:recover".to_owned()];
    let desk = cluster.service_client_with(NewClient { name: "desk".to_owned(), scopes, ..NewClient::default() }).await;
    let reset = node.request(Method::POST, "/v1/users/factors/reset").basic_auth(&desk.id, Some(&desk.secret));
    node.send(reset.json(&json!({ "account": "ada" }))).await.expect(204);
    node.login("ada").await;
    node.stop().await;
    let rows = cluster.sql().await.audit(&AuditFilter::default(), 100).await.unwrap();
    let attempts = rows.iter().filter(|row| row.event == "second_factor");
    let reasons: Vec<_> = attempts.map(|row| row.reason.as_deref()).collect();
    assert!(!reasons.is_empty());
    assert!(reasons.iter().all(|reason| *reason == Some("factor_reset_needed")), "{reasons:?}");
}

#[tokio::test]
async fn rotated_secret_of_the_service_reseals_factors() {
    let mut cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    node.stop().await;
    // 250 apps and recovery keys that nobody can decrypt precede those of the account: more than the 200 that one read returns.
    let ids = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250), \
               ids(id) AS (SELECT printf('00000000-0000-7000-8000-%012x', i) FROM n)";
    cluster
        .execute_sql(&format!(
            "INSERT INTO totp_factors (id, account_id, label, sealed, created_at, last_step) \
             {ids} SELECT id, id, 'x', X'00', 0, 0 FROM ids; \
             INSERT INTO recovery_keys (account_id, sealed, created_at) {ids} SELECT id, X'00', 0 FROM ids"
        ))
        .await;
    let former =
        std::mem::replace(&mut cluster.config.secrets.current, "another secret that is long enough for it".into());
    cluster.config.secrets.previous = vec![former];
    let node = cluster.node().await;
    let resealed = reseal(&node.state).await.unwrap();
    assert_eq!(resealed, Resealed { count: 2, undecryptable: 500 }, "the app and the recovery key are resealed");
    let resealed_again = reseal(&node.state).await.unwrap();
    assert_eq!(resealed_again, Resealed { count: 0, undecryptable: 500 });
    // The resealed factors do not need the former secret.
    node.stop().await;
    cluster.config.secrets.previous.clear();
    let node = cluster.node().await;
    let first = challenge(&node, "ada").await;
    second_factor(&node, &first, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
    let second = challenge(&node, "ada").await;
    second_factor(&node, &second, "recovery_code", &ada.recovery_codes[0]).await.expect(200);
}

#[tokio::test]
async fn cookie_session_gets_its_cookie_at_the_second_step_only() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let ada = enrol(&cluster, &node, "ada").await;
    let post = |path: &str, body: serde_json::Value, origin: &'static str, fetch_site: &'static str| {
        let request = node.request(Method::POST, path).json(&body);
        node.send(request.header("origin", origin).header("sec-fetch-site", fetch_site))
    };
    let issuer = "https://auth.example.com";
    let body = json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let challenge = expect_challenge(&post("/v1/login", body, issuer, "same-origin").await);
    let body = factor_body(&challenge, "totp", &ada.app.code(&cluster.clock));
    let foreign = post("/v1/login/second-factor", body.clone(), "https://evil.example", "cross-site").await;
    assert_eq!(foreign.problem(), problem(403, "cross_site_request"));
    let answer = post("/v1/login/second-factor", body, issuer, "same-origin").await.expect(200);
    assert!(answer.json()["refresh_token"].is_null());
    let cookies: Vec<_> =
        answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
    assert!(cookies.iter().any(|cookie| cookie.starts_with("__Host-latchkey=")), "{cookies:?}");
}
