//! The configuration, as the service means it. Made once, at start-up, by [`load`]; what each key is for, its default
//! and its environment variable stand in `defaults.toml`, beside this file.

mod check;
mod duration;
mod env;
mod error;
mod interpret;
mod limits;
mod load;
mod raw;
mod read;
pub mod schema;
mod secret_file;
mod secret_strength;
mod show;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::domain::{audit::Addresses, key::Algorithm, secret::SecretText};

pub use self::{
    error::{ConfigError, Origin, Problem},
    limits::{Ipv6Network, LimitSettings},
    load::{Sources, load, load_existing, load_log_settings},
    show::{Shown, inspect, to_toml},
};
pub(crate) use check::filter;
pub(crate) use duration::parse as parse_duration;
pub(crate) use schema::default_text;

/// Everything that can be configured, checked and resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The `iss` of every token, compared as a string by those who check it: no trailing slash.
    pub issuer: String,
    /// Where everything that is not in a configured Redis or database is kept.
    pub data_dir: PathBuf,
    /// Whether other nodes serve the same sessions. A private Redis is refused then.
    pub multi_node: bool,
    /// From which all keys are derived.
    pub secrets: Secrets,
    /// Whether anyone may register.
    pub registration: Registration,
    /// Limits and time-outs of connections and requests.
    pub http: HttpSettings,
    /// Where sessions live.
    pub redis: RedisSettings,
    /// What a node remembers of sessions and tokens.
    pub cache: CacheSettings,
    /// Where accounts live.
    pub database: DatabaseSettings,
    /// How long sessions live.
    pub session: SessionSettings,
    /// What access tokens hold.
    pub token: TokenSettings,
    /// How signing keys change.
    pub keys: KeySettings,
    /// Those who follow the revocations.
    pub feed: FeedSettings,
    /// What Prometheus reads.
    pub metrics: MetricsSettings,
    /// Where traces are sent.
    pub telemetry: TelemetrySettings,
    /// How often things may be asked for.
    pub limits: LimitSettings,
    /// What passwords must be and how they are hashed.
    pub password: PasswordSettings,
    /// What is kept of security events.
    pub audit: AuditSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// What works but shouldn't stay so, to be logged at start-up.
    pub warnings: Vec<String>,
}

/// The service's secret and those before it. The first derives what is made now; all are accepted.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Derives every key that is used from now on.
    pub current: SecretText,
    /// Still accepted; removed when nothing made under them is left.
    pub previous: Vec<SecretText>,
}

/// Who may register.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Whether `POST /v1/users` is open to anyone; if not, only an admin may call it.
    pub open: bool,
}

/// Limits and time-outs of connections and requests.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Open connections; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// Open connections per client network; further ones are closed. Trusted proxies are exempt.
    pub max_connections_per_address: usize,
    /// Concurrent requests whose bodies have arrived; 503 above.
    pub max_requests: usize,
    /// Request bodies that are still arriving; a further one evicts the oldest (408).
    pub max_pending_bodies: usize,
    /// The same per client network.
    pub max_pending_bodies_per_address: usize,
    /// The same per connection. Connections of trusted proxies are exempt.
    pub max_pending_bodies_per_connection: usize,
    /// From accepting a connection to its first byte.
    pub first_byte_timeout: Duration,
    /// From a request's first byte to the end of its headers.
    pub header_timeout: Duration,
    /// To read a request's body.
    pub body_timeout: Duration,
    /// To answer a request; 503 after that.
    pub request_timeout: Duration,
    /// How long a kept-alive connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How long a reader may take for 16 KiB of an answer; given up after that.
    pub write_timeout: Duration,
    /// A request's body, in bytes; 413 above.
    pub max_body_bytes: usize,
    /// A request's headers together, in bytes; 431 above.
    pub max_header_bytes: usize,
    /// How long to go on serving after a signal to stop, as not ready.
    pub drain_delay: Duration,
    /// How long requests in flight may take when that is over.
    pub shutdown_timeout: Duration,
    /// Reverse proxies whose `forwarded_header` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The header that trusted proxies append the client's address to.
    pub forwarded_header: ForwardedHeader,
    /// Origins, beside the issuer's own, whose pages may call and use the cookie.
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

/// Where sessions live.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// None for a private Redis of the service's own in the data folder.
    pub url: Option<RedisUrl>,
    /// What every key starts with.
    pub prefix: String,
    /// Connections.
    pub pool_size: usize,
    /// How long a command may take; 503 after that.
    pub command_timeout: Duration,
    /// How long to keep the events of revocations; at least as long as an access token lives.
    pub event_retention: Duration,
}

