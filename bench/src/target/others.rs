//! Starts the reference services that Latchkey is compared with, and seeds them with sessions: *hello* and the *floor*, which
//! use the same libraries as Latchkey, and FastAPI, Fastify and node-oidc-provider.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use uuid::Uuid;

use super::{CLIENT, Common, Name, PASSWORD, Seeding, Target, basic, local};
use crate::{
    code_flow::AppClient,
    host::{Host, Process, RedisServer, free_port, is_alive},
    resp::Resp,
};

/// The idle timeout of the seeded sessions.
const IDLE_TIMEOUT_MS: u64 = 7 * 24 * 3600 * 1000;
/// The lifetime of the seeded sessions.
const LIFETIME_MS: u64 = 30 * 24 * 3600 * 1000;

const NO_REDIS: Option<RedisServer> = None;
const NO_WORKERS: usize = 0;

impl Target {
    /// Starts *hello*, which answers every request with constant JSON.
    pub fn hello(host: &Host) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(host.programs.join("latchkey-bench-reference"));
        command.args(["hello", &port.to_string()]);
        start(host, Name::Hello, command, port, NO_REDIS, Seeding::None, NO_WORKERS)
    }

    /// Starts the *floor*, a minimal server that makes one Redis call for each request.
    pub fn floor(host: &Host) -> anyhow::Result<Self> {
        let redis = RedisServer::start(host, "floor", host.persistence)?;
        let port = free_port()?;
        let mut command = Command::new(host.programs.join("latchkey-bench-reference"));
        command.args(["floor", &port.to_string(), &redis.port.to_string()]);
        start(host, Name::Floor, command, port, Some(redis), Seeding::Floor, NO_WORKERS)
    }

    /// Starts FastAPI with one worker per core.
    pub fn fastapi(host: &Host, common: &Common, cores: usize) -> anyhow::Result<Self> {
        let redis = RedisServer::start(host, "fastapi", host.persistence)?;
        let port = free_port()?;
        let mut command = Command::new(host.tool("venv/bin/python"));
        command.args(["-m", "uvicorn", "service:app", "--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--workers", &cores.to_string(), "--loop", "uvloop", "--http", "httptools"]);
        command.args(["--no-access-log", "--log-level", "warning", "--timeout-keep-alive", "60"]);
        command.current_dir(host.root.join("bench/references/fastapi"));
        // one hashing thread per worker, so that the hashing threads are as many as the cores
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("HASHING_THREADS", "1");
        set_environment(&mut command, common, &redis);
        start(host, Name::FastApi, command, port, Some(redis), Seeding::SharedRecords, cores)
    }

    /// Starts a Fastify cluster with one worker per core.
    pub fn fastify(host: &Host, common: &Common, cores: usize) -> anyhow::Result<Self> {
        let redis = RedisServer::start(host, "fastify", host.persistence)?;
        let port = free_port()?;
        // Node resolves modules from the file's folder, so the file is copied to where the packages are.
        let folder = host.tool("node/fastify");
        fs::create_dir_all(&folder)?;
        fs::copy(host.root.join("bench/references/fastify/service.js"), folder.join("service.js"))?;
        let lua = host.tool("node/lua");
        fs::create_dir_all(&lua)?;
        for script in ["create.lua", "rotate.lua", "revoke.lua"] {
            fs::copy(host.root.join("bench/references/lua").join(script), lua.join(script))?;
        }
        let mut command = Command::new(host.tool("bin/node"));
        command.arg("service.js").current_dir(&folder);
        command.env("PORT", port.to_string()).env("WORKERS", cores.to_string()).env("NODE_ENV", "production");
        // one hashing thread per worker, as for FastAPI
        command.env("UV_THREADPOOL_SIZE", "1").env("NODE_NO_WARNINGS", "1");
        set_environment(&mut command, common, &redis);
        start(host, Name::Fastify, command, port, Some(redis), Seeding::SharedRecords, cores)
    }

    /// Starts a cluster of node-oidc-provider with one worker per core.
    pub fn oidc_provider(host: &Host, common: &Common, cores: usize) -> anyhow::Result<Self> {
        let redis = RedisServer::start(host, "oidc-provider", host.persistence)?;
        let port = free_port()?;
        let folder = host.tool("oidc-provider");
        fs::copy(host.root.join("bench/references/oidc-provider/service.js"), folder.join("service.js"))?;
        let mut command = Command::new(host.tool("bin/node"));
        command.arg("service.js").current_dir(&folder);
        command.env("PORT", port.to_string()).env("WORKERS", cores.to_string()).env("NODE_ENV", "production");
        command.env("NODE_NO_WARNINGS", "1");
        set_environment(&mut command, common, &redis);
        let target = start(host, Name::OidcProvider, command, port, Some(redis), Seeding::OidcProvider, cores)?;
        let (id, _secret) = CLIENT.split_once(':').unwrap_or_default();
        let app = AppClient { id: id.to_owned(), authorization: basic(CLIENT) };
        Ok(Self { app: Some(app), ..target })
    }
}

