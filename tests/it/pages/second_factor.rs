//! Tests second factors on pages, in a browser without scripts.

use std::{process::Command, time::Duration};

use latchkey::domain::{clock::Clock, factor::FactorPolicy, limit::Quota};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    ADA, cluster, signed_in,
    visitor::{Visitor, actions, alert, field_error},
};
use crate::{
    accounts::{count_mails, first_mail},
    harness::{
        client::{Answer, PASSWORD},
        test_cluster::{Node, TestCluster},
        wait,
    },
    oidc,
    passkeys::authenticator::{self, Authenticator},
};

/// The code that an authenticator app with this secret, in base32, shows.
pub fn totp_code(secret: &str, clock: &Clock) -> String {
    totp_code_at(secret, clock.now().as_secs())
}

/// The code that the app shows `seconds` after the Unix epoch.
fn totp_code_at(secret: &str, seconds: i64) -> String {
    let now = format!("@{seconds}");
    let output = Command::new("oathtool").args(["--totp", "--base32", "--now", &now, secret]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A code of six digits that the app does not show within a minute of the clock's time.
pub fn wrong_code(secret: &str, clock: &Clock) -> String {
    let now = clock.now().as_secs();
    let shown = [-60, -30, 0, 30, 60].map(|seconds| totp_code_at(secret, now + seconds));
    let mut guesses = (0..).map(|number| format!("{number:06}"));
    guesses.find(|guess| !shown.contains(guess)).unwrap()
}

/// The app's secret, and the `state` field, of the page that sets an authenticator app up.
pub fn enrolment(page: &Answer) -> (String, String) {
    let text_after = |mark: &str| page.text.split(mark).nth(1).unwrap_or_else(|| panic!("{mark}: {}", page.text));
    let secret = text_after("<code class=\"secret\">").split('<').next().unwrap().replace(' ', "");
    let state = text_after("name=\"state\" value=\"").split('"').next().unwrap().replace("&amp;", "&");
    (secret, state)
}

/// The WebAuthn options of a page that asks for a passkey.
fn passkey_options(page: &Answer) -> Value {
    let rest = page.text.split("data-value=\"").nth(1).unwrap_or_else(|| panic!("no options: {}", page.text));
    let escaped = rest.split('"').next().unwrap();
    let json = escaped.replace("&quot;", "\"").replace("&#x2f;", "/").replace("&#39;", "'");
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// A security key, registered for `ada`, without user verification. Its credential is not discoverable: options must name the credential,
/// and its responses have no user handle.
async fn security_key(node: &Node) -> Authenticator {
    let tokens = node.login("ada").await;
    let call = |path: &'static str, body: Value| {
        node.send(node.request(Method::POST, path).bearer_auth(&tokens.access).json(&body))
    };
    let options = call("/v1/me/passkeys/options", json!({})).await.expect(200).json();
    let mut key = Authenticator::new();
    key.flags = authenticator::USER_PRESENT;
    call("/v1/me/passkeys", json!({ "name": "Key", "credential": key.create(&options["public_key"]) }))
        .await
        .expect(201);
    key.user_handle = None;
    key
}

/// A cluster where every account must have a second factor, from its first sign-in on.
fn cluster_requiring_factors() -> TestCluster {
    let mut cluster = cluster();
    cluster.config.factors.required = FactorPolicy::AllAccounts;
    cluster.config.factors.grace = Duration::ZERO;
    cluster
}

/// Signs in by password as `ada`, and asserts that the sign-in is not complete. Returns the browser and the redirect to the next page.
async fn enter_password(node: &Node, query: &str) -> (Visitor, Answer) {
    let mut ada = Visitor::new(node);
    let path = format!("/account/sign-in{query}");
    ada.open(&path).await.expect(200);
    let next_step = ada.submit(&path, &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
    assert!(!ada.cookies.contains_key("__Host-latchkey-browser"), "no session yet (I14: factors cannot be bypassed)");
    (ada, next_step)
}

/// The recovery codes that a page shows.
pub fn recovery_codes(page: &Answer) -> Vec<String> {
    let codes = page.text.split("<li><code>").skip(1);
    codes.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn authenticator_app_is_set_up_and_required_at_the_next_sign_in() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    ada.open("/account/security").await.expect(200);
    let (secret, state) = enrolment(&ada.submit("/account/security/totp", &[]).await.expect(200));
    let wrong = ada
        .submit("/account/security/totp/confirm", &[("state", &state), ("code", &wrong_code(&secret, &cluster.clock))])
        .await
        .expect(422);
    assert!(field_error(&wrong, "code").is_some(), "{}", wrong.text);
    assert_eq!(enrolment(&wrong).0, secret, "the page keeps the secret");
    let correct = [("state", state.as_str()), ("code", &totp_code(&secret, &cluster.clock))];
    let codes = recovery_codes(&ada.submit("/account/security/totp/confirm", &correct).await.expect(200));
    assert_eq!(codes.len(), 10);
    assert!(ada.open("/account/security").await.expect(200).text.contains("Authenticator app"));

    // a code works once: the next sign-in needs a later code
    cluster.advance(Duration::from_secs(60));
    let mut other = Visitor::new(&node);
    other.open("/account/sign-in?next=/devices").await.expect(200);
    let fields = [("identifier", "ada"), ("password", PASSWORD)];
    let next_step = other.submit("/account/sign-in?next=/devices", &fields).await.expect(303);
    assert_eq!(next_step.header("location"), "/account/sign-in/second-factor?next=%2Fdevices");
    assert!(!other.cookies.contains_key("__Host-latchkey-browser"), "no session yet (I14)");
    // a redirect to the sign-in
    other.open("/account").await.expect(303);
    other.follow(&next_step).await.expect(200);
    let path = "/account/sign-in/second-factor?next=/devices";
    let wrong =
        other.submit(path, &[("method", "totp"), ("code", &wrong_code(&secret, &cluster.clock))]).await.expect(422);
    assert!(field_error(&wrong, "code").unwrap().contains("wrong"), "{}", wrong.text);
    let correct = [("method", "totp"), ("code", &totp_code(&secret, &cluster.clock))];
    let done = other.submit(path, &correct).await.expect(303);
    assert_eq!(done.header("location"), "/account/devices");
    other.follow(&done).await.expect(200);

    // A recovery code works once.
    let mut third = Visitor::new(&node);
    for status in [303, 422] {
        // Without `again`, the page would redirect the second time, because the browser is signed in.
        third.open("/account/sign-in?again=1").await.expect(200);
        third.submit("/account/sign-in", &fields).await.expect(303);
        let page = third.open("/account/sign-in/second-factor?method=recovery_code").await.expect(200);
        assert!(page.text.contains("Recovery code"), "{}", page.text);
        let same_code = [("method", "recovery_code"), ("code", codes[0].as_str())];
        third.submit("/account/sign-in/second-factor", &same_code).await.expect(status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_challenge_leads_back_to_the_sign_in() {
    let cluster = cluster();
    let node = cluster.node().await;
    let mut ada = Visitor::new(&node);
    ada.open("/account/sign-in").await.expect(200);
    // the cookie of a challenge that Redis no longer has: the challenge, and the factor that answers it
    ada.cookies.insert("__Host-latchkey-challenge".to_owned(), "lk_ch_unknown.totp".to_owned());
    ada.open("/account/sign-in/second-factor").await.expect(200);
    let fields = [("method", "totp"), ("code", "123456")];
    let refused = ada.submit("/account/sign-in/second-factor", &fields).await.expect(422);
    assert!(alert(&refused).unwrap().contains("too long"), "{}", refused.text);
    assert!(refused.text.contains("name=\"identifier\""), "the page is the sign-in: {}", refused.text);
    // the refusal has cleared the cookie
    ada.open("/account/sign-in/second-factor").await.expect(303);
}

#[tokio::test(flavor = "multi_thread")]
async fn required_factor_is_set_up_before_the_session_starts() {
    let cluster = cluster_requiring_factors();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let (mut ada, next_step) = enter_password(&node, "").await;
    assert_eq!(next_step.header("location"), "/account/sign-in/enrol");
    let choice = ada.follow(&next_step).await.expect(200);
    assert!(choice.text.contains("href=\"/account/sign-in/enrol?method=passkey\""), "{}", choice.text);
    let (secret, state) = enrolment(&ada.open("/account/sign-in/enrol?method=totp").await.expect(200));
    let wrong = ada
        .submit("/account/sign-in/enrol", &[("state", &state), ("code", &wrong_code(&secret, &cluster.clock))])
        .await
        .expect(422);
    assert!(field_error(&wrong, "code").is_some(), "{}", wrong.text);
    assert_eq!(enrolment(&wrong).0, secret);
    assert!(!ada.cookies.contains_key("__Host-latchkey-browser"), "no session yet (I14)");
    let correct = [("state", state.as_str()), ("code", &totp_code(&secret, &cluster.clock))];
    let done = ada.submit("/account/sign-in/enrol", &correct).await.expect(200);
    assert_eq!(recovery_codes(&done).len(), 10, "{}", done.text);
    ada.open("/account/security").await.expect(200);
}

/// Waits until `ada` has received `mails` mails with a code. Returns the code of the last one.
async fn code_of_mail_number(cluster: &TestCluster, mails: usize) -> String {
    let arrived = || async { count_mails(cluster, "ada", "second_factor_code") >= mails };
    wait::until("ada has a code", arrived).await;
    cluster.mail_to(ADA, "second_factor_code").await.code().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn code_by_mail_is_enabled_sent_and_sent_again() {
    let mut cluster = cluster();
    cluster.config.factors.email_code = true;
    // the mail at the sign-in, and one that is sent again: a third is refused
    cluster.config.limits.factor_mail_per_account = Some(Quota { count: 2, window: Duration::from_hours(1) });
    let node = cluster.node().await;
    node.client.register("ada").await;
    let tokens = node.client.login("ada").await;
    let mut ada = signed_in(&node).await;
    let page = ada.open("/account/security").await.expect(200);
    assert!(page.text.contains("Codes by mail"), "{}", page.text);
    assert!(page.text.contains("Confirm your address first"), "{}", page.text);
    let (token, _) = first_mail(&cluster, "ada", "verify_address").await;
    let body = json!({ "token": token });
    let verification = node.request(Method::POST, "/v1/email/verify").bearer_auth(&tokens.access).json(&body);
    node.send(verification).await.expect(204);
    let page = ada.open("/account/security").await.expect(200);
    assert!(actions(&page).contains(&"/account/security/email-code".to_owned()), "{}", page.text);
    let codes = recovery_codes(&ada.submit("/account/security/email-code", &[]).await.expect(200));
    assert_eq!(codes.len(), 10);

    let mut other = Visitor::new(&node);
    other.open("/account/sign-in").await.expect(200);
    let next_step =
        other.submit("/account/sign-in", &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
    assert_eq!(next_step.header("location"), "/account/sign-in/second-factor");
    let page = other.follow(&next_step).await.expect(200);
    assert!(page.text.contains("sent to your e-mail address"), "{}", page.text);
    assert!(!page.text.contains("name=\"remember\""), "devices are not remembered by default");
    let first_code = code_of_mail_number(&cluster, 1).await;
    let sent = other.submit("/account/sign-in/second-factor/send", &[]).await.expect(303);
    let page = other.follow(&sent).await.expect(200);
    assert!(page.text.contains("A mail is on its way."), "{}", page.text);
    let second_code = code_of_mail_number(&cluster, 2).await;
    let limited = other.submit("/account/sign-in/second-factor/send", &[]).await.expect(429);
    assert!(alert(&limited).unwrap().contains("Too many attempts"), "{}", limited.text);
    let path = "/account/sign-in/second-factor";
    // The second code has replaced the first.
    let wrong = other.submit(path, &[("method", "email_code"), ("code", &first_code)]).await.expect(422);
    assert!(field_error(&wrong, "code").unwrap().contains("wrong"), "{}", wrong.text);
    other.submit(path, &[("method", "email_code"), ("code", &second_code)]).await.expect(303);
    other.open("/account/security").await.expect(200);
    other.submit("/account/security/email-code/remove", &[]).await.expect(303);
    // without a factor, the password alone signs in again
    signed_in(&node).await.open("/account/security").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn remembered_device_skips_the_second_factor_until_it_is_forgotten() {
    let mut cluster = cluster();
    cluster.config.factors.remember_device = Some(Duration::from_hours(24));
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    ada.open("/account/security").await.expect(200);
    let (secret, state) = enrolment(&ada.submit("/account/security/totp", &[]).await.expect(200));
    let correct = [("state", state.as_str()), ("code", &totp_code(&secret, &cluster.clock))];
    ada.submit("/account/security/totp/confirm", &correct).await.expect(200);
    let fields = [("identifier", "ada"), ("password", PASSWORD)];
    let path = "/account/sign-in/second-factor";

    let mut other = Visitor::new(&node);
    other.open("/account/sign-in").await.expect(200);
    other.submit("/account/sign-in", &fields).await.expect(303);
    assert!(other.open(path).await.expect(200).text.contains("name=\"remember\""));
    // a code works once: this sign-in needs the next code
    cluster.advance(Duration::from_secs(30));
    let next_code = totp_code(&secret, &cluster.clock);
    other.submit(path, &[("method", "totp"), ("code", &next_code), ("remember", "1")]).await.expect(303);
    let page = other.open("/account/security").await.expect(200);
    assert!(page.text.contains("Remembered devices"), "{}", page.text);
    assert!(page.text.contains("This device"), "{}", page.text);
    other.submit("/account/sign-out", &[]).await.expect(303);
    other.open("/account/sign-in").await.expect(200);
    let done = other.submit("/account/sign-in", &fields).await.expect(303);
    assert_eq!(done.header("location"), "/account", "no second factor");

    // A browser that is signed in needs the second factor for another sign-in.
    other.open("/account/sign-in?again=1").await.expect(200);
    let next_step = other.submit("/account/sign-in", &fields).await.expect(303);
    assert_eq!(next_step.header("location"), path);

    let page = other.open("/account/security").await.expect(200);
    let forget_form = page.text.split("/account/security/devices/forget\"").nth(1).unwrap();
    let id = forget_form.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let done = other.submit("/account/security/devices/forget", &[("id", &id)]).await.expect(303);
    assert!(other.follow(&done).await.text.contains("will be asked for again"));
    other.submit("/account/security/devices/forget", &[("id", &id)]).await.expect(404);
    other.submit("/account/security/devices/forget-all", &[]).await.expect(303);
    other.open("/account").await.expect(200);
    other.submit("/account/sign-out", &[]).await.expect(303);
    other.open("/account/sign-in").await.expect(200);
    let next_step = other.submit("/account/sign-in", &fields).await.expect(303);
    assert_eq!(next_step.header("location"), path);
}

#[tokio::test(flavor = "multi_thread")]
async fn required_passkey_is_set_up_before_the_session_starts_and_returns_to_the_requested_page() {
    let cluster = cluster_requiring_factors();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let (mut ada, next_step) = enter_password(&node, "?next=/devices").await;
    assert_eq!(next_step.header("location"), "/account/sign-in/enrol?next=%2Fdevices");
    let choice = ada.follow(&next_step).await.expect(200);
    assert!(choice.text.contains("method=totp"), "{}", choice.text);
    assert!(choice.text.contains("method=passkey"), "{}", choice.text);
    let page = ada.open("/account/sign-in/enrol?next=/devices&method=passkey").await.expect(200);
    let path = "/account/sign-in/enrol?next=/devices";
    let mut phone = Authenticator::new();
    phone.origin = "https://evil.example".to_owned();
    let submit = async |ada: &mut Visitor, name: &str, credential: Value| {
        let credential = credential.to_string();
        ada.submit(path, &[("method", "passkey"), ("name", name), ("credential", &credential)]).await
    };
    // Each answer has new options.
    let refused = submit(&mut ada, "My phone", phone.create(&passkey_options(&page))).await.expect(422);
    assert!(alert(&refused).unwrap().contains("could not be created"), "{}", refused.text);
    assert!(refused.text.contains("value=\"My phone\""), "{}", refused.text);
    phone.origin = "https://auth.example.com".to_owned();
    let unnamed = submit(&mut ada, "", phone.create(&passkey_options(&refused))).await.expect(422);
    assert!(field_error(&unnamed, "name").is_some(), "{}", unnamed.text);
    assert!(!ada.cookies.contains_key("__Host-latchkey-browser"), "no session yet (I14)");
    let done = submit(&mut ada, "My phone", phone.create(&passkey_options(&unnamed))).await.expect(200);
    assert_eq!(recovery_codes(&done).len(), 10, "{}", done.text);
    assert!(done.text.contains("href=\"/account/devices\""), "{}", done.text);
    assert!(ada.open("/account/security").await.expect(200).text.contains("My phone"));
    // The sign-in has consumed the challenge.
    let without_challenge = ada.open("/account/sign-in/enrol").await.expect(303);
    assert_eq!(without_challenge.header("location"), "/account/sign-in?again=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolment_page_offers_only_the_authenticator_app_if_passkeys_are_off() {
    let mut cluster = cluster_requiring_factors();
    cluster.config.passkeys.relying_party = None;
    let node = cluster.node().await;
    node.client.register("ada").await;
    let (mut ada, next_step) = enter_password(&node, "").await;
    let page = ada.follow(&next_step).await.expect(200);
    let (secret, _) = enrolment(&page);
    assert_eq!(secret.len(), 32, "160 bits in base32: {}", page.text);
    assert!(!page.text.contains("method=passkey"), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn passkey_on_the_second_factor_page_completes_the_sign_in() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut key = security_key(&node).await;
    let (mut ada, next_step) = enter_password(&node, "?next=/devices").await;
    assert_eq!(next_step.header("location"), "/account/sign-in/second-factor?next=%2Fdevices");
    let path = "/account/sign-in/second-factor?next=/devices";
    let page = ada.follow(&next_step).await.expect(200);
    let options = passkey_options(&page);
    let allowed = options["allowCredentials"].as_array().unwrap();
    assert_eq!(allowed.len(), 1, "the options name passkeys of this account only: {options}");
    key.origin = "https://evil.example".to_owned();
    let credential = key.get(&options).to_string();
    let refused = ada.submit(path, &[("method", "passkey"), ("credential", &credential)]).await.expect(422);
    assert!(alert(&refused).unwrap().contains("not known here"), "{}", refused.text);
    key.origin = "https://auth.example.com".to_owned();
    let credential = key.get(&passkey_options(&refused)).to_string();
    let fields = [("method", "passkey"), ("credential", credential.as_str())];
    let mut ada_with_challenge = ada.clone();
    let done = ada.submit(path, &fields).await.expect(303);
    assert_eq!(done.header("location"), "/account/devices");
    assert!(ada.cookies.contains_key("__Host-latchkey-device"), "{:?}", ada.cookies);
    assert!(!ada.cookies.contains_key("__Host-latchkey-challenge"), "{:?}", ada.cookies);
    ada.follow(&done).await.expect(200);
    // Neither the challenge nor the passkey's response works twice.
    let refused = ada_with_challenge.submit(path, &fields).await.expect(422);
    assert!(alert(&refused).unwrap().contains("too long"), "{}", refused.text);
    // The session has the level of two factors, which changes of the account need.
    ada.open("/account/address").await.expect(200);
}

/// Follows the redirect of an answer, as [`Visitor::follow`] does, also if the URL contains the issuer.
async fn follow_to_issuer(node: &Node, visitor: &mut Visitor, answer: &Answer) -> Answer {
    let location = answer.header("location");
    visitor.open(location.strip_prefix(&node.state.config.issuer).unwrap_or(location)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn second_factor_by_passkey_returns_to_the_app() {
    let cluster = cluster();
    let (node, shop) = oidc::node_with_ada_and_shop(&cluster).await;
    let mut key = security_key(&node).await;
    let mut visitor = Visitor::new(&node);
    let request = oidc::Request::for_client(&shop.id);
    let sent = visitor.open(&format!("/oauth2/authorize?{}", request.query())).await.expect(303);
    let page = follow_to_issuer(&node, &mut visitor, &sent).await.expect(200);
    let fields = [("identifier", "ada"), ("password", PASSWORD)];
    let next_step = visitor.submit(&actions(&page)[0], &fields).await.expect(303);
    let page = follow_to_issuer(&node, &mut visitor, &next_step).await.expect(200);
    let credential = key.get(&passkey_options(&page)).to_string();
    let form = actions(&page).into_iter().find(|action| action.starts_with("/account/sign-in/second-factor")).unwrap();
    let done = visitor.submit(&form, &[("method", "passkey"), ("credential", &credential)]).await.expect(303);
    let back = follow_to_issuer(&node, &mut visitor, &done).await.expect(303);
    let code = oidc::response_of(&back).remove("code").unwrap();
    let tokens = oidc::exchange(&node, &shop, &code).await.expect(200).json();
    let claims = oidc::claims(oidc::text(&tokens, "id_token"));
    assert_eq!(claims["acr"], "aal2");
    assert_eq!(claims["amr"], json!(["pwd", "hwk", "user", "mfa"]));
}
