//! Third-party-initiated login (OpenID Connect Core 1.0, section 4): the account page opens an app, which starts a sign-in at
//! Latchkey.

use latchkey::service::clients::NewClient;
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use super::{
    Browser, CALLBACK, Request,
    dynamic_clients::{self, PATH},
    error_of, node_with_ada_and_shop, response_of, sign_in, web,
};
use crate::{
    binary::{Service, run},
    harness::{client::PASSWORD, test_cluster::TestCluster},
    pages::visitor::Visitor,
};

const START: &str = "https://forum.example.com/start?tenant=1";
const HOME: &str = "https://forum.example.com/home";

/// An app that the account page can open: it has an `initiate_login_uri`. The app [`shop`] has none.
fn forum() -> NewClient {
    let mut client = web("forum");
    client.app.name = Some("The Forum".to_owned());
    client.app.initiate_login_uri = Some(START.to_owned());
    client.app.client_uri = Some(HOME.to_owned());
    client
}

/// The links of the page that open apps: those with the parameter `iss`.
fn open_links(page: &str) -> Vec<Url> {
    let links = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&"));
    // A relative link is no URL, and is skipped.
    links.filter_map(|link| Url::parse(&link).ok()).filter(|link| link.as_str().contains("iss=")).collect()
}

/// The parameters in the query of a URL, in their order.
fn parameters(url: &Url) -> Vec<(String, String)> {
    url.query_pairs().into_owned().collect()
}

/// Owned copies, to compare with [`parameters`].
fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn account_page_opens_app_that_starts_a_sign_in() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let forum = cluster.service_client_with(forum()).await;
    let mut ada = Visitor::new(&node);
    ada.open("/account/sign-in").await.expect(200);
    ada.submit("/account/sign-in", &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
    // the visitor's browser, in the form that `sign_in` takes
    let browser = Browser {
        cookie: Some(format!("__Host-latchkey-browser={}", ada.cookies["__Host-latchkey-browser"])),
        session: None,
    };
    sign_in(&node, &browser, &forum, "openid email").await;
    sign_in(&node, &browser, &shop, "openid email").await;
    let page = ada.open("/account/devices").await.expect(200);
    assert!(page.text.contains("aria-label=\"Open The Forum\""), "{}", page.text);
    let [link] = &open_links(&page.text)[..] else { panic!("one app can be opened: {}", page.text) };
    assert!(link.as_str().starts_with(START), "{link}");
    let issuer = node.state.config.issuer.as_str();
    let expected = [("tenant", "1"), ("iss", issuer), ("login_hint", "ada@example.com"), ("target_link_uri", HOME)];
    assert_eq!(parameters(link), pairs(&expected));
    // The app sends the browser to that issuer, with the hint (section 4).
    let request = Request::for_client("forum").with("login_hint", "ada@example.com");
    let back = ada.open(&format!("/oauth2/authorize?{}", request.query())).await.expect(303);
    assert!(response_of(&back).contains_key("code"));
}

