//! I14: No path yields a session, or an authentication level (`acr`), that the user has not earned. Each path that
//! starts a session or replaces credentials has a test here. Enrolment, roles and the grace period are tested in `factors::policy`,
//! challenges in `factors::challenge`, and throttling in `factors::throttling`.

use std::time::Duration;

use latchkey::{domain::factor::FactorPolicy, service::clients::NewClient};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::{
    accounts::{
        NEW_PASSWORD, email, first_mail, problem, request_address_change, request_reset, reset, signed_in,
        verify_address,
    },
    factors::{
        App, Enrolled, STEP, account_with_app, assert_no_credentials, claims, cluster, enrol, expect_challenge,
        second_factor,
    },
    harness::{
        client::{Client, PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

/// An account `ada` with a verified address and an authenticator app.
async fn verified_account_with_app(cluster: &TestCluster, node: &Client) -> Enrolled {
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(cluster, node, "ada", &tokens).await;
    enrol(cluster, node, "ada").await
}

/// Adds the headers of a browser on the service's own page, which a request for a session with the transport `cookie` must have.
fn same_origin(request: RequestBuilder) -> RequestBuilder {
    request.header("origin", "https://auth.example.com").header("sec-fetch-site", "same-origin")
}

#[tokio::test]
async fn i14_sign_in_by_password_yields_nothing_before_the_second_factor() {
    let cluster = cluster();
    let node = cluster.node().await;
    account_with_app(&cluster, &node, "ada").await;
    for transport in ["bearer", "cookie"] {
        let body = json!({ "identifier": "ada", "password": PASSWORD, "transport": transport });
        let answer = node.send(same_origin(node.request(Method::POST, "/v1/login").json(&body))).await;
        expect_challenge(&answer);
    }
    let wrong = node.try_login("ada", "not the password").await;
    assert_eq!(wrong.problem(), problem(401, "invalid_credentials"), "the factor is not revealed");
    assert!(wrong.json()["challenge"].is_null());
}

#[tokio::test]
async fn i14_sign_in_by_mail_needs_the_second_factor() {
    let mut cluster = cluster();
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    let ada = verified_account_with_app(&cluster, &node).await;
    let request = node.post("/v1/login/code", json!({ "email": email("ada") })).await.expect(202).text_of("request");
    let (_, code) = first_mail(&cluster, "ada", "sign_in_code").await;
    let body = json!({ "request": request, "email": email("ada"), "code": code });
    let answer = node.post("/v1/login/code/verify", body.clone()).await;
    assert_eq!(
        answer.json()["methods"],
        json!(["totp", "recovery_code"]),
        "a code by mail is no second factor after a sign-in by mail"
    );
    let challenge = expect_challenge(&answer);
    assert_eq!(
        node.post("/v1/login/code/verify", body).await.problem(),
        problem(401, "invalid_code"),
        "the code works once"
    );
    let answer = second_factor(&node, &challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
    assert_eq!(claims(&Tokens::of(&answer).access)["acr"], "aal2");
}

#[tokio::test]
async fn i14_password_reset_yields_no_session_and_keeps_the_factors() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = verified_account_with_app(&cluster, &node).await;
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    let answer = reset(&node, &token, NEW_PASSWORD).await.expect(204);
    assert_no_credentials(&answer);
    assert_eq!(node.refresh(&ada.tokens.refresh).await.status, 401, "the sessions ended");
    let challenge = expect_challenge(&node.try_login("ada", NEW_PASSWORD).await);
    second_factor(&node, &challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
}

/// An attacker who reads the owner's mails can't use the link of a notice to get around an older factor.
#[tokio::test]
async fn i14_securing_the_account_by_a_link_keeps_older_factors() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = verified_account_with_app(&cluster, &node).await;
    // A factor that is older than the lifetime of a notice's link (72 h) is taken for the owner's.
    cluster.advance(Duration::from_hours(73));
    let challenge = expect_challenge(&node.try_login("ada", PASSWORD).await);
    let answer = second_factor(&node, &challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
    node.change_password(&Tokens::of(&answer).access, PASSWORD, NEW_PASSWORD).await.expect(200);
    let mail = cluster.mail_to(&email("ada"), "password_changed").await;
    let body = json!({ "token": mail.token() });
    assert_no_credentials(&node.post("/v1/account/secure", body).await.expect(204));
    let (token, _) = first_mail(&cluster, "ada", "password_reset").await;
    let third_password = "gravel lantern ostrich ten";
    reset(&node, &token, third_password).await.expect(204);
    // The last code was used. Two steps of 30 s later, the app shows another one.
    cluster.advance(2 * STEP);
    let challenge = expect_challenge(&node.try_login("ada", third_password).await);
    second_factor(&node, &challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
}

#[tokio::test]
async fn i14_password_of_an_operator_keeps_the_factors() {
    let cluster = cluster();
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    enrol(&cluster, &node, "ada").await;
    latchkey::service::accounts::set_password(&node.state, id, NEW_PASSWORD.into()).await.unwrap();
    expect_challenge(&node.try_login("ada", NEW_PASSWORD).await);
}

#[tokio::test]
async fn i14_change_of_password_and_address_keep_the_earned_level() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = verified_account_with_app(&cluster, &node).await;
    let before = claims(&ada.tokens.access);
    let changed = Tokens::of(&node.change_password(&ada.tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200));
    for name in ["acr", "amr", "auth_time"] {
        assert_eq!(claims(&changed.access)[name], before[name], "{name}");
    }
    let (token, _) = request_address_change(&cluster, &node, &changed, "lovelace").await;
    let body = json!({ "token": token });
    let moved = signed_in(&node, &changed, Method::POST, "/v1/email/verify", body).await.expect(200);
    assert_eq!(claims(&Tokens::of(&moved).access)["acr"], "aal2");
    expect_challenge(&node.try_login(&email("lovelace"), NEW_PASSWORD).await);
}

/// The link goes to the new address, whose reader must not get into the account by setting a new password.
#[tokio::test]
async fn i14_new_password_with_the_link_of_a_new_address_is_refused_where_there_is_a_factor() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = verified_account_with_app(&cluster, &node).await;
    let (token, _) = request_address_change(&cluster, &node, &ada.tokens, "lovelace").await;
    let body = json!({ "token": token, "new_password": NEW_PASSWORD });
    assert_eq!(node.post("/v1/email/verify", body).await.problem(), problem(403, "proof_required"));
    node.refresh(&ada.tokens.refresh).await.expect(200);
    node.post("/v1/email/verify", json!({ "token": token, "password": PASSWORD })).await.expect(204);
    expect_challenge(&node.try_login(&email("lovelace"), PASSWORD).await);
}

#[tokio::test]
async fn i14_refresh_keeps_the_level_on_both_endpoints() {
    let mut cluster = cluster();
    cluster.config.factors.required = FactorPolicy::AllAccounts;
    // In the grace period, an account without a factor can still sign in.
    cluster.config.factors.grace = Duration::from_hours(48);
    let node = cluster.node().await;
    node.register("ada").await;
    let refresh_by_oauth = |refresh: String| {
        let form = [("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh)];
        node.send(node.request(Method::POST, "/oauth2/token").form(&form))
    };
    let without_factor = node.login("ada").await;
    let without_factor = Tokens::of(&node.refresh(&without_factor.refresh).await.expect(200));
    assert_eq!(claims(&without_factor.access)["acr"], "aal1");
    let answer = refresh_by_oauth(without_factor.refresh).await.expect(200);
    assert_eq!(claims(&answer.text_of("access_token"))["acr"], "aal1");
    let refresh_without_factor = answer.text_of("refresh_token");
    let ada = enrol(&cluster, &node, "ada").await;
    assert_eq!(
        refresh_by_oauth(refresh_without_factor).await.status,
        400,
        "the session without the factor ended with the enrolment"
    );
    let answer = refresh_by_oauth(ada.tokens.refresh).await.expect(200);
    assert_eq!(claims(&answer.text_of("access_token"))["acr"], "aal2");
}

#[tokio::test]
async fn i14_token_endpoint_refuses_the_password_grant() {
    let cluster = cluster();
    let node = cluster.node().await;
    account_with_app(&cluster, &node, "ada").await;
    let form = [("grant_type", "password"), ("username", "ada"), ("password", PASSWORD)];
    let answer = node.send(node.request(Method::POST, "/oauth2/token").form(&form)).await;
    assert_eq!(answer.status, 400);
    assert_no_credentials(&answer);
}

#[tokio::test]
async fn i14_cookie_of_a_session_without_the_factor_ends_with_the_enrolment() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let body = json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let answer = node.send(same_origin(node.request(Method::POST, "/v1/login").json(&body))).await.expect(200);
    let mut set_cookies = answer.headers.get_all("set-cookie").iter().map(|header| header.to_str().unwrap());
    let refresh_cookie = set_cookies.find(|header| header.starts_with("__Host-latchkey=")).unwrap();
    let (name_and_value, _attributes) = refresh_cookie.split_once(';').unwrap();
    enrol(&cluster, &node, "ada").await;
    let request = node.request(Method::POST, "/v1/refresh").header("cookie", name_and_value);
    let answer = node.send(same_origin(request)).await;
    assert_eq!(answer.status, 401, "the session has ended");
}

/// An account is imported with the secret of its authenticator app. The secret is stored encrypted, and sign-ins require its code.
#[tokio::test]
async fn i14_imported_account_with_an_authenticator_app_needs_its_code() {
    use latchkey::{
        crypto::seal::Sealer,
        domain::entropy::Entropy,
        service::import_accounts::{Format, Importer, Progress, import},
    };

    let cluster = cluster();
    let node = cluster.node().await;
    let id = node.register("eve").await.text_of("id").parse().unwrap();
    // the records below reuse this hash of PASSWORD
    let hash = node.state.sql.account(id).await.unwrap().unwrap().password_hash.unwrap();
    let secret = b"12345678901234567890";
    let secret_in_base32 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let app = App { secret: secret_in_base32.to_owned() };
    let line = |name: &str, totp_secret: &str| {
        let record = json!({
            "email": email(name), "username": name, "password_hash": hash.expose(), "totp_secret": totp_secret
        });
        format!("{record}\n")
    };
    let source = line("ada", secret_in_base32) + &line("bob", "not base32") + &line("eve", secret_in_base32);
    let (sealer, entropy) = (Sealer::new(&cluster.config.secrets), Entropy::system());
    let importer = Importer {
        sql: &node.state.sql,
        clock: &cluster.clock,
        entropy: &entropy,
        sealer: &sealer,
        password: &cluster.config.password,
        format: &Format::Native,
        max_emails: cluster.config.account.max_emails,
        batch: 100,
    };
    let mut refused = Vec::new();
    let mut report = |progress: Progress| {
        if let Progress::Refused { record, reason } = progress {
            refused.push((record, reason.code()));
        }
    };
    let summary = import(&importer, source.as_bytes(), "test", &mut report).await.unwrap();
    assert_eq!(summary.imported, 1);
    assert_eq!(refused, [(2, "invalid_totp_secret"), (3, "email_taken")]);

    let challenge = expect_challenge(&node.try_login("ada", PASSWORD).await);
    second_factor(&node, &challenge, "totp", &app.code(&cluster.clock)).await.expect(200);
    // `eve` already existed, and did not get the factor of her record.
    node.login("eve").await;
    let database = std::fs::read(cluster.folder().join("latchkey.db")).unwrap();
    assert!(!database.windows(secret.len()).any(|window| window == secret));
}

/// I13 (no pre-hijacking) takes precedence: factors of a user who had not verified the address do not survive its verification.
#[tokio::test]
async fn i14_factors_of_a_squatter_do_not_survive_the_verification_of_the_address() {
    let cluster = cluster();
    let node = cluster.node().await;
    let squatter = account_with_app(&cluster, &node, "ada").await;
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let owner = node.login_with("ada", NEW_PASSWORD).await;
    let listed = node.get("/v1/me/factors", &owner.access).await.json();
    assert_eq!(listed, json!({ "factors": [], "recovery_codes_left": 0 }));
    assert_eq!(node.refresh(&squatter.tokens.refresh).await.status, 401, "the sessions ended");
}

/// The reset link of an admin or a support tool sets the password only.
#[tokio::test]
async fn i14_password_reset_that_a_service_client_starts_keeps_the_factors() {
    let cluster = cluster();
    let node = cluster.node().await;
    verified_account_with_app(&cluster, &node).await;
    let scopes = vec!["accounts:recover".to_owned()];
    let new = NewClient { name: "crm".to_owned(), scopes, ..NewClient::default() };
    let client = cluster.service_client_with(new).await;
    let body = json!({ "account": email("ada"), "delivery": "return" });
    let request = node.request(Method::POST, "/v1/users/reset").json(&body);
    let answer = node.send(request.basic_auth(&client.id, Some(&client.secret))).await.expect(202);
    assert_no_credentials(&reset(&node, &answer.text_of("token"), NEW_PASSWORD).await.expect(204));
    expect_challenge(&node.try_login("ada", NEW_PASSWORD).await);
}

/// The undo removes only factors that may be an attacker's.
#[tokio::test]
async fn i14_undone_change_of_address_keeps_older_factors() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = verified_account_with_app(&cluster, &node).await;
    // A factor that is older than the lifetime of a notice's link (72 h) is taken for the owner's.
    cluster.advance(Duration::from_hours(73));
    let challenge = expect_challenge(&node.try_login("ada", PASSWORD).await);
    let answer = second_factor(&node, &challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
    let tokens = Tokens::of(&answer);
    let (token, _) = request_address_change(&cluster, &node, &tokens, "lovelace").await;
    signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await.expect(200);
    let undo = cluster.mail_to(&email("ada"), "address_changed").await.token().to_owned();
    assert_no_credentials(&node.post("/v1/email/undo", json!({ "token": undo })).await.expect(204));
    let (token, _) = first_mail(&cluster, "ada", "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    expect_challenge(&node.try_login("ada", NEW_PASSWORD).await);
}

#[tokio::test]
async fn i14_verification_of_an_address_starts_no_session() {
    let cluster = cluster();
    let node = cluster.node().await;
    account_with_app(&cluster, &node, "ada").await;
    node.post("/v1/email/verification", json!({ "email": email("ada") })).await.expect(202);
    let (token, _) = first_mail(&cluster, "ada", "verify_address").await;
    let answer = node.post("/v1/email/verify", json!({ "token": token, "password": PASSWORD })).await.expect(204);
    assert_no_credentials(&answer);
    expect_challenge(&node.try_login("ada", PASSWORD).await);
}
