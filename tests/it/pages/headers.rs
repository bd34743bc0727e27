//! The headers of every page, and secrets that must not be in URLs.

use super::{cluster, signed_in, visitor::Visitor};
use crate::harness::client::{Answer, PASSWORD};

/// Asserts that a page can't be framed or cached, has no inline code, and refers to no other host.
fn assert_page_headers(answer: &Answer, page: &str) {
    let policy = answer.header("content-security-policy");
    for rule in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(rule), "{page}: {policy}");
    }
    // `unsafe-inline` would allow inline code
    assert!(!policy.contains("unsafe"), "{page}: {policy}");
    // the semicolon shows that forms may go to no other origin
    assert!(policy.contains("form-action 'self';"), "{page}: {policy}");
    assert_eq!(answer.header("cache-control"), "no-store", "{page}");
    assert_eq!(answer.header("referrer-policy"), "same-origin", "{page}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{page}");
    assert_eq!(answer.header("x-frame-options"), "DENY", "{page}");
    assert_eq!(answer.header("access-control-allow-origin"), "", "{page}");
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{page}");
    // attributes such as `href="http…"`
    let absolute_urls: Vec<_> = answer.text.split("=\"http").skip(1).collect();
    assert!(absolute_urls.is_empty(), "{page} refers to other hosts: {absolute_urls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_uncached_unframed_and_without_inline_code() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut visitor = Visitor::new(&node);
    let mut ada = signed_in(&node).await;
    for page in [
        "sign-in",
        "sign-in-code",
        "register",
        "verify-address",
        "forgot-password",
        "reset-password",
        "invitation",
        "undo-address",
        "not-me",
        "signed-out",
    ] {
        assert_page_headers(&visitor.open(&format!("/account/{page}")).await.expect(200), page);
    }
    for page in ["", "/address", "/password", "/devices", "/data", "/security", "/reauthenticate"] {
        assert_page_headers(&ada.open(&format!("/account{page}")).await.expect(200), page);
    }
    assert_page_headers(&visitor.open("/account/unknown").await.expect(404), "unknown");
    let wrong_sign_in = [("identifier", "ada"), ("password", "wrong wrong")];
    let refused = visitor.submit("/account/sign-in", &wrong_sign_in).await.expect(422);
    assert_page_headers(&refused, "a refused form");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_url() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = Visitor::new(&node);
    ada.open("/account/sign-in").await.expect(200);
    let mut redirects = Vec::new();
    let sign_in = [("identifier", "ada"), ("password", PASSWORD)];
    redirects.push(ada.submit("/account/sign-in", &sign_in).await.expect(303));
    ada.open("/account/forgot-password").await.expect(200);
    redirects.push(ada.submit("/account/forgot-password", &[("identifier", "ada")]).await.expect(303));
    ada.open("/account/sign-in-code").await.expect(200);
    redirects.push(ada.submit("/account/sign-in-code/send", &[("email", "ada@example.com")]).await.expect(303));
    // tokens begin with `lk_`, and the identifiers contain `ada`
    for answer in &redirects {
        let location = answer.header("location");
        assert!(!location.contains("lk_") && !location.contains("ada"), "{location}");
    }
    // Links in mails have their token in the fragment, which browsers do not send.
    let mail = cluster.mail_to("ada@example.com", "password_reset").await;
    let (path, fragment) = mail.link().split_once('#').unwrap();
    assert!(!path.contains("lk_") && fragment.starts_with("token="), "{}", mail.link());
}