#[tokio::test(flavor = "multi_thread")]
async fn login_hint_goes_only_to_apps_that_may_know_the_address() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let forum = cluster.service_client_with(forum()).await;
    let browser = Browser::signed_in(&node, "ada").await;
    // Without the scope `email`, an app may not know the address.
    sign_in(&node, &browser, &forum, "openid profile").await;
    sign_in(&node, &browser, &shop, "openid").await;
    let tokens = node.login("ada").await;
    let apps = async || node.get("/v1/me/consents", &tokens.access).await.expect(200).json()["apps"].clone();
    let listed = apps().await;
    let [listed_forum, listed_shop] = &listed.as_array().unwrap()[..] else { panic!("two apps") };
    assert_eq!(listed_forum["client_id"], "forum");
    assert_eq!(listed_shop["open_url"], Value::Null);
    let link = |app: &Value| Url::parse(app["open_url"].as_str().unwrap()).unwrap();
    let issuer = node.state.config.issuer.as_str();
    assert_eq!(parameters(&link(listed_forum)), pairs(&[("tenant", "1"), ("iss", issuer), ("target_link_uri", HOME)]));
    sign_in(&node, &browser, &forum, "openid email").await;
    let link = link(&apps().await[0]);
    assert!(link.as_str().contains("login_hint=ada%40example.com"), "{link}");
    // A disabled app can't be opened.
    let sql = cluster.sql().await;
    latchkey::service::clients::disable(&cluster.clock, &sql, "forum").await.unwrap();
    sql.close().await;
    cluster.reload_clients().await;
    assert_eq!(apps().await[0]["open_url"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn app_without_registration_is_opened_at_the_address_in_its_metadata() {
    let (mut cluster, server) = dynamic_clients::cluster().await;
    cluster.config.dynamic_clients.registration = true;
    let (node, browser) = dynamic_clients::node_with_browser(&cluster).await;
    let start = server.url("/start");
    let client_id = server.app(PATH, &[("initiate_login_uri", json!(start))]);
    dynamic_clients::sign_in(&node, &browser, &server, &client_id).await;
    let tokens = node.login("ada").await;
    let apps = async || node.get("/v1/me/consents", &tokens.access).await.expect(200).json()["apps"].clone();
    let issuer = node.state.config.issuer.as_str();
    let link = Url::parse(apps().await[0]["open_url"].as_str().unwrap()).unwrap();
    assert!(link.as_str().starts_with(&format!("{start}?")), "{link}");
    assert_eq!(parameters(&link), pairs(&[("iss", issuer)]));
    let sql = cluster.sql().await;
    latchkey::service::clients::disable(&cluster.clock, &sql, &client_id).await.unwrap();
    sql.close().await;
    // A node reads every five seconds whether an app without registration is disabled.
    cluster.advance(std::time::Duration::from_secs(6));
    assert_eq!(apps().await[0]["open_url"], Value::Null);
    // A URL on another host is refused, as is one without https (the module `oidcc-3rd_party-init-login-nohttps` of the OpenID
    // conformance suite).
    let refused_uris = ["https://evil.example/start", "http://localhost/start", "javascript:alert(1)"];
    for (number, uri) in refused_uris.iter().enumerate() {
        // a path of its own, because a node caches documents by URL
        let client_id = server.app(&format!("/refused{number}"), &[("initiate_login_uri", json!(uri))]);
        let answer = browser.authorize(&node, &dynamic_clients::request(&server, &client_id)).await;
        assert!(dynamic_clients::expect_refusal_page(&answer).contains("its content is not valid"), "{uri} {answer:?}");
        let metadata = json!({ "redirect_uris": [CALLBACK], "initiate_login_uri": uri });
        let refused = node.send(node.request(Method::POST, "/oauth2/register").json(&metadata)).await;
        assert_eq!(error_of(&refused), (400, "invalid_client_metadata".to_owned()), "{uri}");
    }
    // a URL on the host of the redirect URI
    let metadata = json!({ "redirect_uris": [CALLBACK], "initiate_login_uri": "https://app.example.com/start" });
    let registered = node.send(node.request(Method::POST, "/oauth2/register").json(&metadata)).await.expect(201).json();
    assert_eq!(registered["initiate_login_uri"], metadata["initiate_login_uri"]);
}

/// The modules `oidcc-3rd_party-init-login` and `oidcc-3rd_party-init-login-nohttps` of the OpenID conformance suite, for the command
/// line: `client add` accepts an https URL, which `client show` shows, and refuses any other.
#[tokio::test(flavor = "multi_thread")]
async fn registration_keeps_initiate_login_uri_and_refuses_one_without_https() {
    let folder = tempfile::tempdir().unwrap();
    // the first start creates the database
    drop(Service::start(folder.path()));
    let add = |name: &str, kind: &str, uri: &str| {
        let mut arguments = vec!["client", "add", name, "--kind", kind, "--initiate-login-uri", uri];
        // a service client has no redirect URI
        if kind != "service" {
            arguments.extend(["--redirect-uri", CALLBACK]);
        }
        run(folder.path(), &arguments)
    };
    assert!(add("app", "web", START).status.success());
    let shown = run(folder.path(), &["client", "show", "app", "--json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["initiate_login_uri"], START);
    let shown = run(folder.path(), &["client", "show", "app"]).stdout;
    assert!(String::from_utf8(shown).unwrap().contains(START));
    for (kind, uri, message) in [
        ("web", "http://forum.example.com/start", "must be https"),
        ("public", "com.example.app:/start", "must be https"),
        ("web", "javascript:alert(1)", "must be https"),
        ("web", "https://forum.example.com/start#x", "must have no fragment"),
        ("service", START, "a service signs nobody in"),
    ] {
        let refused = add("other", kind, uri);
        let errors = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{uri}");
        assert!(errors.contains(message), "{uri}: {errors}");
    }
    // the options for the other links of an app, which pages show
    for option in ["--client-uri", "--logo-uri", "--policy-uri", "--tos-uri"] {
        let arguments =
            ["client", "add", "other", "--kind", "web", "--redirect-uri", CALLBACK, option, "javascript:alert(1)"];
        let refused = run(folder.path(), &arguments);
        assert!(!refused.status.success(), "{option}");
    }
}
