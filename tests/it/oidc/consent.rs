//! Consent: asked once, kept, shown and withdrawn.

use std::time::Duration;

use latchkey::{
    crypto::authorization_code::RequestHandle,
    domain::{app_client::AppSettings, audit::AuditEvent},
    service::{
        authorize::{self, AuthorizationError},
        clients::NewClient,
    },
    store::sql::AuditFilter,
};

use super::{
    Browser, Request, VERIFIER, dynamic_clients, exchange, exchange_with, node_with_ada_and_shop, page_and_handle,
    public, refresh, response_of, sign_in, text, web,
};
use crate::{
    accounts::{NEW_PASSWORD, email, request_reset, reset, verify_address},
    harness::{
        client::PASSWORD,
        test_cluster::{Node, ServiceClient, TestCluster},
    },
};

/// A web client that asks for consent. Its pages show the name "The Forum".
fn app_with_consent(name: &str) -> NewClient {
    let mut client = web(name);
    client.app.asks_consent = true;
    client.app.name = Some("The Forum".to_owned());
    client
}

/// Consents as the page does, and returns the authorization code.
async fn consent(node: &Node, browser: &Browser, handle: &str) -> String {
    browser.consent(node, handle).await;
    let answer = browser.get(node, &format!("/oauth2/authorize?request={handle}")).await;
    response_of(&answer).remove("code").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_is_asked_once_for_each_scope() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    let forum = cluster.service_client_with(app_with_consent("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let request = Request::for_client("forum").with("scope", "openid email");
    let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &request).await);
    assert_eq!(page, "/account/consent");
    let code = consent(&node, &browser, &handle).await;
    exchange(&node, &forum, &code).await.expect(200);
    // The next sign-in gets a code at once, also with `prompt=none`, which allows no page.
    browser.code(&node, &request).await;
    let silent = request.with("prompt", "none");
    browser.code(&node, &silent).await;
    // Another scope, or `prompt=consent`, asks again.
    let other_scope = request.with("scope", "openid profile");
    assert_eq!(page_and_handle(&node, &browser.authorize(&node, &other_scope).await).0, "/account/consent");
    let prompting = request.with("prompt", "consent");
    let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &prompting).await);
    assert_eq!(page, "/account/consent");
    consent(&node, &browser, &handle).await;
    // Another account has allowed nothing.
    node.register("bob").await;
    let bob = Browser::signed_in(&node, "bob").await;
    assert_eq!(page_and_handle(&node, &bob.authorize(&node, &request).await).0, "/account/consent");
}

