//! `factors.required`: enrolment at sign-in, the grace period, and what an account that must enrol can't do.

use std::time::Duration;

use latchkey::domain::{account::Roles, factor::FactorPolicy};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection};

use super::{App, STEP, challenge, claims, cluster, recovery_codes_of, second_factor, wrong_code};
use crate::{
    accounts::{
        NEW_PASSWORD, email, first_mail, problem, request_address_change, request_reset, reset, signed_in,
        verify_address,
    },
    degradation::assert_unavailable,
    harness::{
        client::{Answer, Client, PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

/// A cluster whose accounts need a factor by this policy, after this grace period.
fn cluster_requiring(policy: FactorPolicy, grace: Duration) -> TestCluster {
    let mut cluster = cluster();
    cluster.config.factors.required = policy;
    cluster.config.factors.grace = grace;
    cluster
}

/// Asserts that an answer requires the set-up of a factor, and returns the challenge for it.
#[track_caller]
fn expect_enrolment(answer: &Answer) -> String {
    assert_eq!(answer.problem(), problem(403, "factor_enrolment_required"));
    super::assert_no_credentials(answer);
    answer.text_of("challenge")
}

/// Starts the enrolment of an authenticator app at a sign-in.
async fn start_enrolment(node: &Client, challenge: &str) -> Answer {
    node.post("/v1/login/enrolment/totp", json!({ "challenge": challenge })).await
}

/// Confirms an authenticator app at a sign-in.
async fn confirm_enrolment(node: &Client, challenge: &str, code: &str) -> Answer {
    node.post("/v1/login/enrolment/totp/confirm", json!({ "challenge": challenge, "code": code })).await
}

#[tokio::test]
async fn account_that_must_have_a_factor_sets_it_up_at_sign_in() {
    let cluster = cluster_requiring(FactorPolicy::AllAccounts, Duration::ZERO);
    let node = cluster.node().await;
    node.register("ada").await;
    let answer = node.try_login("ada", PASSWORD).await;
    assert_eq!(answer.json()["methods"], json!(["totp", "passkey"]));
    let challenge = expect_enrolment(&answer);
    let app = App { secret: start_enrolment(&node, &challenge).await.expect(200).text_of("secret") };
    let wrong = confirm_enrolment(&node, &challenge, &wrong_code(&app, &cluster.clock)).await;
    assert_eq!(wrong.problem(), problem(401, "invalid_code"));
    let answer = confirm_enrolment(&node, &challenge, &app.code(&cluster.clock)).await.expect(200);
    assert!(answer.header("x-device-token").starts_with("lk_dt_"));
    assert_eq!(recovery_codes_of(&answer).len(), 10, "the recovery codes");
    let tokens = Tokens::of(&answer);
    assert_eq!(claims(&tokens.access)["acr"], "aal2");
    node.refresh(&tokens.refresh).await.expect(200);
    let again = confirm_enrolment(&node, &challenge, &app.code(&cluster.clock)).await;
    assert_eq!(again.problem(), problem(401, "invalid_challenge"), "a challenge works once");
    // The next sign-in needs the next code of the app, because each code works once.
    cluster.advance(STEP);
    let next = super::challenge(&node, "ada").await;
    second_factor(&node, &next, "totp", &app.code(&cluster.clock)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmation_that_a_locked_database_refuses_is_not_counted() {
    let mut cluster = cluster_requiring(FactorPolicy::AllAccounts, Duration::ZERO);
    // each attempt below waits this long for the database
    cluster.config.database.acquire_timeout = Duration::from_millis(200);
    let node = cluster.node().await;
    node.register("ada").await;
    let challenge = expect_enrolment(&node.try_login("ada", PASSWORD).await);
    let app = App { secret: start_enrolment(&node, &challenge).await.expect(200).text_of("secret") };
    let code = app.code(&cluster.clock);
    // `BEGIN IMMEDIATE` takes SQLite's lock for writing.
    let mut lock_holder = SqliteConnection::connect(cluster.config.database.url.expose()).await.unwrap();
    lock_holder.execute("BEGIN IMMEDIATE").await.unwrap();
    // `limits.factor_backoff_after` is 5: if these attempts counted as wrong codes, the seventh would have to wait.
    for _ in 0..7 {
        assert_unavailable(&confirm_enrolment(&node, &challenge, &code).await);
    }
    lock_holder.execute("COMMIT").await.unwrap();
    confirm_enrolment(&node, &challenge, &code).await.expect(200);
}

#[tokio::test]
async fn enrolment_that_the_database_refuses_can_be_repeated_with_the_same_challenge() {
    let cluster = cluster_requiring(FactorPolicy::AllAccounts, Duration::ZERO);
    let node = cluster.node().await;
    node.register("ada").await;
    let challenge = expect_enrolment(&node.try_login("ada", PASSWORD).await);
    let app = App { secret: start_enrolment(&node, &challenge).await.expect(200).text_of("secret") };
    let code = app.code(&cluster.clock);
    // the recovery codes are stored after the challenge was consumed
    let create_trigger =
        "CREATE TRIGGER refuse BEFORE INSERT ON recovery_keys BEGIN SELECT RAISE(ABORT, 'refused'); END";
    cluster.execute_sql(create_trigger).await;
    confirm_enrolment(&node, &challenge, &code).await.expect(500);
    cluster.execute_sql("DROP TRIGGER refuse").await;
    confirm_enrolment(&node, &challenge, &code).await.expect(200);
}

#[tokio::test]
async fn account_that_must_enrol_can_do_nothing_else_meanwhile() {
    let mut cluster = cluster_requiring(FactorPolicy::AllAccounts, Duration::from_hours(1));
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    node.register("ada").await;
    let early = node.login("ada").await;
    // The address is verified now. Otherwise, the code and the reset below would also verify it.
    verify_address(&cluster, &node, "ada", &early).await;
    let id = node.verified(&early.access).claims.sub;
    // the end of the grace period
    cluster.advance(Duration::from_hours(1));
    let challenge = expect_enrolment(&node.try_login("ada", PASSWORD).await);
    // no endpoint accepts the challenge as a token
    for path in ["/v1/me", "/v1/me/factors", "/v1/me/passkeys", "/v1/sessions", "/v1/verify", "/oauth2/userinfo"] {
        assert_eq!(node.get(path, &challenge).await.status, 401, "{path}");
    }
    assert_eq!(node.refresh(&challenge).await.status, 401);
    // A sign-in with a code by mail or after a password reset also requires the enrolment.
    let request = node.post("/v1/login/code", json!({ "email": email("ada") })).await.expect(202).text_of("request");
    let (_, code) = first_mail(&cluster, "ada", "sign_in_code").await;
    let body = json!({ "request": request, "email": email("ada"), "code": code });
    expect_enrolment(&node.post("/v1/login/code/verify", body).await);
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    super::assert_no_credentials(&reset(&node, &token, NEW_PASSWORD).await.expect(204));
    expect_enrolment(&node.try_login("ada", NEW_PASSWORD).await);
    let sessions = node.state.redis.sessions.list(id, cluster.clock.now()).await.unwrap();
    assert!(sessions.is_empty());
    assert_eq!(node.refresh(&early.refresh).await.status, 401);
    // The reset has ended the former challenge.
    assert_eq!(start_enrolment(&node, &challenge).await.problem(), problem(401, "invalid_challenge"));
}

#[tokio::test]
async fn challenges_of_enrolment_and_second_factor_are_not_interchangeable() {
    let mut cluster = cluster_requiring(FactorPolicy::AllAccounts, Duration::ZERO);
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    node.register("ada").await;
    let enrolment = expect_enrolment(&node.try_login("ada", PASSWORD).await);
    assert_eq!(second_factor(&node, &enrolment, "totp", "123456").await.problem(), problem(401, "invalid_challenge"));
    let app = App { secret: start_enrolment(&node, &enrolment).await.expect(200).text_of("secret") };
    confirm_enrolment(&node, &enrolment, &app.code(&cluster.clock)).await.expect(200);
    let second = challenge(&node, "ada").await;
    assert_eq!(start_enrolment(&node, &second).await.problem(), problem(401, "invalid_challenge"));
    assert_eq!(confirm_enrolment(&node, &second, "123456").await.problem(), problem(401, "invalid_challenge"));
    // Nor does the challenge of a second factor work as the token of a mailed link.
    let body = json!({ "token": second, "new_password": NEW_PASSWORD });
    assert_eq!(node.post("/v1/password/reset", body).await.problem(), problem(401, "invalid_code"));
    let body = json!({ "token": second, "request": second });
    assert_eq!(node.post("/v1/login/code/verify", body).await.problem(), problem(401, "invalid_code"));
}

#[tokio::test]
async fn grace_period_counts_from_the_first_sign_in_and_ends_its_sessions() {
    let cluster = cluster_requiring(FactorPolicy::AllAccounts, Duration::from_hours(48));
    let node = cluster.node().await;
    node.register("ada").await;
    // longer than the grace period: the time before the first sign-in does not count
    cluster.advance(Duration::from_hours(100));
    let first = node.login("ada").await;
    cluster.advance(Duration::from_hours(47));
    let late = node.login("ada").await;
    node.refresh(&first.refresh).await.expect(200);
    cluster.advance(Duration::from_hours(1));
    for tokens in [&first, &late] {
        assert_eq!(node.refresh(&tokens.refresh).await.status, 401);
        assert_eq!(node.get("/v1/me", &tokens.access).await.status, 401);
    }
    expect_enrolment(&node.try_login("ada", PASSWORD).await);
}

#[tokio::test]
async fn policy_by_role_applies_to_that_role_and_to_sessions_that_gain_it() {
    let admins = FactorPolicy::Roles(Roles::parse(["admin"]).unwrap());
    let cluster = cluster_requiring(admins, Duration::ZERO);
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    let tokens = node.login("ada").await;
    // without the role, the session needs no factor
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    let change_roles = async |added: &Roles, removed: &Roles| {
        latchkey::service::accounts::change_roles(&node.state, id, added, removed).await.unwrap();
    };
    let (admin, none) = (Roles::parse(["admin"]).unwrap(), Roles::default());
    change_roles(&admin, &none).await;
    // The new role requires a factor: the next refresh ends the session.
    assert_eq!(node.refresh(&tokens.refresh).await.problem(), problem(401, "invalid_refresh_token"));
    assert_eq!(node.refresh(&tokens.refresh).await.status, 401, "the session stays ended");
    expect_enrolment(&node.try_login("ada", PASSWORD).await);
    change_roles(&none, &admin).await;
    node.login("ada").await;
}

#[tokio::test]
async fn last_factor_of_an_account_that_must_have_one_cannot_be_removed() {
    let cluster = cluster_requiring(FactorPolicy::AllAccounts, Duration::from_hours(1));
    let node = cluster.node().await;
    let ada = super::account_with_app(&cluster, &node, "ada").await;
    let listed = node.get("/v1/me/factors", &ada.tokens.access).await.json();
    let path = format!("/v1/me/factors/totp/{}", listed["factors"][0]["id"].as_str().unwrap());
    assert_eq!(node.delete(&path, &ada.tokens.access).await.problem(), problem(409, "factor_required"));
    node.get("/v1/me", &ada.tokens.access).await.expect(200);
}

#[tokio::test]
async fn account_that_enrols_in_the_grace_period_keeps_its_session() {
    let cluster = cluster_requiring(FactorPolicy::AllAccounts, Duration::from_hours(1));
    let node = cluster.node().await;
    let ada = super::account_with_app(&cluster, &node, "ada").await;
    // longer than the grace period
    cluster.advance(Duration::from_hours(2));
    node.refresh(&ada.tokens.refresh).await.expect(200);
}

/// A change that replaces the caller's session does not start a new grace period.
#[tokio::test]
async fn session_that_replaces_one_of_the_grace_period_ends_with_the_grace_period() {
    let cluster = cluster_requiring(FactorPolicy::AllAccounts, Duration::from_hours(48));
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    cluster.advance(Duration::from_hours(24));
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    // Both changes replace the session.
    let tokens = Tokens::of(&node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200));
    let (token, _code) = request_address_change(&cluster, &node, &tokens, "lovelace").await;
    let body = json!({ "token": token });
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", body).await.expect(200);
    let tokens = Tokens::of(&answer);
    let tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    // 49 hours after the first sign-in: the grace period of 48 hours has ended
    cluster.advance(Duration::from_hours(25));
    node.refresh(&tokens.refresh).await.expect(401);
}

/// A change of factors that does not reach `aal2` replaces the caller's session, and does not start a new grace period.
#[tokio::test]
async fn i14_session_that_a_change_of_factors_starts_in_the_grace_period_ends_with_the_grace_period() {
    let grace = Duration::from_hours(48);
    let mut cluster = cluster_requiring(FactorPolicy::AllAccounts, grace);
    cluster.config.factors.email_code = true;
    // so that no change needs a step-up
    cluster.config.session.recent = grace;
    let node = cluster.node().await;
    node.register("ada").await;
    let ends_at = cluster.clock.now() + grace;
    let mut tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let changes = [
        (Method::POST, "/v1/me/factors/email-code"),
        (Method::POST, "/v1/me/recovery-codes"),
        (Method::DELETE, "/v1/me/factors/email-code"),
    ];
    for (method, path) in changes {
        cluster.advance(Duration::from_hours(15));
        tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
        let answer = signed_in(&node, &tokens, method, path, json!({})).await.expect(200);
        let left_secs = ends_at.saturating_since(cluster.clock.now()).as_secs();
        let expires_in = answer.json()["refresh_expires_in"].as_u64().unwrap();
        assert!(expires_in <= left_secs, "{path}: {expires_in} s, and {left_secs} s are left");
        tokens = Tokens::of(&answer);
    }
    // The three steps above took 45 of the 48 hours. After this step, two minutes of the grace period are left.
    cluster.advance(Duration::from_hours(3) - Duration::from_mins(2));
    let answer = node.refresh(&tokens.refresh).await.expect(200);
    let expires_in = answer.json()["expires_in"].as_u64().unwrap();
    assert!(expires_in <= 120, "the access token outlives the grace period: {expires_in} s");
    tokens = Tokens::of(&answer);
    cluster.advance(Duration::from_mins(2));
    assert_eq!(node.get("/v1/me", &tokens.access).await.status, 401);
    node.refresh(&tokens.refresh).await.expect(401);
    expect_enrolment(&node.try_login("ada", PASSWORD).await);
}
