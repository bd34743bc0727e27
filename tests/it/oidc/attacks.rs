//! Published attacks on OAuth and OpenID Connect, mostly against the app `shop`. The sections in the comments are those of RFC 9700.

use std::time::Duration;

use latchkey::{
    crypto::authorization_code::s256,
    domain::{app_client::AppSettings, limit::Quota},
    service::{
        browser_session,
        clients::{self, NewClient},
    },
};

use super::{
    Browser, CALLBACK, Request, VERIFIER, claims, error_of, exchange, exchange_with, logout::csrf_of,
    node_with_ada_and_shop, page_and_handle, refresh, response_of, sign_in, text, token, web,
};
use crate::{
    harness::{client::PASSWORD, test_cluster::TestCluster},
    pages::visitor::Visitor,
};

/// Section 4.4: mix-up. The response names its issuer, so that a client of several issuers detects a response of the wrong one (RFC 9207).
#[tokio::test(flavor = "multi_thread")]
async fn every_response_names_its_issuer() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let valid = Request::for_client(&shop.id);
    // the responses: a code, an error of the request, and an error because of the browser's session
    for request in [valid.clone(), valid.with("scope", "unknown"), valid.with("prompt", "none").with("max_age", "0")] {
        // so that `max_age=0` requires a new authentication
        cluster.advance(Duration::from_secs(1));
        let response = response_of(&browser.authorize(&node, &request).await);
        assert_eq!(response["iss"], "https://auth.example.com");
    }
    let metadata = node.get_anonymously("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
}

/// Section 4.5: an attacker injects a code of the victim into a session of their own with the same client.
#[tokio::test(flavor = "multi_thread")]
async fn injected_code_is_refused_for_lack_of_its_verifier() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let victim = Browser::signed_in(&node, "ada").await;
    let code = victim.code(&node, &Request::for_client(&shop.id)).await;
    let verifier_of_attacker = "b".repeat(43);
    let refused = exchange_with(&node, &shop, &code, CALLBACK, &verifier_of_attacker).await;
    assert_eq!(error_of(&refused), (400, "invalid_grant".to_owned()));
    // The ID token has the nonce of the victim's request (`Request::for_client`), not the attacker's.
    let tokens = exchange(&node, &shop, &code).await.expect(200).json();
    assert_eq!(claims(text(&tokens, "id_token"))["nonce"], "a nonce");
}

/// Section 4.8: a request without PKCE, or with a weaker method, is refused, and so is a code without its verifier.
#[tokio::test(flavor = "multi_thread")]
async fn pkce_can_not_be_left_out_or_weakened() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let valid = Request::for_client(&shop.id);
    for request in [
        valid.without("code_challenge").without("code_challenge_method"),
        valid.with("code_challenge_method", "plain").with("code_challenge", VERIFIER),
        // without a method, RFC 7636 assumes `plain`
        valid.without("code_challenge_method").with("code_challenge", VERIFIER),
    ] {
        let response = response_of(&browser.authorize(&node, &request).await);
        assert_eq!(response["error"], "invalid_request");
    }
    // The challenge itself is no verifier.
    let code = browser.code(&node, &valid).await;
    let refused = exchange_with(&node, &shop, &code, CALLBACK, &s256(VERIFIER)).await;
    assert_eq!(error_of(&refused), (400, "invalid_grant".to_owned()));
    let metadata = node.get_anonymously("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["code_challenge_methods_supported"], serde_json::json!(["S256"]));
}

/// An attacker sets a cookie in the victim's browser before the sign-in: it does not work afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn session_planted_before_the_sign_in_does_not_work_after_it() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    node.register("eve").await;
    let planted = Browser::signed_in(&node, "eve").await;
    // `select_account` makes the request wait for its user, because the attacker's session is older than the request
    cluster.advance(Duration::from_secs(1));
    let request = Request::for_client(&shop.id).with("prompt", "select_account");
    let (_, handle) = page_and_handle(&node, &planted.authorize(&node, &request).await);
    let victim = Browser::signed_in(&node, "ada").await;
    let former = planted.live_session(&node).await.unwrap();
    let (account, session) = victim.session.unwrap();
    // The sign-in page calls `renew` in the same way: the new session of the browser replaces its former one.
    let ip = None;
    browser_session::renew(&node.state, &former, account, session, ip).await.unwrap();
    let continued = format!("/oauth2/authorize?request={handle}");
    let (page, _) = page_and_handle(&node, &planted.get(&node, &continued).await);
    assert_eq!(page, "/account/sign-in");
    assert!(response_of(&victim.get(&node, &continued).await).contains_key("code"));
}

