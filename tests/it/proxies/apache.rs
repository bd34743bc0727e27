//! Tests Apache with mod_oauth2, in the configuration of the first recipe of docs/apache.md.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use reqwest::Method;

use super::{app::App, values};
use crate::{
    docs::code_blocks,
    harness::{
        client::Client,
        guard::{self, Guard, Spec},
        test_cluster::{ServiceClient, TestCluster},
        wait,
    },
};

const INSTALL: &str = "this test needs Apache with mod_oauth2 and mod_auth_openidc: `apt-get install apache2-bin \
                       libapache2-mod-oauth2 libapache2-mod-auth-openidc` (Debian, Ubuntu); or run `make test`, which installs it";
const MODULES_FOLDER: &str = "/usr/lib/apache2/modules";

/// The recipe of the document, with the test's addresses and secret.
fn recipe(issuer: &str, client: &ServiceClient, app: &str) -> String {
    let mut recipe = code_blocks("docs/apache.md", "apache").remove(0);
    for (printed, actual) in [
        ("https://auth.example.com", issuer),
        ("http://127.0.0.1:3000", app),
        // the test's issuer has no TLS
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
    let base_modules = ["mpm_event", "authn_core", "authz_core", "authz_user", "env", "headers", "proxy", "proxy_http"];
    let load_line = |name: &str| {
        let file = Path::new(MODULES_FOLDER).join(format!("mod_{name}.so"));
        assert!(file.exists(), "{} is missing: {INSTALL}", file.display());
        format!("LoadModule {name}_module {}\n", file.display())
    };
    let load_lines: String = base_modules.iter().chain(modules).copied().map(load_line).collect();
    let path = folder.display();
    let file = folder.join("httpd.conf");
    let text = format!(
        "ServerName localhost\nServerRoot {path}\nDefaultRuntimeDir {path}\nPidFile {path}/pid\nUser www-data\nGroup www-data\n\
         ErrorLog /dev/stderr\nLogLevel notice\n{load_lines}{settings}\n"
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
    // Apache uses the system clock, so the node must issue tokens by it.
    cluster.clock = latchkey::domain::clock::Clock::System;
    let node = cluster.node_at_issuer().await;
    let client = cluster.service_client("apache").await;
    let app = App::start().await;
    let recipe = recipe(&cluster.config.issuer, &client, &format!("http://{}", app.address));
    let port = guard::free_port();
    let apache_process = start(&["oauth2"], &format!("Listen 127.0.0.1:{port}\n{recipe}")).unwrap();

    let account = node.register("ada").await.text_of("id");
    let tokens = node.login("ada").await;
    let other_session = node.login("ada").await;
    let apache = Client::new(format!("http://127.0.0.1:{port}"));
    let get = async |access: Option<&str>| {
        let mut request = apache.request(Method::GET, "/orders").header("X-Auth-Subject", "forged");
        if let Some(access) = access {
            request = request.bearer_auth(access);
        }
        apache.send(request).await
    };
    wait::until("Apache answers", async || get(None).await.status == 401).await;
    let received = get(Some(&tokens.access)).await.expect(200).json();
    // the id that Apache has verified, in place of the forged one
    assert_eq!(values(&received, "x-auth-subject"), [account.as_str()], "{received}");
    // The app gets no copy of the token.
    for name in ["authorization", "oauth2_claim_access_token"] {
        assert!(values(&received, name).is_empty(), "{received}");
    }
    let requests_before = app.requests();
    let damaged = format!("{}x", tokens.access);
    for wrong in [None, Some("x"), Some(damaged.as_str()), Some(tokens.refresh.as_str())] {
        get(wrong).await.expect(401);
    }
    node.logout(&tokens.refresh).await.expect(204);
    get(Some(&tokens.access)).await.expect(401);
    assert_eq!(app.requests(), requests_before, "no refused request reaches the app");
    get(Some(&other_session.access)).await.expect(200);
    // stops Apache before the node that it calls
    drop(apache_process);
}
