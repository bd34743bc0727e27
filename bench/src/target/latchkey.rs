//! Starts Latchkey, configured as in production but without rate limits, and creates its sessions.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use aws_lc_rs::rand;
use futures_util::{StreamExt, stream};
use latchkey::{
    config::{CacheSettings, RedisSettings, Secrets},
    crypto::{
        browser_token::BrowserTokens,
        derive::{self, derive},
        origin_tag::OriginTagger,
        refresh_token::{RefreshClaims, RefreshTokens},
    },
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        clock::Timestamp,
        ids::{AccountId, SessionId},
        secret::SecretText,
        session::{Grant, OriginTag, SessionOrigin, Transport},
    },
    runtime::Cores,
    store::redis::{CreateOutcome, NewSession, RedisStores, SessionBasis},
};
use tokio::runtime::Runtime;

use super::{Common, Name, Seeding, Target, basic, local};
use crate::{
    code_flow::{AppClient, CALLBACK},
    host::{Host, Process, RedisServer, START_TIMEOUT, free_port, is_alive},
    passkeys::Authenticator,
};

/// Environment variables in addition to those of every node.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

const SECRET: &str = "a benchmark's secret that is long enough";
const IDLE_TIMEOUT: Duration = Duration::from_hours(7 * 24);
const ABSOLUTE_TIMEOUT: Duration = Duration::from_hours(30 * 24);
/// Address and user agent of the sessions: those of the load generator, because in production most refreshes of a session come
/// from the same caller.
const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const USER_AGENT: &str = "latchkey-bench";
/// Age of the created sessions: longer than the grace window. `rotate_fast.lua` handles a refresh only if the session's last use, here
/// its creation, was before the grace window.
const SESSION_AGE: Duration = Duration::from_mins(1);
/// `redis.event_retention`, which must be longer than the lifetime of the access tokens.
const EVENT_RETENTION: Duration = Duration::from_hours(2);

/// Number of sessions created concurrently.
const CONCURRENT_CREATES: usize = 512;

/// Rate limits that every version has. The benchmark turns them off.
const LIMITS: [&str; 7] = [
    "LOGIN_PER_ADDRESS",
    "LOGIN_SERVICE",
    "LOGIN_BACKOFF_AFTER",
    "REGISTRATION_PER_ADDRESS",
    "REFRESH_PER_ADDRESS",
    "REFRESH_PER_ACCOUNT",
    "INTROSPECTION_PER_CLIENT",
];
/// Further rate limits to turn off, not set for the baseline: an earlier version refuses settings that it does not know.
const NEWER_LIMITS: [&str; 4] =
    ["PASSKEY_PER_ADDRESS", "PASSKEY_SERVICE", "AUTHORIZATION_PER_ADDRESS", "AUTHORIZATION_SERVICE"];

/// The program of a node with its environment. The caller adds the arguments.
fn command(program: &Path, name: Name, folder: &Path, redis_url: &str, port: u16) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // The environment of the benchmark may set Latchkey's settings. LATCHKEY_PROGRAM is the benchmark's own variable.
    for (variable, value) in std::env::vars() {
        if variable.starts_with("LATCHKEY_") && variable != "LATCHKEY_PROGRAM" {
            command.env(variable, value);
        }
    }
    command
        .env("LATCHKEY_LISTEN", format!("127.0.0.1:{port}"))
        .env("LATCHKEY_ISSUER", "https://auth.example.com")
        .env("LATCHKEY_REDIS_URL", redis_url)
        .env("LATCHKEY_SECRET", SECRET)
        .env("LATCHKEY_DATA_DIR", folder)
        // no access log: the services that Latchkey is compared with have none either
        .env("LATCHKEY_LOG_FILTER", "warn")
        // the tokens must outlive the benchmark
        .env("LATCHKEY_TOKEN_ACCESS_TTL", "1h")
        .env("LATCHKEY_REDIS_EVENT_RETENTION", format!("{}s", EVENT_RETENTION.as_secs()));
    let newer_limits: &[&str] = if name == Name::Baseline { &[] } else { &NEWER_LIMITS };
    for limit in LIMITS.iter().chain(newer_limits) {
        command.env(format!("LATCHKEY_LIMITS_{limit}"), "off");
    }
    command
}

