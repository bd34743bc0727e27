//! Attacks with redirects (RFC 9700, sections 4.1 and 4.11): responses go only to registered URIs, or to apps that the user has allowed.

use std::time::Duration;

use latchkey::{domain::app_client::AppSettings, service::clients::NewClient};

use super::{Browser, Request, dynamic_clients, node_with_ada_and_shop, page_and_handle, public, text};
use crate::{
    harness::test_cluster::TestCluster,
    pages::visitor::{Visitor, actions},
};

/// Section 4.1: tricks with redirect URIs. Section 4.11: open redirection.
#[tokio::test(flavor = "multi_thread")]
async fn authorize_never_redirects_to_an_unregistered_uri() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
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
        // The first letter is U+0251, not an a.
        "https://ɑpp.example.com/callback",
    ] {
        // With the registered URI, the first and the third would redirect with a code, and the second with an error.
        for request in [
            Request::for_client(&shop.id).with("redirect_uri", uri),
            Request::for_client(&shop.id).with("redirect_uri", uri).with("scope", "unknown"),
            Request::for_client(&shop.id).with("redirect_uri", uri).with("prompt", "none"),
        ] {
            let answer = browser.authorize(&node, &request).await.expect(400);
            assert_eq!(answer.header("location"), "", "{uri}");
        }
    }
}

/// Section 4.11.2: an attacker publishes the metadata document of an app, and sends users to Latchkey so that it redirects them to the
/// attacker's page: after an erroneous request, after a silent one, or when the user refuses.
#[tokio::test(flavor = "multi_thread")]
async fn error_goes_to_an_unregistered_app_only_if_the_user_has_allowed_it() {
    let (cluster, server) = dynamic_clients::cluster().await;
    let (node, ada) = dynamic_clients::node_with_browser(&cluster).await;
    let client_id = server.app(dynamic_clients::PATH, &[]);
    let valid = dynamic_clients::request(&server, &client_id);
    // An unknown response type and scope, a level that no sign-in reaches, and a silent request, which may show no page.
    let failing = [
        valid.with("response_type", "x"),
        valid.with("scope", "unknown"),
        valid.with("acr_values", "aal3"),
        valid.with("prompt", "none"),
    ];
    let signed_out = Browser::default();
    for request in &failing {
        for browser in [&signed_out, &ada] {
            let page = browser.authorize(&node, request).await.expect(400);
            assert_eq!(page.header("location"), "", "{request:?}");
            // The page names the app's host, and has a link that the user may follow.
            assert!(page.text.contains("<span class=\"host\">localhost</span>"), "{}", page.text);
            assert!(page.text.contains(&server.url("/callback?error=")), "{}", page.text);
        }
        // An authorization request may also be posted.
        let posted = node.request(reqwest::Method::POST, "/oauth2/authorize").form(&request.0);
        let answer = node.send(ada.with_cookie(posted)).await;
        assert!(!answer.header("location").starts_with(&server.origin()), "{answer:?}");
    }
    // With `form_post`, an unsafe page would contain a form that posts the error to the app.
    let form_post = failing[0].with("response_mode", "form_post");
    let page = ada.authorize(&node, &form_post).await.expect(400);
    assert!(!page.text.contains(&server.url("/callback")), "{}", page.text);

    // Ada's browser opens the consent page of a valid request, and Ada refuses.
    let (page, handle) = page_and_handle(&node, &ada.authorize(&node, &valid).await);
    let mut visitor = Visitor::new(&node);
    let (name, value) = ada.cookie.as_ref().unwrap().split_once('=').unwrap();
    visitor.cookies.insert(name.to_owned(), value.to_owned());
    let page = visitor.open(&format!("{page}?request={handle}")).await.expect(200);
    let action = actions(&page).into_iter().find(|action| action.starts_with("/account/consent")).unwrap();
    let refused = visitor.submit(&action, &[("decision", "deny")]).await.expect(400);
    assert!(refused.text.contains("access_denied"), "{}", refused.text);

    // A redirect URI on the user's device leads to no page of an attacker, so the error goes there.
    let on_device = failing[0].with("redirect_uri", "http://127.0.0.1:4711/callback");
    let answer = signed_out.authorize(&node, &on_device).await.expect(303);
    assert!(answer.header("location").starts_with("http://127.0.0.1:4711/callback?error="), "{answer:?}");

    // Ada allows the app: errors now go to the app from Ada's browser, and from no other browser.
    dynamic_clients::authorize_with_consent(&node, &ada, &server, &valid).await;
    for request in &failing {
        let answer = ada.authorize(&node, request).await.expect(303);
        assert!(answer.header("location").starts_with(&server.url("/callback?")), "{answer:?}");
        signed_out.authorize(&node, request).await.expect(400);
    }
}

