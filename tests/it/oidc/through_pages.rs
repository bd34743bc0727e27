//! Sign-ins to apps through Latchkey's own pages: from the app to the sign-in, the consent, and back.

use latchkey::{domain::app_client::AppSettings, service::clients::NewClient};

use super::{Request, claims, exchange, node_with_ada_and_shop, refresh, response_of, text, web};
use crate::{
    factors,
    harness::{
        client::{Answer, PASSWORD},
        test_cluster::{Node, TestCluster},
    },
    pages::visitor::{Visitor, actions},
};

/// The path of an authorization request.
fn authorize_path(request: &Request) -> String {
    format!("/oauth2/authorize?{}", request.query())
}

/// Follows a redirect: to a path, or to a URL of the issuer.
async fn follow(node: &Node, visitor: &mut Visitor, answer: &Answer) -> Answer {
    let location = answer.header("location");
    let path = location.strip_prefix(&node.state.config.issuer).unwrap_or(location);
    visitor.open(path).await
}

/// The path and query to which a page submits its form for `path`. The query is the handle of the authorization request.
fn action(page: &Answer, path: &str) -> String {
    let found = actions(page).into_iter().find(|action| action.starts_with(path));
    found.unwrap_or_else(|| panic!("no form for {path} in {}", page.text))
}

#[tokio::test(flavor = "multi_thread")]
async fn user_signs_in_on_the_page_and_returns_to_the_app() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let mut visitor = Visitor::new(&node);
    let sent = visitor.open(&authorize_path(&Request::for_client(&shop.id))).await.expect(303);
    let page = follow(&node, &mut visitor, &sent).await.expect(200);
    // Browsers check every redirect after a form against `form-action`, and the app may redirect to any origin.
    let policy = page.header("content-security-policy");
    assert!(!policy.contains("form-action"), "{policy}");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let form = action(&page, "/account/sign-in");
    let wrong = visitor.submit(&form, &[("identifier", "ada"), ("password", "wrong")]).await;
    assert_eq!(wrong.header("location"), "", "a wrong password leads nowhere: {wrong:?}");
    let signed_in = visitor.submit(&form, &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
    let back = follow(&node, &mut visitor, &signed_in).await.expect(303);
    let code = response_of(&back).remove("code").unwrap();
    let tokens = exchange(&node, &shop, &code).await.expect(200).json();
    assert_eq!(claims(text(&tokens, "id_token"))["email"], "ada@example.com");
    // A sign-in to a second app needs no page.
    cluster.service_client_with(web("forum")).await;
    let second = visitor.open(&authorize_path(&Request::for_client("forum"))).await.expect(303);
    assert!(response_of(&second).contains_key("code"));
    // A sign-out on the page ends the app's session, too.
    let devices = visitor.open("/account/devices").await.expect(200);
    assert!(devices.text.contains("shop"), "{}", devices.text);
    visitor.submit("/account/sign-out", &[]).await.expect(303);
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
}

/// I14 (factors cannot be bypassed): on a remembered device, a sign-in needs no second factor, unless the app requires two factors.
/// The device has signed in before the app's request (`has_session`), or signs in for it.
#[tokio::test(flavor = "multi_thread")]
async fn i14_app_that_requires_aal2_gets_a_second_factor_on_a_remembered_device() {
    let mut cluster = factors::remembered_devices::cluster();
    // Until its second factor is right, the throttle counts a sign-in as failed, and may delay the next.
    cluster.config.limits.login_backoff = None;
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let ada = factors::enrol(&cluster, &node, "ada").await;
    let device = factors::remembered_devices::remember(&cluster, &node, "ada", &ada).await;
    let fields = [("identifier", "ada"), ("password", PASSWORD)];
    for has_session in [false, true] {
        let mut visitor = Visitor::new(&node);
        visitor.cookies.insert("__Host-latchkey-device".to_owned(), device.clone());
        if has_session {
            visitor.open("/account/sign-in").await.expect(200);
            let done = visitor.submit("/account/sign-in", &fields).await.expect(303);
            assert_eq!(done.header("location"), "/account", "the second factor is skipped");
            // The sign-in is older than the request.
            cluster.advance(std::time::Duration::from_secs(1));
        }
        let request = Request::for_client(&shop.id).with("acr_values", "aal2");
        let sent = visitor.open(&authorize_path(&request)).await.expect(303);
        let page = follow(&node, &mut visitor, &sent).await.expect(200);
        let form = if has_session {
            action(&page, "/account/reauthenticate")
        } else {
            let to_second_factor = visitor.submit(&action(&page, "/account/sign-in"), &fields).await.expect(303);
            let page = follow(&node, &mut visitor, &to_second_factor).await.expect(200);
            action(&page, "/account/sign-in/second-factor")
        };
        let totp = ada.app.code(&cluster.clock);
        // Each code works once: the authenticator app shows another one in the next round.
        cluster.advance(factors::STEP);
        let confirmed = visitor.submit(&form, &[("method", "totp"), ("code", &totp)]).await.expect(303);
        let back = follow(&node, &mut visitor, &confirmed).await.expect(303);
        let code = response_of(&back).remove("code").unwrap();
        let tokens = exchange(&node, &shop, &code).await.expect(200).json();
        assert_eq!(claims(text(&tokens, "id_token"))["acr"], "aal2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_consents_or_refuses_on_the_page() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    let app = AppSettings { asks_consent: true, name: Some("The Forum".to_owned()), ..web("forum").app };
    cluster.service_client_with(NewClient { app, ..web("forum") }).await;
    for (mode, decision) in [("query", "deny"), ("form_post", "deny"), ("query", "allow")] {
        let mut visitor = Visitor::new(&node);
        let request = Request::for_client("forum").with("response_mode", mode);
        let sent = visitor.open(&authorize_path(&request)).await.expect(303);
        let page = follow(&node, &mut visitor, &sent).await.expect(200);
        let form = action(&page, "/account/sign-in");
        let signed_in = visitor.submit(&form, &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
        let to_consent = follow(&node, &mut visitor, &signed_in).await.expect(303);
        let page = follow(&node, &mut visitor, &to_consent).await.expect(200);
        assert!(page.text.contains("The Forum"), "{}", page.text);
        let answer = visitor.submit(&action(&page, "/account/consent"), &[("decision", decision)]).await;
        match (mode, decision) {
            // a page with a form that the browser posts to the app
            ("form_post", _) => assert!(answer.text.contains("name=\"error\" value=\"access_denied\""), "{answer:?}"),
            (_, "deny") => assert_eq!(response_of(&answer)["error"], "access_denied"),
            _ => {
                let back = follow(&node, &mut visitor, &answer).await.expect(303);
                assert!(response_of(&back).contains_key("code"));
            }
        }
    }
}
