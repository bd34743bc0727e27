//! The configuration: typed, checked and complete. [`load`] reads it at start-up. `defaults.toml`, beside this file,
//! describes every key, its default and its environment variable.

mod check;
mod duration;
mod dynamic_clients;
mod env;
mod error;
mod interpret;
mod limits;
mod load;
mod mail;
mod pages;
mod passkeys;
mod raw;
mod read;
pub mod schema;
mod secret_file;
mod secret_strength;
mod show;
pub(crate) mod store_url;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::domain::{
    audit::AddressPrecision, factor::FactorPolicy, key::Algorithm, secret::SecretText, session::RepeatRule,
};

pub use self::{
    dynamic_clients::DynamicClientSettings,
    error::{ConfigError, Problem, SettingOrigin},
    limits::{Ipv6Network, LimitSettings},
    load::{Sources, load, load_data_locations, load_existing, load_listen, load_log_settings, load_mail_settings},
    mail::{LinkTemplate, MailLinks, MailSettings, MailTransport, Sender, SmtpCredentials, SmtpSecurity, SmtpSettings},
    pages::{Colour, PagesSettings},
    passkeys::{PasskeySettings, RelyingParty, UserVerification},
    show::{EffectiveSetting, inspect, to_toml},
};
pub(crate) use check::{is_loopback, log_filter};
pub(crate) use duration::parse as parse_duration;
pub(crate) use schema::default_text;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address of the HTTP listener.
    pub listen: SocketAddr,
    /// The `iss` of every token. Verifiers compare it as a string, so it has no trailing slash.
    pub issuer: String,
    /// The directory of the generated secret, the SQLite database and the embedded Redis.
    pub data_dir: PathBuf,
    /// Whether the node keeps anything in `data_dir`: sessions, accounts, the secret or mails.
    pub uses_data_dir: bool,
    /// Whether several nodes serve the same sessions. The embedded Redis and SQLite are refused then.
    pub multi_node: bool,
    /// The secrets from which all keys are derived.
    pub secrets: Secrets,
    /// Registration of accounts.
    pub registration: RegistrationSettings,
    /// Further ways to sign in.
    pub login: LoginSettings,
    /// The deletion and the e-mail addresses of accounts.
    pub account: AccountSettings,
    /// Second factors and step-up.
    pub factors: FactorSettings,
    /// Limits and timeouts of connections and requests.
    pub http: HttpSettings,
    /// The session store.
    pub redis: RedisSettings,
    /// The caches of sessions and tokens.
    pub cache: CacheSettings,
    /// The account database.
    pub database: DatabaseSettings,
    /// The lifetime of sessions.
    pub session: SessionSettings,
    /// The claims and lifetime of access tokens.
    pub token: TokenSettings,
    /// The rotation of signing keys.
    pub keys: KeySettings,
    /// The revocation feed.
    pub feed: FeedSettings,
    /// The Prometheus endpoint.
    pub metrics: MetricsSettings,
    /// The export of traces.
    pub telemetry: TelemetrySettings,
    /// Rate limits.
    pub limits: LimitSettings,
    /// The password policy and hashing parameters.
    pub password: PasswordSettings,
    /// Passkeys.
    pub passkeys: PasskeySettings,
    /// Mails to account owners.
    pub mail: MailSettings,
    /// The pages for account owners.
    pub pages: PagesSettings,
    /// Apps that no operator has registered.
    pub dynamic_clients: DynamicClientSettings,
    /// The audit log.
    pub audit: AuditSettings,
    /// The service log.
    pub log: LogSettings,
    /// Warnings about the configuration, logged at start-up.
    pub warnings: Vec<String>,
}

/// The current secret and older ones. Keys of new data are derived from the current secret; all secrets are accepted.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Derives the keys of new data.
    pub current: SecretText,
    /// Accepted until they are removed from the configuration.
    pub previous: Vec<SecretText>,
}

/// Registration of accounts.
#[derive(Clone, Debug)]
pub struct RegistrationSettings {
    /// Whether anyone may register; if not, only an admin may.
    pub open: bool,
    /// Whether new accounts must verify their address.
    pub verification: Verification,
    /// Whether the registration of a taken address is answered like any other (I12: no response reveals whether an account exists).
    pub conceal: bool,
    /// Usernames that only an admin or an operator may give to an account, in the form that `Username::key` returns.
    pub reserved_usernames: Vec<String>,
}

/// Whether new accounts must verify their address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// No mail is sent.
    Off,
    /// A mail is sent, and the account can sign in before its address is verified.
    Later,
    /// A mail is sent, and the account can't sign in before its address is verified.
    Required,
}

/// Further ways to sign in.
#[derive(Clone, Copy, Debug)]
pub struct LoginSettings {
    /// Whether users can sign in with a code or link from a mail.
    pub email_code: bool,
}

