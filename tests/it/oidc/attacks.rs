//! Published attacks on OAuth and OpenID Connect (RFC 9700, section 4).

use std::time::Duration;

use latchkey::{
    crypto::authorization_code::s256,
    domain::app_client::AppSettings,
    service::{browser_session, clients::NewClient},
};

use super::{
    Browser, CALLBACK, Request, VERIFIER, claims, error_of, exchange, exchange_with, page_of, response_of, shop, text,
    token, web,
};
use crate::harness::test_cluster::TestCluster;

/// Section 4.1: tricks with redirect URIs. Section 4.11: open redirection.
#[tokio::test(flavor = "multi_thread")]
async fn authorize_never_redirects_to_an_unregistered_uri() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    for uri in [
        "https://evil.example",
        "https://app.example.com.evil.example/callback",
        "https://app.example.com@evil.example/callback",
        "https://app.example.com:8443/callback",
        "https://app.example.com/callback/../other",
        "https://app.example.com/callback?next=https://evil.example",
        "https://app.example.com/callback#",
        "https://app.example.com\\@evil.example/callback",
        "HTTPS://app.example.com/callback",
        "http://app.example.com/callback",
        "//evil.example/callback",
        "javascript:alert(1)//https://app.example.com/callback",
        "https://app.example.com/callback\r\nLocation: https://evil.example",
        "https://app.example.com/callback%0d%0a",
        " https://app.example.com/callback",
        "https://ɑpp.example.com/callback",
    ] {
        // Valid requests, and requests with an error for the client.
        for request in [
            Request::of(&shop.id).with("redirect_uri", uri),
            Request::of(&shop.id).with("redirect_uri", uri).with("scope", "unknown"),
            Request::of(&shop.id).with("redirect_uri", uri).with("prompt", "none"),
        ] {
            let answer = browser.authorize(&node, &request).await.expect(400);
            assert_eq!(answer.header("location"), "", "{uri}");
        }
    }
    node.stop().await;
}

/// Section 4.4: mix-up. The response names its issuer, so that a client with several of them notices (RFC 9207).
#[tokio::test(flavor = "multi_thread")]
async fn every_response_names_its_issuer() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let valid = Request::of(&shop.id);
    for request in [valid.clone(), valid.with("scope", "unknown"), valid.with("prompt", "none").with("max_age", "0")] {
        cluster.advance(Duration::from_secs(1));
        let response = response_of(&browser.authorize(&node, &request).await);
        assert_eq!(response["iss"], "https://auth.example.com");
    }
    let metadata = node.get("/.well-known/openid-configuration", "").await.json();
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    node.stop().await;
}

/// Section 4.5: an attacker injects a code of the victim into a session of their own with the same client.
#[tokio::test(flavor = "multi_thread")]
async fn injected_code_is_refused_for_lack_of_its_verifier() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let victim = Browser::signed_in(&node, "ada").await;
    let code = victim.code(&node, &Request::of(&shop.id)).await;
    let attackers = "b".repeat(43);
    let refused = exchange_with(&node, &shop, &code, CALLBACK, &attackers).await;
    assert_eq!(error_of(&refused), (400, "invalid_grant".to_owned()));
    // And the ID token has the nonce of the victim's request, not the attacker's.
    let tokens = exchange(&node, &shop, &code).await.expect(200).json();
    assert_eq!(claims(text(&tokens, "id_token"))["nonce"], "a nonce");
    node.stop().await;
}

/// Section 4.8: a request without PKCE, or with a weaker method, is refused, and so is a code without its verifier.
#[tokio::test(flavor = "multi_thread")]
async fn pkce_can_not_be_left_out_or_weakened() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let valid = Request::of(&shop.id);
    for request in [
        valid.without("code_challenge").without("code_challenge_method"),
        valid.with("code_challenge_method", "plain").with("code_challenge", VERIFIER),
        valid.without("code_challenge_method").with("code_challenge", VERIFIER),
    ] {
        let response = response_of(&browser.authorize(&node, &request).await);
        assert_eq!(response["error"], "invalid_request");
    }
    // The challenge itself is no verifier.
    let code = browser.code(&node, &valid).await;
    let refused = exchange_with(&node, &shop, &code, CALLBACK, &s256(VERIFIER)).await;
    assert_eq!(error_of(&refused), (400, "invalid_grant".to_owned()));
    let metadata = node.get("/.well-known/openid-configuration", "").await.json();
    assert_eq!(metadata["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    node.stop().await;
}

/// An attacker sets a cookie in the victim's browser before the sign-in: it does not work afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn session_of_before_the_sign_in_is_not_the_one_after_it() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    node.account("eve").await;
    let planted = Browser::signed_in(&node, "eve").await;
    cluster.advance(Duration::from_secs(1));
    let (_, handle) =
        page_of(&node, &planted.authorize(&node, &Request::of(&shop.id).with("prompt", "select_account")).await);
    let victim = Browser::signed_in(&node, "ada").await;
    let token = planted.cookie.as_ref().unwrap().split_once('=').unwrap().1;
    let former = browser_session::load(&node.state, token, &Default::default()).await.unwrap().unwrap();
    let (account, session) = victim.session.unwrap();
    browser_session::renew(&node.state, &former, account, session, None).await.unwrap();
    let back = format!("/oauth2/authorize?request={handle}");
    assert_eq!(page_of(&node, &planted.get(&node, &back).await).0, "/account/sign-in");
    assert!(response_of(&victim.get(&node, &back).await).contains_key("code"));
    node.stop().await;
}

