//! Tests `/account/reauthenticate`: a step-up gives the browser's session a new `auth_time` and, after a second factor, a higher `acr`.

use std::time::Duration;

use latchkey::domain::account::Identifier;
use serde_json::{Value, json};

use super::{
    cluster,
    second_factor::{enrolment, recovery_codes, totp_code, wrong_code},
    signed_in,
    visitor::{Visitor, field_error},
};
use crate::{
    harness::{
        client::{Answer, PASSWORD},
        test_cluster::{Node, TestCluster},
    },
    oidc::{self, Request, claims, exchange, refresh, response_of, text},
    passkeys::authenticator::Authenticator,
};

/// The cookie of the browser's session, which is the session on these pages.
const BROWSER_COOKIE: &str = "__Host-latchkey-browser";
/// Longer than `session.recent` (10 minutes): an earlier authentication no longer counts as recent.
const NOT_RECENT: Duration = Duration::from_mins(11);

/// Sets an authenticator app up, and advances the clock until the app shows another code, because a code works once. Returns the app's
/// secret and the recovery codes.
async fn set_up_totp(cluster: &TestCluster, ada: &mut Visitor) -> (String, Vec<String>) {
    ada.open("/account/security").await.expect(200);
    let (secret, state) = enrolment(&ada.submit("/account/security/totp", &[]).await.expect(200));
    let correct = [("state", state.as_str()), ("code", &totp_code(&secret, &cluster.clock))];
    let codes = recovery_codes(&ada.submit("/account/security/totp/confirm", &correct).await.expect(200));
    cluster.advance(Duration::from_secs(60));
    (secret, codes)
}

/// The path on this service to which an answer redirects, without the issuer if the URL has it.
fn redirect_path(node: &Node, answer: &Answer) -> String {
    let location = answer.header("location");
    location.strip_prefix(&node.state.config.issuer).unwrap_or(location).to_owned()
}

