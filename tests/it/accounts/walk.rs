//! The commands of docs/accounts.md, run as printed against a started node. Only the port differs.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use rustix::process::Signal;

use crate::{binary::Service, openapi_external::succeed};

/// Writes a program into the folder of programs.
fn program(bin: &Path, name: &str, script: &str) {
    let path = bin.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_walk_through_an_accounts_life_succeed_as_printed() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/accounts.md")).unwrap();
    let mut blocks: Vec<_> = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let serve = blocks.remove(0).trim();
    let arguments: Vec<_> = serve.strip_prefix("latchkey ").unwrap().split(' ').collect();
    let service = Service::start_with(folder.path(), &arguments);
    // The text says to leave the call out that undoes the change of address: it comes last.
    let (undo, mut others): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| block.contains("/v1/email/undo"));
    assert_eq!(undo.len(), 1);
    others.extend(undo);

    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    // `api` prints errors of the service and succeeds; here they fail the walk.
    program(&bin, "curl", "exec /usr/bin/curl --fail-with-body \"$@\"");
    let binary = env!("CARGO_BIN_EXE_latchkey");
    let quick = "LATCHKEY_LISTEN=127.0.0.1:0 LATCHKEY_PASSWORD_MEMORY_KIB=64 LATCHKEY_PASSWORD_ITERATIONS=1";
    program(&bin, "latchkey", &format!("{quick} exec {binary} \"$@\""));
    let secret = "$(latchkey client add crm --scope accounts:recover | sed -n 's/client_secret: //p')";
    let script = others.concat().replace("http://127.0.0.1:8080", &service.client.base).replace("lk_cs_…", secret);
    assert!(!script.contains('…'), "{script}");
    let script = format!("cd '{}'\n{script}", folder.path().display());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = tokio::task::block_in_place(|| {
        let mut command = Command::new("timeout");
        command.args(["120", "bash", "-e", "-o", "pipefail", "-c", &script]);
        succeed(command.env("PATH", path))
    });
    let output = String::from_utf8(output.stdout).unwrap();
    for expected in ["Ada Lovelace", "deletes_at", "access_token", "Invited grace@example.com", "lk_ot_"] {
        assert!(output.contains(expected), "no {expected} in {output}");
    }
    drop(service.end(Signal::TERM));
}
