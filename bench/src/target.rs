//! A benchmark target: a server with its own Redis, sessions and access tokens.

mod latchkey;
mod others;

use std::{
    collections::VecDeque,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};

pub use latchkey::{Filler, Settings};
pub use others::{HASH_MEMORY_KIB, bare_argon2, make_database};

use crate::{
    code_flow::{AppClient, BrowserSignIn},
    host::{Host, Process, RedisServer},
    load,
    passkeys::Authenticator,
    workload::{Refresh, SignIn},
};

/// The name of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// Latchkey.
    Latchkey,
    /// A Latchkey node without caches, on the Redis and database of [`Self::Latchkey`].
    LatchkeyCold,
    /// An earlier version of Latchkey, on a Redis and database of its own.
    Baseline,
    /// A node of the earlier version without caches, on the Redis and database of [`Self::Baseline`].
    BaselineCold,
    /// A handler with constant JSON.
    Hello,
    /// A minimal server: a refresh is one Redis script and one signature, an introspection one verification and one Redis `GET`.
    Floor,
    /// Threads that only compute argon2 hashes, without HTTP.
    Argon2,
    /// The reference service on FastAPI.
    FastApi,
    /// The reference service on Fastify.
    Fastify,
    /// node-oidc-provider.
    OidcProvider,
}

impl Name {
    /// The printed name.
    pub fn text(self) -> &'static str {
        match self {
            Self::Latchkey => "latchkey",
            Self::LatchkeyCold => "latchkey-cold",
            Self::Baseline => "baseline",
            Self::BaselineCold => "baseline-cold",
            Self::Hello => "hello",
            Self::Floor => "floor",
            Self::Argon2 => "bare argon2",
            Self::FastApi => "FastAPI",
            Self::Fastify => "Fastify",
            Self::OidcProvider => "node-oidc-provider",
        }
    }
}

/// A running target.
pub struct Target {
    /// The name.
    pub name: Name,
    /// The server process and its workers.
    pub process: Process,
    /// The address.
    pub address: SocketAddr,
    /// The Redis servers that this target owns: none for a further node (it uses the first node's), several for a Redis Cluster.
    pub redis: Vec<RedisServer>,
    /// Process ids of the Redis servers that the target uses.
    pub redis_pids: Vec<u32>,
    /// The Redis URL, with which further nodes start.
    url: String,
    /// The data folder, in which further nodes start.
    folder: PathBuf,
    /// The binary that further nodes run.
    program: PathBuf,
    /// The `Authorization` header of introspections.
    pub authorization: String,
    /// Valid refresh tokens, least recently used first.
    pub sessions: VecDeque<String>,
    /// Access tokens with their session ids.
    pub access: Vec<(String, String)>,
    /// The client that signs users in, if the target has one.
    pub app: Option<AppClient>,
    /// The passkeys of the accounts, if the target has passkeys.
    pub authenticator: Option<Authenticator>,
    /// Resident memory before the first request, in bytes.
    pub resident_idle: u64,
    /// The number of sessions that [`Self::seed`] creates for each account.
    pub per_account: usize,
    seeding: Seeding,
}

/// How a target gets sessions before a measurement.
enum Seeding {
    /// The target gets no sessions.
    None,
    /// With Latchkey's own script.
    Latchkey(Box<Filler>),
    /// As the records of the floor's script.
    Floor,
    /// As records in the format that FastAPI and Fastify share.
    SharedRecords,
    /// By signing browsers in over HTTP.
    OidcProvider,
}

/// Files that targets start from.
pub struct Common {
    /// The number of accounts.
    pub count: usize,
    /// The accounts as JSON lines for `latchkey user import`.
    pub accounts: PathBuf,
    /// The accounts in SQLite, for FastAPI and Fastify.
    pub database: PathBuf,
    /// Signing key of FastAPI, Fastify and node-oidc-provider.
    pub key: PathBuf,
}

/// The number of connections that prepare sessions before a measurement.
const PREPARING_CONNECTIONS: usize = 16;
/// The number of connections that sign in by password. A password hash takes a core, so more connections would only wait.
const SIGN_IN_CONNECTIONS: usize = 4;

/// Password of all accounts.
pub const PASSWORD: &str = "correct horse battery staple";
/// Id and secret of the client of FastAPI, Fastify and node-oidc-provider.
const CLIENT: &str = "bench:a-secret-of-this-benchmark-only";

/// E-mail address of an account.
pub fn email(number: usize) -> String {
    format!("user{number}@example.com")
}

/// The `Authorization` header for `ID:SECRET`.
fn basic(client: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(client))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Target {
    /// Creates sessions directly in the target's own Redis and returns their refresh tokens. Returns none for further nodes, for
    /// targets without sessions, and for node-oidc-provider, whose sessions [`Self::sign_in_browsers`] creates.
    pub fn seed(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let Some(redis) = self.redis.first() else { return Ok(Vec::new()) };
        match &self.seeding {
            Seeding::Latchkey(filler) => filler.fill(count, self.per_account),
            Seeding::Floor => others::seed_floor(redis, count),
            Seeding::SharedRecords => others::seed_shared_records(redis, count),
            Seeding::None | Seeding::OidcProvider => Ok(Vec::new()),
        }
    }

    /// Signs `count` browsers in, and returns the header lines that their requests send.
    pub fn sign_in_browsers(&self, count: usize) -> anyhow::Result<VecDeque<String>> {
        match (&self.seeding, &self.app) {
            (Seeding::Latchkey(filler), _) => filler.create_browser_sessions(count),
            (Seeding::OidcProvider, Some(app)) => {
                let mut sign_in = BrowserSignIn::new(app, others::BEHIND_TLS, count, PREPARING_CONNECTIONS);
                load::exhaust(self.address, PREPARING_CONNECTIONS, &mut sign_in).context("signing browsers in")?;
                Ok(sign_in.browsers)
            }
            _ => anyhow::bail!("{} has no browsers", self.name.text()),
        }
    }

    /// Signs the first `count` accounts in by password, and returns their access tokens.
    pub fn sign_in(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let mut sign_in = SignIn::new(count);
        load::exhaust(self.address, SIGN_IN_CONNECTIONS, &mut sign_in).with_context(|| self.name.text())?;
        Ok(sign_in.tokens)
    }

    /// Refreshes `count` of the sessions, and keeps the new access tokens in [`Self::access`].
    pub fn collect_access_tokens(&mut self, count: usize) -> anyhow::Result<()> {
        let mut refresh = Refresh::new(&mut self.sessions, PREPARING_CONNECTIONS);
        refresh.tokens_to_collect = Some(count);
        load::exhaust(self.address, PREPARING_CONNECTIONS, &mut refresh).with_context(|| self.name.text())?;
        self.access = refresh.collected;
        Ok(())
    }
}

impl Common {
    /// Writes the accounts' JSON lines and the key. [`make_database`] creates the database.
    pub fn prepare(host: &Host, count: usize) -> anyhow::Result<Self> {
        let folder = host.create_folder("common")?;
        // all accounts have the same password, so one hash serves them all
        let hash = others::password_hash()?;
        let lines: String = (0..count)
            .map(|number| format!("{}\n", serde_json::json!({ "email": email(number), "password_hash": hash })))
            .collect();
        let common = Self {
            count,
            accounts: folder.join("accounts.jsonl"),
            database: folder.join("accounts.db"),
            key: folder.join("key.pem"),
        };
        fs::write(&common.accounts, lines)?;
        others::write_key(&common.key)?;
        Ok(common)
    }
}
