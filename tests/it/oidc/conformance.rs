//! Requests and responses beyond those of the modules in `conformance_suite`, which docs/conformance.md lists.

use latchkey::{crypto::authorization_code::RequestHandle, service::authorize};
use serde_json::{Value, json};

use super::{Browser, CALLBACK, Request, claims, exchange, page_and_handle, response_of, shop, sign_in, text};
use crate::harness::test_cluster::TestCluster;

/// `oidcc-ensure-request-with-unknown-parameter-succeeds`, `oidcc-display-page`, `oidcc-display-popup`, `oidcc-ui-locales`,
/// `oidcc-claims-locales`, `oidcc-ensure-request-with-acr-values-succeeds`.
#[tokio::test(flavor = "multi_thread")]
async fn optional_and_unknown_parameters_do_not_fail_the_request() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let valid = Request::for_client(&shop.id);
    for (name, value) in [
        ("extra", "foobar"),
        ("display", "page"),
        ("display", "popup"),
        ("ui_locales", "se de fr"),
        ("claims_locales", "se"),
        ("acr_values", "1 2"),
        ("login_hint", "ada@example.com"),
        ("claims", "{\"id_token\":{\"auth_time\":null}}"),
    ] {
        let code = browser.code(&node, &valid.with_another(name, value)).await;
        exchange(&node, &shop, &code).await.expect(200);
    }
    node.stop().await;
}

/// `oidcc-ensure-request-without-nonce-succeeds-for-code-flow`.
#[tokio::test(flavor = "multi_thread")]
async fn request_without_nonce_gets_id_token_without_nonce() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::for_client(&shop.id).without("nonce").without("state")).await;
    let tokens = exchange(&node, &shop, &code).await.expect(200).json();
    assert_eq!(claims(text(&tokens, "id_token"))["nonce"], Value::Null);
    node.stop().await;
}

/// `oidcc-ensure-other-scope-order-succeeds`, `oidcc-scope-address`, `oidcc-scope-phone`, `oidcc-scope-all`.
#[tokio::test(flavor = "multi_thread")]
async fn scopes_in_any_order_are_granted_and_unknown_ones_are_not() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    for (requested, granted) in [
        ("email openid", "email openid"),
        ("openid profile email address phone", "openid profile email"),
        ("address openid", "openid"),
    ] {
        let tokens = sign_in(&node, &browser, &shop, requested).await;
        assert_eq!(tokens["scope"], granted);
        assert!(tokens["id_token"].is_string());
    }
    // Without openid it is plain OAuth: no ID token.
    let tokens = sign_in(&node, &browser, &shop, "profile").await;
    assert_eq!((&tokens["scope"], &tokens["id_token"]), (&json!("profile"), &Value::Null));
    node.stop().await;
}

/// `oidcc-alternate-happy-flow`: neither the order of the scopes nor that of the parameters matters.
#[tokio::test(flavor = "multi_thread")]
async fn scopes_and_parameters_in_reverse_order_give_the_same_response() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let mut request = Request::for_client(&shop.id).with("scope", "email profile openid");
    request.0.reverse();
    let code = browser.code(&node, &request).await;
    let tokens = exchange(&node, &shop, &code).await.expect(200).json();
    let id = claims(text(&tokens, "id_token"));
    assert_eq!((&id["nonce"], &id["email"]), (&json!("a nonce"), &json!("ada@example.com")));
    node.stop().await;
}