impl Target {
    /// Starts Latchkey on its own Redis.
    pub fn latchkey(host: &Host, common: &Common) -> anyhow::Result<Self> {
        let redis = RedisServer::start(host, "latchkey", host.persistence)?;
        let url = redis.url();
        Self::latchkey_on(host, common, vec![redis], &url, &[])
    }

    /// Starts an earlier version on its own Redis, without apps and passkeys, which that version may lack.
    pub fn baseline(host: &Host, common: &Common, program: &Path) -> anyhow::Result<Self> {
        let redis = RedisServer::start(host, "baseline", host.persistence)?;
        let url = redis.url();
        Self::start(host, common, Name::Baseline, program, vec![redis], &url, &[])
    }

    /// Starts Latchkey on these Redis servers, which `url` names.
    pub fn latchkey_on(
        host: &Host,
        common: &Common,
        redis: Vec<RedisServer>,
        url: &str,
        settings: Settings<'_>,
    ) -> anyhow::Result<Self> {
        Self::start(host, common, Name::Latchkey, &host.latchkey(), redis, url, settings)
    }

    fn start(
        host: &Host,
        common: &Common,
        name: Name,
        program: &Path,
        redis: Vec<RedisServer>,
        url: &str,
        settings: Settings<'_>,
    ) -> anyhow::Result<Self> {
        let folder = host.create_folder(name.text())?;
        let run = |arguments: &[&str]| {
            let unused_port = 0;
            let output =
                command(program, name, &folder, url, unused_port).args(arguments).stdin(Stdio::null()).output();
            let output = output.context("running latchkey")?;
            ensure!(output.status.success(), "latchkey {arguments:?}: {output:?}");
            anyhow::Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        run(&["migrate"])?;
        run(&["user", "import", &common.accounts.to_string_lossy()])?;
        let client = run(&["client", "add", "bench"])?;
        let client_id = printed_value(&client, "client_id: ")?;
        let client_secret = printed_value(&client, "client_secret: ")?;
        let authorization = basic(&format!("{client_id}:{client_secret}"));
        let (app, authenticator) = if name == Name::Baseline {
            (None, None)
        } else {
            let added = run(&["client", "add", "bench-app", "--kind", "web", "--redirect-uri", CALLBACK])?;
            let secret = printed_value(&added, "client_secret: ")?;
            let authorization = basic(&format!("bench-app:{secret}"));
            let app = AppClient { id: "bench-app".to_owned(), authorization };
            (Some(app), Some(Authenticator::register(&folder, common.count)?))
        };
        let filler = Filler::connect(url)?;
        let (process, address) = serve(program, name, &folder, url, "log", settings)?;
        Ok(Self {
            name,
            resident_idle: process.usage().resident,
            process,
            address,
            redis_pids: redis.iter().flat_map(|redis| redis.process.pids.clone()).collect(),
            redis,
            url: url.to_owned(),
            folder,
            program: program.to_owned(),
            authorization,
            sessions: Default::default(),
            access: Vec::new(),
            app,
            authenticator,
            per_account: 1,
            seeding: Seeding::Latchkey(Box::new(filler)),
        })
    }

    /// Starts another node without caches, on the Redis and database of the node `warm`.
    pub fn cold(warm: &Self) -> anyhow::Result<Self> {
        let without_caches = [("LATCHKEY_CACHE_MAX_STALENESS", "0s"), ("LATCHKEY_CACHE_MAX_TOKENS", "0")];
        let name = if warm.name == Name::Baseline { Name::BaselineCold } else { Name::LatchkeyCold };
        let access = warm.access.clone();
        warm.another_node("cold", &without_caches).map(|node| Self { name, access, ..node })
    }

    /// Starts another node on the same Redis and database. `log_name` is the name of its log file.
    pub fn another_node(&self, log_name: &str, settings: Settings<'_>) -> anyhow::Result<Self> {
        let (process, address) = serve(&self.program, self.name, &self.folder, &self.url, log_name, settings)?;
        Ok(Self {
            name: self.name,
            resident_idle: process.usage().resident,
            process,
            address,
            redis: Vec::new(),
            redis_pids: self.redis_pids.clone(),
            url: self.url.clone(),
            folder: self.folder.clone(),
            program: self.program.clone(),
            authorization: self.authorization.clone(),
            sessions: Default::default(),
            access: Vec::new(),
            app: None,
            authenticator: None,
            per_account: 1,
            seeding: Seeding::None,
        })
    }
}

/// The rest of the line of `client add`'s output that starts with `label`.
fn printed_value<'a>(output: &'a str, label: &str) -> anyhow::Result<&'a str> {
    let value = output.lines().find_map(|line| line.strip_prefix(label));
    value.with_context(|| format!("`client add` printed no `{label}`"))
}

