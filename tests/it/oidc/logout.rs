//! `/oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0).

use reqwest::Method;

use super::{Browser, Request, page_and_handle, refresh, shop, sign_in, text, web};
use crate::harness::test_cluster::TestCluster;

const BYE: &str = "https://app.example.com/bye";

fn query(parameters: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("/oauth2/logout?{query}")
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_with_hint_ends_browsers_session_and_returns_to_client() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let forum = cluster.service_client_with(web("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let other = sign_in(&node, &browser, &forum, "openid").await;
    let offline = sign_in(&node, &browser, &forum, "openid offline_access").await;
    let path =
        query(&[("id_token_hint", text(&tokens, "id_token")), ("post_logout_redirect_uri", BYE), ("state", "s 1")]);
    let answer = browser.get(&node, &path).await.expect(303);
    assert_eq!(answer.header("location"), format!("{BYE}?state=s+1"));
    assert!(answer.header("set-cookie").starts_with("__Host-latchkey-browser=; Path=/; Max-Age=0"));
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
    refresh(&node, &forum, text(&other, "refresh_token")).await.expect(400);
    refresh(&node, &forum, text(&offline, "refresh_token")).await.expect(200);
    // The browser is signed out: an authorization request leads to a page instead of a code.
    page_and_handle(&node, &browser.authorize(&node, &Request::for_client(&shop.id)).await);
    // A repeated sign-out succeeds.
    browser.get(&node, &path).await.expect(303);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_without_hint_asks_the_user_first() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let path = query(&[("client_id", "shop"), ("post_logout_redirect_uri", BYE), ("state", "s")]);
    let page = browser.get(&node, &path).await.expect(200);
    assert!(page.text.contains("<h1>Sign out?</h1>"), "{}", page.text);
    // The browser is still signed in: an authorization request gets a code.
    browser.code(&node, &Request::for_client(&shop.id)).await;
    let csrf = page.text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let post = async |browser: &Browser, csrf: &str, site: &str| {
        let form = [("client_id", "shop"), ("post_logout_redirect_uri", BYE), ("state", "s"), ("csrf", csrf)];
        let request = node.request(Method::POST, "/oauth2/logout").form(&form).header("sec-fetch-site", site);
        node.send(browser.with_cookie(request)).await
    };
    // Neither a forged form nor the anti-forgery token of another browser signs out: the page asks again.
    let stranger = Browser::signed_in(&node, "ada").await;
    assert_eq!(post(&browser, "", "same-origin").await.status, 200);
    assert_eq!(post(&browser, &csrf, "cross-site").await.status, 200);
    assert_eq!(post(&stranger, &csrf, "same-origin").await.status, 200);
    browser.code(&node, &Request::for_client(&shop.id)).await;
    let answer = post(&browser, &csrf, "same-origin").await.expect(303);
    assert_eq!(answer.header("location"), format!("{BYE}?state=s"));
    page_and_handle(&node, &browser.authorize(&node, &Request::for_client(&shop.id)).await);
    let done = Browser::default().get(&node, "/oauth2/logout").await.expect(303);
    assert_eq!(done.header("location"), "https://auth.example.com/account/signed-out");
    assert_eq!(
        done.header("set-cookie"),
        "",
        "a request without the cookie may come from another site, which must not clear the cookie"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_goes_to_registered_uris_only() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    cluster.service_client_with(web("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let hint = text(&tokens, "id_token");
    for parameters in [
        // URIs that are not the client's, although one looks like it
        &[("id_token_hint", hint), ("post_logout_redirect_uri", "https://evil.example/")][..],
        &[("id_token_hint", hint), ("post_logout_redirect_uri", "https://app.example.com/bye/")],
        // the hint of another client
        &[("id_token_hint", hint), ("client_id", "forum"), ("post_logout_redirect_uri", BYE)],
        // hints that are not ID tokens of this issuer
        &[("id_token_hint", text(&tokens, "access_token")), ("post_logout_redirect_uri", BYE)],
        &[("id_token_hint", "e30.e30.e30")],
        // no client that has registered the URI
        &[("client_id", "unknown"), ("post_logout_redirect_uri", BYE)],
        &[("post_logout_redirect_uri", BYE)],
    ] {
        let answer = browser.get(&node, &query(parameters)).await.expect(400);
        assert_eq!(answer.header("location"), "", "{parameters:?}");
        assert!(!answer.text.contains("evil.example"));
    }
    browser.code(&node, &Request::for_client(&shop.id)).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hint_of_another_user_does_not_sign_out() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    node.register("eve").await;
    let (ada, eve) = (Browser::signed_in(&node, "ada").await, Browser::signed_in(&node, "eve").await);
    let hint = text(&sign_in(&node, &eve, &shop, "openid").await, "id_token").to_owned();
    let page = ada.get(&node, &query(&[("id_token_hint", &hint)])).await.expect(200);
    assert!(page.text.contains("Sign out?"));
    ada.code(&node, &Request::for_client(&shop.id)).await;
    node.stop().await;
}

/// A form of another site arrives without the browser's cookie, so nobody could confirm. A valid hint suffices (OpenID Connect
/// RP-Initiated Logout 1.0, section 6), also an expired one if its session is live (section 2).
#[tokio::test(flavor = "multi_thread")]
async fn logout_without_cookie_ends_the_session_of_the_hint() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let other_browser = Browser::signed_in(&node, "ada").await;
    // the ID token expires, and its session stays live
    cluster.advance(node.state.config.token.access_ttl);
    let form = [("id_token_hint", text(&tokens, "id_token")), ("post_logout_redirect_uri", BYE)];
    let answer = node.send(node.request(Method::POST, "/oauth2/logout").form(&form)).await.expect(303);
    assert_eq!(answer.header("location"), BYE);
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
    page_and_handle(&node, &browser.authorize(&node, &Request::for_client(&shop.id)).await);
    // The user's other browser is still signed in.
    other_browser.code(&node, &Request::for_client(&shop.id)).await;
    // Without a hint, the browser returns with its cookie.
    let form = [("client_id", "shop"), ("state", "s")];
    let answer = node.send(node.request(Method::POST, "/oauth2/logout").form(&form)).await.expect(303);
    assert_eq!(answer.header("location"), "https://auth.example.com/oauth2/logout?client_id=shop&state=s");
    node.stop().await;
}
