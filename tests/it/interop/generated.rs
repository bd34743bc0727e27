//! Clients that generators create from the OpenAPI document of a running node. Each test compiles a client and uses it for a
//! registration, a login, a refresh, the list of sessions and a logout.

use std::{fs, path::Path, process::Command};

use serde_json::json;
use tempfile::TempDir;

use super::{command, folder};
use crate::{
    harness::{client::PASSWORD, test_cluster::TestCluster},
    openapi_external::{succeed, tool},
};

/// Calls `generate` with a folder that has `openapi.json`, a copy of tests/interop, and a link to the installed npm packages. Then runs
/// `program`, which uses the generated client. It is a file of tests/interop, or is compiled from one.
async fn check(generate: fn(&Path), program: &'static str) {
    let mut cluster = TestCluster::new();
    let node = cluster.node_at_issuer().await;
    let folder = folder();
    let document = node.get_anonymously("/openapi.json").await.expect(200);
    fs::write(folder.path().join("openapi.json"), document.text).unwrap();
    let settings = json!({ "issuer": cluster.config.issuer, "password": PASSWORD });
    let run = move |folder: TempDir| {
        generate(folder.path());
        succeed(&mut command(&folder, program, &settings));
    };
    tokio::task::spawn_blocking(move || run(folder)).await.unwrap();
    node.stop().await;
}

/// Runs a program of an npm package of tests/tools. If an argument begins with `./`, replaces the `./` by the folder.
fn run_node(program: &str, arguments: &[&str], folder: &Path) {
    let script = folder.join("node_modules").join(program);
    // `succeed` runs the program in an empty folder of its own, where it would resolve relative paths.
    let paths = arguments.iter().map(|argument| match argument.strip_prefix("./") {
        Some(path) => folder.join(path).display().to_string(),
        None => (*argument).to_owned(),
    });
    succeed(Command::new(tool("node")).arg(script).args(paths));
}

fn run_tsc(arguments: &[&str], folder: &Path) {
    let strict = ["--strict", "--skipLibCheck", "--target", "es2022", "--noUncheckedIndexedAccess"];
    // By default, the compiler would look for types in the empty folder in which `succeed` runs it.
    let types = ["--types", "node", "--typeRoots", "./node_modules/@types"];
    run_node("typescript/bin/tsc", &[&strict[..], &types, arguments].concat(), folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn openapi_python_client_generates_a_working_client() {
    let generate = |folder: &Path| {
        let (document, settings) = (folder.join("openapi.json"), folder.join("settings.yaml"));
        // By default, the generator formats the client with a tool that need not be installed.
        fs::write(&settings, "post_hooks: []\n").unwrap();
        let mut generator = Command::new(tool("python"));
        generator.args(["-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]);
        generator.arg("--path").arg(document).arg("--config").arg(settings);
        succeed(generator.arg("--output-path").arg(folder.join("latchkey_api")));
        // checks the syntax of all modules: the program imports only some
        succeed(Command::new(tool("python")).args(["-m", "compileall", "-q"]).arg(folder.join("latchkey_api")));
    };
    check(generate, "generated_python.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hey_api_openapi_ts_generates_a_working_client() {
    let generate = |folder: &Path| {
        let arguments = ["-i", "./openapi.json", "-o", "./latchkey-api", "-c", "@hey-api/client-fetch"];
        run_node("@hey-api/openapi-ts/bin/run.js", &arguments, folder);
        let compile =
            ["--module", "commonjs", "--moduleResolution", "node10", "--outDir", "./", "./generated_hey_api.ts"];
        run_tsc(&compile, folder);
    };
    check(generate, "generated_hey_api.js").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openapi_typescript_generates_types_for_openapi_fetch() {
    let generate = |folder: &Path| {
        run_node("openapi-typescript/bin/cli.js", &["./openapi.json", "-o", "./schema.ts"], folder);
        run_tsc(&["--module", "nodenext", "./generated_openapi_fetch.mts"], folder);
    };
    check(generate, "generated_openapi_fetch.mjs").await;
}
