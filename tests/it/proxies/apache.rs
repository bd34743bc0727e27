//! Apache with mod_oauth2: the first recipe of docs/apache.md.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use reqwest::Method;

use super::{app::App, values};
use crate::harness::{
    client::Client,
    guard::{self, Guard, Spec},
    test_cluster::{ServiceClient, TestCluster},
    wait,
};

const INSTALL: &str = "this test needs Apache with mod_oauth2 and mod_auth_openidc: `apt-get install apache2-bin \
                       libapache2-mod-oauth2 libapache2-mod-auth-openidc` (Debian, Ubuntu); or run `make test`, which installs it";
const MODULES: &str = "/usr/lib/apache2/modules";

/// The recipe of the document, with the test's addresses and secret.
fn recipe(issuer: &str, client: &ServiceClient, app: &str) -> String {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/apache.md")).unwrap();
    let mut recipe = document.split("```apache\n").nth(1).unwrap().split("\n```").next().unwrap().to_owned();
    for (printed, actual) in [
        ("https://auth.example.com", issuer),
        ("http://127.0.0.1:3000", app),
        ("introspect.ssl_verify=true", "introspect.ssl_verify=false"),
        ("client_id=apache", &format!("client_id={}", client.id)),
        ("SECRET", &client.secret),
    ] {
        assert!(recipe.contains(printed), "{printed} is not in the recipe");
        recipe = recipe.replace(printed, actual);
    }
    recipe
}

/// Starts Apache with `modules`, the modules that every configuration needs, and `settings`.
pub(super) fn start(modules: &[&str], settings: &str) -> Result<Guard, String> {
    let program = guard::find_programs(&["apache2"], []).expect(INSTALL).join("apache2");
    let folder = guard::folder("latchkey-apache-");
    // The worker processes run as another user, and must be able to read the folder.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let base = ["mpm_event", "authn_core", "authz_core", "authz_user", "env", "headers", "proxy", "proxy_http"];
    let load = |name: &&str| {
        let file = Path::new(MODULES).join(format!("mod_{name}.so"));
        assert!(file.exists(), "{} is missing: {INSTALL}", file.display());
        format!("LoadModule {name}_module {}\n", file.display())
    };
    let modules: String = base.iter().chain(modules).map(load).collect();
    let (path, file) = (folder.display(), folder.join("httpd.conf"));
    let text = format!(
        "ServerName localhost\nServerRoot {path}\nDefaultRuntimeDir {path}\nPidFile {path}/pid\nUser www-data\nGroup www-data\n\
         ErrorLog /dev/stderr\nLogLevel notice\n{modules}{settings}\n"
    );
    fs::write(&file, text).unwrap();
    Guard::start(&Spec {
        command: &[program.to_str().unwrap(), "-D", "FOREGROUND", "-f", file.to_str().unwrap()],
        stop: "TERM",
        folder: Some(&folder),
        ready: "resuming normal operations",
        unprivileged: false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_recipe_refuses_token_after_logout() {
    let mut cluster = TestCluster::new();
    // Apache uses the system clock, too.
    cluster.clock = latchkey::domain::clock::Clock::System;
    let node = cluster.node_at_issuer().await;
    let client = cluster.service_client("apache").await;
    let app = App::start().await;
    let recipe = recipe(&cluster.config.issuer, &client, &format!("http://{}", app.address));
    let port = guard::free_port();
    let guard = start(&["oauth2"], &format!("Listen 127.0.0.1:{port}\n{recipe}")).unwrap();

    let account = node.register("ada").await.text_of("id");
    let (tokens, other) = (node.login("ada").await, node.login("ada").await);
    let apache = Client::new(format!("http://127.0.0.1:{port}"));
    // An empty `access` sends no token.
    let get = async |access: &str| {
        let request = apache.request(Method::GET, "/orders").header("X-Auth-Subject", "forged");
        apache.send(if access.is_empty() { request } else { request.bearer_auth(access) }).await
    };
    wait::until("Apache answers", async || get("").await.status == 401).await;
    let received = get(&tokens.access).await.expect(200).json();
    assert_eq!(values(&received, "x-auth-subject"), [account.as_str()], "{received}");
    for name in ["authorization", "oauth2_claim_access_token"] {
        assert!(values(&received, name).is_empty(), "{received}");
    }
    let before = app.requests();
    for wrong in ["", "x", &format!("{}x", tokens.access), &tokens.refresh] {
        get(wrong).await.expect(401);
    }
    node.logout(&tokens.refresh).await.expect(204);
    get(&tokens.access).await.expect(401);
    assert_eq!(app.requests(), before);
    get(&other.access).await.expect(200);
    drop(guard);
    node.stop().await;
}
