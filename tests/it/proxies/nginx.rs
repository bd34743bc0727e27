//! nginx with `auth_request`.

use std::fs;

use super::{Addresses, Proxy, adapt, app::App};
use crate::harness::{
    guard::{self, Guard, Spec},
    test_cluster::TestCluster,
    wait,
};

const INSTALL: &str = "this test needs nginx: `apt-get install nginx` (Debian, Ubuntu), `dnf install nginx` (Fedora), \
                       `apk add nginx` (Alpine), `brew install nginx` (macOS); or run `make test`, which installs it";

#[tokio::test(flavor = "multi_thread")]
async fn nginx_passes_valid_tokens_only() {
    Proxy { start, times_out: true }.check().await;
}

pub(super) fn start(addresses: &Addresses) -> Result<Guard, String> {
    run(
        "nginx/latchkey.conf",
        &[
            ("127.0.0.1:8080", &addresses.latchkey.to_string()),
            ("127.0.0.1:3000", &addresses.app.to_string()),
            ("127.0.0.1:8000", &addresses.listen.to_string()),
        ],
    )
}

/// Starts nginx with a changed file of `examples`; returns its output if it does not start.
pub(crate) fn run(example: &str, changes: &[(&str, &str)]) -> Result<Guard, String> {
    let program = guard::find_programs(&["nginx"], []).ok_or(INSTALL)?.join("nginx");
    let folder = guard::folder("latchkey-nginx-");
    adapt(example, &folder.join("latchkey.conf"), changes);
    let folder_text = folder.to_str().unwrap();
    let settings = folder.join("nginx.conf");
    fs::write(&settings, main_configuration(folder_text)).unwrap();
    Guard::start(&Spec {
        command: &[program.to_str().unwrap(), "-e", "stderr", "-p", folder_text, "-c", settings.to_str().unwrap()],
        stop: "TERM",
        folder: Some(&folder),
        ready: "start worker process ",
        unprivileged: true,
    })
}

/// The configuration that includes the files of `conf.d`, with folders that do not require root.
fn main_configuration(folder: &str) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|name| format!("    {name}_temp_path {folder}/{name};\n")).collect();
    format!(
        "daemon off;\n\
         error_log stderr notice;\n\
         pid {folder}/nginx.pid;\n\
         events {{}}\n\
         http {{\n    \
             access_log off;\n\
             {temporary}    \
             include {folder}/latchkey.conf;\n\
         }}\n"
    )
}

/// `location /recent/` of the example.
#[tokio::test(flavor = "multi_thread")]
async fn nginx_location_for_recent_users_passes_on_the_challenge_of_rfc_9470() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let app = App::start().await;
    let (guard, proxy) = Proxy { start, times_out: true }.run(node.address(), app.address);
    let tokens = node.login("ada").await;
    let passes = async || proxy.get("/recent/orders", &tokens.access).await.status == 200;
    wait::until("the proxy calls Latchkey", passes).await;
    cluster.advance(std::time::Duration::from_secs(301));
    let access = node.refresh(&tokens.refresh).await.expect(200).text_of("access_token");
    let before = app.requests();
    let refused = proxy.get("/recent/orders", &access).await.expect(401);
    let challenge = refused.header("www-authenticate");
    assert!(challenge.contains("error=\"insufficient_user_authentication\", max_age=\"300\""), "{challenge}");
    assert_eq!(app.requests(), before);
    proxy.get("/orders", &access).await.expect(200);
    drop(guard);
    node.stop().await;
}