/// Starts a node on a free port, and waits until it answers. `log_name` is the name of its log file.
fn serve(
    program: &Path,
    name: Name,
    folder: &Path,
    redis_url: &str,
    log_name: &str,
    settings: Settings<'_>,
) -> anyhow::Result<(Process, std::net::SocketAddr)> {
    let port = free_port()?;
    let mut command = command(program, name, folder, redis_url, port);
    command.arg("serve").envs(settings.iter().copied());
    let address = local(port);
    let process = Process::start(command, &folder.join(log_name), || is_alive(address))?;
    Ok((process, address))
}

/// Creates sessions with Latchkey's own script, many concurrently.
pub struct Filler {
    runtime: Runtime,
    redis: RedisStores,
    tokens: RefreshTokens,
    browser_tokens: BrowserTokens,
    /// The digest of the caller of the sessions.
    tag: OriginTag,
}

impl Filler {
    /// Connects to the Redis at this URL.
    pub fn connect(url: &str) -> anyhow::Result<Self> {
        let runtime = Runtime::new()?;
        let settings = RedisSettings {
            url: None,
            prefix: "lk:".to_owned(),
            pool_size: 4,
            // a command may wait for the hundreds of concurrent creations before it
            command_timeout: Duration::from_secs(20),
            event_retention: EVENT_RETENTION,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
        };
        // the staleness 0 turns the session cache off: the filler only creates sessions
        let cache = CacheSettings { max_staleness: Duration::ZERO, max_sessions: 1024, max_tokens: 0 };
        let redis = runtime.block_on(async {
            let redis = RedisStores::connect(&SecretText::from(url), &settings, &cache, &Cores::current_runtime())?;
            // `connect` returns before the connection is open
            let start = Instant::now();
            while let Err(error) = redis.health.ping().await {
                ensure!(start.elapsed() < START_TIMEOUT, "Redis doesn't answer: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            anyhow::Ok(redis)
        })?;
        let secret = SecretText::from(SECRET);
        let previous_keys = [];
        let tokens = RefreshTokens::new(&derive(&secret, derive::REFRESH_TOKEN_MAC), previous_keys);
        let browser_tokens = BrowserTokens::new(&derive(&secret, derive::BROWSER_SESSION_MAC), previous_keys);
        let secrets = Secrets { current: SecretText::from(SECRET), previous: Vec::new() };
        let tag = OriginTagger::new(&secrets).tag(Some(CALLER), Some(USER_AGENT));
        Ok(Self { runtime, redis, tokens, browser_tokens, tag })
    }

    /// Creates browser sessions, each of a different account, and returns the header lines of their requests.
    ///
    /// The accounts are not in the database. Sign-ins to the benchmark's app work all the same: it needs no consent, and its scope `openid`
    /// reveals nothing about an account but the id.
    pub fn create_browser_sessions(&self, count: usize) -> anyhow::Result<VecDeque<String>> {
        self.runtime.block_on(async {
            let mut created = stream::iter(0..count)
                .map(|_| async {
                    let account = AccountId::from_bytes(random()?);
                    let grant = self.create_session(account, Transport::Browser).await?;
                    let token = self.browser_tokens.encode(account, grant.session);
                    anyhow::Ok(format!("Cookie: __Host-latchkey-browser={}\r\n", token.expose()))
                })
                .buffer_unordered(CONCURRENT_CREATES);
            let mut headers = VecDeque::with_capacity(count);
            while let Some(header) = created.next().await {
                headers.push_back(header?);
            }
            Ok(headers)
        })
    }

    /// Creates at least `count` sessions, `per_account` for each account. Returns their refresh tokens: first one for each
    /// account, then a second one for each, and so on, so that consecutive requests concern different accounts.
    pub fn fill(&self, count: usize, per_account: usize) -> anyhow::Result<Vec<String>> {
        let accounts = count.div_ceil(per_account);
        self.runtime.block_on(async {
            let mut created = stream::iter(0..accounts)
                .map(|_| async {
                    let account = AccountId::from_bytes(random()?);
                    let mut account_tokens = Vec::with_capacity(per_account);
                    for _ in 0..per_account {
                        account_tokens.push(self.create_with_retries(account).await?);
                    }
                    anyhow::Ok(account_tokens)
                })
                .buffer_unordered(CONCURRENT_CREATES);
            let mut by_account = Vec::with_capacity(accounts);
            while let Some(account_tokens) = created.next().await {
                by_account.push(account_tokens?);
            }
            let nth_of_each = |n| by_account.iter().filter_map(move |tokens| tokens.get(n).cloned());
            Ok((0..per_account).flat_map(nth_of_each).collect())
        })
    }

    /// Creates a session, and returns its refresh token. Retries for five seconds, because Redis may be slow on a busy machine.
    async fn create_with_retries(&self, account: AccountId) -> anyhow::Result<String> {
        for _ in 0..20 {
            if let Ok(token) = self.create_token(account).await {
                return Ok(token);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        self.create_token(account).await
    }

    /// Creates a session, and returns its refresh token.
    async fn create_token(&self, account: AccountId) -> anyhow::Result<String> {
        let grant = self.create_session(account, Transport::Bearer).await?;
        let expires_at = grant.expires_at();
        let claims = RefreshClaims { account, session: grant.session, generation: grant.generation, expires_at };
        Ok(self.tokens.encode(&claims).expose().to_owned())
    }

    async fn create_session(&self, account: AccountId, transport: Transport) -> anyhow::Result<Grant> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH)?.saturating_sub(SESSION_AGE);
        let created_at = Timestamp::from_millis(i64::try_from(created.as_millis())?);
        let new = NewSession {
            id: SessionId::from_bytes(random()?),
            account,
            roles: Roles::default(),
            additional_claims: AdditionalClaims::default(),
            epoch: Epoch(0),
            claims_version: ClaimsVersion(0),
            transport,
            origin: SessionOrigin { ip: Some(CALLER), user_agent: Some(USER_AGENT.to_owned()), device: None },
            tag: self.tag,
            basis: SessionBasis::default(),
            idle_timeout: IDLE_TIMEOUT,
            absolute_timeout: ABSOLUTE_TIMEOUT,
            // the most that a benchmark creates for an account (growth.rs)
            max_per_account: 50,
        };
        match self.redis.sessions.create(new, created_at).await? {
            CreateOutcome::Created { grant, .. } => Ok(grant),
            CreateOutcome::Stale => anyhow::bail!("a new account can't have changed"),
        }
    }
}

fn random() -> anyhow::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).context("the system has no randomness")?;
    Ok(bytes)
}