/// A browser with a forged, foreign or damaged cookie is treated as signed out.
#[tokio::test(flavor = "multi_thread")]
async fn forged_or_foreign_cookie_does_not_sign_in() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let genuine = browser.cookie.clone().unwrap();
    let login_tokens = node.login("ada").await;
    let (_, token) = browser.cookie_parts();
    for cookie in [
        // damaged
        format!("{genuine}x"),
        // the name without its prefix, and with its prefix in lower case
        genuine.replace("__Host-latchkey-browser", "latchkey-browser"),
        genuine.replace("__Host-latchkey-browser", "__host-latchkey-browser"),
        // tokens of another kind
        format!("__Host-latchkey-browser={}", login_tokens.refresh),
        format!("__Host-latchkey-browser={}", login_tokens.access),
        // the cookie of refresh tokens
        format!("__Host-latchkey={token}"),
    ] {
        let forged = Browser { cookie: Some(cookie.clone()), session: None };
        let answer = forged.authorize(&node, &Request::for_client(&shop.id)).await;
        let (page, _) = page_and_handle(&node, &answer);
        assert_eq!(page, "/account/sign-in", "{cookie}");
    }
    // No other endpoint accepts the token in the browser's cookie.
    for path in ["/v1/me", "/v1/sessions", "/oauth2/userinfo"] {
        node.get(path, token).await.expect(401);
    }
    node.refresh(token).await.expect(401);
}

/// A disabled client is unknown to every endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn disabled_client_gets_neither_code_nor_tokens() {
    let cluster = TestCluster::new();
    let (node, _shop) = node_with_ada_and_shop(&cluster).await;
    let forum = cluster.service_client_with(web("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::for_client("forum")).await;
    let tokens = sign_in(&node, &browser, &forum, "openid").await;
    node.get("/oauth2/userinfo", text(&tokens, "access_token")).await.expect(200);
    clients::disable(&cluster.clock, &node.state.sql, "forum").await.unwrap();
    cluster.reload_clients().await;
    browser.authorize(&node, &Request::for_client("forum")).await.expect(400);
    assert_eq!(error_of(&exchange(&node, &forum, &code).await), (401, "invalid_client".to_owned()));
    let refused = refresh(&node, &forum, text(&tokens, "refresh_token")).await;
    assert_eq!(error_of(&refused), (401, "invalid_client".to_owned()));
    node.get("/oauth2/userinfo", text(&tokens, "access_token")).await.expect(401);
}

/// Section 4.8.2: a client may be allowed to leave PKCE out. An attacker must not be able to remove PKCE from a request that has it.
#[tokio::test(flavor = "multi_thread")]
async fn client_without_pkce_is_not_downgraded() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let app = AppSettings { without_pkce: true, ..web("gitea").app };
    let gitea = cluster.service_client_with(NewClient { app, ..web("gitea") }).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let with_pkce = Request::for_client("gitea");
    let without_pkce = with_pkce.without("code_challenge").without("code_challenge_method");
    // unlike `exchange`, which sends a verifier
    let exchange_without_verifier = async |code: &str| {
        let form = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK)];
        token(&node, &gitea, &form).await
    };
    let code = browser.code(&node, &without_pkce).await;
    assert_eq!(error_of(&exchange(&node, &gitea, &code).await), (400, "invalid_grant".to_owned()));
    exchange_without_verifier(&code).await.expect(200);
    let code = browser.code(&node, &with_pkce).await;
    assert_eq!(error_of(&exchange_without_verifier(&code).await), (400, "invalid_grant".to_owned()));
    exchange(&node, &gitea, &code).await.expect(200);
    // A method without a challenge is refused, as is a request without PKCE that lacks a `nonce` or the scope `openid`.
    for request in [
        with_pkce.without("code_challenge"),
        without_pkce.without("nonce"),
        without_pkce.with("scope", "profile email"),
    ] {
        let response = response_of(&browser.authorize(&node, &request).await);
        assert_eq!(response["error"], "invalid_request", "{request:?}");
    }
}

