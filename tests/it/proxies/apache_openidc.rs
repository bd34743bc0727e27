//! Tests Apache with mod_auth_openidc: the recipe of docs/openid-connect.md signs a user in through Latchkey's own pages.

use std::{collections::BTreeMap, fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};

use latchkey::{
    domain::{
        app_client::{AppSettings, ClientKind},
        clock::Clock,
    },
    service::clients::NewClient,
};
use reqwest::Method;

use super::{apache, app::App, values};
use crate::{
    docs::code_blocks,
    harness::{
        certificates,
        client::{Answer, Client, PASSWORD},
        guard,
        test_cluster::{ServiceClient, TestCluster},
        wait,
    },
    pages::visitor::{Visitor, actions},
};

/// The recipe of the document, with the test's addresses and secret.
fn recipe(issuer: &str, client: &ServiceClient, app: &str) -> String {
    let mut recipe = code_blocks("docs/openid-connect.md", "apache").remove(0);
    for (printed, actual) in [
        ("https://auth.example.com", issuer),
        ("https://app.example.com", app),
        ("OIDCClientID apache", &format!("OIDCClientID {}", client.id)),
        ("lk_cs_…", &client.secret),
    ] {
        assert!(recipe.contains(printed), "{printed} is not in the recipe");
        recipe = recipe.replace(printed, actual);
    }
    recipe
}

/// A virtual host on this port.
fn virtual_host(port: u16, settings: &str) -> String {
    format!("Listen 127.0.0.1:{port}\n<VirtualHost 127.0.0.1:{port}>\n{settings}\n</VirtualHost>\n")
}

/// The settings of a virtual host that terminates TLS for a node: the module accepts only an https issuer.
fn tls_settings(folder: &Path, node: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "SSLEngine on\nSSLCertificateFile {folder}/server.pem\nSSLCertificateKeyFile {folder}/server.key\nProxyPass / http://{node}/"
    )
}

/// A browser that uses the app behind Apache.
struct AppBrowser {
    client: Client,
    cookies: BTreeMap<String, String>,
}

impl AppBrowser {
    fn new(site: &str) -> Self {
        Self { client: Client::new(site.to_owned()), cookies: BTreeMap::new() }
    }

    async fn get(&mut self, url: &str) -> Answer {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = url.strip_prefix(&self.client.base).unwrap_or(url);
        let request = self.client.request(Method::GET, path).header("cookie", cookies.join("; "));
        // Without this header, the module treats the request as one of a script, and answers 401.
        let request = request.header("accept", "text/html");
        let answer = self.client.send(request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mod_auth_openidc_signs_in_through_the_pages_and_signs_out() {
    let folder = tempfile::tempdir().unwrap();
    // Apache's workers run as another user
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    certificates::create(folder.path());
    let (auth_port, app_port) = (guard::free_port(), guard::free_port());
    let issuer = format!("https://127.0.0.1:{auth_port}");
    let site = format!("http://127.0.0.1:{app_port}");
    let mut cluster = TestCluster::new();
    // the module uses the system clock, so the node must issue tokens by it
    cluster.clock = Clock::System;
    cluster.config.issuer = issuer.clone();
    let node = cluster.node().await;
    let account = node.register("ada").await.text_of("id");
    let new = NewClient {
        name: "apache".to_owned(),
        kind: ClientKind::Web,
        app: AppSettings {
            redirect_uris: vec![format!("{site}/oidc")],
            post_logout_redirect_uris: vec![format!("{site}/bye")],
            ..AppSettings::default()
        },
        ..NewClient::default()
    };
    let client = cluster.service_client_with(new).await;
    let app = App::start().await;

    let authority = format!("OIDCCABundlePath {}/ca.pem", folder.path().display());
    // the module itself serves `/oidc`
    let proxy_pass = format!("ProxyPass /oidc !\nProxyPass / http://{}/", app.address);
    let protected = format!("{}\n{authority}\n{proxy_pass}", recipe(&issuer, &client, &site));
    let settings =
        virtual_host(auth_port, &tls_settings(folder.path(), node.address())) + &virtual_host(app_port, &protected);
    let apache_process = apache::start(&["socache_shmcb", "ssl", "auth_openidc"], &settings).unwrap();
    let mut browser = AppBrowser::new(&site);
    let probe = browser.client.clone();
    wait::until("Apache answers", async || probe.request(Method::GET, "/oidc").send().await.is_ok()).await;

    // A page of the app redirects to the sign-in, which redirects back. `browser` and `ada` are the same browser, at the app and at
    // Latchkey.
    let orders = format!("{site}/orders");
    let to_provider = browser.get(&orders).await.expect(302);
    let mut ada = Visitor::new(&node);
    let path_of = |url: &str| url.strip_prefix(&issuer).unwrap_or(url).to_owned();
    let to_sign_in = ada.open(&path_of(to_provider.header("location"))).await.expect(303);
    let page = ada.open(&path_of(to_sign_in.header("location"))).await.expect(200);
    let form = actions(&page).into_iter().find(|action| action.starts_with("/account/sign-in?")).unwrap();
    let signed_in = ada.submit(&form, &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
    let back = ada.open(&path_of(signed_in.header("location"))).await.expect(303);
    let callback = back.header("location").to_owned();
    assert!(callback.starts_with(&format!("{site}/oidc?code=")), "{callback}");
    let returned = browser.get(&callback).await;
    assert_eq!(returned.status.as_u16(), 302, "{}", apache_process.log());
    assert_eq!(returned.header("location"), orders);

    // The app receives its user's identity from the module, and not from the browser.
    let received = browser.get(&orders).await.expect(200).json();
    assert_eq!(values(&received, "oidc_claim_sub"), [account.as_str()], "{received}");
    assert_eq!(values(&received, "oidc_claim_email"), ["ada@example.com"]);
    assert_eq!(values(&received, "oidc_claim_iss"), [issuer.as_str()]);
    let mut stranger = AppBrowser::new(&site);
    stranger.get(&callback).await; // the code is used already, and this browser has not started the sign-in
    stranger.get(&orders).await.expect(302);

    // A sign-out from the app ends the browser's session at Latchkey.
    let to_logout = browser.get(&format!("{site}/oidc?logout={site}/bye")).await.expect(302);
    let location = to_logout.header("location").to_owned();
    assert!(location.starts_with(&format!("{issuer}/oauth2/logout?id_token_hint=")), "{location}");
    let bye = ada.open(&path_of(&location)).await.expect(303);
    assert_eq!(bye.header("location"), format!("{site}/bye"));
    browser.get(&orders).await.expect(302);
    ada.open("/account").await.expect(303);
    drop(apache_process);
}
