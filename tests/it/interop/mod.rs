//! Unmodified third-party libraries against a running node. Programs in tests/interop use them, in the versions that `make test` installs.
//! The only special configuration allows plain HTTP, and shortens the times of rotation.rs.

mod clients;
mod generated;
mod rotation;
mod verifiers;

use std::{fs, os::unix::fs::symlink, path::Path, process::Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::openapi_external::{succeed, tool};

/// A folder with copies of the programs. The libraries for Node.js are beside the programs, where Node.js looks for libraries.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for program in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")).unwrap() {
        let program = program.unwrap();
        fs::copy(program.path(), folder.path().join(program.file_name())).unwrap();
    }
    // the tools are in `bin`, and the libraries in `node` beside it
    let libraries = tool("node").parent().unwrap().parent().unwrap().join("node/node_modules");
    assert!(libraries.exists(), "{} is missing: run `make test`, which installs it", libraries.display());
    symlink(libraries, folder.path().join("node_modules")).unwrap();
    folder
}

/// Runs a program, and asserts that it succeeds.
pub async fn run_program(program: &'static str, settings: Value) {
    let run = move || {
        let folder = folder();
        succeed(&mut command(&folder, program, &settings))
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

/// The command that runs a program with `settings` as its argument.
pub(crate) fn command(folder: &TempDir, program: &str, settings: &Value) -> std::process::Command {
    let path = folder.path().join(program);
    let interpreter = if path.extension().is_some_and(|extension| extension == "py") { "python" } else { "node" };
    let mut command = std::process::Command::new(tool(interpreter));
    // a proxy of the machine cannot reach the node, and warnings of the libraries are not checked
    command.env("no_proxy", "127.0.0.1").env("PYTHONWARNINGS", "ignore");
    command.arg(path).arg(settings.to_string());
    command
}

/// A running program that verifies tokens: it reads a token a line, and answers each with a line. Killed when dropped.
struct Verifier {
    name: &'static str,
    _child: Child,
    tokens: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

impl Verifier {
    fn start(name: &'static str, settings: &Value) -> Self {
        let folder = folder();
        let mut command = Command::from(command(&folder, name, settings));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let tokens = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { name, _child: child, tokens, answers, _folder: folder }
    }

    /// The subject of the token, or the reason of the refusal.
    async fn verify(&mut self, token: &str) -> Result<String, String> {
        self.tokens.write_all(format!("{token}\n").as_bytes()).await.unwrap();
        let answer = self.answers.next_line().await.unwrap();
        let answer = answer.unwrap_or_else(|| panic!("{} ended", self.name));
        match answer.split_once(' ') {
            Some(("valid", subject)) => Ok(subject.to_owned()),
            Some(("refused", reason)) => Err(reason.to_owned()),
            _ => panic!("{}: {answer}", self.name),
        }
    }
}