/// A pending authorization request is stored in Redis until its user signs in. The limit keeps one IP address from filling Redis.
#[tokio::test(flavor = "multi_thread")]
async fn authorization_requests_are_limited_by_address() {
    let mut cluster = TestCluster::new();
    let quota = Quota { count: 2, window: Duration::from_mins(1) };
    cluster.config.limits.authorization_per_address = Some(quota);
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::default();
    let request = Request::for_client(&shop.id);
    // one request in a query and one in a form use up the quota
    let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &request).await);
    let form = node.request(reqwest::Method::POST, "/oauth2/authorize").form(&request.0);
    node.send(form).await.expect(303);
    let refused = browser.authorize(&node, &request).await.expect(429);
    assert!(refused.header("ratelimit-policy").contains("authorization-address"));
    let form = node.request(reqwest::Method::POST, "/oauth2/authorize").form(&request.0);
    node.send(form).await.expect(429);
    // A request that was admitted continues.
    let again = browser.get(&node, &format!("/oauth2/authorize?request={handle}")).await;
    assert_eq!(page_and_handle(&node, &again), (page, handle));
}

/// Login CSRF: a page of another site submits the sign-in form with the attacker's password and with a token that the attacker got. The
/// victim's browser sends none of its cookies with the form, and has none of the attacker's.
#[tokio::test(flavor = "multi_thread")]
async fn sign_in_form_of_another_site_signs_nobody_in() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    node.register("eve").await;
    let request = Request::for_client(&shop.id);
    let mut eve = Visitor::new(&node);
    let (_, handle) = page_and_handle(&node, &Browser::default().authorize(&node, &request).await);
    let path = format!("/account/sign-in?request={handle}");
    eve.open(&path).await.expect(200);
    let form = [("identifier", "eve"), ("password", PASSWORD)];
    // browsers name the site of the page in these headers; without them, the token must suffice for the refusal
    let cross_site = vec![("origin", "https://evil.example".to_owned()), ("sec-fetch-site", "cross-site".to_owned())];
    for headers in [vec![], cross_site] {
        let mut victim = Visitor::new(&node);
        victim.headers = headers;
        let refused = victim.submit_with(&path, &form, &eve.csrf).await.expect(403);
        assert!(!victim.cookies.contains_key("__Host-latchkey-browser"), "{refused:?}");
    }
    // The form works in the browser that opened it.
    eve.submit(&path, &form).await.expect(303);
}

/// Cookie tossing: another host plants the attacker's session cookie beside the victim's. Browsers refuse `__Host-` cookies of other hosts.
/// If a browser accepts one, a request is refused or belongs to the attacker's session; it never acts for the victim.
#[tokio::test(flavor = "multi_thread")]
async fn planted_cookie_beside_the_genuine_one_yields_no_request_of_the_victim() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    node.register("eve").await;
    let (ada, eve) = (Browser::signed_in(&node, "ada").await, Browser::signed_in(&node, "eve").await);
    let genuine = ada.cookie.clone().unwrap();
    let page = ada.get(&node, "/account/devices").await.expect(200);
    let csrf = csrf_of(&page);
    for planted in [eve.cookie.clone().unwrap(), "__Host-latchkey-browser=junk".to_owned()] {
        let victim = Browser { cookie: Some(format!("{planted}; {genuine}")), session: None };
        let form = node.request(reqwest::Method::POST, "/account/devices/end-others").form(&[("csrf", &csrf)]);
        let answer = node.send(victim.with_cookie(form)).await;
        assert!(answer.status == 403 || answer.header("location").starts_with("/account/sign-in"), "{answer:?}");
        let answer = victim.authorize(&node, &Request::for_client(&shop.id).with("prompt", "none")).await;
        if let Some(code) = response_of(&answer).get("code") {
            let tokens = exchange(&node, &shop, code).await.expect(200).json();
            assert_eq!(claims(text(&tokens, "id_token"))["email"], "eve@example.com", "never the victim's");
        }
    }
    // A cookie without the prefix is ignored: the browser is sent to a page.
    let victim = Browser { cookie: Some(eve.cookie.unwrap().replace("__Host-", "")), session: None };
    page_and_handle(&node, &victim.authorize(&node, &Request::for_client(&shop.id)).await);
}

