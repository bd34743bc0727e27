//! Servers of every supported version of Redis and Valkey, the stores under test on them, and the settings and values that tests share.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use fred::{
    clients::Client,
    interfaces::{ClientLike, HashesInterface},
    types::{Builder, CustomCommand, Value, config::Config},
};
use latchkey::{
    config::RedisSettings,
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        clock::Timestamp,
        ids::{AccountId, SessionId},
        session::{AcceptedTransport, Generation, Grant, OriginTag, RepeatRule, Rotation, SessionOrigin, Transport},
    },
    runtime::Cores,
    store::redis::{
        CreateOutcome, LastUseOrigin, NewSession, Presentation, RedisError, RedisStores, SessionBasis, SessionStore,
    },
};
use uuid::Uuid;

pub use crate::harness::redis::{DURABLE, Redis};
use crate::harness::{test_cluster, wait};

/// The time at which every test starts.
pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// The port of a server that listens on its Unix socket only.
const SOCKET_ONLY: u16 = 0;
pub const GRACE: Duration = Duration::from_secs(10);
pub const IDLE: Duration = Duration::from_hours(7 * 24);
pub const ABSOLUTE: Duration = Duration::from_hours(30 * 24);

/// Servers of each version, and queries for store tests.
impl Redis {
    /// The machine's `redis-server`.
    pub fn redis_7_0() -> Self {
        Self::start()
    }

    pub fn redis_6_2() -> Self {
        Self::launch(tool("redis-server-6.2").to_str().unwrap(), SOCKET_ONLY, DURABLE)
    }

    pub fn valkey_9() -> Self {
        Self::launch(tool("valkey-server-9").to_str().unwrap(), SOCKET_ONLY, DURABLE)
    }

    /// The stores on this server.
    pub fn store(&self) -> RedisStores {
        store(&self.url())
    }

    /// Opens a connection on which [`raw_command`] sends binary arguments.
    pub async fn raw(&self) -> Client {
        let client = Builder::from_config(Config::from_url(&self.url()).unwrap()).build().unwrap();
        client.init().await.unwrap();
        client
    }

    /// The only session hash: its key and its sorted fields.
    pub async fn only_hash(&self) -> (String, Vec<(Vec<u8>, Vec<u8>)>) {
        let key = self.command(&["--scan", "--pattern", "lk:s*"]);
        assert_eq!(key.lines().count(), 1, "{key}");
        let fields: std::collections::BTreeMap<fred::bytes::Bytes, fred::bytes::Bytes> =
            self.raw().await.hgetall(&key).await.unwrap();
        (key, fields.into_iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect())
    }

    /// How often the server has run `command`, a name in lower case.
    pub fn calls(&self, command: &str) -> usize {
        let stats = self.command(&["INFO", "commandstats"]);
        let prefix = format!("cmdstat_{command}:calls=");
        // A command that has not run yet has no line.
        let Some(rest) = stats.lines().find_map(|line| line.strip_prefix(&prefix)) else { return 0 };
        let (calls, _) = rest.split_once(',').unwrap();
        calls.parse().unwrap()
    }

    /// The events of all streams. The texts of an event are its account, session, reason and time.
    pub fn events(&self) -> Vec<[String; 4]> {
        let streams = self.command(&["--scan", "--pattern", "lk:e*"]);
        let mut events = Vec::new();
        for stream in streams.lines() {
            let text = self.command(&["XRANGE", stream, "-", "+"]);
            let lines: Vec<&str> = text.lines().collect();
            // redis-cli prints an entry as its id, the name of its field, and the lines of the field's value
            for entry in lines.chunks(6) {
                assert_eq!(entry[1], "e");
                events.push([entry[2], entry[3], entry[4], entry[5]].map(str::to_owned));
            }
        }
        events
    }
}

/// Presents refresh tokens as most tests need it: for the first-party client, from no known origin, and without a retry window.
pub trait Rotate {
    /// Presents the refresh token of generation `presented`. A repeat is answered within `grace` only.
    fn rotate(
        &self,
        account: AccountId,
        session: SessionId,
        presented: Generation,
        grace: Duration,
        idle_timeout: Duration,
        now: Timestamp,
    ) -> impl Future<Output = Result<Rotation, RedisError>> + Send;
}