/// Forged, foreign and damaged cookies are those of a browser that has not signed in.
#[tokio::test(flavor = "multi_thread")]
async fn cookie_of_another_kind_is_no_session() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let genuine = browser.cookie.clone().unwrap();
    let own = node.login("ada").await;
    for cookie in [
        format!("{genuine}x"),
        genuine.replace("__Host-latchkey-browser", "latchkey-browser"),
        genuine.replace("__Host-latchkey-browser", "__host-latchkey-browser"),
        format!("__Host-latchkey-browser={}", own.refresh),
        format!("__Host-latchkey-browser={}", own.access),
        format!("__Host-latchkey={}", genuine.split_once('=').unwrap().1),
    ] {
        let forged = Browser { cookie: Some(cookie.clone()), session: None };
        assert_eq!(
            page_of(&node, &forged.authorize(&node, &Request::of(&shop.id)).await).0,
            "/account/sign-in",
            "{cookie}"
        );
    }
    // And the browser's cookie opens nothing else.
    let token = genuine.split_once('=').unwrap().1;
    for path in ["/v1/me", "/v1/sessions", "/oauth2/userinfo"] {
        node.get(path, token).await.expect(401);
    }
    node.refresh(token).await.expect(401);
    node.stop().await;
}

/// A disabled client is unknown to every endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn disabled_client_gets_neither_code_nor_tokens() {
    let cluster = TestCluster::new();
    let (node, _) = shop(&cluster).await;
    let forum = cluster.service_client_with(web("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::of("forum")).await;
    latchkey::service::clients::disable(&cluster.clock, &node.state.sql, "forum").await.unwrap();
    cluster.reload_clients().await;
    browser.authorize(&node, &Request::of("forum")).await.expect(400);
    assert_eq!(error_of(&exchange(&node, &forum, &code).await), (401, "invalid_client".to_owned()));
    node.stop().await;
}

/// Section 4.8.2: where a client may leave PKCE out, an attacker must not be able to leave it out for a request that has it.
#[tokio::test(flavor = "multi_thread")]
async fn client_without_pkce_is_not_downgraded() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let app = AppSettings { without_pkce: true, ..web("gitea").app };
    let gitea = cluster.service_client_with(NewClient { app, ..web("gitea") }).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let with = Request::of("gitea");
    let without = with.without("code_challenge").without("code_challenge_method");
    let exchange_without = async |code: &str| {
        let form = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK)];
        token(&node, &gitea, &form).await
    };
    let code = browser.code(&node, &without).await;
    assert_eq!(error_of(&exchange(&node, &gitea, &code).await), (400, "invalid_grant".to_owned()));
    exchange_without(&code).await.expect(200);
    let code = browser.code(&node, &with).await;
    assert_eq!(error_of(&exchange_without(&code).await), (400, "invalid_grant".to_owned()));
    exchange(&node, &gitea, &code).await.expect(200);
    let response = response_of(&browser.authorize(&node, &with.without("code_challenge")).await);
    assert_eq!(response["error"], "invalid_request");
    node.stop().await;
}

/// A request waits in Redis for its user: nobody fills it from one address.
#[tokio::test(flavor = "multi_thread")]
async fn authorization_requests_are_limited_by_address() {
    let mut cluster = TestCluster::new();
    let quota = latchkey::domain::limit::Quota { count: 2, window: Duration::from_mins(1) };
    cluster.config.limits.authorization_per_address = Some(quota);
    let (node, shop) = shop(&cluster).await;
    let (nobody, request) = (Browser::default(), Request::of(&shop.id));
    let (page, handle) = page_of(&node, &nobody.authorize(&node, &request).await);
    let form = node.request(reqwest::Method::POST, "/oauth2/authorize").form(&request.0);
    node.send(form).await.expect(303);
    let refused = nobody.authorize(&node, &request).await.expect(429);
    assert!(refused.header("ratelimit-policy").contains("authorization-address"));
    let form = node.request(reqwest::Method::POST, "/oauth2/authorize").form(&request.0);
    node.send(form).await.expect(429);
    // A request that was admitted continues.
    let again = nobody.get(&node, &format!("/oauth2/authorize?request={handle}")).await;
    assert_eq!(page_of(&node, &again), (page, handle));
    node.stop().await;
}