/// Second factors and step-up.
#[derive(Clone, Debug)]
pub struct FactorSettings {
    /// The accounts that must have a second factor.
    pub required: FactorPolicy,
    /// Time in which an account of `required` can sign in without a second factor. It starts at the first such sign-in.
    pub grace: Duration,
    /// Time in which a sign-in must present its second factor or set one up.
    pub challenge_ttl: Duration,
    /// Whether account owners can switch on codes by mail as a second factor.
    pub email_code: bool,
    /// Time during which a device that has passed a second factor signs in without one. `None`: every sign-in needs a second
    /// factor.
    pub remember_device: Option<Duration>,
    /// Maximum number of remembered devices of an account.
    pub max_remembered_devices: u32,
    /// Time during which a session keeps the authentication level (`acr`) of a step-up.
    pub step_up_ttl: Duration,
}

/// The deletion and the e-mail addresses of accounts.
#[derive(Clone, Copy, Debug)]
pub struct AccountSettings {
    /// Time between the request to delete an account and its deletion.
    pub deletion_grace: Duration,
    /// Time in which a change of address can be undone.
    pub undo_window: Duration,
    /// Maximum number of e-mail addresses of an account.
    pub max_emails: usize,
}

/// Limits and timeouts of connections and requests.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Maximum number of open connections of a client network; further connections are closed. Trusted proxies are exempt.
    pub max_connections_per_address: usize,
    /// Maximum number of concurrent requests whose bodies have arrived; 503 above.
    pub max_requests: usize,
    /// Maximum number of request bodies that are still arriving; a further body evicts the oldest (408).
    pub max_pending_bodies: usize,
    /// The limit of `max_pending_bodies` per client network.
    pub max_pending_bodies_per_address: usize,
    /// The limit of `max_pending_bodies` per connection. Connections of trusted proxies are exempt.
    pub max_pending_bodies_per_connection: usize,
    /// Time from accepting a connection to its first byte.
    pub first_byte_timeout: Duration,
    /// Time from the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// Time to receive a request body.
    pub body_timeout: Duration,
    /// Time to answer a request; 503 after it.
    pub request_timeout: Duration,
    /// Time that a kept-alive connection can be idle.
    pub idle_timeout: Duration,
    /// Time for a client to read 16 KiB of a response.
    pub write_timeout: Duration,
    /// Maximum size of a request body in bytes; 413 above.
    pub max_body_bytes: usize,
    /// Maximum size of the headers of a request in bytes; 431 above.
    pub max_header_bytes: usize,
    /// Time between SIGTERM and the end of accepting connections, while /readyz fails.
    pub drain_delay: Duration,
    /// Time for requests in flight to finish after the drain delay.
    pub shutdown_timeout: Duration,
    /// Reverse proxies whose `forwarded_header` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The header to which trusted proxies append the client's address.
    pub forwarded_header: ForwardedHeader,
    /// Origins, in addition to the issuer's, whose pages may call the API (CORS) and use the refresh cookie.
    pub allowed_origins: Vec<String>,
    /// Whether `/docs` and the OpenAPI document are served.
    pub docs: bool,
}

/// The header in which a reverse proxy reports the address of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: a list of addresses.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardedHeader {
    /// The header's name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// The session store.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// The URL; `None` for the embedded Redis in the data directory.
    pub url: Option<RedisUrl>,
    /// The prefix of every key in Redis.
    pub prefix: String,
    /// Number of connections of a node.
    pub pool_size: usize,
    /// Time for a command to complete; 503 after it.
    pub command_timeout: Duration,
    /// Retention of revocation events, longer than the lifetime of access tokens.
    pub event_retention: Duration,
    /// A PEM file of the authorities that may sign the server's certificate; `None` for the system's.
    pub tls_ca: Option<PathBuf>,
    /// A PEM file with the client certificate and its chain.
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the client certificate's private key.
    pub tls_key: Option<PathBuf>,
}

/// A Redis URL, which may contain a password.
pub type RedisUrl = SecretText;

/// The caches that make repeated checks of a token independent of Redis.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// How long a node uses cached sessions without confirmation that it missed no revocation. Zero: Redis is queried on
    /// every request.
    pub max_staleness: Duration,
    /// Maximum number of cached sessions.
    pub max_sessions: usize,
    /// Maximum number of cached verified access tokens.
    pub max_tokens: usize,
}

/// The account database.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// `sqlite://…` or `postgres://…`, which may contain a password.
    pub url: SecretText,
    /// The URL for migrations, if `url` leads through a pooler that can't run them.
    pub migrate_url: Option<SecretText>,
    /// Maximum number of connections.
    pub max_connections: u32,
    /// Time to wait for a free connection; 503 after it.
    pub acquire_timeout: Duration,
}

