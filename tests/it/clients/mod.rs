//! Runs the test suites of the Python and JavaScript clients, the programs and commands of their READMEs, and the example apps.
//! The tests need programs that `make test` installs (`.ci/install.sh`), and fail without them.

mod app;
pub mod browser;
mod checkout;
mod js;
mod npm_registry;
mod oidc_apps;
mod packages;
mod python;
mod service;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::io::{AsyncBufReadExt, BufReader};

/// The absolute path of a file or folder of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Copies a file or a folder with its content. Creates the folders above `to`.
fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// Runs a program. Calls `sign_out` after the program's first line, which shows that the program works. Returns all lines that the
/// program prints until it ends.
async fn run_until_signed_out<T>(mut command: Command, sign_out: impl AsyncFnOnce() -> T) -> Vec<String> {
    command.stdout(Stdio::piped());
    let mut program = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut printed = vec![lines.next_line().await.unwrap().expect("the program prints that it works")];
    sign_out().await;
    while let Some(line) = lines.next_line().await.unwrap() {
        printed.push(line);
    }
    assert!(program.wait().await.unwrap().success());
    printed
}