/// An app gets tokens only for resources (RFC 8707) that the consent page has named.
#[tokio::test(flavor = "multi_thread")]
async fn consent_without_a_resource_covers_no_resource() {
    let (cluster, server) = dynamic_clients::cluster().await;
    let (node, browser) = dynamic_clients::node_with_browser(&cluster).await;
    let client_id = server.app(dynamic_clients::PATH, &[]);
    let without_resource = dynamic_clients::request(&server, &client_id);
    dynamic_clients::authorize_with_consent(&node, &browser, &server, &without_resource).await;
    let with_resource = without_resource.with_another("resource", dynamic_clients::RESOURCE);
    let silent = browser.authorize(&node, &with_resource.with("prompt", "none")).await.expect(303);
    assert!(silent.header("location").contains("?error=consent_required&"), "{silent:?}");
    let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &with_resource).await);
    let page = browser.get(&node, &format!("{page}?request={handle}")).await.expect(200);
    assert!(page.text.contains("mcp.example.com"), "the page names the resource: {}", page.text);
    dynamic_clients::authorize_with_consent(&node, &browser, &server, &with_resource).await;
    for request in [with_resource, without_resource] {
        let silent = browser.authorize(&node, &request.with("prompt", "none")).await.expect(303);
        assert!(silent.header("location").contains("?code="), "{silent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_to_a_resource_does_not_cover_all_audiences_of_the_app() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    let (orders, stock) = ("https://orders.example.com", "https://stock.example.com");
    let audiences = vec![orders.to_owned(), stock.to_owned()];
    cluster.service_client_with(NewClient { audiences, ..app_with_consent("forum") }).await;
    let browser = Browser::signed_in(&node, "ada").await;
    // Without `resource`, a request is for all of the app's audiences.
    let for_all = Request::for_client("forum");
    let (for_orders, for_stock) = (for_all.with("resource", orders), for_all.with("resource", stock));
    let (_, handle) = page_and_handle(&node, &browser.authorize(&node, &for_orders).await);
    consent(&node, &browser, &handle).await;
    browser.code(&node, &for_orders).await;
    for request in [&for_stock, &for_all] {
        assert_eq!(page_and_handle(&node, &browser.authorize(&node, request).await).0, "/account/consent");
    }
    let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &for_all).await);
    let page = browser.get(&node, &format!("{page}?request={handle}")).await.expect(200);
    assert!(page.text.contains("orders.example.com") && page.text.contains("stock.example.com"), "{}", page.text);
    consent(&node, &browser, &handle).await;
    for request in [for_orders, for_stock, for_all] {
        browser.code(&node, &request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_consent_is_an_error_for_the_client() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    cluster.service_client_with(app_with_consent("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let (_, handle) = page_and_handle(&node, &browser.authorize(&node, &Request::for_client("forum")).await);
    let request_handle = RequestHandle::parse(&handle).unwrap();
    let response = authorize::deny(&node.state, &request_handle, AuthorizationError::AccessDenied).await.unwrap();
    let url = response.to_url();
    for parameter in ["error=access_denied", "state=a+state", "iss=https"] {
        assert!(url.contains(parameter), "{url}");
    }
    // the request was answered, so its handle no longer works
    browser.get(&node, &format!("/oauth2/authorize?request={handle}")).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_consent_ends_sessions_of_the_app_and_its_codes() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let forum = cluster.service_client_with(app_with_consent("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let request = Request::for_client("forum").with("scope", "openid offline_access");
    let (_, handle) = page_and_handle(&node, &browser.authorize(&node, &request).await);
    let code = consent(&node, &browser, &handle).await;
    let tokens = exchange(&node, &forum, &code).await.expect(200).json();
    let unused_code = browser.code(&node, &request).await;
    let shop_tokens = sign_in(&node, &browser, &shop, "openid").await;
    let login_tokens = node.login("ada").await;
    let apps = node.get("/v1/me/consents", &login_tokens.access).await.expect(200).json();
    // The shop does not ask for consent, so the user has allowed it no scope.
    let (listed_forum, listed_shop) = (&apps["apps"][0], &apps["apps"][1]);
    assert_eq!(text(listed_forum, "client_id"), "forum");
    assert_eq!(text(listed_forum, "name"), "The Forum");
    assert_eq!(text(listed_forum, "scope"), "openid offline_access");
    assert_eq!(listed_forum["sessions"], 1);
    assert_eq!(text(listed_shop, "client_id"), "shop");
    assert_eq!(listed_shop["scope"], serde_json::Value::Null);
    node.delete("/v1/me/consents/forum", &login_tokens.access).await.expect(204);
    // The forum's session and its unused code have ended. The shop's session continues.
    refresh(&node, &forum, text(&tokens, "refresh_token")).await.expect(400);
    exchange(&node, &forum, &unused_code).await.expect(400);
    // the refused exchange has started a session and ended it
    node.state.audit.flush().await.unwrap();
    let filter = AuditFilter { event: Some(AuditEvent::SessionEnded), ..AuditFilter::default() };
    let ended = node.state.sql.audit(&filter, 100).await.unwrap();
    let ended_by_service =
        ended.iter().filter(|row| row.actor == "service" && row.client_id.as_deref() == Some("forum"));
    assert_eq!(ended_by_service.count(), 1);
    refresh(&node, &shop, text(&shop_tokens, "refresh_token")).await.expect(200);
    assert_eq!(page_and_handle(&node, &browser.authorize(&node, &request).await).0, "/account/consent");
    let repeated = node.delete("/v1/me/consents/forum", &login_tokens.access).await;
    assert_eq!(repeated.problem(), (404, "unknown_app".to_owned()));
    node.stop().await;
}

/// An attacker (a squatter) registers the victim's address `ada@example.com`, and consents to an app of the attacker. If the consent
/// survived, the app would never ask the victim. I13: what another person set up does not survive the verification of an address.
#[tokio::test(flavor = "multi_thread")]
async fn i13_consent_of_a_squatter_does_not_survive_the_reset_of_the_password() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    cluster.service_client_with(app_with_consent("trojan")).await;
    let squatter = Browser::signed_in(&node, "ada").await;
    let request = Request::for_client("trojan");
    let (_, handle) = page_and_handle(&node, &squatter.authorize(&node, &request).await);
    consent(&node, &squatter, &handle).await;
    let silent = request.with("prompt", "none");
    squatter.code(&node, &silent).await;

    let (token, _code) = request_reset(&cluster, &node, "ada").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let victim = Browser::signed_in(&node, "ada").await;
    let response = response_of(&victim.authorize(&node, &silent).await);
    assert_eq!(response.get("error").map(String::as_str), Some("consent_required"), "{response:?}");
    assert_eq!(page_and_handle(&node, &victim.authorize(&node, &request).await).0, "/account/consent");
}

/// The attacker's request reads the session before the victim's reset ends it, and stores the consent afterwards (I13).
#[tokio::test(flavor = "multi_thread")]
async fn i13_consent_of_a_session_that_ended_meanwhile_is_withdrawn() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    cluster.service_client_with(app_with_consent("trojan")).await;
    let squatter = Browser::signed_in(&node, "ada").await;
    let (_, handle) = page_and_handle(&node, &squatter.authorize(&node, &Request::for_client("trojan")).await);
    let session_before_reset = squatter.live_session(&node).await.unwrap();
    let (token, _code) = request_reset(&cluster, &node, "ada").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let request_handle = RequestHandle::parse(&handle).unwrap();
    authorize::consent(&node.state, &request_handle, &session_before_reset).await.unwrap();
    let stored = node.state.sql.consents(session_before_reset.session.account).await.unwrap();
    assert!(stored.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn reported_password_change_withdraws_recent_consents_and_keeps_older_ones() {
    let mut cluster = TestCluster::new();
    cluster.config.account.undo_window = Duration::from_hours(1);
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    // At the report, the consents are 82 hours and two hours old. The report withdraws those of the last 72 hours, for which its link works,
    // because `account.undo_window` is shorter.
    for (app, hours_afterwards) in [("forum", 80), ("trojan", 2)] {
        cluster.service_client_with(app_with_consent(app)).await;
        let browser = Browser::signed_in(&node, "ada").await;
        let (_, handle) = page_and_handle(&node, &browser.authorize(&node, &Request::for_client(app)).await);
        consent(&node, &browser, &handle).await;
        cluster.advance(Duration::from_hours(hours_afterwards));
    }
    let thief = node.login("ada").await;
    node.change_password(&thief.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    // The owner reports the change with the link of the notice.
    let report_token = cluster.mail_to(&email("ada"), "password_changed").await.token().to_owned();
    node.post("/v1/account/secure", serde_json::json!({ "token": report_token })).await.expect(204);
    let owner = Browser::signed_in(&node, "ada").await;
    owner.code(&node, &Request::for_client("forum")).await;
    let (page, _) = page_and_handle(&node, &owner.authorize(&node, &Request::for_client("trojan")).await);
    assert_eq!(page, "/account/consent");
    node.state.audit.flush().await.unwrap();
    let limit = 1000;
    let rows = node.state.sql.audit(&AuditFilter::default(), limit).await.unwrap();
    let withdrawn: Vec<_> = rows.iter().filter(|row| row.event == "consent_withdrawn").collect();
    assert_eq!(withdrawn.len(), 1, "{withdrawn:?}");
}

/// Any program on the device could pose as a client on a loopback address (RFC 8252, section 8.6). Its redirect URI may have any port.
#[tokio::test(flavor = "multi_thread")]
async fn public_client_on_loopback_address_asks_before_its_first_sign_in() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    let app = AppSettings { redirect_uris: vec!["http://127.0.0.1/cb".to_owned()], ..AppSettings::default() };
    cluster.service_client_with(NewClient { app, ..public("cli") }).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let request = Request::for_client("cli").with("redirect_uri", "http://127.0.0.1:49152/cb");
    let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &request).await);
    assert_eq!(page, "/account/consent");
    browser.consent(&node, &handle).await;
    let uri_with_other_port = "http://127.0.0.1:1/cb";
    let new_code = async || {
        let answer = browser.authorize(&node, &request.with("redirect_uri", uri_with_other_port)).await.expect(303);
        let (_, code) = answer.header("location").split_once("?code=").unwrap_or_else(|| panic!("{answer:?}"));
        code.split('&').next().unwrap().to_owned()
    };
    let cli = ServiceClient { id: "cli".to_owned(), secret: String::new() };
    exchange_with(&node, &cli, &new_code().await, uri_with_other_port, VERIFIER).await.expect(200);
    // If the consent is withdrawn before the exchange, the exchange fails.
    let code = new_code().await;
    let login_tokens = node.login("ada").await;
    node.delete("/v1/me/consents/cli", &login_tokens.access).await.expect(204);
    exchange_with(&node, &cli, &code, uri_with_other_port, VERIFIER).await.expect(400);
}