/// The header line that a TLS-terminating proxy in front of node-oidc-provider would add.
pub(super) const BEHIND_TLS: &str = "X-Forwarded-Proto: https\r\n";

/// Sets the environment variables that FastAPI, Fastify and node-oidc-provider read.
fn set_environment(command: &mut Command, common: &Common, redis: &RedisServer) {
    command.env("REDIS_URL", redis.url()).env("DATABASE", &common.database).env("KEY", &common.key);
    command.env("KID", "bench").env("CLIENT", CLIENT);
}

/// Starts a reference service, and waits up to 5 s until it runs this many workers, which are its child processes. A service
/// without workers is a single process.
fn start(
    host: &Host,
    name: Name,
    command: Command,
    port: u16,
    redis: Option<RedisServer>,
    seeding: Seeding,
    workers: usize,
) -> anyhow::Result<Target> {
    let processes = 1 + workers;
    let address = local(port);
    let log = host.create_folder("logs")?.join(name.text());
    let mut process = Process::start(command, &log, || is_alive(address))?;
    // the first worker answers before the others have started
    for _ in 0..500 {
        process.update_pids();
        if process.pids.len() >= processes {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    // the last worker may still be loading its modules
    thread::sleep(Duration::from_millis(500));
    process.update_pids();
    ensure!(
        process.pids.len() >= processes,
        "{}: {} of {processes} processes started",
        name.text(),
        process.pids.len()
    );
    Ok(Target {
        name,
        resident_idle: process.usage().resident,
        process,
        address,
        redis_pids: redis.iter().flat_map(|server| server.process.pids.clone()).collect(),
        // `url`, `folder` and `program` start further nodes, which reference services do not have
        url: String::new(),
        folder: host.folder.clone(),
        program: PathBuf::new(),
        redis: redis.into_iter().collect(),
        per_account: 1,
        authorization: basic(CLIENT),
        sessions: VecDeque::new(),
        access: Vec::new(),
        app: None,
        authenticator: None,
        seeding,
    })
}

/// Measures how many password hashes per second this many threads compute, without any service.
pub fn bare_argon2(host: &Host, threads: usize, seconds: u64) -> anyhow::Result<f64> {
    let output = Command::new(host.programs.join("latchkey-bench-reference"))
        .args(["argon2", &threads.to_string(), &seconds.to_string()])
        .output()?;
    ensure!(output.status.success(), "argon2: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Creates the SQLite database from which FastAPI and Fastify read the accounts.
pub fn make_database(host: &Host, common: &Common) -> anyhow::Result<()> {
    let status = Command::new(host.tool("venv/bin/python"))
        .arg(host.root.join("bench/references/accounts.py"))
        .args([&common.accounts, &common.database])
        .status()?;
    ensure!(status.success(), "accounts.py failed");
    Ok(())
}

/// The memory of one password hash in KiB: OWASP's parameter, and the default of `password.memory_kib`.
pub const HASH_MEMORY_KIB: u32 = 19_456;

/// The password hash of all accounts, with OWASP's parameters, which every target uses.
pub(super) fn password_hash() -> anyhow::Result<String> {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
    // two passes, one lane and a hash of 32 bytes
    let params = Params::new(HASH_MEMORY_KIB, 2, 1, Some(32)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(PASSWORD.as_bytes(), b"a salt of 16 b..");
    Ok(hash.map_err(|error| anyhow::anyhow!("{error}"))?.to_string())
}

/// Generates the signing key of FastAPI, Fastify and node-oidc-provider, and writes it as PEM.
pub(super) fn write_key(path: &Path) -> anyhow::Result<()> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("generating a key")?;
    let document = key.to_pkcs8v1().context("encoding the generated key")?;
    let base64 = BASE64_STANDARD.encode(document.as_ref());
    fs::write(path, format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n"))?;
    Ok(())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Creates sessions of the floor, as the records that its refresh script expects, and returns their refresh tokens.
pub(super) fn seed_floor(redis: &RedisServer, count: usize) -> anyhow::Result<Vec<String>> {
    let mut redis = Resp::connect(redis.port)?;
    let mut tokens = Vec::with_capacity(count);
    let (now, idle) = (now_ms(), IDLE_TIMEOUT_MS.to_string());
    // big-endian: the generation 0 (u32), when the session was last used and when it ends (u48 milliseconds each)
    let mut record = [0; 16];
    record[4..10].copy_from_slice(&now.to_be_bytes()[2..]);
    record[10..16].copy_from_slice(&(now + LIFETIME_MS).to_be_bytes()[2..]);
    for _ in 0..count {
        let sid = Uuid::new_v4().to_string();
        redis.pipe(&[b"SET", sid.as_bytes(), &record, b"PX", idle.as_bytes()])?;
        // a refresh token of the floor: session id and generation
        tokens.push(format!("{sid}.0"));
    }
    redis.finish()?;
    Ok(tokens)
}

/// Creates sessions of FastAPI or Fastify, as the records that their `create.lua` writes, and returns their refresh tokens.
pub(super) fn seed_shared_records(redis: &RedisServer, count: usize) -> anyhow::Result<Vec<String>> {
    let mut redis = Resp::connect(redis.port)?;
    let mut tokens = Vec::with_capacity(count);
    let seeded_at = now_ms();
    let (now, ends) = (seeded_at.to_string(), (seeded_at + LIFETIME_MS).to_string());
    let idle = IDLE_TIMEOUT_MS.to_string();
    for _ in 0..count {
        let (sid, user) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        // 43 characters, as many as 32 bytes have in base64url
        let secret = format!("{}{}", Uuid::new_v4().simple(), &Uuid::new_v4().simple().to_string()[..11]);
        let hash: String =
            digest(&SHA256, secret.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let key = format!("session:{sid}");
        redis.pipe(&[
            b"HSET",
            key.as_bytes(),
            b"user",
            user.as_bytes(),
            b"current",
            hash.as_bytes(),
            b"created",
            now.as_bytes(),
            b"used",
            now.as_bytes(),
            b"ends",
            ends.as_bytes(),
        ])?;
        redis.pipe(&[b"PEXPIRE", key.as_bytes(), idle.as_bytes()])?;
        let user_sessions = format!("user:{user}");
        redis.pipe(&[b"SADD", user_sessions.as_bytes(), sid.as_bytes()])?;
        redis.pipe(&[b"PEXPIREAT", user_sessions.as_bytes(), ends.as_bytes()])?;
        tokens.push(format!("{sid}.{secret}"));
    }
    redis.finish()?;
    Ok(tokens)
}
