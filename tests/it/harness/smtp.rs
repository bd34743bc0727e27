//! A real SMTP server (aiosmtpd) with faults, which tests/tools/smtp_server.py describes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use latchkey::{
    config::{MailTransport, SmtpCredentials, SmtpSecurity, SmtpSettings},
    domain::secret::SecretText,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    certificates,
    guard::{Guard, Spec, free_port},
    mail::ReceivedMail,
    wait,
};

/// How many ports a server tries.
const MAX_PORTS: usize = 5;

/// A running SMTP server.
pub struct SmtpServer {
    pub port: u16,
    security: SmtpSecurity,
    user: Option<&'static str>,
    folder: TempDir,
    _guard: Guard,
}

/// A message that the server has accepted.
#[derive(Clone, Debug)]
pub struct Received {
    /// The sender and the recipient of the envelope.
    pub from: String,
    pub to: String,
    pub is_encrypted: bool,
    pub is_authenticated: bool,
    pub mail: ReceivedMail,
}

impl SmtpServer {
    /// Starts a server that requires authentication if there is a `user` (`NAME:PASSWORD`).
    pub fn start(security: SmtpSecurity, user: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates::create_for(folder.path(), "DNS:localhost");
        for _ in 0..MAX_PORTS {
            let port = free_port();
            match start_on(port, folder.path(), security, user) {
                Ok(guard) => return Self { port, security, user, folder, _guard: guard },
                // another process has taken the port first
                Err(error) if error.contains("address already in use") => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("{MAX_PORTS} ports were taken")
    }

    /// The settings of a client that trusts the server's certificate.
    pub fn settings(&self) -> SmtpSettings {
        let credentials = self.user.map(|user| {
            let (username, password) = user.split_once(':').unwrap();
            SmtpCredentials { username: username.to_owned(), password: SecretText::from(password) }
        });
        SmtpSettings {
            host: "localhost".to_owned(),
            port: self.port,
            security: self.security,
            credentials,
            tls_ca: Some(self.folder.path().join("ca.pem")),
            ehlo_name: "node.example.com".to_owned(),
            timeout: Duration::from_secs(30),
        }
    }

    /// The transport of a client that trusts the server's certificate.
    pub fn transport(&self) -> MailTransport {
        MailTransport::Smtp(self.settings())
    }

    /// Makes the server close every new connection.
    pub fn refuse_connections(&self) {
        fs::write(self.down_file(), "").unwrap();
    }

    /// Makes the server accept connections again.
    pub fn accept_connections(&self) {
        fs::remove_file(self.down_file()).unwrap();
    }

    /// While this file exists, the server closes every new connection.
    fn down_file(&self) -> PathBuf {
        self.folder.path().join("down")
    }

    /// The messages that the server has accepted, in order.
    pub fn received(&self) -> Vec<Received> {
        self.json_lines("received.jsonl").iter().map(Received::of).collect()
    }

    /// The recipients of all RCPT commands, refused ones included, in order.
    pub fn rcpt_commands(&self) -> Vec<String> {
        self.json_lines("rcpt.jsonl").iter().map(|line| line["to"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the server has accepted at least `count` messages, and returns all.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        wait::until("the server has accepted the messages", || async { self.received().len() >= count }).await;
        self.received()
    }

    fn json_lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        // the last line may be incomplete
        text.split_inclusive('\n').filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Starts the script. It uses the certificate in `folder`, and writes what it receives to files there.
fn start_on(port: u16, folder: &Path, security: SmtpSecurity, user: Option<&str>) -> Result<Guard, String> {
    let tools = PathBuf::from(std::env::var_os("TEST_TOOLS_DIR").expect("`make test` sets TEST_TOOLS_DIR"));
    let python = tools.join("bin/python").display().to_string();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/smtp_server.py");
    let port_text = port.to_string();
    let output_folder = folder.display().to_string();
    let certificate = folder.join("server.pem").display().to_string();
    let key = folder.join("server.key").display().to_string();
    let mut command = vec![python.as_str(), script, &port_text, &output_folder];
    match security {
        SmtpSecurity::Tls => command.extend(["--tls", &certificate, &key]),
        SmtpSecurity::StartTls => command.extend(["--starttls", &certificate, &key]),
        SmtpSecurity::None => {}
    }
    if let Some(user) = user {
        command.extend(["--user", user]);
    }
    Guard::start(&Spec { command: &command, stop: "KILL", folder: None, ready: "ready", unprivileged: false })
}

impl Received {
    /// Reads a line of `received.jsonl`.
    fn of(line: &Value) -> Self {
        /// The message is not in a file of its own.
        const NO_FILE: &str = "";
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        Self {
            from: text("from"),
            to: text("to"),
            is_encrypted: line["tls"].as_bool().unwrap_or_default(),
            is_authenticated: line["user"].as_bool().unwrap_or_default(),
            mail: ReceivedMail::parse(NO_FILE, &text("data")),
        }
    }
}
