//! Client ID metadata documents: apps whose `client_id` is the URL of a document that describes them.

use std::{collections::BTreeMap, time::Duration};

use latchkey::{
    crypto::authorization_code::RequestHandle,
    domain::{client::SpaceSeparated, limit::Quota},
    service::{
        authorize::{self, AuthorizeStep},
        clients::NewClient,
        dynamic_clients,
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Browser, Request, claims, error_of, page_and_handle, text};
use crate::{
    harness::{
        client::{Answer, PASSWORD},
        document_server::{DocumentServer, Reply},
        test_cluster::{Node, TestCluster},
    },
    pages::visitor::{Visitor, actions},
};

/// The resource that apps may request tokens for.
pub(super) const RESOURCE: &str = "https://mcp.example.com/mcp";
/// The path of an app's document.
pub(super) const PATH: &str = "/apps/helper.json";

/// A cluster, and a server of the test from which its nodes fetch the documents of apps.
pub(super) async fn cluster() -> (TestCluster, DocumentServer) {
    let mut cluster = TestCluster::new();
    let server = DocumentServer::start().await;
    server.allow(&mut cluster.config.dynamic_clients);
    cluster.config.dynamic_clients.scopes =
        SpaceSeparated::parse(["openid", "profile", "email", "offline_access", "mcp:tools"]).unwrap();
    cluster.config.dynamic_clients.resources = SpaceSeparated::parse([RESOURCE]).unwrap();
    (cluster, server)
}

/// A node with an account, and a browser that has signed in to it.
pub(super) async fn node_with_browser(cluster: &TestCluster) -> (Node, Browser) {
    let node = cluster.node().await;
    node.register("ada").await;
    let browser = Browser::signed_in(&node, "ada").await;
    (node, browser)
}

/// An authorization request of the app, which returns to its own host.
pub(super) fn request(server: &DocumentServer, client_id: &str) -> Request {
    Request::for_client(client_id).with("redirect_uri", &server.url("/callback")).with("scope", "openid")
}

/// The parameters of the redirect to the app.
#[track_caller]
pub(super) fn callback_parameters(server: &DocumentServer, answer: &Answer) -> BTreeMap<String, String> {
    let location = answer.header("location");
    assert!(location.starts_with(&server.url("/callback?")), "{answer:?}");
    url::Url::parse(location).unwrap().query_pairs().into_owned().collect()
}

/// A visitor of the pages with the browser's session.
fn visitor_of(node: &Node, browser: &Browser) -> Visitor {
    let mut visitor = Visitor::new(node);
    let (name, value) = browser.cookie_parts();
    visitor.cookies.insert(name.to_owned(), value.to_owned());
    visitor
}

/// Sends an authorization request, consents to it, and returns the code.
pub(super) async fn authorize_with_consent(
    node: &Node,
    browser: &Browser,
    server: &DocumentServer,
    request: &Request,
) -> String {
    let (page, handle) = page_and_handle(node, &browser.authorize(node, request).await);
    assert_eq!(page, "/account/consent");
    browser.consent(node, &handle).await;
    let answer = browser.get(node, &format!("/oauth2/authorize?request={handle}")).await;
    callback_parameters(server, &answer).remove("code").unwrap()
}

/// Calls the token endpoint as a public client.
pub(super) async fn token_as(node: &Node, client_id: &str, form: &[(&str, &str)]) -> Answer {
    let form: Vec<_> = form.iter().copied().chain([("client_id", client_id)]).collect();
    node.send(node.request(Method::POST, "/oauth2/token").form(&form)).await
}

/// Exchanges a code as an app without a secret.
pub(super) async fn exchange(node: &Node, server: &DocumentServer, client_id: &str, code: &str) -> Answer {
    let redirect_uri = server.url("/callback");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", redirect_uri.as_str()),
        ("code_verifier", super::VERIFIER),
    ];
    token_as(node, client_id, &form).await
}

pub(super) async fn refresh(node: &Node, client_id: &str, tokens: &Value) -> Answer {
    let form = [("grant_type", "refresh_token"), ("refresh_token", text(tokens, "refresh_token"))];
    token_as(node, client_id, &form).await
}

/// Records the user's consent to an app, and returns its tokens.
pub(super) async fn sign_in(node: &Node, browser: &Browser, server: &DocumentServer, client_id: &str) -> Value {
    let code = authorize_with_consent(node, browser, server, &request(server, client_id)).await;
    exchange(node, server, client_id, &code).await.expect(200).json()
}

