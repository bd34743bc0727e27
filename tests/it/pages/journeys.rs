//! Journeys through the pages for registration, sign-in and links of mails, in a browser without scripts.

use serde_json::json;

use super::{
    ADA, NEW_PASSWORD, cluster, signed_in,
    visitor::{Visitor, alert, field_error},
};
use crate::harness::client::PASSWORD;

/// The cookie of the browser's session, which is the session on these pages.
const BROWSER_COOKIE: &str = "__Host-latchkey-browser";

#[tokio::test(flavor = "multi_thread")]
async fn registration_signs_in_and_the_profile_offers_verification_until_the_address_is_verified() {
    let cluster = cluster();
    let node = cluster.node().await;
    let mut ada = Visitor::new(&node);
    ada.open("/account/register").await.expect(200);
    let fields = [("email", ADA), ("username", "ada"), ("password", PASSWORD)];
    let registered = ada.submit("/account/register", &fields).await.expect(303);
    assert_eq!(registered.header("location"), "/account");
    let profile = ada.follow(&registered).await.expect(200);
    assert!(profile.text.contains(&format!("{ADA} is not confirmed yet.")), "{}", profile.text);
    assert!(profile.text.contains("action=\"/account/verify-address/send\""), "{}", profile.text);
    let mail = cluster.mail_to(ADA, "verify_address").await;
    assert!(mail.link().starts_with("https://auth.example.com/account/verify-address#token="), "{}", mail.link());
    let page = ada.open("/account/verify-address").await.expect(200);
    assert!(!page.text.contains("type=\"password\""), "a signed-in user need not enter the password: {}", page.text);
    // the field `token` accepts the whole link; the hidden field `proof` says which password the form asks for: here none
    let verified =
        ada.submit("/account/verify-address", &[("token", mail.link()), ("proof", "none")]).await.expect(200);
    assert!(verified.text.contains("Address confirmed"), "{}", verified.text);
    assert!(ada.open("/account/address").await.text.contains(">Confirmed<"));
    let profile = ada.open("/account").await.expect(200);
    assert!(!profile.text.contains("/account/verify-address"), "{}", profile.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_with_required_verification_asks_for_the_code_of_its_mail() {
    let mut cluster = cluster();
    cluster.config.registration.verification = latchkey::config::Verification::Required;
    cluster.config.registration.conceal = true;
    let node = cluster.node().await;
    let mut pages = Vec::new();
    for _address in ["new", "taken"] {
        let mut ada = Visitor::new(&node);
        let form = ada.open("/account/register").await.expect(200);
        assert!(!form.text.contains("name=\"username\""), "a taken username would reveal an account: {}", form.text);
        let registered = ada.submit("/account/register", &[("email", ADA), ("password", PASSWORD)]).await.expect(303);
        assert_eq!(registered.header("location"), "/account/verify-address?sent=1");
        let page = ada.follow(&registered).await.expect(200);
        assert!(page.text.contains("Check your mail"), "{}", page.text);
        assert!(page.text.contains(&format!("value=\"{ADA}\"")), "{}", page.text);
        pages.push(page.text.replace(&ada.csrf, "TOKEN"));
        assert!(!ada.cookies.contains_key(BROWSER_COOKIE));
    }
    assert_eq!(pages[0], pages[1], "a taken address gets the same page as a new one (I12: no account oracle)");
    let mail = cluster.mail_to(ADA, "verify_address").await;
    let mut ada = Visitor::new(&node);
    ada.open("/account/verify-address").await.expect(200);
    let fields = [("email", ADA), ("code", mail.code()), ("password", PASSWORD), ("proof", "password")];
    let verified = ada.submit("/account/verify-address", &fields).await.expect(200);
    assert!(verified.text.contains("Address confirmed"), "{}", verified.text);
    node.client.login_with(ADA, PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pasted_link_verifies_the_address_and_opening_it_does_not() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let link = cluster.mail_to(ADA, "verify_address").await.link().to_owned();
    let mut ada = Visitor::new(&node);
    // as for a browser that opens the link: it does not send the fragment, which has the token
    for _ in 0..3 {
        ada.open("/account/verify-address").await.expect(200);
    }
    let wrong = [("token", link.as_str()), ("password", "not the password"), ("proof", "password")];
    let refused = ada.submit("/account/verify-address", &wrong).await.expect(403);
    assert!(field_error(&refused, "password").is_some(), "{}", refused.text);
    assert!(refused.text.contains("value=\"lk_ot_"), "the form keeps the token of the link: {}", refused.text);
    let correct = [("token", link.as_str()), ("password", PASSWORD), ("proof", "password")];
    ada.submit("/account/verify-address", &correct).await.expect(200);
    let reused = ada.submit("/account/verify-address", &correct).await.expect(422);
    assert!(alert(&reused).unwrap().contains("used before"), "{}", reused.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_with_wrong_password_keeps_the_identifier_and_not_the_password() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = Visitor::new(&node);
    ada.open("/account/sign-in").await.expect(200);
    let wrong = [("identifier", "ada"), ("password", "hunter2 hunter2")];
    let refused = ada.submit("/account/sign-in", &wrong).await.expect(422);
    assert!(alert(&refused).unwrap().contains("incorrect"), "{}", refused.text);
    assert!(refused.text.contains("value=\"ada\""), "{}", refused.text);
    assert!(!refused.text.contains("hunter2"), "{}", refused.text);
    // An unknown account gets the same answer (I7: no login oracle).
    let unknown = ada.submit("/account/sign-in", &[("identifier", "bob"), ("password", "hunter2 hunter2")]).await;
    assert_eq!(unknown.status, refused.status);
    assert_eq!(alert(&unknown), alert(&refused));
    assert!(!ada.cookies.contains_key(BROWSER_COOKIE));
    let signed_in = ada.submit("/account/sign-in", &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
    assert_eq!(signed_in.header("location"), "/account");
    let page = ada.follow(&signed_in).await.expect(200);
    assert!(page.text.contains("Profile") && page.text.contains(ADA), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_gives_the_browser_a_new_session_and_ends_the_former() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    let former = ada.cookies[BROWSER_COOKIE].clone();
    // without `again`, the page redirects a browser that is signed in
    ada.open("/account/sign-in?again=1").await.expect(200);
    ada.submit("/account/sign-in", &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
    assert_ne!(ada.cookies[BROWSER_COOKIE], former, "a sign-in changes the session id (session fixation)");
    // the former session has ended: its cookie leads to the sign-in, which leads back to `/account`
    ada.cookies.insert(BROWSER_COOKIE.to_owned(), former);
    let refused = ada.open("/account").await.expect(303);
    assert_eq!(refused.header("location"), "/account/sign-in?next=");
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_of_the_browser_session_is_no_access_token_and_no_refresh_token() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let cookie = signed_in(&node).await.cookies[BROWSER_COOKIE].clone();
    let as_access_token = node.client.get("/v1/me", &cookie).await;
    assert_eq!(as_access_token.problem().0, 401);
    let as_refresh_token = node.client.refresh(&cookie).await;
    assert_eq!(as_refresh_token.problem().0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_password_is_set_by_the_code_of_the_mail() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = Visitor::new(&node);
    ada.open("/account/forgot-password").await.expect(200);
    let sent = ada.submit("/account/forgot-password", &[("identifier", "ada")]).await.expect(303);
    let page = ada.follow(&sent).await.expect(200);
    assert!(page.text.contains("Check your mail"), "{}", page.text);
    let mail = cluster.mail_to(ADA, "password_reset").await;
    let weak = [("identifier", "ada"), ("code", mail.code()), ("new_password", "password1")];
    let refused = ada.submit("/account/reset-password", &weak).await.expect(422);
    assert!(field_error(&refused, "new_password").unwrap().contains("most common"), "{}", refused.text);
    let strong = [("identifier", "ada"), ("code", mail.code()), ("new_password", NEW_PASSWORD)];
    let done = ada.submit("/account/reset-password", &strong).await.expect(200);
    assert!(done.text.contains("Password changed"), "{}", done.text);
    node.client.login_with("ada", NEW_PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_password_gets_the_same_answer_for_known_and_unknown_account() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut answers = Vec::new();
    for name in ["ada", "bob"] {
        let mut visitor = Visitor::new(&node);
        visitor.open("/account/forgot-password").await.expect(200);
        let sent = visitor.submit("/account/forgot-password", &[("identifier", name)]).await.expect(303);
        let page = visitor.follow(&sent).await.expect(200);
        let text = page.text.replace(name, "NAME").replace(&visitor.csrf, "TOKEN");
        answers.push((sent.header("location").to_owned(), text));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_a_mail_signs_in_the_browser_that_requested_it_and_no_other() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = Visitor::new(&node);
    let form = ada.open("/account/sign-in-code").await.expect(200);
    assert!(form.text.contains("Sign in with a code"), "{}", form.text);
    let sent = ada.submit("/account/sign-in-code/send", &[("email", ADA)]).await.expect(303);
    let page = ada.follow(&sent).await.expect(200);
    assert!(page.text.contains("Check your mail"), "{}", page.text);
    let mail = cluster.mail_to(ADA, "sign_in_code").await;
    let mut eve = Visitor::new(&node);
    eve.open("/account/sign-in-code").await.expect(200);
    eve.submit("/account/sign-in-code", &[("email", ADA), ("code", mail.code())]).await.expect(422);
    ada.submit("/account/sign-in-code", &[("email", ADA), ("code", mail.code())]).await.expect(303);
    assert!(ada.open("/account").await.expect(200).text.contains(ADA));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_notices_work_by_a_button_and_not_by_opening_them() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let tokens = node.client.login("ada").await;
    let mail = cluster.mail_to(ADA, "verify_address").await;
    // notices go to verified addresses only
    let body = json!({ "token": mail.token(), "password": PASSWORD });
    node.client.post("/v1/email/verify", body).await.expect(204);
    node.client.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    let mail = cluster.mail_to(ADA, "password_changed").await;
    let link = mail.text.split_whitespace().find(|word| word.contains("/account/not-me#token=")).unwrap().to_owned();
    let mut ada = Visitor::new(&node);
    // opening the link does not use it: the new password still works
    ada.open("/account/not-me").await.expect(200);
    node.client.login_with("ada", NEW_PASSWORD).await;
    let done = ada.submit("/account/not-me", &[("token", &link)]).await.expect(200);
    assert!(done.text.contains("Your account is secured"), "{}", done.text);
    assert_eq!(node.client.try_login("ada", NEW_PASSWORD).await.problem(), (401, "invalid_credentials".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_registration_and_disabled_sign_in_code_are_not_offered() {
    let mut cluster = cluster();
    cluster.config.registration.open = false;
    cluster.config.login.email_code = false;
    let node = cluster.node().await;
    let mut visitor = Visitor::new(&node);
    let page = visitor.open("/account/sign-in").await.expect(200);
    assert!(!page.text.contains("/account/register"), "{}", page.text);
    assert!(!page.text.contains("/account/sign-in-code"), "{}", page.text);
    let refused = visitor.open("/account/register").await.expect(403);
    assert!(refused.text.contains("Registration is closed"), "{}", refused.text);
    visitor.open("/account/sign-in-code").await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttle_counts_attempts_on_pages_and_api_together() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut eve = Visitor::new(&node);
    eve.open("/account/sign-in").await.expect(200);
    let mut refused = None;
    // many more than `limits.login_backoff_after` (5), after which attempts must wait
    for _ in 0..30 {
        let answer = eve.submit("/account/sign-in", &[("identifier", "ada"), ("password", "wrong wrong wrong")]).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the throttle refuses one of 30 guesses");
    assert!(alert(&refused).unwrap().starts_with("Too many attempts. Wait "), "{}", refused.text);
    // The API and the pages share the count of attempts.
    node.client.try_login("ada", PASSWORD).await.expect(429);
}

#[tokio::test(flavor = "multi_thread")]
async fn language_follows_ui_locales_then_account_then_browser() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = Visitor::new(&node);
    ada.headers.push(("accept-language", "fr-CH, fr;q=0.9, en;q=0.8".to_owned()));
    let heading = |text: &str| text.split("<h1>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(heading(&ada.open("/account/sign-in").await.text), "Se connecter");
    // Dutch is not supported, so the second choice counts
    let german = ada.open("/account/sign-in?ui_locales=nl+de-AT").await;
    assert_eq!(heading(&german.text), "Anmelden");
    assert!(
        german.text.contains("action=\"/account/sign-in?ui_locales=nl+de-AT\""),
        "forms keep `ui_locales`: {}",
        german.text
    );
    let mut ada = signed_in(&node).await;
    ada.open("/account").await.expect(200);
    ada.submit("/account/profile", &[("username", "ada"), ("locale", "es"), ("time_zone", "")]).await.expect(303);
    assert_eq!(heading(&ada.open("/account").await.text), "Perfil");
    assert_eq!(heading(&ada.open("/account?ui_locales=de").await.text), "Profil");
    // `ui_locales` does not change the account's language
    let tokens = node.client.login("ada").await;
    assert_eq!(node.client.get("/v1/me", &tokens.access).await.json()["locale"], json!("es"));
}
