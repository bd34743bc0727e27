//! Sign-out from an app with `/oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0).

use reqwest::Method;

use super::{Browser, Request, node_with_ada_and_shop, page_and_handle, refresh, sign_in, text, web};
use crate::harness::{client::Answer, test_cluster::TestCluster};

/// The registered `post_logout_redirect_uri` of every app of these tests.
const BYE: &str = "https://app.example.com/bye";

/// The path of the endpoint, with these parameters.
fn logout_path(parameters: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("/oauth2/logout?{query}")
}

/// The anti-forgery token in the form of a page.
pub(super) fn csrf_of(page: &Answer) -> String {
    let (_, rest) = page.text.split_once("name=\"csrf\" value=\"").unwrap();
    let (token, _) = rest.split_once('"').unwrap();
    token.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_with_hint_ends_browsers_session_and_returns_to_client() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let forum = cluster.service_client_with(web("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let shop_tokens = sign_in(&node, &browser, &shop, "openid").await;
    let forum_tokens = sign_in(&node, &browser, &forum, "openid").await;
    let offline_tokens = sign_in(&node, &browser, &forum, "openid offline_access").await;
    let hint = text(&shop_tokens, "id_token");
    let path = logout_path(&[("id_token_hint", hint), ("post_logout_redirect_uri", BYE), ("state", "s 1")]);
    let answer = browser.get(&node, &path).await.expect(303);
    assert_eq!(answer.header("location"), format!("{BYE}?state=s+1"));
    assert!(answer.header("set-cookie").starts_with("__Host-latchkey-browser=; Path=/; Max-Age=0"));
    refresh(&node, &shop, text(&shop_tokens, "refresh_token")).await.expect(400);
    refresh(&node, &forum, text(&forum_tokens, "refresh_token")).await.expect(400);
    // a session with `offline_access` does not end with the browser's session
    refresh(&node, &forum, text(&offline_tokens, "refresh_token")).await.expect(200);
    // The browser is signed out: an authorization request leads to a page instead of a code.
    page_and_handle(&node, &browser.authorize(&node, &Request::for_client(&shop.id)).await);
    // A repeated sign-out succeeds.
    browser.get(&node, &path).await.expect(303);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_without_hint_asks_the_user_first() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let path = logout_path(&[("client_id", "shop"), ("post_logout_redirect_uri", BYE), ("state", "s")]);
    let page = browser.get(&node, &path).await.expect(200);
    assert!(page.text.contains("<h1>Sign out?</h1>"), "{}", page.text);
    // The browser is still signed in: an authorization request gets a code.
    browser.code(&node, &Request::for_client(&shop.id)).await;
    let csrf = csrf_of(&page);
    let confirm = async |browser: &Browser, csrf: &str, sec_fetch_site: &str| {
        let form = [("client_id", "shop"), ("post_logout_redirect_uri", BYE), ("state", "s"), ("csrf", csrf)];
        let request = node.request(Method::POST, "/oauth2/logout").form(&form).header("sec-fetch-site", sec_fetch_site);
        node.send(browser.with_cookie(request)).await
    };
    // A form without the token, from another site, or with the token of another browser does not sign out: the page asks again.
    let other_browser = Browser::signed_in(&node, "ada").await;
    confirm(&browser, "", "same-origin").await.expect(200);
    confirm(&browser, &csrf, "cross-site").await.expect(200);
    confirm(&other_browser, &csrf, "same-origin").await.expect(200);
    browser.code(&node, &Request::for_client(&shop.id)).await;
    let answer = confirm(&browser, &csrf, "same-origin").await.expect(303);
    assert_eq!(answer.header("location"), format!("{BYE}?state=s"));
    // The browser is signed out.
    page_and_handle(&node, &browser.authorize(&node, &Request::for_client(&shop.id)).await);
    let without_cookie = Browser::default().get(&node, "/oauth2/logout").await.expect(303);
    assert_eq!(without_cookie.header("location"), "https://auth.example.com/account/signed-out");
    assert_eq!(
        without_cookie.header("set-cookie"),
        "",
        "a request without the cookie may come from another site, which must not clear the cookie"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_goes_to_registered_uris_only() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    cluster.service_client_with(web("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let hint = text(&tokens, "id_token");
    let refused: [&[(&str, &str)]; 7] = [
        // URIs that are not registered, although the second resembles the registered one
        &[("id_token_hint", hint), ("post_logout_redirect_uri", "https://evil.example/")],
        &[("id_token_hint", hint), ("post_logout_redirect_uri", "https://app.example.com/bye/")],
        // a hint that was issued to another client than `client_id`
        &[("id_token_hint", hint), ("client_id", "forum"), ("post_logout_redirect_uri", BYE)],
        // hints that are not ID tokens of this issuer
        &[("id_token_hint", text(&tokens, "access_token")), ("post_logout_redirect_uri", BYE)],
        &[("id_token_hint", "e30.e30.e30")],
        // an unknown client, and no client, so that no URI is registered
        &[("client_id", "unknown"), ("post_logout_redirect_uri", BYE)],
        &[("post_logout_redirect_uri", BYE)],
    ];
    for parameters in refused {
        let answer = browser.get(&node, &logout_path(parameters)).await.expect(400);
        assert_eq!(answer.header("location"), "", "{parameters:?}");
        assert!(!answer.text.contains("evil.example"), "the page has no link to the refused URI");
    }
    // The browser is still signed in.
    browser.code(&node, &Request::for_client(&shop.id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hint_of_another_user_does_not_sign_out() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    node.register("eve").await;
    let (ada, eve) = (Browser::signed_in(&node, "ada").await, Browser::signed_in(&node, "eve").await);
    let tokens_of_eve = sign_in(&node, &eve, &shop, "openid").await;
    let path = logout_path(&[("id_token_hint", text(&tokens_of_eve, "id_token"))]);
    let page = ada.get(&node, &path).await.expect(200);
    assert!(page.text.contains("Sign out?"));
    ada.code(&node, &Request::for_client(&shop.id)).await;
}

/// A form of another site arrives without the browser's cookie, so the user cannot be asked. A valid hint suffices (OpenID Connect
/// RP-Initiated Logout 1.0, section 6), even an expired one while its session is live (section 2).
#[tokio::test(flavor = "multi_thread")]
async fn logout_without_cookie_ends_the_session_of_the_hint() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let other_browser = Browser::signed_in(&node, "ada").await;
    // the ID token expires, and its session stays live
    cluster.advance(node.state.config.token.access_ttl);
    let form = [("id_token_hint", text(&tokens, "id_token")), ("post_logout_redirect_uri", BYE)];
    let answer = node.send(node.request(Method::POST, "/oauth2/logout").form(&form)).await.expect(303);
    assert_eq!(answer.header("location"), BYE);
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
    // The hint's browser is signed out, and the user's other browser is not.
    page_and_handle(&node, &browser.authorize(&node, &Request::for_client(&shop.id)).await);
    other_browser.code(&node, &Request::for_client(&shop.id)).await;
    // Without a hint, the browser is redirected to a GET request, which has its cookie.
    let form = [("client_id", "shop"), ("state", "s")];
    let answer = node.send(node.request(Method::POST, "/oauth2/logout").form(&form)).await.expect(303);
    assert_eq!(answer.header("location"), "https://auth.example.com/oauth2/logout?client_id=shop&state=s");
    node.stop().await;
}