/// Asserts that the answer is a page that refuses a request, and does not redirect. Returns its text.
#[track_caller]
pub(super) fn expect_refusal_page(answer: &Answer) -> &str {
    assert_eq!((answer.status.as_u16(), answer.header("location")), (400, ""), "{answer:?}");
    answer.text.as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn user_signs_in_through_the_pages_to_an_app_that_nobody_registered() {
    let (cluster, server) = cluster().await;
    let node = cluster.node().await;
    node.register("ada").await;
    let client_id = server.app(PATH, &[]);
    let mut visitor = Visitor::new(&node);
    let path = |answer: &Answer| answer.header("location").replace(&node.state.config.issuer, "");
    let form_action = |page: &Answer, prefix: &str| {
        actions(page).into_iter().find(|action| action.starts_with(prefix)).unwrap_or_else(|| panic!("{page:?}"))
    };
    let query = request(&server, &client_id).query();
    let sent = visitor.open(&format!("/oauth2/authorize?{query}")).await.expect(303);
    let page = visitor.open(&path(&sent)).await.expect(200);
    let fields = [("identifier", "ada"), ("password", PASSWORD)];
    let signed_in = visitor.submit(&form_action(&page, "/account/sign-in"), &fields).await.expect(303);
    let to_consent = visitor.open(&path(&signed_in)).await.expect(303);
    let page = visitor.open(&path(&to_consent)).await.expect(200);
    assert!(page.text.contains("The Helper"), "{}", page.text);
    assert!(page.text.contains("does not know this app. Continue only if you trust localhost."), "{}", page.text);
    // the redirect URI is an address of the app's own host, not of a program on the user's device
    assert!(!page.text.contains("runs on your device"), "{}", page.text);
    let allowed = visitor.submit(&form_action(&page, "/account/consent"), &[("decision", "allow")]).await.expect(303);
    let back = visitor.open(&path(&allowed)).await.expect(303);
    let code = callback_parameters(&server, &back).remove("code").unwrap();
    exchange(&node, &server, &client_id, &code).await.expect(200);
    assert_eq!(server.requests(PATH), 1, "the document is cached");
}

#[tokio::test(flavor = "multi_thread")]
async fn url_is_the_client_id_in_tokens_and_lists() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let other_node = cluster.node().await;
    let client_id = server.app(PATH, &[("post_logout_redirect_uris", json!([server.url("/bye")]))]);
    let service = cluster
        .service_client_with(NewClient {
            name: "mcp-server".to_owned(),
            audiences: vec![RESOURCE.to_owned()],
            ..NewClient::default()
        })
        .await;
    let request =
        request(&server, &client_id).with("scope", "openid email mcp:tools").with_another("resource", RESOURCE);
    let code = authorize_with_consent(&node, &browser, &server, &request).await;
    // The other node has neither fetched the document nor handled the consent.
    let tokens = exchange(&other_node, &server, &client_id, &code).await.expect(200).json();
    let access = claims(text(&tokens, "access_token"));
    assert_eq!(access["client_id"], client_id.as_str());
    assert_eq!(access["aud"], json!([RESOURCE, cluster.config.issuer]));
    assert_eq!(claims(text(&tokens, "id_token"))["aud"], client_id.as_str());
    let introspect = node
        .request(Method::POST, "/oauth2/introspect")
        .form(&[("token", text(&tokens, "access_token"))])
        .basic_auth(&service.id, Some(&service.secret));
    let active = node.send(introspect).await.expect(200).json();
    assert_eq!(active["active"], true);
    assert_eq!(active["client_id"], client_id.as_str());
    let refreshed = refresh(&node, &client_id, &tokens).await.expect(200).json();
    assert_eq!(claims(text(&refreshed, "access_token"))["client_id"], client_id.as_str());
    assert_eq!(claims(text(&refreshed, "id_token"))["aud"], client_id.as_str());

    let login_tokens = node.login("ada").await;
    let sessions = node.get("/v1/sessions", &login_tokens.access).await.expect(200).json();
    let sessions = sessions["sessions"].as_array().unwrap();
    let app_session = sessions.iter().find(|session| !session["client_id"].is_null()).unwrap();
    assert_eq!(app_session["client_id"], client_id.as_str());
    assert_eq!(app_session["app"], "The Helper");
    let consents = other_node.get("/v1/me/consents", &login_tokens.access).await.expect(200).json();
    let app = &consents["apps"][0];
    assert_eq!(app["client_id"], client_id.as_str());
    assert_eq!(app["sessions"], 1);

    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("id_token_hint", text(&refreshed, "id_token"));
    query.append_pair("client_id", &client_id);
    query.append_pair("post_logout_redirect_uri", &server.url("/bye"));
    let bye = browser.get(&node, &format!("/oauth2/logout?{}", query.finish())).await.expect(303);
    assert_eq!(bye.header("location"), server.url("/bye"));
    assert_eq!(error_of(&refresh(&other_node, &client_id, &refreshed).await), (400, "invalid_grant".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_to_an_app_is_withdrawn_by_its_url_and_prune_then_deletes_the_app() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let client_id = server.app(PATH, &[]);
    let tokens = sign_in(&node, &browser, &server, &client_id).await;
    // An app that returns to its own host asks for consent once. A program on the user's device can pose as any app that returns to a
    // loopback address, so such an app asks at each sign-in.
    let again = browser.authorize(&node, &request(&server, &client_id)).await;
    assert!(callback_parameters(&server, &again).contains_key("code"));
    let on_device = request(&server, &client_id).with("redirect_uri", "http://127.0.0.1:4711/callback");
    for _ in 0..2 {
        let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &on_device).await);
        assert_eq!(page, "/account/consent");
        let page = visitor_of(&node, &browser).open(&format!("{page}?request={handle}")).await.expect(200);
        assert!(page.text.contains("runs on your device"), "{}", page.text);
        browser.consent(&node, &handle).await;
    }
    // `prune` keeps an app for 24 hours after an account last allowed it, and longer while an account allows it.
    cluster.advance(Duration::from_hours(25));
    assert_eq!(dynamic_clients::prune(&node.state).await.unwrap(), 0, "an account still allows the app");
    let login_tokens = node.login("ada").await;
    let encoded: String = url::form_urlencoded::byte_serialize(client_id.as_bytes()).collect();
    node.delete(&format!("/v1/me/consents/{encoded}"), &login_tokens.access).await.expect(204);
    let limit = 10;
    assert_eq!(node.state.sql.dynamic_clients(limit).await.unwrap().len(), 1);
    // No account allows the app any more.
    assert_eq!(dynamic_clients::prune(&node.state).await.unwrap(), 1);
    assert_eq!(error_of(&refresh(&node, &client_id, &tokens).await).0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_with_invalid_document_or_redirect_uri_is_refused_on_a_page() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    // Each document differs from a valid one in one member. `Null` removes the member.
    for (number, change) in [
        ("client_id", json!("https://trusted.example/client.json")),
        ("client_id", Value::Null),
        ("redirect_uris", json!(["https://evil.example/callback"])),
        ("redirect_uris", json!([server.url("/callback"), "https://evil.example/callback"])),
        ("redirect_uris", Value::Null),
        ("client_secret", json!("a secret that everyone can read")),
        ("token_endpoint_auth_method", json!("client_secret_basic")),
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("jwks", json!("no set")),
    ]
    .into_iter()
    .enumerate()
    {
        let client_id = server.app(&format!("/invalid{number}"), std::slice::from_ref(&change));
        let answer = browser.authorize(&node, &request(&server, &client_id)).await;
        assert!(expect_refusal_page(&answer).contains("its content is not valid"), "{change:?} {answer:?}");
    }
    // a member that is present twice
    server.set(
        "/twice",
        Reply::with("200 OK", &["Content-Type: application/json"], br#"{"client_id":"a","client_id":"b"}"#),
    );
    let answer = browser.authorize(&node, &request(&server, &server.url("/twice"))).await;
    assert!(expect_refusal_page(&answer).contains("it is not valid JSON"), "{answer:?}");
    // This document is valid, and the redirect URI of the request is not in it.
    let client_id = server.app(PATH, &[]);
    for elsewhere in [
        "https://evil.example/callback".to_owned(),
        format!("{}.evil.example/callback", server.origin()),
        format!("{}@evil.example/callback", server.origin()),
        server.url("/callback/../evil"),
        server.url("/callback?next=https://evil.example"),
        server.url("/callback#x"),
        "http://127.0.0.1@evil.example/callback".to_owned(),
        "http://127.0.0.1.evil.example/callback".to_owned(),
    ] {
        let request = request(&server, &client_id).with("redirect_uri", &elsewhere);
        let answer = browser.authorize(&node, &request).await;
        assert!(expect_refusal_page(&answer).contains("not registered for the client"), "{elsewhere} {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn url_that_is_not_in_canonical_form_is_refused_as_client_id() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    server.app(PATH, &[]);
    let port = server.port;
    for client_id in [
        format!("https://127.0.0.1:{port}{PATH}"),
        // 127.0.0.1 as a number
        format!("https://2130706433:{port}{PATH}"),
        format!("https://[::ffff:127.0.0.1]:{port}{PATH}"),
        format!("https://user@localhost:{port}{PATH}"),
        format!("https://user:pass@localhost:{port}{PATH}"),
        format!("https://LOCALHOST:{port}{PATH}"),
        format!("https://localhost.:{port}{PATH}"),
        format!("https://localhost:{port}/apps/../apps/helper.json"),
        format!("https://localhost:{port}/apps/%2e%2e/apps/helper.json"),
        format!("https://localhost:{port}{PATH}#fragment"),
        // longer than 512 bytes
        format!("https://localhost:{port}/{}", "x".repeat(512)),
    ] {
        let answer = browser.authorize(&node, &request(&server, &client_id)).await;
        assert!(expect_refusal_page(&answer).contains("its address is not allowed"), "{client_id} {answer:?}");
    }
    // Without `https://` at its start, the text is not taken for the URL of a document.
    for client_id in [format!("http://localhost:{port}{PATH}"), format!("HTTPS://localhost:{port}{PATH}")] {
        let answer = browser.authorize(&node, &request(&server, &client_id)).await;
        assert!(expect_refusal_page(&answer).contains("names no client"), "{client_id} {answer:?}");
    }
    assert_eq!(server.requests(PATH), 0);
    // The page does not reveal why a fetch failed.
    let unreachable = browser.authorize(&node, &request(&server, "https://localhost:1/client.json")).await;
    let missing = browser.authorize(&node, &request(&server, &server.url("/missing"))).await;
    assert_eq!(expect_refusal_page(&unreachable), expect_refusal_page(&missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_disables_an_app_by_its_url() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let client_id = server.app(PATH, &[]);
    let tokens = sign_in(&node, &browser, &server, &client_id).await;
    let sql = cluster.sql().await;
    latchkey::service::clients::disable(&cluster.clock, &sql, &client_id).await.unwrap();
    // A node uses the stored row of an app for 5 seconds without reading it again.
    let row_lifetime_passed = Duration::from_secs(6);
    cluster.advance(row_lifetime_passed);
    assert_eq!(error_of(&refresh(&node, &client_id, &tokens).await), (401, "invalid_client".to_owned()));
    expect_refusal_page(&browser.authorize(&node, &request(&server, &client_id)).await);
    latchkey::service::clients::enable(&cluster.clock, &sql, &client_id).await.unwrap();
    cluster.advance(row_lifetime_passed);
    refresh(&node, &client_id, &tokens).await.expect(200);
    sql.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_fetches_and_of_apps_is_limited() {
    let (mut cluster, server) = cluster().await;
    cluster.config.limits.client_document_per_address = Some(Quota { count: 3, window: Duration::from_mins(5) });
    cluster.config.dynamic_clients.max_per_account = 2;
    let (node, browser) = node_with_browser(&cluster).await;
    for number in 0..2 {
        let client_id = server.app(&format!("/app{number}"), &[]);
        sign_in(&node, &browser, &server, &client_id).await;
    }
    // The third document may still be fetched, but the account may allow no third app.
    let third = server.app("/app2", &[]);
    let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &request(&server, &third)).await);
    let mut visitor = visitor_of(&node, &browser);
    let page = visitor.open(&format!("{page}?request={handle}")).await.expect(200);
    let action = actions(&page).into_iter().find(|action| action.starts_with("/account/consent")).unwrap();
    let refused = visitor.submit(&action, &[("decision", "allow")]).await.expect(409);
    assert!(refused.text.contains("too many apps"), "{}", refused.text);
    let limit = 10;
    assert_eq!(node.state.sql.dynamic_clients(limit).await.unwrap().len(), 2);
    // A request for a cached document does not count against the quota of fetches.
    browser.authorize(&node, &request(&server, &third)).await.expect(303);
    let fourth = server.app("/app3", &[]);
    let limited = browser.authorize(&node, &request(&server, &fourth)).await;
    assert_eq!(limited.status, 429, "{limited:?}");
    assert_eq!(server.requests("/app3"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_off_by_default_and_limited_to_allowed_hosts() {
    let (mut cluster, server) = cluster().await;
    let client_id = server.app(PATH, &[]);
    // documents are on, and the host of the document is not allowed
    cluster.config.dynamic_clients.allowed_hosts = vec![".example.com".to_owned()];
    let (node, browser) = node_with_browser(&cluster).await;
    let answer = browser.authorize(&node, &request(&server, &client_id)).await;
    assert!(expect_refusal_page(&answer).contains("its host is not allowed"), "{answer:?}");
    let metadata = node.get_anonymously("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["client_id_metadata_document_supported"], true);
    node.stop().await;
    // the default settings
    cluster.config.dynamic_clients = TestCluster::new().config.dynamic_clients;
    let node = cluster.node().await;
    let answer = browser.authorize(&node, &request(&server, &client_id)).await;
    assert!(expect_refusal_page(&answer).contains("names no client"), "{answer:?}");
    let metadata = node.get_anonymously("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata.get("client_id_metadata_document_supported"), None);
    assert_eq!(metadata.get("registration_endpoint"), None);
    assert_eq!(server.requests(PATH), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn app_gets_tokens_only_for_the_resource_that_it_names() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let client_id = server.app(PATH, &[("scope", json!("mcp:tools admin"))]);
    let with_resource = request(&server, &client_id).with("scope", "mcp:tools").with_another("resource", RESOURCE);
    let code = authorize_with_consent(&node, &browser, &server, &with_resource).await;
    let tokens = exchange(&node, &server, &client_id, &code).await.expect(200).json();
    let access = claims(text(&tokens, "access_token"));
    assert_eq!(access["aud"], RESOURCE);
    assert_eq!(access["scope"], "mcp:tools");
    // Without a resource, the token is for Latchkey only, not for all resources that such apps may request.
    let without_resource = with_resource.without("resource");
    let answer = browser.authorize(&node, &without_resource).await;
    let code = callback_parameters(&server, &answer).remove("code").unwrap();
    let tokens = exchange(&node, &server, &client_id, &code).await.expect(200).json();
    assert_eq!(claims(text(&tokens, "access_token"))["aud"], json!(cluster.config.issuer));
    // `admin` is in the app's document, but not in `dynamic_clients.scopes`.
    for (name, value, error) in
        [("resource", "https://other.example/mcp", "invalid_target"), ("scope", "admin", "invalid_scope")]
    {
        let answer = browser.authorize(&node, &without_resource.with(name, value)).await;
        assert_eq!(callback_parameters(&server, &answer)["error"], error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_and_refresh_token_of_one_app_are_refused_for_another() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let honest = server.app(PATH, &[]);
    let attacker = server.app("/attacker.json", &[]);
    sign_in(&node, &browser, &server, &attacker).await;
    let tokens = sign_in(&node, &browser, &server, &honest).await;
    let answer = browser.authorize(&node, &request(&server, &honest)).await;
    let response = callback_parameters(&server, &answer);
    // `iss` shows an app that uses several providers which of them has issued the code (RFC 9207).
    assert_eq!(response["iss"], cluster.config.issuer);
    let stolen = exchange(&node, &server, &attacker, &response["code"]).await;
    assert_eq!(error_of(&stolen), (400, "invalid_grant".to_owned()));
    assert_eq!(error_of(&refresh(&node, &attacker, &tokens).await), (400, "invalid_grant".to_owned()));
    refresh(&node, &honest, &tokens).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn app_can_ask_for_consent_although_the_user_has_consented_before() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let client_id = server.app(PATH, &[]);
    sign_in(&node, &browser, &server, &client_id).await;
    let request = request(&server, &client_id).with("prompt", "consent");
    let (_, handle) = page_and_handle(&node, &browser.authorize(&node, &request).await);
    let handle = RequestHandle::parse(&handle).unwrap();
    let session = browser.live_session(&node).await.unwrap();
    let pending = authorize::pending(&node.state, &handle, Some(&session)).await.unwrap();
    assert_eq!(pending.step, Some(AuthorizeStep::Consent));
}
