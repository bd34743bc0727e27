//! What is measured: a server with a Redis of its own, the sessions and access tokens that live there.

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
pub use others::{bare_argon2, make_database};

use crate::{
    host::{Host, Process, RedisServer},
    load,
    workload::Refresh,
};

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// The service.
    Latchkey,
    /// The service with its memory of tokens and sessions off, on the same Redis and database.
    LatchkeyCold,
    /// Constant JSON.
    Hello,
    /// One script and one signature, or one signature checked and one `GET`.
    Floor,
    /// Threads that hash and do nothing else.
    Argon2,
    /// Python.
    FastApi,
    /// Node.js.
    Fastify,
}

impl Name {
    /// As it is printed.
    pub fn text(self) -> &'static str {
        match self {
            Self::Latchkey => "latchkey",
            Self::LatchkeyCold => "latchkey-cold",
            Self::Hello => "hello",
            Self::Floor => "floor",
            Self::Argon2 => "bare argon2",
            Self::FastApi => "FastAPI",
            Self::Fastify => "Fastify",
        }
    }
}

/// A server that runs.
pub struct Target {
    /// Who.
    pub name: Name,
    /// The server and its workers.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its sessions are; none, where another node of it has that.
    pub redis: Vec<RedisServer>,
    /// The Redis processes that it asks.
    pub stores: Vec<u32>,
    /// Where other nodes find it, and the database.
    url: String,
    folder: PathBuf,
    /// `Authorization` of a service client.
    pub authorization: String,
    /// Refresh tokens that are good, the one used longest ago first.
    pub sessions: VecDeque<String>,
    /// Access tokens and their sessions' ids.
    pub access: Vec<(String, String)>,
    /// What was resident when nothing had been asked.
    pub resident_idle: u64,
    /// Sessions of each account among those that are made.
    pub per_account: usize,
    seeding: Seeding,
}

enum Seeding {
    None,
    Latchkey(Box<Filler>),
    Floor,
    Stack,
}

/// What all targets are given.
pub struct Common {
    /// The accounts, one a line, as `latchkey user import` reads them.
    pub accounts: PathBuf,
    /// The same in SQLite, for the references.
    pub database: PathBuf,
    /// The references' signing key.
    pub key: PathBuf,
}

/// The password of all accounts.
pub const PASSWORD: &str = "correct horse battery staple";
/// The references' service client.
const CLIENT: &str = "bench:a-secret-of-this-benchmark-only";

/// The e-mail address of an account.
pub fn email(number: usize) -> String {
    format!("user{number}@example.com")
}

fn basic(client: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(client))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Target {
    /// Makes sessions, without asking the server for any of them. They may be refreshed and ended like others.
    pub fn seed(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let Some(redis) = self.redis.first() else { return Ok(Vec::new()) };
        match &self.seeding {
            Seeding::None => Ok(Vec::new()),
            Seeding::Latchkey(filler) => filler.fill(count, self.per_account),
            Seeding::Floor => others::seed_floor(redis, count),
            Seeding::Stack => others::seed_stack(redis, count),
        }
    }

    /// Gets access tokens of so many sessions, by refreshing them.
    pub fn collect_access_tokens(&mut self, count: usize) -> anyhow::Result<()> {
        let mut refresh = Refresh::new(&mut self.sessions, 16);
        refresh.collect = Some((count, Vec::new()));
        load::exhaust(self.address, 16, &mut refresh).with_context(|| self.name.text())?;
        let collected = refresh.collect.take().map(|(_, collected)| collected).unwrap_or_default();
        drop(refresh);
        self.access = collected;
        Ok(())
    }
}

impl Common {
    /// Makes the accounts and the key.
    pub fn prepare(place: &Host, count: usize) -> anyhow::Result<Self> {
        let folder = place.folder("common")?;
        let hash = others::password_hash()?;
        let lines: String = (0..count)
            .map(|number| format!("{}\n", serde_json::json!({ "email": email(number), "password_hash": hash })))
            .collect();
        let common = Self {
            accounts: folder.join("accounts.jsonl"),
            database: folder.join("accounts.db"),
            key: folder.join("key.pem"),
        };
        fs::write(&common.accounts, lines)?;
        others::write_key(&common.key)?;
        Ok(common)
    }
}
