//! Measures the delay from a sign-out on one node to the close of a WebSocket at a service that follows the feed of another node.

use std::{
    env, fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use latchkey_verify::{
    Verifier,
    poem::{SessionWebSocket, Verify},
};
use poem::{EndpointExt, IntoResponse, Route, Server, get, handler, listener::TcpAcceptor};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{
    Times,
    harness::{
        client::{Client, Tokens},
        guard::{self, Guard, Spec},
        test_cluster::ServiceClient,
    },
};

/// An app whose WebSockets close with their session.
pub struct App {
    address: SocketAddr,
    /// The path of the WebSocket.
    path: &'static str,
    /// The process of an example, and its folder. Dropping them stops the process and deletes the folder.
    _process: Option<(Guard, TempDir)>,
}

/// Accepts a WebSocket, and ignores its messages.
#[handler]
fn accept_socket(socket: SessionWebSocket) -> impl IntoResponse {
    socket.on_upgrade(|mut socket| async move { while let Some(Ok(_)) = socket.next().await {} })
}

impl App {
    /// Starts an app in this process. The app's verifier follows the node that listens at the issuer's address.
    pub async fn start(issuer: &str, service: &ServiceClient) -> Self {
        let builder = Verifier::builder(issuer).audience("latchkey").client(&service.id, &service.secret);
        let verifier = builder.build().await.unwrap();
        assert!(verifier.wait_live(Duration::from_secs(10)).await, "the feed is live");
        let app = Route::new().at("/", get(accept_socket).with(Verify::new(verifier)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Server::new_with_acceptor(TcpAcceptor::from_tokio(listener).unwrap()).run(app));
        Self { address, path: "/", _process: None }
    }

    /// Starts the chat of `examples/express`, in a folder whose `node_modules` links to the installed packages and to
    /// `clients/js`. The source tree has no `node_modules`.
    pub fn express(issuer: &str, service: &ServiceClient) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("node_modules");
        fs::create_dir(&modules).unwrap();
        for package in fs::read_dir(tools().join("node/node_modules")).unwrap() {
            let package = package.unwrap();
            symlink(package.path(), modules.join(package.file_name())).unwrap();
        }
        symlink(project("clients/js"), modules.join("latchkey-verify")).unwrap();
        // The suffix .mjs declares the file a module: the folder has no package.json that does so.
        let program = folder.path().join("app.mjs");
        fs::copy(project("examples/express/app.js"), &program).unwrap();
        let program = program.display().to_string();
        let node = tools().join("bin/node").display().to_string();
        // With --preserve-symlinks, the code of clients/js finds its packages in this folder.
        let command = [node.as_str(), "--preserve-symlinks", &program];
        Self::start_example(issuer, service, folder, guard::free_port(), &command, "listening on")
    }

    /// Starts the chat of `examples/fastapi`.
    pub fn fastapi(issuer: &str, service: &ServiceClient) -> Self {
        let python = tools().join("bin/python").display().to_string();
        let python_path = format!("PYTHONPATH={}", project("clients/python/src").display());
        let app_dir = project("examples/fastapi").display().to_string();
        let port = guard::free_port();
        let port_text = port.to_string();
        let command = [
            python_path.as_str(),
            "PYTHONDONTWRITEBYTECODE=1", // keeps the source tree clean
            &python,
            "-m",
            "uvicorn",
            "app:app",
            "--app-dir",
            &app_dir,
            "--port",
            &port_text,
        ];
        Self::start_example(issuer, service, tempfile::tempdir().unwrap(), port, &command, "running on")
    }

    /// Starts an example that listens on `port`, and waits until it prints `ready`. The command may begin with environment variables.
    fn start_example(
        issuer: &str,
        service: &ServiceClient,
        folder: TempDir,
        port: u16,
        command: &[&str],
        ready: &str,
    ) -> Self {
        let variables = [
            format!("PORT={port}"),
            format!("AUTH_ISSUER={issuer}"),
            format!("AUTH_CLIENT_ID={}", service.id),
            format!("AUTH_CLIENT_SECRET={}", service.secret),
        ];
        let mut full_command = vec!["env"];
        full_command.extend(variables.iter().map(String::as_str));
        full_command.extend(command);
        // `Spec::folder` is not used: dropping the `TempDir` deletes the folder.
        let spec = Spec { command: &full_command, stop: "TERM", folder: None, ready, unprivileged: false };
        let guard = Guard::start(&spec).expect("the example starts");
        Self { address: ([127, 0, 0, 1], port).into(), path: "/chat", _process: Some((guard, folder)) }
    }

    /// Opens a WebSocket for each session, and then signs the sessions out one after the other. Returns the times of each sign-out.
    pub async fn measure(&self, client: &Client, sessions: Vec<Tokens>) -> Vec<Times> {
        let mut sockets = Vec::new();
        for tokens in sessions {
            let mut request = format!("ws://{}{}", self.address, self.path).into_client_request().unwrap();
            request.headers_mut().insert("authorization", format!("Bearer {}", tokens.access).parse().unwrap());
            let (socket, _response) = connect_async(request).await.unwrap();
            sockets.push((socket, tokens));
        }
        let mut times = Vec::new();
        for (socket, tokens) in sockets {
            // A task of its own waits for the close frame, which may arrive before the answer of the sign-out.
            let closed = tokio::spawn(wait_for_close(socket));
            let requested = Instant::now();
            client.logout(&tokens.refresh).await.expect(204);
            let answered = Instant::now();
            times.push(Times { requested, answered, effect: closed.await.unwrap() });
        }
        times
    }
}

/// A path in the source tree.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The folder of the programs that `.ci/install.sh test` installs.
fn tools() -> PathBuf {
    env::var_os("TEST_TOOLS_DIR").map_or_else(|| project("target/tools"), PathBuf::from)
}

/// Waits for the close frame. Returns the time of its arrival.
async fn wait_for_close(mut socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Instant {
    loop {
        if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
            assert_eq!(frame.unwrap().reason.as_str(), "session_revoked");
            return Instant::now();
        }
    }
}
