//! `/oauth2/authorize`: responses to the client, which is the app `shop`, and pages for the user.

use std::time::Duration;

use latchkey::{
    domain::{app_client::AppSettings, authentication::Acr},
    service::clients::NewClient,
};
use reqwest::Method;

use super::{
    Browser, CALLBACK, Request, claims, exchange, node_with_ada_and_shop, page_and_handle, response_of, sign_in, text,
    web,
};
use crate::harness::test_cluster::TestCluster;

#[tokio::test(flavor = "multi_thread")]
async fn signed_in_browser_gets_code_with_state_and_issuer() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let answer = browser.authorize(&node, &Request::for_client(&shop.id)).await.expect(303);
    let mut response = response_of(&answer);
    assert!(response.remove("code").unwrap().starts_with("lk_ac_"));
    assert_eq!(response.remove("state").as_deref(), Some("a state"));
    assert_eq!(response.remove("iss").as_deref(), Some("https://auth.example.com"));
    assert!(response.is_empty(), "{response:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_without_session_is_sent_to_sign_in_and_returns_with_handle() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::default();
    let answer = browser.authorize(&node, &Request::for_client(&shop.id)).await;
    let (page, handle) = page_and_handle(&node, &answer);
    assert_eq!(page, "/account/sign-in");
    let back = format!("/oauth2/authorize?request={handle}");
    let answer = browser.get(&node, &back).await;
    assert_eq!(page_and_handle(&node, &answer), ("/account/sign-in".to_owned(), handle));
    let browser = Browser::signed_in(&node, "ada").await; // the same browser, signed in
    let answer = browser.get(&node, &back).await;
    assert_eq!(response_of(&answer)["state"], "a state");
    // A second tab, or the button to go back, gets no second code.
    let again = browser.get(&node, &back).await.expect(400);
    assert!(again.header("content-type").starts_with("text/html"));
    assert!(again.text.contains("finished before"), "{}", again.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_by_post_continues_with_get() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let form = node.request(Method::POST, "/oauth2/authorize").form(&Request::for_client(&shop.id).0);
    let answer = node.send(form).await;
    let (page, handle) = page_and_handle(&node, &answer);
    assert_eq!(page, "/oauth2/authorize");
    let browser = Browser::signed_in(&node, "ada").await;
    let answer = browser.get(&node, &format!("/oauth2/authorize?request={handle}")).await;
    assert!(response_of(&answer).contains_key("code"));
}

#[tokio::test(flavor = "multi_thread")]
async fn form_post_response_is_a_form_that_the_page_script_submits() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let request = Request::for_client(&shop.id).with("response_mode", "form_post").with("state", "\"><script>");
    let answer = browser.authorize(&node, &request).await.expect(200);
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("script-src 'self'"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("form-action"), "it would also restrict redirects of the client: {policy}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    // the client must not get the user's CSRF token
    assert!(!answer.text.contains("name=\"csrf\""), "{}", answer.text);
    let form = format!("<form method=\"post\" action=\"{CALLBACK}\" data-submit>");
    assert!(answer.text.contains(&form), "{}", answer.text);
    assert!(answer.text.contains("name=\"state\" value=\"&quot;&gt;&lt;script&gt;\""));
    assert!(answer.text.contains("name=\"iss\" value=\"https://auth.example.com\""));
    let (_, code) = answer.text.split_once("name=\"code\" value=\"").unwrap();
    let tokens = exchange(&node, &shop, code.split('"').next().unwrap()).await.expect(200).json();
    assert_eq!(claims(text(&tokens, "id_token"))["nonce"], "a nonce");
}

#[tokio::test(flavor = "multi_thread")]
async fn error_of_request_goes_to_client() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let valid = Request::for_client(&shop.id);
    // One character less than a SHA-256 in base64url.
    let short = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c";
    for (request, error) in [
        (valid.without("response_type"), "invalid_request"),
        (valid.with("response_type", "token"), "unsupported_response_type"),
        (valid.with("response_type", "code id_token"), "unsupported_response_type"),
        (valid.with("response_mode", "fragment"), "invalid_request"),
        (valid.without("code_challenge"), "invalid_request"),
        (valid.without("code_challenge_method"), "invalid_request"),
        (valid.with("code_challenge_method", "plain"), "invalid_request"),
        (valid.with("code_challenge", short), "invalid_request"),
        (valid.with("scope", "unknown"), "invalid_scope"),
        (valid.with("prompt", "none login"), "invalid_request"),
        (valid.with("prompt", "unknown"), "invalid_request"),
        (valid.with("max_age", "soon"), "invalid_request"),
        (valid.with("max_age", "-1"), "invalid_request"),
        // no sign-in reaches aal3
        (valid.with("acr_values", "aal3"), "unmet_authentication_requirements"),
        // `e30` is an empty object in base64url
        (valid.with("id_token_hint", "e30.e30.e30"), "invalid_request"),
        (valid.with("request", "e30.e30."), "request_not_supported"),
        (valid.with("request_uri", "https://app.example.com/r"), "request_uri_not_supported"),
        (valid.with("registration", "{}"), "registration_not_supported"),
        (valid.with("resource", "https://other.example.com"), "invalid_target"),
        (valid.with_another("nonce", "another"), "invalid_request"),
        (valid.with_another("scope", "openid"), "invalid_request"),
        // values are at most 2,048 bytes long
        (valid.with("login_hint", &"x".repeat(2049)), "invalid_request"),
    ] {
        let answer = browser.authorize(&node, &request).await.expect(303);
        let response = response_of(&answer);
        assert_eq!(response["error"], error, "{request:?}");
        assert_eq!(response["iss"], "https://auth.example.com");
        assert_eq!(response["state"], "a state", "{request:?}");
        assert!(!response["error_description"].is_empty(), "{request:?}");
        assert!(!response.contains_key("code"), "{request:?}");
    }
    // A repeated state is not returned: it is ambiguous.
    let response = response_of(&browser.authorize(&node, &valid.with_another("state", "another")).await);
    assert_eq!(response["error"], "invalid_request");
    assert_eq!(response.get("state"), None);
    // An error is returned in the response mode of the request.
    let request = valid.with("response_mode", "form_post").with("scope", "unknown");
    let answer = browser.authorize(&node, &request).await.expect(200);
    assert!(answer.text.contains("name=\"error\" value=\"invalid_scope\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn error_of_untrusted_client_or_redirect_uri_is_shown_to_user() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    cluster.service_client("billing").await;
    let browser = Browser::signed_in(&node, "ada").await;
    let valid = Request::for_client(&shop.id);
    for request in [
        valid.without("client_id"),
        valid.with("client_id", "unknown"),
        valid.with("client_id", "billing"), // a service, which signs nobody in
        valid.with_another("client_id", &shop.id),
        valid.without("redirect_uri"),
        valid.with("redirect_uri", "https://evil.example/callback"),
        valid.with("redirect_uri", &format!("{CALLBACK}/")),
        valid.with_another("redirect_uri", "https://evil.example"),
        Request(vec![("request".to_owned(), "lk_ar_unknown".to_owned())]),
    ] {
        let answer = browser.authorize(&node, &request).await.expect(400);
        assert!(answer.header("content-type").starts_with("text/html"), "{request:?}");
        assert_eq!(answer.header("location"), "");
        assert!(!answer.text.contains("evil.example"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompt_none_never_shows_a_page() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let app = AppSettings { asks_consent: true, ..web("asking").app };
    cluster.service_client_with(NewClient { app, ..web("asking") }).await; // another app
    let silent = Request::for_client(&shop.id).with("prompt", "none");
    let error = async |browser: &Browser, request: &Request| {
        response_of(&browser.authorize(&node, request).await.expect(303)).remove("error")
    };
    assert_eq!(error(&Browser::default(), &silent).await.as_deref(), Some("login_required"));
    let browser = Browser::signed_in(&node, "ada").await;
    cluster.advance(Duration::from_secs(1)); // else the sign-in would count as one for the requests
    assert_eq!(error(&browser, &silent).await, None);
    assert_eq!(error(&browser, &silent.with("client_id", "asking")).await.as_deref(), Some("consent_required"));
    assert_eq!(error(&browser, &silent.with("acr_values", "aal2")).await.as_deref(), Some("login_required"));
    // 62 s after the sign-in
    cluster.advance(Duration::from_secs(61));
    assert_eq!(error(&browser, &silent.with("max_age", "60")).await.as_deref(), Some("login_required"));
    assert_eq!(error(&browser, &silent.with("max_age", "62")).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn hint_of_another_user_requires_that_user() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    node.register("bob").await;
    let (ada, bob) = (Browser::signed_in(&node, "ada").await, Browser::signed_in(&node, "bob").await);
    let hint = text(&sign_in(&node, &ada, &shop, "openid").await, "id_token").to_owned();
    // An expired ID token is accepted as a hint.
    cluster.advance(Duration::from_hours(1));
    let request = Request::for_client(&shop.id).with("id_token_hint", &hint);
    assert!(response_of(&ada.authorize(&node, &request).await).contains_key("code"));
    let silent = request.with("prompt", "none");
    assert_eq!(response_of(&bob.authorize(&node, &silent).await)["error"], "login_required");
    assert_eq!(page_and_handle(&node, &bob.authorize(&node, &request).await).0, "/account/select-account");
}

#[tokio::test(flavor = "multi_thread")]
async fn prompt_and_max_age_require_a_new_authentication() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    cluster.advance(Duration::from_secs(10));
    let valid = Request::for_client(&shop.id);
    for (request, expected) in [
        (valid.with("prompt", "login"), "/account/reauthenticate"),
        (valid.with("prompt", "select_account"), "/account/select-account"),
        (valid.with("max_age", "0"), "/account/reauthenticate"),
        (valid.with("max_age", "9"), "/account/reauthenticate"),
    ] {
        let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &request).await);
        assert_eq!(page, expected, "{request:?}");
        let back = format!("/oauth2/authorize?request={handle}");
        // The old session is not enough, however often the browser returns.
        assert_eq!(page_and_handle(&node, &browser.get(&node, &back).await).0, expected);
        // so that the new authentication has another time than the request
        cluster.advance(Duration::from_secs(1));
        let reauthenticated = Browser::signed_in(&node, "ada").await;
        let code = response_of(&reauthenticated.get(&node, &back).await).remove("code").unwrap();
        let tokens = exchange(&node, &shop, &code).await.expect(200).json();
        assert_eq!(claims(text(&tokens, "id_token"))["auth_time"], node.state.clock.now().as_secs());
    }
    let create = valid.with("prompt", "create");
    assert_eq!(page_and_handle(&node, &browser.authorize(&node, &create).await).0, "/account/register");
}

#[tokio::test(flavor = "multi_thread")]
async fn acr_values_require_a_session_of_that_level() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    cluster.advance(Duration::from_secs(1));
    let request = Request::for_client(&shop.id).with("acr_values", "urn:unknown aal2");
    let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &request).await);
    assert_eq!(page, "/account/reauthenticate");
    // An account without a second factor can't reach the level: the client receives an error, so that the browser does not loop.
    cluster.advance(Duration::from_secs(1));
    let reauthenticated = Browser::signed_in(&node, "ada").await;
    // an error ends its request, so this is another one
    let (_, second_handle) = page_and_handle(&node, &browser.authorize(&node, &request).await);
    let back = format!("/oauth2/authorize?request={second_handle}");
    let response = response_of(&reauthenticated.get(&node, &back).await);
    assert_eq!(response["error"], "unmet_authentication_requirements");
    let strong = Browser::signed_in_at_aal2(&node, "ada").await;
    let response = response_of(&strong.get(&node, &format!("/oauth2/authorize?request={handle}")).await);
    let tokens = exchange(&node, &shop, &response["code"]).await.expect(200).json();
    let id_claims = claims(text(&tokens, "id_token"));
    assert_eq!(id_claims["acr"], Acr::Aal2.as_str());
    assert_eq!(id_claims["amr"], serde_json::json!(["pwd", "otp", "mfa"]));
    // Of several values, the lowest is required: the browser's session of level aal1 suffices.
    let request = Request::for_client(&shop.id).with("acr_values", "aal2 aal1");
    assert!(response_of(&browser.authorize(&node, &request).await).contains_key("code"));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_request_expires_after_ten_minutes() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::default();
    let answer = browser.authorize(&node, &Request::for_client(&shop.id)).await;
    let (_, handle) = page_and_handle(&node, &answer);
    // one second more than ten minutes
    cluster.advance(Duration::from_secs(601));
    browser.get(&node, &format!("/oauth2/authorize?request={handle}")).await.expect(400);
}
