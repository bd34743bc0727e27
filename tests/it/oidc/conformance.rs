//! Checks of OpenID Connect that the conformance suite (`conformance_suite`) does not make.

use latchkey::{crypto::authorization_code::RequestHandle, service::authorize};

use super::{Browser, CALLBACK, Request, exchange, node_with_ada_and_shop, page_and_handle, response_of, sign_in};
use crate::harness::test_cluster::TestCluster;

#[tokio::test(flavor = "multi_thread")]
async fn scopes_in_any_order_are_granted_and_unknown_ones_are_not() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
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
    // Without the scope `openid`, the request is plain OAuth: there is no ID token.
    let tokens = sign_in(&node, &browser, &shop, "profile").await;
    assert_eq!(tokens["scope"], "profile");
    assert!(tokens["id_token"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn form_post_responses_have_the_parameters_of_query_responses() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let signed_in = Browser::signed_in(&node, "ada").await;
    let signed_out = Browser::default();
    let valid = Request::for_client(&shop.id);
    let field_value = |page: &str, name: &str| {
        let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\""))?;
        Some(rest.split('"').next().unwrap().to_owned())
    };
    for (browser, request) in [
        // a code, with and without `state`
        (&signed_in, valid.clone()),
        (&signed_in, valid.without("state")),
        // the errors `login_required` and `invalid_request`
        (&signed_out, valid.with("prompt", "none")),
        (&signed_in, valid.without("response_type")),
    ] {
        let in_query = response_of(&browser.authorize(&node, &request).await.expect(303));
        let form = browser.authorize(&node, &request.with("response_mode", "form_post")).await.expect(200);
        assert!(form.text.contains(&format!("action=\"{CALLBACK}\"")), "{}", form.text);
        for (name, value) in &in_query {
            let posted =
                field_value(&form.text, name).unwrap_or_else(|| panic!("no {name} for {request:?}: {}", form.text));
            // these two differ: each response has a code of its own, and the form escapes descriptions
            if name != "code" && name != "error_description" {
                assert_eq!(posted, *value, "{name}");
            }
        }
        assert_eq!(form.text.matches("type=\"hidden\"").count(), in_query.len(), "{}", form.text);
        if let Some(code) = field_value(&form.text, "code") {
            exchange(&node, &shop, &code).await.expect(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_hint_and_languages_reach_the_page() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let request = Request::for_client(&shop.id).with("login_hint", "ada@example.com").with("ui_locales", "pt-BR en");
    let to_sign_in = Browser::default().authorize(&node, &request).await;
    let (_, handle_and_parameters) = page_and_handle(&node, &to_sign_in);
    // the other parameters of the page's address follow the handle
    let (handle, locales) = handle_and_parameters.split_once('&').unwrap();
    assert_eq!(locales, "ui_locales=pt-BR+en");
    let page = Browser::default().get(&node, &format!("/account/sign-in?request={handle}&{locales}")).await;
    assert!(page.text.contains("<html lang=\"pt\""), "{}", page.text);
    assert!(page.text.contains("value=\"ada@example.com\""), "{}", page.text);
    // If the user chooses another language on the page, the next page has that language.
    let back = Browser::default().get(&node, &format!("/oauth2/authorize?request={handle}&ui_locales=de")).await;
    assert!(back.header("location").ends_with("&ui_locales=de"), "{back:?}");
    let handle = RequestHandle::parse(handle).unwrap();
    let no_session = None;
    let pending = authorize::pending(&node.state, &handle, no_session).await.unwrap();
    assert_eq!(pending.request.login_hint.as_deref(), Some("ada@example.com"));
    assert_eq!(pending.request.ui_locales.as_deref(), Some("pt-BR en"));
    assert_eq!(pending.client.id.as_str(), "shop");
    assert_eq!(pending.step, Some(authorize::AuthorizeStep::SignIn));
}
