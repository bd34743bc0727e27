//! Stock libraries of others, unpatched, against a real node: the programs in tests/interop, run with what `make test` installs.
//! The only thing that they are told is to do without TLS.

mod clients;
mod rotation;
mod verifiers;

use std::{fs, os::unix::fs::symlink, path::Path, process::Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::openapi_external::tool;

/// The programs in a folder where Node.js finds the libraries.
fn folder() -> TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for program in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")).unwrap() {
        let program = program.unwrap();
        fs::copy(program.path(), folder.path().join(program.file_name())).unwrap();
    }
    let libraries = tool("node").parent().unwrap().parent().unwrap().join("node/node_modules");
    assert!(libraries.exists(), "{} is missing: run `make test`, which installs it", libraries.display());
    symlink(libraries, folder.path().join("node_modules")).unwrap();
    folder
}

/// The command that runs a program, which is told `given`.
fn command(folder: &TempDir, program: &str, given: &Value) -> std::process::Command {
    let path = folder.path().join(program);
    let runs = if path.extension().is_some_and(|extension| extension == "py") { "python" } else { "node" };
    let mut command = std::process::Command::new(tool(runs));
    command.env("no_proxy", "127.0.0.1").env("PYTHONWARNINGS", "ignore").arg(path).arg(given.to_string());
    command
}

/// A program that verifies tokens, one after another. Ends when dropped.
struct Verifier {
    name: &'static str,
    _child: Child,
    tokens: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

impl Verifier {
    fn start(name: &'static str, given: &Value) -> Self {
        let folder = folder();
        let mut command = Command::from(command(&folder, name, given));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let tokens = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { name, _child: child, tokens, answers, _folder: folder }
    }

    /// Whose the token is, or why it is refused.
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