/// Parses the JSON that an attribute of the page contains: the options of a passkey call.
fn json_attribute(page: &Answer, attribute: &str) -> Value {
    let (_, rest) = page.text.split_once(&format!("{attribute}=\"")).unwrap_or_else(|| panic!("{}", page.text));
    let (escaped, _) = rest.split_once('"').unwrap();
    serde_json::from_str(&escaped.replace("&quot;", "\"")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn step_up_by_password_keeps_the_session_and_returns_to_the_page() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let phone = node.client.login("ada").await;
    let mut ada = signed_in(&node).await;
    let session = ada.cookies[BROWSER_COOKIE].clone();
    cluster.advance(NOT_RECENT);
    ada.open("/account/devices").await.expect(200);
    let earlier_csrf = ada.csrf.clone();
    let end_other_sessions = "/account/devices/end-others";
    let to_reauthenticate = ada.submit(end_other_sessions, &[]).await.expect(303);
    assert_eq!(to_reauthenticate.header("location"), "/account/reauthenticate?next=/devices");
    let page = ada.follow(&to_reauthenticate).await.expect(200);
    assert!(page.text.contains("href=\"/account/devices\""), "the link back: {}", page.text);
    let wrong =
        ada.submit("/account/reauthenticate?next=/devices", &[("method", "password"), ("password", "no")]).await;
    assert!(field_error(&wrong.expect(403), "password").is_some());
    let fields = [("method", "password"), ("password", PASSWORD)];
    let done = ada.submit("/account/reauthenticate?next=/devices", &fields).await.expect(303);
    assert_eq!(done.header("location"), "/account/devices");
    assert_eq!(done.header("set-cookie"), "");
    assert_eq!(ada.cookies[BROWSER_COOKIE], session);
    // The form of the page that was opened before the step-up still works.
    ada.submit_with(end_other_sessions, &[], &earlier_csrf).await.expect(303);
    node.client.refresh(&phone.refresh).await.expect(401);
    // The page redirects to paths of the service only.
    for hostile in ["//evil.example", "https://evil.example"] {
        let path = format!("/account/reauthenticate?next={hostile}");
        ada.open(&path).await.expect(200);
        assert_eq!(ada.submit(&path, &fields).await.expect(303).header("location"), "/account");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_account_with_a_second_factor_steps_up_with_it_and_not_with_the_password() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    let (secret, codes) = set_up_totp(&cluster, &mut ada).await;
    let session = ada.cookies[BROWSER_COOKIE].clone();
    let path = "/account/reauthenticate?next=/data";
    for method in ["totp", "recovery_code"] {
        cluster.advance(NOT_RECENT);
        let correct_code = if method == "totp" { totp_code(&secret, &cluster.clock) } else { codes[0].clone() };
        ada.open("/account/data").await.expect(200);
        let to_reauthenticate = ada.submit("/account/data/export", &[]).await.expect(303);
        assert_eq!(to_reauthenticate.header("location"), path);
        let page = ada.open(&format!("{path}&method={method}")).await.expect(200);
        assert!(!page.text.contains("type=\"password\""), "{}", page.text);
        assert!(page.text.contains(&format!("name=\"method\" value=\"{method}\"")), "{}", page.text);
        // The password alone is not a second factor.
        let refused = ada.submit(path, &[("method", "password"), ("password", PASSWORD)]).await.expect(422);
        assert_eq!(refused.header("location"), "");
        let wrong_code = wrong_code(&secret, &cluster.clock);
        let wrong = ada.submit(path, &[("method", method), ("code", &wrong_code)]).await.expect(422);
        assert!(field_error(&wrong, "code").is_some(), "{}", wrong.text);
        let done = ada.submit(path, &[("method", method), ("code", &correct_code)]).await.expect(303);
        assert_eq!(done.header("location"), "/account/data");
        assert_eq!(ada.cookies[BROWSER_COOKIE], session);
        ada.open("/account/data").await.expect(200);
        ada.submit("/account/data/export", &[]).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passkey_steps_up_the_browsers_session() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    let mut authenticator = Authenticator::new();
    ada.open("/account/security").await.expect(200);
    let page = ada.submit("/account/security/passkeys/options", &[]).await.expect(200);
    let created = authenticator.create(&json_attribute(&page, "data-value")).to_string();
    let fields = [("name", "Key"), ("credential", created.as_str())];
    let added = ada.submit("/account/security/passkeys", &fields).await.expect(200);
    let next = "href=\"/account/security?done=factor_added\"";
    assert!(added.text.contains(next), "the page of the recovery codes: {}", added.text);
    let session = ada.cookies[BROWSER_COOKIE].clone();
    cluster.advance(NOT_RECENT);
    let path = "/account/reauthenticate?next=/security";
    let page = ada.open(path).await.expect(200);
    assert!(page.text.contains("name=\"method\" value=\"passkey\""), "{}", page.text);
    let assertion = authenticator.get(&json_attribute(&page, "data-value")).to_string();
    let fields = [("method", "passkey"), ("credential", assertion.as_str())];
    let done = ada.submit(path, &fields).await.expect(303);
    assert_eq!(done.header("location"), "/account/security");
    assert_eq!(ada.cookies[BROWSER_COOKIE], session);
    let replayed = ada.submit(path, &fields).await.expect(422);
    assert!(replayed.text.contains("data-passkey=\"get\""), "the page has new options: {}", replayed.text);
    ada.open("/account/data").await.expect(200);
    ada.submit("/account/data/export", &[]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_without_password_and_factor_signs_in_again() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    let account = node.state.sql.find_account(&Identifier::parse("ada")).await.unwrap().unwrap();
    let mut change = node.state.sql.change_account(account.id).await.unwrap().unwrap();
    change.remove_password(node.state.clock.now()).await.unwrap();
    change.commit().await.unwrap();
    let answer = ada.open("/account/reauthenticate?next=/data").await.expect(303);
    assert_eq!(answer.header("location"), "/account/sign-in?again=1&next=%2Fdata");
}

/// A step-up satisfies `prompt=login` and `max_age`: the browser's session, and the app sessions beneath it, continue.
#[tokio::test(flavor = "multi_thread")]
async fn app_that_requires_a_recent_authentication_gets_a_step_up() {
    let cluster = cluster();
    let (node, shop) = oidc::node_with_ada_and_shop(&cluster).await;
    let mut ada = signed_in(&node).await;
    let session = ada.cookies[BROWSER_COOKIE].clone();
    // Sends an authorization request, authenticates again if a page asks for it, and returns the authorization code.
    let authorize = async |ada: &mut Visitor, request: &Request| {
        let sent = ada.open(&format!("/oauth2/authorize?{}", request.query())).await.expect(303);
        if sent.header("location").starts_with(oidc::CALLBACK) {
            return response_of(&sent).remove("code").unwrap();
        }
        let path = redirect_path(&node, &sent);
        assert!(path.starts_with("/account/reauthenticate?request="), "{path}");
        let page = ada.open(&path).await.expect(200);
        // the name of the app, and the link to a sign-in with another account
        assert!(page.text.contains("shop") && page.text.contains("again=1"), "{}", page.text);
        let back = ada.submit(&path, &[("method", "password"), ("password", PASSWORD)]).await.expect(303);
        let to_app = ada.follow(&back).await.expect(303);
        response_of(&to_app).remove("code").unwrap()
    };
    let first_code = authorize(&mut ada, &Request::for_client("shop")).await;
    let first = exchange(&node, &shop, &first_code).await.expect(200).json();
    for request in
        [Request::for_client("shop").with("prompt", "login"), Request::for_client("shop").with("max_age", "60")]
    {
        // longer than the `max_age` of 60 seconds
        cluster.advance(Duration::from_mins(5));
        let now = cluster.clock.now().as_secs();
        let code = authorize(&mut ada, &request).await;
        let tokens = exchange(&node, &shop, &code).await.expect(200).json();
        assert_eq!(claims(text(&tokens, "id_token"))["auth_time"], now);
        assert_eq!(claims(text(&tokens, "access_token"))["auth_time"], now);
        assert_eq!(ada.cookies[BROWSER_COOKIE], session);
    }
    // The app's first session is still live.
    refresh(&node, &shop, text(&first, "refresh_token")).await.expect(200);
    // The page redirects back at once if a request needs no authentication. This request needs a consent only.
    let request = Request::for_client("shop").with("prompt", "consent");
    let sent = ada.open(&format!("/oauth2/authorize?{}", request.query())).await;
    let path = redirect_path(&node, &sent).replace("/consent", "/reauthenticate");
    let answer = ada.open(&path).await.expect(303);
    assert!(answer.header("location").starts_with("/oauth2/authorize?request="), "{answer:?}");
}

/// A step-up with the account's second factor satisfies `acr_values`, and the app's session gets its `acr`.
#[tokio::test(flavor = "multi_thread")]
async fn i14_app_that_requires_two_factors_gets_the_acr_of_the_step_up() {
    let cluster = cluster();
    let (node, shop) = oidc::node_with_ada_and_shop(&cluster).await;
    let mut ada = signed_in(&node).await;
    let (secret, _codes) = set_up_totp(&cluster, &mut ada).await;
    // A session with a password alone. An account has such sessions after an import has added a factor.
    let by_password = oidc::Browser::signed_in(&node, "ada").await;
    let cookie = by_password.cookie.clone().unwrap();
    ada.cookies.insert(BROWSER_COOKIE.to_owned(), cookie.split_once('=').unwrap().1.to_owned());
    // The app's request must be later than the sign-in. Otherwise the sign-in counts as the answer to the request: the service concludes
    // that the account has no factor of the level, and returns an error to the app.
    cluster.advance(Duration::from_secs(1));
    let request = Request::for_client("shop").with("acr_values", "aal2").with("scope", "openid offline_access");
    let sent = ada.open(&format!("/oauth2/authorize?{}", request.query())).await.expect(303);
    let path = redirect_path(&node, &sent);
    assert!(path.starts_with("/account/reauthenticate?request="), "{path}");
    ada.open(&path).await.expect(200);
    let fields = [("method", "totp"), ("code", &totp_code(&secret, &cluster.clock))];
    let back = ada.submit(&path, &fields).await.expect(303);
    let to_app = ada.follow(&back).await.expect(303);
    let tokens = exchange(&node, &shop, &response_of(&to_app)["code"]).await.expect(200).json();
    let refreshed = refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(200).json();
    for tokens in [&tokens, &refreshed] {
        for token in ["id_token", "access_token"] {
            let claims = claims(text(tokens, token));
            assert_eq!(claims["acr"], "aal2");
            assert_eq!(claims["amr"], json!(["pwd", "otp", "mfa"]));
        }
    }
    // The level of a step-up expires. Then the app's request requires another step-up.
    cluster.advance(node.state.config.factors.step_up_ttl);
    let later = refresh(&node, &shop, text(&refreshed, "refresh_token")).await.expect(200).json();
    assert_eq!(claims(text(&later, "access_token"))["acr"], "aal1");
    let sent = ada.open(&format!("/oauth2/authorize?{}", request.query())).await.expect(303);
    assert!(redirect_path(&node, &sent).starts_with("/account/reauthenticate?request="), "{sent:?}");
}
