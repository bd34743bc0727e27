//! Forged requests (CSRF): a form is accepted only from a page of the same browser and session.

use latchkey::http::PAGE_PATHS;

use super::{
    cluster, signed_in,
    visitor::{Visitor, actions, alert},
};
use crate::harness::client::PASSWORD;

/// The pages with forms that need no session.
const PAGES_BEFORE_SIGN_IN: [&str; 9] = [
    "/account/sign-in",
    "/account/sign-in-code",
    "/account/register",
    "/account/verify-address",
    "/account/confirm-address",
    "/account/forgot-password",
    "/account/reset-password",
    "/account/undo-address",
    "/account/not-me",
];
/// The pages with forms that need a session.
const PAGES_AFTER_SIGN_IN: [&str; 7] = [
    "/account",
    "/account/security",
    "/account/address",
    "/account/password",
    "/account/devices",
    "/account/data",
    "/account/reauthenticate",
];

/// The fields that the tests send to every form. Each form reads some of them, and would accept them with a valid token.
const FIELDS: [(&str, &str); 5] = [
    ("identifier", "ada"),
    ("password", PASSWORD),
    ("email", "eve@example.com"),
    ("confirm", "1"),
    ("current_password", PASSWORD),
];

/// Asserts that all forms of a page are refused with a missing token, with the token of another browser or session, with an unknown token,
/// and from another site.
async fn assert_refuses_forged_forms(visitor: &mut Visitor, foreign_token: &str, page: &str) {
    let opened = visitor.open(page).await.expect(200);
    let forms = actions(&opened);
    assert!(!forms.is_empty(), "{page}");
    for action in forms {
        // The last token has the form of a valid one, but was issued to no browser.
        for token in ["", foreign_token, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let before = visitor.cookies.clone();
            let refused = visitor.submit_with(&action, &FIELDS, token).await.expect(403);
            assert_eq!(visitor.cookies, before, "{page} {action}: no cookie is set");
            // an error page without an alert has the text elsewhere
            let text = alert(&refused).unwrap_or(&refused.text);
            assert!(text.contains("open for too long"), "{page} {action}: {text}");
        }
        let mut cross_site = visitor.clone();
        // reads a valid token: only the headers will be wrong
        cross_site.open(page).await.expect(200);
        cross_site.headers = vec![("origin", "https://evil.example".into()), ("sec-fetch-site", "cross-site".into())];
        let refused = cross_site.submit(&action, &FIELDS).await.expect(403);
        let text = alert(&refused).unwrap_or(&refused.text);
        assert!(text.contains("another site"), "{page} {action}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_before_sign_in_are_bound_to_the_browser() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut visitor = Visitor::new(&node);
    let mut eve = Visitor::new(&node);
    eve.open("/account/sign-in").await.expect(200);
    for page in PAGES_BEFORE_SIGN_IN {
        assert_refuses_forged_forms(&mut visitor, &eve.csrf, page).await;
    }
    assert!(cluster.mails_to("eve@example.com").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_after_sign_in_are_bound_to_the_session() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut visitor = Visitor::new(&node);
    visitor.open("/account/sign-in").await.expect(200);
    let token_before_sign_in = visitor.csrf.clone();
    visitor.submit("/account/sign-in", &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
    let mut other = signed_in(&node).await;
    other.open("/account").await.expect(200);
    for page in PAGES_AFTER_SIGN_IN {
        assert_refuses_forged_forms(&mut visitor, &other.csrf, page).await;
        assert_refuses_forged_forms(&mut visitor, &token_before_sign_in, page).await;
    }
    // no form has ended the session
    visitor.open("/account").await.expect(200);
}

/// Checks every path of the pages that accepts POST, so that the test covers new forms, too.
#[tokio::test(flavor = "multi_thread")]
async fn every_form_is_refused_without_its_token_or_from_another_site() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut eve = Visitor::new(&node);
    eve.open("/account/sign-in").await.expect(200);
    let mut visitor = Visitor::new(&node);
    visitor.open("/account/sign-in").await.expect(200);
    let mut ada = signed_in(&node).await;
    ada.open("/account").await.expect(200);
    for browser in [&mut visitor, &mut ada] {
        // Some forms need the challenge of a sign-in.
        browser.cookies.insert("__Host-latchkey-challenge".to_owned(), "lk_ch_unknown.totp".to_owned());
        let cookies = browser.cookies.clone();
        let own_token = browser.csrf.clone();
        let is_signed_in = cookies.contains_key("__Host-latchkey-browser");
        let mut forms = 0;
        for (path, _) in PAGE_PATHS.iter().filter(|(_, methods)| methods.contains("POST")) {
            let cross_site = vec![("origin", "https://evil.example".into()), ("sec-fetch-site", "cross-site".into())];
            for (token, headers) in [("", vec![]), (eve.csrf.as_str(), vec![]), (own_token.as_str(), cross_site)] {
                browser.headers = headers;
                let refused = browser.submit_with(path, &FIELDS, token).await;
                let asks_to_sign_in = refused.header("location").starts_with("/account/sign-in");
                assert!(refused.status == 403 || (!is_signed_in && asks_to_sign_in), "{path}: {refused:?}");
                assert_eq!(browser.cookies, cookies, "{path}: no cookie is set or removed");
            }
            forms += 1;
        }
        assert!(forms > 25, "PAGE_PATHS lacks forms: it has {forms}");
        browser.headers.clear();
    }
    // ada's session and password are unchanged
    ada.open("/account").await.expect(200);
    node.client.login("ada").await;
    assert!(cluster.mails_to("eve@example.com").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn form_with_a_repeated_field_or_another_type_is_refused() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut visitor = Visitor::new(&node);
    visitor.open("/account/sign-in").await.expect(200);
    let twice = [("identifier", "ada"), ("identifier", "eve"), ("password", PASSWORD)];
    let refused = visitor.submit("/account/sign-in", &twice).await.expect(400);
    assert_eq!(refused.header("content-type"), "text/html; charset=utf-8");
    assert!(refused.text.contains("Return to the app and start again."), "{}", refused.text);
    let request = node.client.request(reqwest::Method::POST, "/account/sign-in").json(&serde_json::json!({}));
    let refused = node.client.send(request).await.expect(415);
    assert_eq!(refused.header("content-type"), "text/html; charset=utf-8");
    assert!(refused.text.contains("Something went wrong."), "{}", refused.text);
}
