//! Delivery over SMTP (RFC 5321), with TLS, authentication and a pool of connections.
//!
//! This module does not use the pool of lettre, which has no time limit for replies. That pool also keeps a connection that was
//! cancelled in the middle of a message, so that the next message could read the replies to the previous one.

use std::{
    error::Error as _,
    fmt, fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lettre::{
    Message,
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        extension::ClientId,
    },
};

use super::transport::DeliveryError;
use crate::config::{SmtpSecurity, SmtpSettings};

/// The time after which an idle connection is not used again. Many servers close idle connections after a few minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The authentication mechanisms in order of preference: PLAIN (RFC 4616) and its predecessor LOGIN.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

/// A client of the configured SMTP server.
pub struct SmtpClient {
    settings: SmtpSettings,
    /// The TLS parameters; `None` if the connection is not encrypted.
    tls: Option<TlsParameters>,
    /// Idle connections and when each became idle, the most recently used last.
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
    max_idle: usize,
    /// The server's host and port, for error messages.
    label: String,
}

impl SmtpClient {
    /// Prepares the client. Keeps at most `max_idle` idle connections.
    pub(super) fn new(settings: &SmtpSettings, max_idle: usize) -> Result<Self, String> {
        let uses_tls = settings.security != SmtpSecurity::None;
        Ok(Self {
            tls: if uses_tls { Some(tls_parameters(settings)?) } else { None },
            idle: Mutex::default(),
            max_idle,
            label: format!("{}:{}", settings.host, settings.port),
            settings: settings.clone(),
        })
    }

    /// Sends a message over an idle or a new connection, within `mail.timeout`.
    pub(super) async fn send(&self, message: &Message) -> Result<(), DeliveryError> {
        let text = message.formatted();
        let sending = async {
            let mut connection = self.acquire_connection().await?;
            connection.send(message.envelope(), &text).await?;
            self.release(connection);
            Ok(())
        };
        // After a timeout or an error, the connection is dropped, which closes it.
        match tokio::time::timeout(self.settings.timeout, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let needs_utf8 = message.envelope().to().iter().any(|address| !is_ascii(address));
                Err(self.delivery_error(&error, needs_utf8))
            }
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Connects and authenticates, without sending a message. Returns a sentence for the operator.
    pub(super) async fn check(&self) -> Result<String, DeliveryError> {
        match tokio::time::timeout(self.settings.timeout, self.connect()).await {
            Ok(Ok(connection)) => {
                self.release(connection);
                let user = if self.settings.credentials.is_some() { " and the user" } else { "" };
                Ok(format!("{} accepts connections{user}", self.label))
            }
            Ok(Err(error)) => {
                let needs_utf8 = false; // there is no recipient
                Err(self.delivery_error(&error, needs_utf8))
            }
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Returns an idle connection that still works, or a new one.
    async fn acquire_connection(&self) -> Result<AsyncSmtpConnection, Error> {
        while let Some((mut connection, idle_since)) = self.take_idle() {
            if idle_since.elapsed() < IDLE_TIMEOUT && connection.test_connected().await {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let SmtpSettings { host, port, security, timeout, .. } = &self.settings;
        let ehlo_name = parse_ehlo_name(&self.settings.ehlo_name);
        let implicit_tls = if *security == SmtpSecurity::Tls { self.tls.clone() } else { None };
        let server = (host.as_str(), *port);
        let local_address = None;
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(*timeout), &ehlo_name, implicit_tls, local_address)
                .await?;
        if *security == SmtpSecurity::StartTls
            && let Some(tls) = &self.tls
        {
            connection.starttls(tls.clone(), &ehlo_name).await?;
        }
        if let Some(user) = &self.settings.credentials {
            let credentials = Credentials::new(user.username.clone(), user.password.expose().to_owned());
            connection.auth(&MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }

    /// Keeps a connection for the next message, unless enough connections are idle or this one is broken.
    fn release(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle();
        if idle.len() < self.max_idle && !connection.has_broken() {
            idle.push((connection, Instant::now()));
        }
    }

    /// Takes the last idle connection. A function of its own, so that the lock is released before the caller waits for the connection.
    fn take_idle(&self) -> Option<(AsyncSmtpConnection, Instant)> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(AsyncSmtpConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timed_out(&self) -> DeliveryError {
        DeliveryError::Unreachable(format!("{} did not answer within mail.timeout", self.label))
    }

    /// Classifies an error. `needs_utf8` says that a recipient's address is not ASCII.
    fn delivery_error(&self, error: &Error, needs_utf8: bool) -> DeliveryError {
        let text = self.describe(error);
        if error.is_permanent() && is_about_sender(error) {
            // Other messages would fail as well, until the operator corrects the configuration.
            DeliveryError::Unreachable(text)
        } else if error.is_permanent() {
            DeliveryError::Rejected(text)
        } else if error.is_transient() {
            DeliveryError::Refused(text)
        } else if error.is_client() && needs_utf8 {
            // lettre itself refuses to send such a message
            DeliveryError::Rejected(format!(
                "{} does not offer SMTPUTF8 (RFC 6531), which the address needs",
                self.label
            ))
        } else {
            DeliveryError::Unreachable(text)
        }
    }

    /// The error and its causes on one line, at most 300 characters.
    fn describe(&self, error: &Error) -> String {
        let mut text = format!("{}: {error}", self.label);
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text += &format!(": {cause_text}");
            }
            source = cause.source();
        }
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
    }
}

impl fmt::Debug for SmtpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpClient({})", self.label)
    }
}

fn is_ascii(address: &lettre::Address) -> bool {
    let text: &str = address.as_ref();
    text.is_ascii()
}

/// Whether a permanent refusal is about this client rather than about the recipient: the server does not support the command (50x in
/// RFC 5321, section 4.2.2), or authentication is needed or has failed (53x in RFC 4954, section 6).
fn is_about_sender(error: &Error) -> bool {
    error.status().is_some_and(|code| matches!(u16::from(code), 500..=504 | 530 | 534 | 535 | 538))
}

fn tls_parameters(settings: &SmtpSettings) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.tls_ca {
        let unusable = |why: &dyn fmt::Display| format!("mail.tls_ca: {} can't be used: {why}", path.display());
        let pem = fs::read(path).map_err(|error| unusable(&error))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| unusable(&error))?;
        // the server's certificate must be of this authority: the authorities of the system are not trusted
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|error| format!("mail.url: {error}"))
}

/// The name that the client sends in EHLO: an address literal such as `[192.0.2.1]`, or a host name (RFC 5321, section 4.1.1.1).
fn parse_ehlo_name(name: &str) -> ClientId {
    match name.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(std::net::IpAddr::V4(address)) => ClientId::Ipv4(address),
        Ok(std::net::IpAddr::V6(address)) => ClientId::Ipv6(address),
        Err(_) => ClientId::Domain(name.to_owned()),
    }
}