/// Clickjacking and caches: no page of an authorization request or a sign-out can be framed, or stays in a cache after the sign-out.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_provider_are_neither_framed_nor_cached() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    // an authorization request of this app leads to the page for consent
    let app = AppSettings { asks_consent: true, ..web("forum").app };
    cluster.service_client_with(NewClient { app, ..web("forum") }).await;
    let browser = Browser::signed_in(&node, "ada").await;
    // so that the sign-in is older than the requests: `login` and `select_account` then lead to a page
    cluster.advance(Duration::from_secs(1));
    let valid = Request::for_client(&shop.id);
    let mut paths = vec![
        "/oauth2/logout".to_owned(),
        "/oauth2/logout?client_id=unknown&post_logout_redirect_uri=https://evil.example".to_owned(),
        "/oauth2/authorize?client_id=unknown".to_owned(),
        "/account/error?kind=sign_in_failed&code=unknown_client".to_owned(),
        format!("/oauth2/authorize?{}", valid.with("response_mode", "form_post").query()),
    ];
    for request in [
        Request::for_client("forum"),
        valid.with("prompt", "login"),
        valid.with("prompt", "select_account"),
        valid.with("prompt", "create"),
    ] {
        let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &request).await);
        paths.push(format!("{page}?request={handle}"));
    }
    for path in paths {
        let answer = browser.get(&node, &path).await;
        assert!(answer.status == 200 || answer.status == 400, "{path}: {answer:?}");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && policy.contains("base-uri 'none'"), "{path}: {policy}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert!(!answer.text.contains("evil.example"), "{path}");
    }
}

/// An ID token from before the browser's current session may have leaked. It signs its user out only after a confirmation. Sent without the
/// browser's cookie, it ends no session that began later.
#[tokio::test(flavor = "multi_thread")]
async fn id_token_of_an_earlier_grant_does_not_sign_out() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let earlier = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &earlier, &shop, "openid").await;
    cluster.advance(Duration::from_secs(1));
    let browser = Browser::signed_in(&node, "ada").await;
    // the grant that issued the earlier ID token ends
    let refresh_token = [("token", text(&tokens, "refresh_token"))];
    let revocation = node.request(reqwest::Method::POST, "/oauth2/revoke").form(&refresh_token);
    node.send(revocation.basic_auth(&shop.id, Some(&shop.secret))).await.expect(200);
    let current = sign_in(&node, &browser, &shop, "openid").await;
    let path = format!("/oauth2/logout?id_token_hint={}", text(&tokens, "id_token"));
    let confirmation = browser.get(&node, &path).await.expect(200);
    assert!(confirmation.text.contains("Sign out?"), "{}", confirmation.text);
    // Without the browser's cookie the ID token ends nothing: the current session can still be refreshed.
    Browser::default().get(&node, &path).await.expect(303);
    let refreshed = refresh(&node, &shop, text(&current, "refresh_token")).await.expect(200).json();
    // An ID token of an app of another browser needs a confirmation as well. In the browser of the app, the token signs out at once.
    let other_browser = Browser::signed_in(&node, "ada").await;
    let path = format!("/oauth2/logout?id_token_hint={}", text(&refreshed, "id_token"));
    let confirmation = other_browser.get(&node, &path).await.expect(200);
    assert!(confirmation.text.contains("Sign out?"), "{}", confirmation.text);
    browser.get(&node, &path).await.expect(303);
    refresh(&node, &shop, text(&refreshed, "refresh_token")).await.expect(400);
    // The other browser is still signed in.
    other_browser.get(&node, "/account").await.expect(200);
}
