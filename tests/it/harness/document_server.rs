//! An HTTPS server at `https://localhost:PORT` for the metadata documents of clients, with a certificate of its own authority. Each path
//! answers with the bytes that a test has set, which need not be a valid response.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use latchkey::config::DynamicClientSettings;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

use super::certificates;

/// The answer to requests for a path.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status line, headers and body.
    pub bytes: Vec<u8>,
    /// Whether the connection stays open after the bytes until the client closes it.
    pub stalls: bool,
}

impl Reply {
    /// A JSON document.
    pub fn json(value: &Value) -> Self {
        Self::with("200 OK", &["Content-Type: application/json"], value.to_string().as_bytes())
    }

    /// A response with this status, these headers and this body.
    pub fn with(status: &str, headers: &[&str], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).into_bytes();
        for header in headers {
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        Self { bytes, stalls: false }
    }
}

/// The replies of the paths, and how often each path was requested.
#[derive(Debug, Default)]
struct Paths {
    replies: HashMap<String, Reply>,
    requests: HashMap<String, usize>,
}

/// The server. It stops when dropped.
pub struct DocumentServer {
    pub port: u16,
    /// The files of the certificates.
    pub folder: TempDir,
    paths: Arc<Mutex<Paths>>,
    serving: AbortHandle,
}

impl Drop for DocumentServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl DocumentServer {
    /// Starts the server on a free port.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates::create(folder.path());
        let file = "documents";
        let common_name = "documents";
        certificates::issue_for(folder.path(), file, common_name, "DNS:localhost");
        let chain = CertificateDer::pem_file_iter(folder.path().join(format!("{file}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.path().join(format!("{file}.key"))).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let paths = Arc::new(Mutex::new(Paths::default()));
        let serving = tokio::spawn({
            let paths = Arc::clone(&paths);
            async move {
                let mut connections = tokio::task::JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&paths)));
                }
            }
        });
        Self { port, folder, paths, serving: serving.abort_handle() }
    }

    /// The file with the certificate of the server's authority.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Lets a node fetch documents from this server.
    pub fn allow(&self, settings: &mut DynamicClientSettings) {
        settings.metadata_documents = true;
        // Without this setting, a node sends no request to its own machine.
        settings.private_networks = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        settings.ca_file = Some(self.ca_file());
    }

    /// The origin.
    pub fn origin(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    /// Sets the answer of a path. Other paths answer 404.
    pub fn set(&self, path: &str, reply: Reply) {
        self.paths.lock().unwrap().replies.insert(path.to_owned(), reply);
    }

    /// Serves the metadata of an app at a path, and returns the app's `client_id`. `changes` adds and replaces members; null removes one.
    pub fn app(&self, path: &str, changes: &[(&str, Value)]) -> String {
        let client_id = self.url(path);
        let mut members = json!({
            "client_id": client_id,
            "client_name": "The Helper",
            // An app may add a port to a loopback address (RFC 8252, section 7.3).
            "redirect_uris": [format!("{}/callback", self.origin()), "http://127.0.0.1/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "none",
        });
        for (name, value) in changes {
            members[*name] = value.clone();
        }
        members.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.set(path, Reply::json(&members));
        client_id
    }

    /// How often a path was requested.
    pub fn requests(&self, path: &str) -> usize {
        self.paths.lock().unwrap().requests.get(path).copied().unwrap_or_default()
    }
}

/// Answers the request of a connection, and closes the connection. Ignores that the client has closed it already.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, paths: Arc<Mutex<Paths>>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    // A request has no body, so it ends with the empty line.
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes).await {
            Ok(count @ 1..) => request.extend_from_slice(&bytes[..count]),
            _ => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let (_method, target) = request.split_once(' ').unwrap();
    let path = target.split(' ').next().unwrap().to_owned();
    let reply = {
        let mut paths = paths.lock().unwrap();
        *paths.requests.entry(path.clone()).or_default() += 1;
        paths.replies.get(&path).cloned().unwrap_or_else(|| Reply::with("404 Not Found", &[], b""))
    };
    if stream.write_all(&reply.bytes).await.is_err() {
        return;
    }
    drop(stream.flush().await);
    if reply.stalls {
        // waits until the client closes the connection
        drop(stream.read(&mut [0; 1]).await);
    }
    drop(stream.shutdown().await);
}