/// The lifetime of sessions.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// A session ends if it is not refreshed for this time.
    pub idle_timeout: Duration,
    /// A session ends this long after its sign-in.
    pub absolute_timeout: Duration,
    /// Time after a refresh during which the superseded refresh token is answered with the current one.
    pub grace: Duration,
    /// Time after a refresh during which its response counts as possibly lost.
    pub retry_window: Duration,
    /// A session ends when another client's repeats have marked this number of its latest refresh tokens (generations).
    pub counted_repeats_limit: u8,
    /// Maximum number of sessions of an account; the oldest ends when another starts.
    pub max_per_account: u32,
    /// Maximum age of the last authentication for sensitive changes.
    pub recent: Duration,
}

impl SessionSettings {
    /// The rule for superseded refresh tokens.
    pub const fn repeat_rule(&self) -> RepeatRule {
        RepeatRule {
            grace: self.grace,
            retry_window: self.retry_window,
            counted_repeats_limit: self.counted_repeats_limit,
        }
    }
}

/// The claims and lifetime of access tokens.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// Lifetime of access tokens.
    pub access_ttl: Duration,
    /// The `aud` claim.
    pub audience: String,
    /// The `client_id` claim of tokens from `/v1/login`.
    pub client_id: String,
    /// The `scope` claim, scopes separated by spaces.
    pub scope: String,
    /// Tolerated clock difference when `exp`, `nbf` and `iat` are checked.
    pub leeway: Duration,
    /// Whether tokens have the claim `email_verified`.
    pub email_verified: bool,
    /// The members of an account's `app_metadata` that tokens contain.
    pub app_metadata: Vec<String>,
}

impl TokenSettings {
    /// How long a revocation must be kept: afterwards every affected token has expired, even if the clocks of nodes differ by 5 seconds.
    pub fn revocation_retention(&self) -> Duration {
        self.access_ttl + self.leeway + Duration::from_secs(5)
    }
}

/// The rotation of signing keys.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// Algorithm of new keys.
    pub algorithm: Algorithm,
    /// Time between the publication of a new key and its first use.
    pub publish_before: Duration,
    /// Interval at which a node looks for keys that other nodes have created.
    pub refresh_interval: Duration,
}

/// The revocation feed.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Maximum number of subscribers on a node; 503 above.
    pub max_subscribers: usize,
    /// Maximum number of subscribers of one client on a node; 503 above.
    pub max_subscribers_per_client: usize,
}

/// The Prometheus endpoint.
#[derive(Clone, Copy, Debug)]
pub struct MetricsSettings {
    /// The address of the endpoint. `None` for no endpoint.
    pub listen: Option<SocketAddr>,
}

/// The export of traces.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// The URL of the collector. `None` for no traces.
    pub otlp_endpoint: Option<String>,
    /// Share of requests that are traced, 0 to 1.
    pub sample_ratio: f64,
    /// Time for the collector to accept a batch.
    pub timeout: Duration,
    /// Name of the service in traces.
    pub service_name: String,
}

/// The password policy and hashing parameters.
#[derive(Clone, Debug)]
pub struct PasswordSettings {
    /// Minimum number of characters.
    pub min_length: usize,
    /// Maximum number of characters of new passwords.
    pub max_length: usize,
    /// Minimum zxcvbn score, 0 to 4.
    pub min_score: u8,
    /// Words that attackers of this service would guess, such as the name of the product.
    pub banned_words: Vec<String>,
    /// Argon2id memory, KiB.
    pub memory_kib: u32,
    /// Argon2id passes.
    pub iterations: u32,
    /// Argon2id lanes.
    pub parallelism: u32,
    /// Number of hashing threads, at least 1.
    pub threads: usize,
    /// Maximum number of passwords that wait for a hashing thread; 503 above.
    pub queue: usize,
    /// Maximum memory that verifying an imported hash may take, in KiB.
    pub max_import_memory_kib: u32,
    /// Maximum work of verifying an imported hash, as a multiple of an argon2id hash with default parameters.
    pub max_import_work: u32,
    /// Secret that is mixed into every hash.
    pub pepper: Option<SecretText>,
    /// Older peppers that stay accepted.
    pub previous_peppers: Vec<SecretText>,
}

/// The audit log.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// Retention of events. `None` for unlimited.
    pub retention: Option<Duration>,
    /// Recorded part of client addresses.
    pub addresses: AddressPrecision,
    /// Maximum number of events that wait to be written.
    pub queue: usize,
    /// Maximum number of rows about refusals of unknown accounts and clients that a node writes a minute, for each kind of
    /// event.
    pub max_refusals: u64,
    /// Maximum number of rows about refusals of one account or client that a node writes a minute, for each kind of event.
    pub max_refusals_per_account: u64,
}

/// The service log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The format of log lines.
    pub format: LogFormat,
    /// A `tracing` filter: `info`, `latchkey=debug,fred=warn`.
    pub filter: String,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}