/// Section 4.11.2, for the redirect after a sign-out.
#[tokio::test(flavor = "multi_thread")]
async fn logout_redirects_to_an_unregistered_app_only_if_the_user_has_allowed_it() {
    let (cluster, server) = dynamic_clients::cluster().await;
    let (node, ada) = dynamic_clients::node_with_browser(&cluster).await;
    node.register("eve").await;
    let eve = Browser::signed_in(&node, "eve").await;
    let bye = server.url("/bye");
    let client_id = server.app(dynamic_clients::PATH, &[("post_logout_redirect_uris", serde_json::json!([bye]))]);
    let tokens = dynamic_clients::sign_in(&node, &eve, &server, &client_id).await;
    let logout_path = |parameters: &[(&str, &str)]| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("post_logout_redirect_uri", &bye).extend_pairs(parameters);
        format!("/oauth2/logout?{}", query.finish())
    };
    let without_id_token = logout_path(&[("client_id", client_id.as_str())]);
    let with_id_token = logout_path(&[("id_token_hint", text(&tokens, "id_token"))]);
    let signed_out_page = format!("{}/account/signed-out", cluster.config.issuer);
    let signed_out = Browser::default();
    assert_eq!(signed_out.get(&node, &without_id_token).await.expect(303).header("location"), signed_out_page);
    // The ID token names Eve, so the page asks Ada first.
    ada.get(&node, &with_id_token).await.expect(200);
    // Eve allowed the app when she signed in to it.
    assert_eq!(eve.get(&node, &with_id_token).await.expect(303).header("location"), bye);
    // In a browser that is not signed in, an ID token does not prove who uses it.
    assert_eq!(signed_out.get(&node, &with_id_token).await.expect(303).header("location"), signed_out_page);
}

/// An app without a registration sends silent requests (`prompt=none`) to learn whether its visitor is signed in, and with which `acr`.
#[tokio::test(flavor = "multi_thread")]
async fn silent_request_of_an_unregistered_app_reveals_no_session() {
    let (cluster, server) = dynamic_clients::cluster().await;
    let (node, ada) = dynamic_clients::node_with_browser(&cluster).await;
    let client_id = server.app(dynamic_clients::PATH, &[]);
    let valid = dynamic_clients::request(&server, &client_id);
    let silent = valid.with("redirect_uri", "http://127.0.0.1:4711/callback").with("prompt", "none");
    // Ada's authentication is now older than the `max_age` of the second request, and younger than that of the third.
    cluster.advance(Duration::from_secs(10));
    let requests =
        [silent.clone(), silent.with("max_age", "1"), silent.with("max_age", "99"), silent.with("acr_values", "aal2")];
    for request in &requests {
        for browser in [&Browser::default(), &ada] {
            let answer = browser.authorize(&node, request).await.expect(303);
            assert!(answer.header("location").contains("?error=login_required&"), "{request:?} {answer:?}");
        }
    }
    // Now the app may learn that Ada is signed in. With a redirect URI on her device, it must ask for consent each time.
    dynamic_clients::authorize_with_consent(&node, &ada, &server, &valid).await;
    let answer = ada.authorize(&node, &silent).await.expect(303);
    assert!(answer.header("location").contains("?error=consent_required&"), "{answer:?}");
}

/// Tricks with redirect URIs on loopback addresses, of which only the port may vary (RFC 8252, section 7.3).
#[tokio::test(flavor = "multi_thread")]
async fn loopback_redirect_uri_varies_in_its_port_only() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    let app = AppSettings { redirect_uris: vec!["http://127.0.0.1/cb".to_owned()], ..AppSettings::default() };
    cluster.service_client_with(NewClient { app, ..public("cli") }).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let request = |uri: &str| Request::for_client("cli").with("redirect_uri", uri);
    for uri in ["http://127.0.0.1/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb"] {
        let answer = browser.authorize(&node, &request(uri)).await;
        let (page, _handle) = page_and_handle(&node, &answer);
        assert_eq!(page, "/account/consent", "{uri}");
    }
    for uri in [
        "http://127.0.0.1:80@evil.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "http://evil.example:80/cb",
        "http://127.0.0.1:8080/cb/other",
        "http://127.0.0.1:8080/cb?next=https://evil.example",
        "http://127.0.0.1:8080/cb#",
        "http://127.0.0.1:8080/CB",
        "https://127.0.0.1:8080/cb",
        "http://127.0.0.2:8080/cb",
        "http://127.1:8080/cb",
        "http://2130706433:8080/cb",
        "http://localhost:8080/cb",
        "http://[::1]:8080/cb",
        "http://[::ffff:127.0.0.1]:8080/cb",
        "http://user@127.0.0.1:8080/cb",
        "http://127.0.0.1:99999/cb",
        "http://127.0.0.1:8080\\@evil.example/cb",
    ] {
        let answer = browser.authorize(&node, &request(uri)).await.expect(400);
        assert_eq!(answer.header("location"), "", "{uri}");
    }
}
