//! Tests nginx with `auth_request`, in the configuration of `examples/nginx`.

use std::fs;

use super::{Addresses, Proxy, copy_example};
use crate::harness::guard::{self, Guard, Spec};

const INSTALL: &str = "this test needs nginx: `apt-get install nginx` (Debian, Ubuntu), `dnf install nginx` (Fedora), \
                       `apk add nginx` (Alpine), `brew install nginx` (macOS); or run `make test`, which installs it";

#[tokio::test(flavor = "multi_thread")]
async fn nginx_passes_valid_tokens_only() {
    Proxy { start, has_short_timeout: true }.check().await;
}

pub(super) fn start(addresses: &Addresses) -> Result<Guard, String> {
    // the addresses of the example, and those of this test
    run(
        "nginx/latchkey.conf",
        &[
            ("127.0.0.1:8080", &addresses.latchkey.to_string()),
            ("127.0.0.1:3000", &addresses.app.to_string()),
            ("127.0.0.1:8000", &addresses.listen.to_string()),
        ],
    )
}

/// Starts nginx with a file of `examples`, in which each first text of `changes` is replaced by the second. Returns nginx's output if
/// nginx does not start.
pub(crate) fn run(example: &str, changes: &[(&str, &str)]) -> Result<Guard, String> {
    let program = guard::find_programs(&["nginx"], []).ok_or(INSTALL)?.join("nginx");
    let folder = guard::folder("latchkey-nginx-");
    copy_example(example, &folder.join("latchkey.conf"), changes);
    let folder_text = folder.to_str().unwrap();
    let main_file = folder.join("nginx.conf");
    fs::write(&main_file, main_configuration(folder_text)).unwrap();
    Guard::start(&Spec {
        // -e: the log before the configuration is read; -p: the folder of relative paths; -c: the main configuration
        command: &[program.to_str().unwrap(), "-e", "stderr", "-p", folder_text, "-c", main_file.to_str().unwrap()],
        stop: "TERM",
        folder: Some(&folder),
        ready: "start worker process ",
        unprivileged: true,
    })
}

/// The main configuration of nginx. It includes the example as a distribution's configuration includes the files of `conf.d`, and uses
/// folders that do not require root.
fn main_configuration(folder: &str) -> String {
    let temporary_folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary_paths: String =
        temporary_folders.iter().map(|name| format!("    {name}_temp_path {folder}/{name};\n")).collect();
    format!(
        "daemon off;\n\
         error_log stderr notice;\n\
         pid {folder}/nginx.pid;\n\
         events {{}}\n\
         http {{\n    \
             access_log off;\n\
             {temporary_paths}    \
             include {folder}/latchkey.conf;\n\
         }}\n"
    )
}
