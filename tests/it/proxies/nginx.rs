//! nginx with `auth_request`.

use std::fs;

use super::{Addresses, Proxy, adapt};
use crate::harness::guard::{self, Guard, Spec};

const INSTALL: &str = "this test needs nginx: `apt-get install nginx` (Debian, Ubuntu), `dnf install nginx` (Fedora), \
                       `apk add nginx` (Alpine), `brew install nginx` (macOS); or run `make test`, which installs it";

#[tokio::test(flavor = "multi_thread")]
async fn nginx_lets_only_the_signed_in_pass() {
    Proxy { start, minds_silence: true }.check().await;
}

fn start(addresses: &Addresses) -> Result<Guard, String> {
    run(
        "nginx/latchkey.conf",
        &[
            ("127.0.0.1:8080", &addresses.latchkey.to_string()),
            ("127.0.0.1:3000", &addresses.app.to_string()),
            ("127.0.0.1:8000", &addresses.listen.to_string()),
        ],
    )
}

/// Starts nginx with a file of `examples`, in which something is changed; says why it doesn't start.
pub(crate) fn run(example: &str, changes: &[(&str, &str)]) -> Result<Guard, String> {
    let program = guard::find_programs(&["nginx"], []).ok_or(INSTALL)?.join("nginx");
    let folder = guard::folder("latchkey-nginx-");
    adapt(example, &folder.join("latchkey.conf"), changes);
    let folder_text = folder.to_str().unwrap();
    let settings = folder.join("nginx.conf");
    fs::write(&settings, around(folder_text)).unwrap();
    Guard::start(&Spec {
        command: &[program.to_str().unwrap(), "-e", "stderr", "-p", folder_text, "-c", settings.to_str().unwrap()],
        stop: "TERM",
        folder: Some(&folder),
        ready: "start worker process ",
        unprivileged: true,
    })
}

/// What stands around the files of `conf.d` on every machine, here without a place that needs root.
fn around(folder: &str) -> String {
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places: String = places.iter().map(|place| format!("    {place}_temp_path {folder}/{place};\n")).collect();
    format!(
        "daemon off;\n\
         error_log stderr notice;\n\
         pid {folder}/nginx.pid;\n\
         events {{}}\n\
         http {{\n    \
             access_log off;\n\
             {places}    \
             include {folder}/latchkey.conf;\n\
         }}\n"
    )
}