/// The basic modules with `response_mode=form_post`: the form has the parameters that the query would have.
#[tokio::test(flavor = "multi_thread")]
async fn form_post_responses_have_the_parameters_of_query_responses() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let (ada, signed_out) = (Browser::signed_in(&node, "ada").await, Browser::default());
    let valid = Request::for_client(&shop.id);
    let field = |page: &str, name: &str| {
        let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\""))?;
        Some(rest.split('"').next().unwrap().to_owned())
    };
    for (browser, request) in [
        (&ada, valid.clone()),
        (&ada, valid.without("nonce")),
        (&ada, valid.without("state")),
        (&ada, valid.with("scope", "openid")),
        (&ada, valid.with_another("max_age", "10000")),
        (&ada, valid.with_another("prompt", "none")),
        (&ada, valid.with_another("login_hint", "ada@example.com")),
        (&ada, valid.with_another("ui_locales", "se")),
        (&ada, valid.with_another("acr_values", "1 2")),
        (&ada, valid.with_another("extra", "foobar")),
        (&signed_out, valid.with_another("prompt", "none")),
        (&ada, valid.without("response_type")),
        (&ada, valid.with_another("request", "e30.e30.")),
        (&ada, valid.with_another("request_uri", "https://app.example.com/request")),
    ] {
        let in_query = response_of(&browser.authorize(&node, &request).await.expect(303));
        let form = browser.authorize(&node, &request.with_another("response_mode", "form_post")).await.expect(200);
        assert!(form.text.contains(&format!("action=\"{CALLBACK}\"")), "{}", form.text);
        for (name, value) in &in_query {
            let posted = field(&form.text, name).unwrap_or_else(|| panic!("no {name} for {request:?}: {}", form.text));
            // each response has a code of its own, and descriptions are escaped
            assert!(["code", "error_description"].contains(&name.as_str()) || posted == *value, "{name}: {posted}");
        }
        assert_eq!(form.text.matches("type=\"hidden\"").count(), in_query.len(), "{}", form.text);
        if let Some(code) = field(&form.text, "code") {
            exchange(&node, &shop, &code).await.expect(200);
        }
    }
    node.stop().await;
}

/// `oidcc-login-hint`: the page receives the hint and the languages.
#[tokio::test(flavor = "multi_thread")]
async fn login_hint_and_languages_reach_the_page() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let request = Request::for_client(&shop.id).with("login_hint", "ada@example.com").with("ui_locales", "pt-BR en");
    let sent = Browser::default().authorize(&node, &request).await;
    let (_, handle) = page_and_handle(&node, &sent);
    let (handle, locales) = handle.split_once('&').unwrap();
    assert_eq!(locales, "ui_locales=pt-BR+en");
    let page = Browser::default().get(&node, &format!("/account/sign-in?request={handle}&{locales}")).await;
    assert!(
        page.text.contains("<html lang=\"pt\"") && page.text.contains("value=\"ada@example.com\""),
        "{}",
        page.text
    );
    // The language that the user chooses instead is kept when the browser returns.
    let back = Browser::default().get(&node, &format!("/oauth2/authorize?request={handle}&ui_locales=de")).await;
    assert!(back.header("location").ends_with("&ui_locales=de"), "{back:?}");
    let handle = RequestHandle::parse(handle).unwrap();
    let pending = authorize::pending(&node.state, &handle, None).await.unwrap();
    assert_eq!(pending.request.login_hint.as_deref(), Some("ada@example.com"));
    assert_eq!(pending.request.ui_locales.as_deref(), Some("pt-BR en"));
    assert_eq!((pending.client.id.as_str(), pending.step), ("shop", Some(authorize::AuthorizeStep::SignIn)));
    node.stop().await;
}

/// `oidcc-discovery-endpoint-verification`, `oidcc-rp-initiated-logout-discovery-endpoint-verification`: every capability that the
/// metadata lists, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_lists_what_is_supported() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let metadata = node.get("/.well-known/openid-configuration", "").await.expect(200).json();
    for (name, value) in [
        ("response_types_supported", json!(["code"])),
        ("response_modes_supported", json!(["query", "form_post"])),
        ("grant_types_supported", json!(["authorization_code", "refresh_token", "client_credentials"])),
        ("subject_types_supported", json!(["public"])),
        ("id_token_signing_alg_values_supported", json!(["ES256"])),
        ("code_challenge_methods_supported", json!(["S256"])),
        ("prompt_values_supported", json!(["none", "login", "consent", "select_account", "create"])),
        ("acr_values_supported", json!(["aal1", "aal2"])),
        ("claims_parameter_supported", json!(false)),
        ("request_parameter_supported", json!(false)),
        ("request_uri_parameter_supported", json!(false)),
        ("scopes_supported", json!(["openid", "profile", "email", "offline_access", "account"])),
    ] {
        assert_eq!(metadata[name], value, "{name}");
    }
    assert_eq!(metadata["end_session_endpoint"], "https://auth.example.com/oauth2/logout");
    // The claims of an ID token are those that are listed.
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid profile email").await;
    let id = claims(text(&tokens, "id_token"));
    let listed = metadata["claims_supported"].as_array().unwrap();
    for name in id.as_object().unwrap().keys() {
        assert!(listed.contains(&json!(name)), "{name}");
    }
    node.stop().await;
}

