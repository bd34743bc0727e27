//! The pages in Chromium: a journey, and every state of every page checked by axe-core in both themes.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use latchkey::pages::{Frame, views::render_samples};

use super::cluster;
use crate::openapi_external::{succeed, tool};

/// Runs a script of `tests/interop` with the packages that `tests/tools` installs. Returns its output.
async fn run(script: &'static str, arguments: Vec<String>) -> String {
    let folder = tempfile::tempdir().unwrap();
    // Node resolves modules from the script's folder, so a copy of the script gets a link to the packages beside it.
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
    let copied = folder.path().join(script);
    fs::copy(original, &copied).unwrap();
    // the programs are in `bin`, and the packages in `node`
    let tools = tool("node").parent().and_then(Path::parent).unwrap().to_owned();
    let modules = tools.join("node/node_modules");
    symlink(std::path::absolute(modules).unwrap(), folder.path().join("node_modules")).unwrap();
    tokio::task::spawn_blocking(move || {
        let mut command = Command::new(tool("node"));
        command.arg(copied).args(arguments).env("CHROMIUM", tool("chromium"));
        String::from_utf8(succeed(&mut command).stdout).unwrap()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_registers_verifies_signs_in_and_signs_out() {
    let mut cluster = cluster();
    let node = cluster.node_at_localhost().await;
    let base = node.state.config.issuer.clone();
    let mails = cluster.folder().join("mail").display().to_string();
    // the clock of the test, by which the script computes one-time codes
    let now = cluster.clock.now().as_secs().to_string();
    let output = run("pages_journey.mjs", vec![base, mails, now]).await;
    assert!(output.ends_with("journey: ok\n"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_of_every_page_is_accessible_and_fits_320_pixels() {
    let mut cluster = cluster();
    let node = cluster.node_at_localhost().await;
    let samples = tempfile::tempdir().unwrap();
    let pages = node.state.pages.as_ref().unwrap();
    for (suffix, with_errors) in [("", false), ("-failed", true)] {
        let frame =
            Frame { path: "/account/sign-in".into(), account: Some("ann@example.com".into()), ..Frame::default() };
        for (name, html) in render_samples(pages, &frame, with_errors).unwrap() {
            fs::write(samples.path().join(format!("{name}{suffix}.html")), html).unwrap();
        }
    }
    let mut arguments = vec![node.state.config.issuer.clone(), samples.path().display().to_string()];
    // the folder for screenshots of every state, for a developer who sets the variable
    if let Ok(screenshots) = std::env::var("PAGES_SCREENSHOTS") {
        arguments.push(screenshots);
    }
    let output = run("pages_states.mjs", arguments).await;
    assert!(output.ends_with("states: ok\n"), "{output}");
}
