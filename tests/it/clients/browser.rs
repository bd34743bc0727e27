//! `clients/browser` and `examples/browser`: unit tests in Node.js, and the example in Chromium against a real node of Latchkey.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use reqwest::Method;
use tempfile::TempDir;

use super::{
    app::RUN_GROUP,
    checkout::{Checkout, replace},
    copy,
    npm_registry::NpmRegistry,
    project,
    service::ServiceProcess,
};
use crate::{
    binary,
    docs::code_blocks,
    harness::{
        guard::{self, Guard, Spec},
        test_cluster::TestCluster,
    },
    openapi_external::{succeed, tool},
};

/// The installed Node.js packages, whose versions are pinned in tests/tools.
fn packages() -> PathBuf {
    let modules = tool("node").parent().and_then(Path::parent).unwrap().join("node/node_modules");
    std::path::absolute(modules).unwrap()
}

/// Builds a copy of the client, whose package is then in `dist`.
pub fn build() -> TempDir {
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

#[tokio::test(flavor = "multi_thread")]
async fn readme_program_in_node_signs_in_once_and_then_resumes_from_its_storage() {
    let client = build();
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let folder = tempfile::tempdir().unwrap();
    let modules = folder.path().join("node_modules");
    fs::create_dir(&modules).unwrap();
    symlink(client.path(), modules.join("latchkey-browser")).unwrap();
    let program = code_blocks("clients/browser/README.md", "js").pop().unwrap();
    fs::write(folder.path().join("program.mjs"), replace(&program, "http://localhost:8080", &node.base)).unwrap();
    let run = || {
        // `succeed` runs a command in a new folder, and the program keeps its tokens in the folder in which it runs
        let mut command = Command::new("sh");
        command.args(["-c", "cd \"$0\" && exec \"$1\" program.mjs"]).arg(folder.path()).arg(tool("node"));
        let output = tokio::task::block_in_place(|| succeed(&mut command));
        String::from_utf8(output.stdout).unwrap()
    };
    // the program prints the number of the account's sessions last
    assert_eq!(run(), "signed in ada@example.com 1\n");
    assert_eq!(run(), "resumed ada@example.com 1\n");
    assert_eq!(run(), "resumed ada@example.com 1\n");
    // this test's session stays and the program's ends, so the program signs in again: the account then has two sessions
    let tokens = node.login("ada").await;
    let end = node.request(Method::DELETE, "/v1/sessions?keep_current=true").bearer_auth(&tokens.access);
    node.send(end).await.expect(200);
    assert_eq!(run(), "signed in ada@example.com 2\n");
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

/// The server of the example's page. Ends when dropped.
pub struct PageServer(Child);

impl PageServer {
    /// Serves the plain example on this port.
    pub fn start(dist: &TempDir, port: u16) -> Self {
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
        // the results do not matter: the server may have ended already
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
    node.register("ada").await;
    let _page = PageServer::start(&client, port);
    drive(&node.base, port, "browser_client.mjs", &CLIENT_CHECKS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn react_example_starts_as_printed_and_passes_in_chromium() {
    const README: &str = "examples/browser/react/README.md";
    let port = guard::free_port();
    let service = ServiceProcess::start_with(&settings_with_required_factor(port));
    service.client().register("ada").await;
    let registry = NpmRegistry::start().await;
    let npm_cache = tempfile::tempdir().unwrap();
    let parts = [
        "clients/browser/package.json",
        "clients/browser/tsconfig.json",
        "clients/browser/src",
        "examples/browser/react",
    ];
    let checkout = Checkout::new(&parts, &service, &registry.environment(npm_cache.path()));

    // all commands but the last install the example, the last one serves it
    let [commands] = &code_blocks(README, "sh")[..] else { panic!("{README} has one block of commands") };
    let (install_commands, serve_command) = commands.trim_end().rsplit_once('\n').unwrap();
    let folder = checkout.path("examples/browser/react");
    tokio::task::block_in_place(|| checkout.run(&folder, install_commands));
    let serve_command = replace(serve_command, "localhost:3000", &format!("localhost:{port}"));
    let serve_script = format!("cd '{}'\n{serve_command}", folder.display());
    let variables: Vec<String> = checkout.environment().iter().map(|(name, value)| format!("{name}={value}")).collect();
    // RUN_GROUP also ends the processes that npm starts. The first `sh` after RUN_GROUP is its `$0`.
    let mut command = vec!["env"];
    command.extend(variables.iter().map(String::as_str));
    command.extend(["sh", "-c", RUN_GROUP, "sh", "sh", "-e", "-c", &serve_script]);
    let spec = Spec { command: &command, stop: "TERM", folder: None, ready: "http://", unprivileged: false };
    let _page = tokio::task::block_in_place(|| Guard::start(&spec)).unwrap_or_else(|error| panic!("{error}"));
    drive(&service.client().base, port, "browser_client.mjs", &CLIENT_CHECKS).await;
    drive(&service.client().base, port, "passkeys_browser.mjs", &PASSKEY_CHECKS).await;
    // admins must set up a second factor when they sign in: see the service's settings above
    for name in ["eve", "bob"] {
        service.client().register(name).await;
        let email = format!("{name}@example.com");
        let output = binary::run(service.folder(), &["user", "roles", &email, "--add", "admin"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // all but `step-up`, since the clock of this service cannot be moved
    drive(&service.client().base, port, "factors_browser.mjs", &FACTOR_CHECKS[..4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_the_documents_runs_as_printed_in_chromium() {
    let client = build();
    let port = guard::free_port();
    let service = ServiceProcess::start_with(&settings_with_required_factor(port));
    for name in ["ada", "bob", "carol"] {
        service.client().register(name).await;
    }
    let output = binary::run(service.folder(), &["user", "roles", "bob@example.com", "--add", "admin"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let _page = PageServer::start(&client, port);
    let repository = project("").display().to_string();
    let api = service.client().base.replace("127.0.0.1", "localhost");
    let arguments = vec![api, format!("http://localhost:{port}"), repository];
    drive_at(arguments, "documents_browser.mjs", &["quick start", "client", "passkeys"]).await;
}

/// Settings for a page on this port, where admins must set up a second factor as soon as they sign in.
fn settings_with_required_factor(port: u16) -> String {
    format!(
        "http.allowed_origins = [\"http://localhost:{port}\"]\nfactors.required = \"admin\"\nfactors.grace = \"0s\"\n"
    )
}

/// The parts of `browser_client.mjs`: how the refresh token travels.
const CLIENT_CHECKS: [&str; 2] = ["cookie", "bearer"];

/// The parts of `passkeys_browser.mjs`.
pub const PASSKEY_CHECKS: [&str; 6] = ["dialog", "conditional", "two devices", "second step", "removed", "plain key"];

/// The parts of `factors_browser.mjs`. `step-up` needs a clock that the test can move.
pub const FACTOR_CHECKS: [&str; 5] = ["enrolment", "sign-in", "recovery", "required", "step-up"];

/// Runs a script's checks of the page on `port`, as users of the service at `api`. The script prints `PART: ok` for each part.
pub async fn drive(api: &str, port: u16, script: &'static str, parts: &[&str]) {
    let later = None;
    drive_until_later(api, port, script, parts, later).await;
}

/// As [`drive`]. When the script prints `later`, calls `later`, which moves the clock, and then lets the script continue.
pub async fn drive_until_later(
    api: &str,
    port: u16,
    script: &'static str,
    parts: &[&str],
    later: Option<Box<dyn FnOnce() + Send>>,
) {
    // on the same site as the page, so that the browser sends the API's cookies
    let api = api.replace("127.0.0.1", "localhost");
    run(vec![api, format!("http://localhost:{port}")], script, parts, later).await;
}

/// Runs a script's checks with these arguments. The script prints `PART: ok` for each part.
pub(super) async fn drive_at(arguments: Vec<String>, script: &'static str, parts: &[&str]) {
    let later = None;
    run(arguments, script, parts, later).await;
}

/// Runs a script of `tests/interop` in Node.js, and requires that each part succeeds.
async fn run(arguments: Vec<String>, script: &'static str, parts: &[&str], later: Option<Box<dyn FnOnce() + Send>>) {
    // Node.js resolves modules from the script's folder, so the script is copied beside a link to the packages
    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join(script);
    fs::copy(project(&format!("tests/interop/{script}")), &copied).unwrap();
    symlink(packages(), folder.path().join("node_modules")).unwrap();
    let (status, text) = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(tool("node"));
        command.arg(copied).args(arguments).env("CHROMIUM", tool("chromium"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if later.is_some() {
            // the script runs its part `step-up`, which prints `later`
            command.env("STEP_UP", "1");
        }
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut later = later;
        let mut text = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "later" {
                let later = later.take().expect("the script prints `later` once");
                later();
                input.write_all(b"\n").unwrap();
            }
            text.push_str(&line);
            text.push('\n');
        }
        (child.wait().unwrap(), text)
    })
    .await
    .unwrap();
    assert!(status.success(), "{script}: {status}: {text}");
    for part in parts {
        assert!(text.contains(&format!("{part}: ok")), "{part}: {text}");
    }
}
