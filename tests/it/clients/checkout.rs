//! A copy of parts of the repository, in which the commands of a README run as printed.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{app::App, copy, project, service::ServiceProcess};
use crate::{
    docs::code_blocks,
    harness::wait,
    openapi_external::{succeed, tool},
};

/// The issuer in the READMEs' commands.
const PRINTED_ISSUER: &str = "http://127.0.0.1:8080";
/// The port of the app in the READMEs' commands. Those that start the app name the port alone.
const PRINTED_PORT: &str = "8000";

/// The copy, named `latchkey`, in a temporary folder. Beside it, `bin` has the programs that READMEs call: `node`, `npm` and `python3`
/// run those of `target/tools`, and `latchkey` and `cargo` run the binary under test.
pub(super) struct Checkout {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Checkout {
    /// Copies these paths of the repository. Commands run with these environment variables. The program `latchkey` runs in the folder of
    /// `service`.
    pub(super) fn new(paths: &[&str], service: &ServiceProcess, environment: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for path in paths {
            copy(&project(path), &folder.path().join("latchkey").join(path));
        }
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for (printed_name, tool_name) in [("node", "node"), ("npm", "npm"), ("python3", "python")] {
            write_program(&bin.join(printed_name), &format!("exec '{}' \"$@\"", tool(tool_name).display()));
        }
        // in the folder of the service, where the program finds the service's data
        let run_latchkey =
            format!("cd '{}' && exec '{}' \"$@\"", service.folder().display(), env!("CARGO_BIN_EXE_latchkey"));
        write_program(&bin.join("latchkey"), &run_latchkey);
        // `cargo run … -- ARGUMENTS` skips everything up to `--`, since the binary is built already.
        write_program(&bin.join("cargo"), &format!("until [ \"$1\" = -- ]; do shift; done; shift\n{run_latchkey}"));
        let mut search_path = vec![bin];
        search_path.extend(env::split_paths(&env::var_os("PATH").unwrap()));
        let search_path = env::join_paths(search_path).unwrap().into_string().unwrap();
        let mut environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        environment.push(("PATH".to_owned(), search_path));
        Self { folder, environment }
    }

    /// The absolute path of a file or folder in the copy.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("latchkey").join(path)
    }

    /// A new folder beside the copy, for an app.
    pub(super) fn app_folder(&self) -> PathBuf {
        let folder = self.folder.path().join("app");
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// The environment variables of the commands.
    pub(super) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Runs commands as printed, in this folder. Returns what they print.
    pub(super) fn run(&self, folder: &Path, commands: &str) -> String {
        let commands = format!("cd '{}'\n{commands}", folder.display());
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &commands]).envs(self.environment.iter().cloned());
        String::from_utf8(succeed(&mut shell).stdout).unwrap()
    }

    /// Runs the commands in the README of an example. The first block installs and starts the app. The second block signs in, calls
    /// the app, joins its chat, signs out and calls the app again. The sign-out closes the chat. Between the blocks, the test calls the
    /// route that needs two factors. The commands are as printed, except for the issuer, the port, and the loop that waits for the chat.
    pub(super) async fn run_example(&self, example: &str, service: &ServiceProcess) {
        let [start_commands, session_commands] = &code_blocks(format!("{example}/README.md"), "sh")[..] else {
            panic!("{example}/README.md does not have two blocks of commands")
        };
        let folder = self.path(example);
        let issuer = service.client().base.clone();
        let mut environment = self.environment.clone();
        environment.push(("AUTH_ISSUER".to_owned(), issuer.clone()));
        let app = App::start(&environment, |port| {
            let start_commands = replace(start_commands, PRINTED_PORT, &port.to_string());
            let commands = format!("cd '{}'\n{start_commands}", folder.display());
            ["sh", "-e", "-c", &commands].map(str::to_owned).into()
        })
        .await;
        app.check_step_up(service).await;
        let commands = replace(session_commands, PRINTED_ISSUER, &issuer);
        let commands = replace(&commands, &format!("127.0.0.1:{PRINTED_PORT}"), &app.address());
        // The printed loop waits until the chat is connected. Here it also ends if the chat's program, `$!`, has failed.
        let commands = replace(&commands, "do sleep 0.1; done", "do kill -0 $! || exit 1; sleep 0.1; done");
        // The chat closes when the worker that serves it has received the revocation. The last call may reach another worker, which has not
        // received it yet and answers 200. So the commands are repeated, each time with a new session, until the last call gets a 401.
        wait::until("the app refuses the token after the logout", async || {
            let output = tokio::task::block_in_place(|| self.run(&folder, &commands));
            let lines: Vec<&str> = output.lines().collect();
            assert!(lines.contains(&"200"), "{output}");
            assert!(lines.contains(&"closed: 1008 session_revoked"), "{output}");
            lines.last() == Some(&"401")
        })
        .await;
    }
}

/// Replaces each `from` in `text`. Panics if there is none.
pub(super) fn replace(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in {text}");
    text.replace(from, to)
}

/// Writes an executable shell script.
fn write_program(path: &Path, commands: &str) {
    fs::write(path, format!("#!/bin/sh\n{commands}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
