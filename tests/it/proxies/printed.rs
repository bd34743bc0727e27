//! Runs the commands in the READMEs of the proxy examples as printed, except for ports. The commands start `examples/plain_app.py`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Addresses, Node, nginx};
use crate::{
    docs::code_blocks,
    harness::{
        guard::{self, Guard, Spec},
        test_cluster::TestCluster,
        wait,
    },
    openapi_external::{succeed, tool},
};

/// Runs the commands in `$1`. On SIGTERM it ends the whole process group: the proxy and the app. The trapped signal interrupts the first
/// `wait`, and the second one waits for the processes to end.
const RUN_GROUP: &str = r#"
echo starting
sh -e -c "$1" &
trap "trap '' TERM; kill -s TERM 0" TERM
wait
wait
"#;

/// A copy of `examples` with other ports.
struct Examples {
    folder: TempDir,
    proxy_port: u16,
    app_port: u16,
}

impl Examples {
    fn new(node: &Node) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let examples = Self { folder, proxy_port: guard::free_port(), app_port: guard::free_port() };
        // each port that the examples print, and the one that replaces it
        let ports = [(8000, examples.proxy_port), (3000, examples.app_port), (8080, node.address().port())];
        copy_with_ports(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"), &examples.path(), &ports);
        examples
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("examples")
    }

    /// The blocks of commands of an example's README.
    fn commands(&self, example: &str) -> Vec<String> {
        code_blocks(self.path().join(example).join("README.md"), "sh")
    }

    /// Runs commands in the folder of an example until the guard is dropped.
    fn start(&self, example: &str, commands: &str) -> Guard {
        let commands = format!("cd '{}'\n{}{commands}", self.path().join(example).display(), self.environment());
        // The second `sh` is `$0` of `RUN_GROUP`, and `commands` is its `$1`.
        let command = ["sh", "-c", RUN_GROUP, "sh", &commands];
        let spec = Spec { command: &command, stop: "TERM", folder: None, ready: "starting", unprivileged: false };
        Guard::start(&spec).unwrap()
    }

    /// Shell commands that add the programs of tests/tools and the system's servers to the path, and set a home folder that the test
    /// removes.
    fn environment(&self) -> String {
        let bin = tool("node").parent().unwrap().to_owned();
        format!("export HOME='{}' PATH='{}':$PATH:/usr/sbin\n", self.folder.path().display(), bin.display())
    }

    /// Runs the calls in nginx's README: without a token, after a login, and after the logout.
    async fn check_calls(&self) {
        let probe = format!("http://127.0.0.1:{}/", self.proxy_port);
        wait::until("the proxy refuses a request without a token", async || {
            reqwest::get(&probe).await.is_ok_and(|response| response.status() == 401)
        })
        .await;
        let app = format!("http://127.0.0.1:{}/", self.app_port);
        wait::until("the app answers", async || reqwest::get(&app).await.is_ok()).await;
        let calls = self.commands("nginx").pop().unwrap();
        let output = tokio::task::block_in_place(|| succeed(Command::new("sh").args(["-e", "-c", &calls])));
        let output = String::from_utf8(output.stdout).unwrap();
        assert!(output.starts_with("HTTP/1.1 401 "), "without a token: {output}");
        assert!(output.contains("Hello, account "), "after the login: {output}");
        assert!(output.ends_with("\n401\n"), "after the logout: {output}");
    }
}

/// Copies a folder, and replaces the ports of addresses in all files.
fn copy_with_ports(from: &Path, to: &Path, ports: &[(u16, u16)]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy_with_ports(&entry, &target, ports);
            continue;
        }
        let mut text = fs::read_to_string(&entry).unwrap();
        for (printed, port) in ports {
            // An address, and how the configurations of Caddy, Envoy and the app write ports.
            for prefix in ["127.0.0.1:", "http://:", "port_value: ", "(\"127.0.0.1\", "] {
                text = text.replace(&format!("{prefix}{printed}"), &format!("{prefix}{port}"));
            }
        }
        fs::write(&target, text).unwrap();
    }
}

/// Runs the commands in an example's README, and the calls in nginx's README.
async fn check_example(example: &str) {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let examples = Examples::new(&node);
    let [commands] = &examples.commands(example)[..] else { panic!("the README has one block of commands") };
    let guard = examples.start(example, commands);
    examples.check_calls().await;
    drop(guard);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_commands_run_as_printed() {
    check_example("caddy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_commands_run_as_printed() {
    check_example("envoy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_commands_run_as_printed() {
    check_example("haproxy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_commands_run_as_printed() {
    check_example("traefik").await;
}

/// The test starts nginx itself, because the printed command reloads the system's nginx.
#[tokio::test(flavor = "multi_thread")]
async fn nginx_calls_run_as_printed() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let examples = Examples::new(&node);
    // The first line of the first block starts the app.
    let app_command = examples.commands("nginx")[0].lines().next().unwrap().to_owned();
    let app = examples.start("nginx", &app_command);
    let addresses = Addresses {
        latchkey: node.address(),
        app: SocketAddr::from(([127, 0, 0, 1], examples.app_port)),
        listen: SocketAddr::from(([127, 0, 0, 1], examples.proxy_port)),
    };
    let proxy = nginx::start(&addresses).unwrap();
    examples.check_calls().await;
    drop((proxy, app));
}
