//! `clients/browser` and `examples/browser`: unit tests in Node, and the example in Chromium against a real node.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{copy, project};
use crate::{
    harness::{guard, test_cluster::TestCluster},
    openapi_external::{succeed, tool},
};

/// The packages that are pinned in tests/tools.
fn packages() -> PathBuf {
    let modules = tool("node").parent().and_then(std::path::Path::parent).unwrap().join("node/node_modules");
    std::path::absolute(modules).unwrap()
}

/// Builds a copy of the client; the package is in `dist`.
fn build() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["package.json", "tsconfig.json", "src", "tests", "scripts"] {
        copy(&project("clients/browser").join(part), &folder.path().join(part));
    }
    succeed(Command::new(tool("tsc")).arg("-p").arg(folder.path()));
    folder
}

#[test]
fn unit_tests_pass() {
    let client = build();
    let mut command = Command::new(tool("node"));
    succeed(command.arg("--test").arg(client.path().join("tests/client.test.mjs")));
}

#[test]
fn types_are_generated_from_the_openapi_document() {
    let folder = tempfile::tempdir().unwrap();
    let generated = folder.path().join("api.ts");
    let mut command = Command::new(tool("node"));
    succeed(
        command
            .arg(project("clients/browser/scripts/generate.mjs"))
            .arg(project("openapi/openapi.json"))
            .arg(&generated),
    );
    let committed = fs::read_to_string(project("clients/browser/src/api.ts")).unwrap();
    assert_eq!(fs::read_to_string(generated).unwrap(), committed, "run `npm run generate` in clients/browser");
}

/// Ends the page's server with the test.
struct PageServer(Child);

impl PageServer {
    fn start(dist: &TempDir, port: u16) -> Self {
        let mut command = Command::new(tool("node"));
        command.arg(project("examples/browser/serve.mjs")).arg(port.to_string()).stdout(Stdio::piped());
        command.env("LATCHKEY_BROWSER_DIST", dist.path().join("dist"));
        let mut server = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("http://localhost:"), "{line}");
        Self(server)
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn example_in_chromium_survives_tabs_reloads_lost_responses_and_signs_out_everywhere() {
    let client = build();
    let port = guard::free_port();
    let mut cluster = TestCluster::new();
    cluster.config.http.allowed_origins = vec![format!("http://localhost:{port}")];
    let node = cluster.node().await;
    node.account("ada").await;
    let _page = PageServer::start(&client, port);

    // Node resolves modules from the script's folder
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("browser_client.mjs");
    fs::copy(project("tests/interop/browser_client.mjs"), &script).unwrap();
    symlink(packages(), folder.path().join("node_modules")).unwrap();
    let api = node.base.replace("127.0.0.1", "localhost");
    tokio::task::spawn_blocking(move || {
        let mut command = Command::new(tool("node"));
        command.arg(script).args([api, format!("http://localhost:{port}")]).env("CHROMIUM", tool("chromium"));
        let output = succeed(&mut command);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("cookie: ok") && text.contains("bearer: ok"), "{text}");
    })
    .await
    .unwrap();
}
