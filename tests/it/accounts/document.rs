//! The commands of docs/accounts.md, run as printed against a started node. Only the port and the placeholder of a secret differ.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    binary::{Service, command},
    docs::code_blocks,
    harness::client::Client,
    openapi_external::succeed,
};

/// A shell that runs the blocks of a document one after the other, and the node that it calls.
pub struct DocumentShell {
    folder: TempDir,
    service: Option<Service>,
}

impl DocumentShell {
    pub fn new() -> Self {
        let shell = Self { folder: tempfile::tempdir().unwrap(), service: None };
        fs::create_dir(shell.folder.path().join("bin")).unwrap();
        // any free port, and password hashes that take little time
        let quick = "LATCHKEY_LISTEN=127.0.0.1:0 LATCHKEY_PASSWORD_MEMORY_KIB=64 LATCHKEY_PASSWORD_ITERATIONS=1";
        shell.add_program("latchkey", &format!("{quick} exec {} \"$@\"", env!("CARGO_BIN_EXE_latchkey")));
        shell
    }

    /// Adds a program that hides an installed one of the same name. In its script, `PATH` leads to the installed programs.
    pub fn add_program(&self, name: &str, script: &str) {
        let path = self.folder.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\nPATH=${{PATH#*:}}\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Stops the running node, if any, and starts one by a command such as `LATCHKEY_FACTORS_REQUIRED=all latchkey serve`.
    pub fn serve(&mut self, command_line: &str) {
        if let Some(former) = self.service.take() {
            former.end(Signal::TERM);
        }
        let (environment, arguments) = command_line.trim().split_once("latchkey ").unwrap();
        let arguments: Vec<_> = arguments.split(' ').collect();
        let mut command = command(self.folder.path(), &arguments);
        // so that no call times out on a busy machine
        command.env("LATCHKEY_HTTP_REQUEST_TIMEOUT", "2m");
        command.envs(environment.split_whitespace().map(|pair| pair.split_once('=').unwrap()));
        self.service = Some(Service::spawn(command).unwrap_or_else(|log| panic!("the node did not start: {log}")));
    }

    /// The client of the started node.
    pub fn client(&self) -> &Client {
        &self.service.as_ref().expect("the document starts a node first").client
    }

    /// Runs commands with the variables and functions that earlier commands have defined, against the started node. Returns their output.
    pub fn run(&self, commands: &str) -> String {
        let folder = self.folder.path().display();
        let base = &self.client().base;
        let commands = commands.replace("http://127.0.0.1:8080", base);
        assert!(!commands.contains('…'), "a placeholder was not replaced: {commands}");
        // saves functions, and variables except the shell's own read-only ones
        let save_state = "{ declare -p | grep -v '^declare -[a-z]*r'; declare -f; } > .state";
        let script = format!("cd '{folder}'\n[ ! -e .state ] || . ./.state\n{commands}\n{save_state}");
        let path = format!("{folder}/bin:{}", std::env::var("PATH").unwrap());
        let output = tokio::task::block_in_place(|| {
            let mut command = Command::new("timeout");
            let timeout_secs = "120";
            command.args([timeout_secs, "bash", "-e", "-o", "pipefail", "-c", &script]);
            succeed(command.env("PATH", path))
        });
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn end(self) {
        if let Some(service) = self.service {
            service.end(Signal::TERM);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_document_about_accounts_succeeds_as_printed() {
    let mut shell = DocumentShell::new();
    // The document's function `api` succeeds after an error of the service. Here, such an error fails the test.
    shell.add_program("curl", "exec curl --fail-with-body \"$@\"");
    let mut blocks = code_blocks("docs/accounts.md", "sh");
    // the first block starts the node
    let start = blocks.remove(0);
    shell.serve(&start);
    // The document says that readers skip the call that undoes the change of address. Here it runs last.
    let (undo, mut others): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| block.contains("/v1/email/undo"));
    assert_eq!(undo.len(), 1);
    others.extend(undo);
    let print_secret = "$(latchkey client add crm --scope accounts:recover | sed -n 's/client_secret: //p')";
    let output = shell.run(&others.concat().replace("lk_cs_…", print_secret));
    // in the output of a profile, a scheduled deletion, a sign-in, an invitation, and an invitation with `"delivery":"return"`
    for expected in ["Ada Lovelace", "deletes_at", "access_token", "Invited grace@example.com", "lk_ot_"] {
        assert!(output.contains(expected), "no {expected} in {output}");
    }
    shell.end();
}