/// `oidcc-codereuse-30seconds`: half a minute later, the use of the code is still recorded.
#[tokio::test(flavor = "multi_thread")]
async fn code_reused_after_half_a_minute_revokes_its_tokens() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::for_client(&shop.id)).await;
    let tokens = exchange(&node, &shop, &code).await.expect(200).json();
    cluster.advance(std::time::Duration::from_secs(30));
    exchange(&node, &shop, &code).await.expect(400);
    node.get("/oauth2/userinfo", text(&tokens, "access_token")).await.expect(401);
    node.stop().await;
}

/// `oidcc-ensure-registered-redirect-uri`: a page shows the error that the suite expects.
#[tokio::test(flavor = "multi_thread")]
async fn unregistered_redirect_uri_shows_a_page() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let request = Request::for_client(&shop.id).with("redirect_uri", &format!("{CALLBACK}/other"));
    let page = browser.authorize(&node, &request).await.expect(400);
    assert!(page.text.contains("not registered"), "{}", page.text);
    let response = response_of(&browser.authorize(&node, &Request::for_client(&shop.id)).await);
    assert!(response.contains_key("code"));
    node.stop().await;
}

/// `oidcc-rp-initiated-logout-no-state`, `-only-state`, `-no-params`, `-no-post-logout-redirect-uri`, `-modified-id-token-hint`.
#[tokio::test(flavor = "multi_thread")]
async fn logout_accepts_each_combination_of_its_parameters() {
    let cluster = TestCluster::new();
    let (node, shop) = shop(&cluster).await;
    let call = async |browser: &Browser, parameters: &[(&str, &str)]| {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        browser.get(&node, &format!("/oauth2/logout?{query}")).await
    };
    let signed_in = async || {
        let browser = Browser::signed_in(&node, "ada").await;
        let tokens = sign_in(&node, &browser, &shop, "openid").await;
        (browser, text(&tokens, "id_token").to_owned())
    };
    let bye = ("post_logout_redirect_uri", "https://app.example.com/bye");
    let (browser, hint) = signed_in().await;
    let answer = call(&browser, &[("id_token_hint", &hint), bye]).await.expect(303);
    assert_eq!(answer.header("location"), bye.1);
    let (browser, hint) = signed_in().await;
    let answer = call(&browser, &[("id_token_hint", &hint), ("state", "s")]).await.expect(303);
    assert_eq!(answer.header("location"), "https://auth.example.com/account/signed-out");
    let (browser, hint) = signed_in().await;
    for parameters in [&[][..], &[("state", "s")]] {
        assert!(call(&browser, parameters).await.expect(200).text.contains("Sign out?"));
    }
    let modified = format!("{}A", &hint[..hint.len() - 1]);
    let modified = if modified == hint { format!("{}B", &hint[..hint.len() - 1]) } else { modified };
    call(&browser, &[("id_token_hint", &modified), bye]).await.expect(400);
    // oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri
    let added = ("post_logout_redirect_uri", "https://app.example.com/bye?added=1");
    call(&browser, &[("id_token_hint", &hint), added]).await.expect(400);
    browser.code(&node, &Request::for_client(&shop.id)).await;
    node.stop().await;
}