/// What a node remembers of sessions and tokens, so that checking a token again asks nobody.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// How long a node believes what it remembers after it was last sure of hearing all revocations, and so how long the
    /// end of a session may wait at worst to be known everywhere. Zero: Redis is asked every time.
    pub max_staleness: Duration,
    /// Sessions that are remembered at most.
    pub max_sessions: usize,
    /// Verified access tokens that are remembered at most.
    pub max_tokens: usize,
}

/// A Redis address with, perhaps, a password in it: doesn't print.
pub type RedisUrl = SecretText;

/// Where accounts live.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// `sqlite://…` or `postgres://…`, perhaps with a password in it.
    pub url: SecretText,
    /// A direct address for migrations, where `url` leads through a pooler that can't run them.
    pub migrate_url: Option<SecretText>,
    /// Connections at most.
    pub max_connections: u32,
    /// How long to wait for a connection; 503 after that.
    pub acquire_timeout: Duration,
}

/// How long sessions live.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// A session that isn't refreshed for this long ends.
    pub idle_timeout: Duration,
    /// A session ends this long after its sign-in, whatever happens.
    pub absolute_timeout: Duration,
    /// How long a superseded refresh token is still answered with the current one; zero is strict.
    pub grace: Duration,
    /// Sessions per account; the oldest ends when another starts.
    pub max_per_account: u32,
}

/// What access tokens hold.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// How long an access token is valid.
    pub access_ttl: Duration,
    /// The `aud` claim.
    pub audience: String,
    /// The `client_id` claim of tokens from `/v1/login`.
    pub client_id: String,
    /// The `scope` claim, scopes separated by spaces.
    pub scope: String,
    /// How far clocks may differ when `exp`, `nbf` and `iat` are checked.
    pub leeway: Duration,
}

/// How signing keys change.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// What new keys are made for.
    pub algorithm: Algorithm,
    /// How long a new key is published before it signs, so that caches know it by then.
    pub publish_before: Duration,
    /// How often a node looks for keys that another made.
    pub refresh_interval: Duration,
}

/// Those who follow the revocations.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// How often they are told that they have missed none.
    pub heartbeat: Duration,
    /// How many there may be at once; 503 above.
    pub max_subscribers: usize,
}

/// What Prometheus reads.
#[derive(Clone, Copy, Debug)]
pub struct MetricsSettings {
    /// Where; none for nowhere.
    pub listen: Option<SocketAddr>,
}

/// Where traces are sent.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// The collector's address; none where no traces are made.
    pub otlp_endpoint: Option<String>,
    /// Which part of the requests is traced, 0 to 1.
    pub sample_ratio: f64,
    /// How long the collector may take.
    pub timeout: Duration,
    /// What the service is called.
    pub service_name: String,
}

/// What passwords must be and how they are hashed.
#[derive(Clone, Debug)]
pub struct PasswordSettings {
    /// Fewest characters.
    pub min_length: usize,
    /// Most characters.
    pub max_length: usize,
    /// The least zxcvbn score, 0 to 4.
    pub min_score: u8,
    /// SpaceSeparated that make a password guessable here: the product's name, the company's.
    pub banned_words: Vec<String>,
    /// Argon2id memory, KiB.
    pub memory_kib: u32,
    /// Argon2id passes.
    pub iterations: u32,
    /// Argon2id lanes.
    pub parallelism: u32,
    /// Hashing threads.
    pub threads: usize,
    /// Hashings that may wait; 503 above.
    pub queue: usize,
    /// What an imported hash may ask for at most, in KiB of memory.
    pub max_import_memory_kib: u32,
    /// Mixed into every hash and kept out of the database.
    pub pepper: Option<SecretText>,
    /// Peppers of older hashes.
    pub previous_peppers: Vec<SecretText>,
}

/// What is kept of security events.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// How long; none for ever.
    pub retention: Option<Duration>,
    /// How much of clients' addresses.
    pub addresses: Addresses,
    /// Events that may wait to be written down.
    pub queue: usize,
    /// Rows about refusals of unknown accounts and clients that a node writes in a minute, for each kind of event.
    pub max_refusals: u64,
    /// Rows about refusals of one account or client that a node writes in a minute, for each kind of event.
    pub max_refusals_per_account: u64,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Text, JSON, or whichever suits where it goes.
    pub format: LogFormat,
    /// A `tracing` filter: `info`, `latchkey=debug,fred=warn`.
    pub filter: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}