impl Rotate for SessionStore {
    async fn rotate(
        &self,
        account: AccountId,
        session: SessionId,
        presented: Generation,
        grace: Duration,
        idle_timeout: Duration,
        now: Timestamp,
    ) -> Result<Rotation, RedisError> {
        let (accepted, origin) = (AcceptedTransport::Any, LastUseOrigin::default());
        let presentation = Presentation { account, session, generation: presented, accepted, origin };
        // 8 is the highest limit, with which a session survives the most counted repeats.
        let rule = RepeatRule { grace, retry_window: Duration::ZERO, counted_repeats_limit: 8 };
        let first_party = None;
        self.present_for(&presentation, first_party, &rule, idle_timeout, now).await
    }
}

/// Runs a future on one thread, so that all operations it starts are submitted at the same moment.
pub fn run_on_one_thread<T>(work: impl Future<Output = T>) -> T {
    // Inside the test's own runtime, which has several threads, another one may be used and dropped only in `block_in_place`.
    tokio::task::block_in_place(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    })
}

/// A program that `make test` installs.
pub fn tool(name: &str) -> PathBuf {
    let tools = std::env::var_os("TEST_TOOLS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from);
    let path = tools.join("bin").join(name);
    assert!(path.exists(), "{} is missing: run `make test`, which installs it", path.display());
    path
}

/// The settings for a Redis at this URL.
pub fn settings(url: &str) -> RedisSettings {
    RedisSettings {
        url: Some(url.into()),
        prefix: "lk:".to_owned(),
        pool_size: 2,
        command_timeout: Duration::from_secs(5),
        event_retention: Duration::from_hours(1),
        tls_ca: None,
        tls_cert: None,
        tls_key: None,
    }
}

/// The stores at this URL.
pub fn store(url: &str) -> RedisStores {
    connect(&settings(url))
}

/// The stores at this URL, whose commands fail after `command_timeout`.
pub fn store_with(url: &str, command_timeout: Duration) -> RedisStores {
    connect(&RedisSettings { command_timeout, ..settings(url) })
}

/// The stores of these settings.
pub fn connect(settings: &RedisSettings) -> RedisStores {
    let url = settings.url.as_ref().unwrap();
    RedisStores::connect(url, settings, &test_cluster::cache(), &Cores::current_runtime()).unwrap()
}

/// Runs a command with binary arguments.
pub async fn raw_command(client: &Client, name: &'static str, words: Vec<Value>) -> Value {
    client.custom(CustomCommand::new_static(name, None, false), words).await.unwrap()
}

/// A large odd number (2^64 divided by the golden ratio). The products of different numbers with it differ, modulo 2^64, and are spread
/// evenly.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns an account id that no other test uses.
pub fn account() -> AccountId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    // the first half of a version 7 UUID
    let high_bits = 0x0192_f0c1_2345_7abc;
    AccountId(Uuid::from_u64_pair(high_bits, next.wrapping_mul(SPREAD)))
}

/// The id of session `number`. Successive numbers have very different ids.
pub fn session(number: u64) -> SessionId {
    SessionId(Uuid::from_u64_pair(number.wrapping_mul(SPREAD), number))
}

/// A session with default settings, for an account without roles.
pub fn new_session(account: AccountId, id: SessionId) -> NewSession {
    NewSession {
        id,
        account,
        roles: Roles::default(),
        additional_claims: AdditionalClaims::default(),
        epoch: Epoch(0),
        claims_version: ClaimsVersion(0),
        transport: Transport::Bearer,
        origin: SessionOrigin::default(),
        tag: OriginTag::default(),
        basis: SessionBasis::default(),
        idle_timeout: IDLE,
        absolute_timeout: ABSOLUTE,
        max_per_account: 50,
    }
}

/// Creates a session with default settings.
pub async fn create(store: &RedisStores, account: AccountId, id: SessionId, now: Timestamp) -> Grant {
    match store.sessions.create(new_session(account, id), now).await.unwrap() {
        CreateOutcome::Created { grant, .. } => grant,
        CreateOutcome::Stale => panic!("the account has a later epoch"),
    }
}

/// Waits until all connections of a store reach all masters of its cluster: each discovers them by itself.
pub(crate) async fn wait_until_connected(store: &RedisStores) {
    let reach_all = || async {
        let mut all_succeed = true;
        // Each lookup is for another account. Many lookups together use every connection and every master.
        for _ in 0..48 {
            all_succeed &= store.sessions.is_live(account(), session(1), NOW).await.is_ok();
        }
        all_succeed
    };
    wait::until("all connections reach all masters", reach_all).await;
}
