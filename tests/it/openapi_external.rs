//! The OpenAPI document and the `/docs` page, checked by openapi-spec-validator, Redocly's linter, schemathesis and Chromium.
//! `make test` installs them (`.ci/install.sh`); without them these tests fail.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// The time after which a program counts as hung.
const MAX_RUN_TIME: Duration = Duration::from_secs(15 * 60);

/// The seed of schemathesis, so that every run sends the same requests.
const SEED: &str = "20261123";

/// Generated test cases per operation, in addition to those that schemathesis derives from the document.
const CASES_PER_OPERATION: &str = "25";

/// Operations that can end the session that schemathesis uses. They run after all others.
const ENDS_SESSION: &str = "^(POST /v1/logout|POST /v1/me/password|DELETE /v1/sessions)$";

/// Operations of service clients, which authenticate by HTTP Basic.
const SERVICE_CLIENT: &str = "^POST /oauth2/";

/// Operations that accept any method, since proxies call them with the method of the original request.
const ANY_METHOD: &str = "^GET /v1/verify$";

/// The program `name` in `TEST_TOOLS_DIR/bin`, or in `target/tools/bin` if the variable is not set.
///
/// Panics if it is missing.
pub(crate) fn tool(name: &str) -> PathBuf {
    let tools = std::env::var_os("TEST_TOOLS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from);
    let path = absolute(&tools.join("bin").join(name));
    assert!(path.exists(), "{} is missing: run `make test`, which installs it", path.display());
    path
}

/// Fails unless the file is a valid OpenAPI document.
pub(crate) fn run_openapi_spec_validator(spec: &Path) {
    succeed(Command::new(tool("openapi-spec-validator")).args(["--validation-errors", "all"]).arg(absolute(spec)));
}

/// Fails if Redocly's recommended rules find an error in the file; warnings pass.
pub(crate) fn run_redocly_lint(spec: &Path) {
    succeed(
        Command::new(tool("redocly"))
            .env("REDOCLY_TELEMETRY", "off")
            .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
            .args(["lint", "--extends=recommended", "--format=stylish"])
            .arg(absolute(spec)),
    );
}

/// Sends valid and invalid requests, generated from the document at `spec_url`, to the service at `base_url`. Fails if a
/// response is a 5xx or differs from the document in status, content type, headers or body.
///
/// Returns the number of operations that got requests and answered them.
///
/// The requests carry `bearer_token`, an access token that must stay valid for some minutes. The last requests end its session. Requests
/// to the endpoints of service clients carry `basic`, a client's credentials in the encoding of HTTP Basic.
pub(crate) fn run_schemathesis(base_url: &str, spec_url: &str, bearer_token: &str, basic: &str) -> usize {
    let special_operations = format!("{ENDS_SESSION}|{SERVICE_CLIENT}|{ANY_METHOD}");
    let (bearer, basic) = (format!("Bearer {bearer_token}"), format!("Basic {basic}"));
    let mut tested = 0;
    // one run for each credential and order: first the operations that need nothing special, last those that end the session
    for (filter, operations, authorization) in [
        ("--exclude-name-regex", special_operations.as_str(), &bearer),
        ("--include-name-regex", SERVICE_CLIENT, &basic),
        ("--include-name-regex", ANY_METHOD, &bearer),
        ("--include-name-regex", ENDS_SESSION, &bearer),
    ] {
        // the check `unsupported_method` expects a 405 for each method that the document lacks
        let excluded_checks: &[&str] =
            if operations == ANY_METHOD { &["--exclude-checks", "unsupported_method"] } else { &[] };
        let output = succeed(
            Command::new(tool("st"))
                .arg("--config-file")
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/schemathesis.toml"))
                .args(["--no-color", "run", spec_url, "--url", base_url])
                .args([filter, operations])
                .args(["--header", &format!("Authorization: {authorization}")])
                .args(excluded_checks)
                .args(["--checks", "all", "--phases", "examples,coverage,fuzzing"])
                .args(["--seed", SEED, "--max-examples", CASES_PER_OPERATION, "--workers", "1"])
                .args(["--generation-database", "none", "--suppress-health-check", "all"])
                .args(["--request-timeout", "30"]),
        );
        let summary = String::from_utf8(output.stdout).expect("schemathesis writes UTF-8");
        let count = summary.lines().find_map(|line| line.trim().strip_prefix("Tested: ")?.parse::<usize>().ok());
        tested += count.unwrap_or_else(|| panic!("no number of operations in {summary}"));
    }
    tested
}

/// A YAML document as JSON, parsed by PyYAML.
pub(crate) fn parse_yaml(text: &str) -> serde_json::Value {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file can be created");
    fs::write(file.path(), text).expect("the file can be written");
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1], encoding='utf-8')), sys.stdout)";
    let output = succeed(Command::new(tool("python")).args(["-c", script]).arg(file.path()));
    serde_json::from_slice(&output.stdout).expect("json.dump writes JSON")
}

/// The page at `url` as HTML, after its scripts have run in a browser that reaches nothing but 127.0.0.1.
pub(crate) fn dump_dom(url: &str) -> String {
    let output = succeed(chromium().args(["--dump-dom", url]));
    String::from_utf8(output.stdout).expect("Chromium writes UTF-8")
}

/// Draws the page at `url` into a PNG file, with the browser of [`dump_dom`].
pub(crate) fn screenshot(url: &str, png: &Path) {
    let mut flag = std::ffi::OsString::from("--screenshot=");
    flag.push(absolute(png));
    succeed(chromium().args([flag.as_os_str(), OsStr::new("--window-size=1280,1600"), OsStr::new(url)]));
    assert!(png.exists(), "Chromium wrote no {}", png.display());
}

/// Chromium without a window, without access to other hosts, and without its sandbox, which does not work for root. It writes the page after
/// 20 seconds of virtual time, which passes faster while the page waits for nothing.
fn chromium() -> Command {
    let mut command = Command::new(tool("chromium"));
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--disable-extensions",
        "--disable-sync",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--user-data-dir=profile",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        "--virtual-time-budget=20000",
    ]);
    command
}

/// Makes the path absolute: each program runs in a folder of its own.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).expect("the path isn't empty and there is a current folder")
}

/// Runs the command in a new empty folder and returns its output.
///
/// Panics with its output if it fails or still runs after [`MAX_RUN_TIME`].
pub(crate) fn succeed(command: &mut Command) -> Output {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be created");
    let shown_command = format!("{command:?}");
    let child = command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // a new process group, by which the program's own children are killed too
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("can't start {shown_command}: {error}"));
    let group = rustix::process::Pid::from_child(&child);

    let (done, result) = mpsc::channel();
    let waiter = thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = result.recv_timeout(MAX_RUN_TIME) else {
        // fails if the program has ended meanwhile
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = waiter.join();
        panic!("killed, since it still ran after {MAX_RUN_TIME:?}: {shown_command}");
    };
    let output = output.unwrap_or_else(|error| panic!("no output of {shown_command}: {error}"));

    assert!(
        output.status.success(),
        "{shown_command}\nended with {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// The committed copy of the OpenAPI document.
fn committed() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    assert!(path.exists(), "{} is missing: run `make openapi`", path.display());
    path
}

#[test]
fn committed_document_is_valid_openapi() {
    run_openapi_spec_validator(&committed());
}

#[test]
fn committed_document_passes_redocly_linter() {
    run_redocly_lint(&committed());
}
