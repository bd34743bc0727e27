//! Reachability and configuration of the Redis server: version, rights, persistence and eviction policy. I9 (acknowledged
//! writes survive) depends on them.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use fred::{
    error::{Error as FredError, ErrorKind},
    interfaces::{ClientLike, ConfigInterface, PubsubInterface},
    types::{ClusterHash, CustomCommand},
};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{
    connection::{RedisConnection, RedisError},
    redis_clock, script,
};
use crate::domain::clock::{Clock, Timestamp};

/// How long [`RedisHealth::probe_subscription`] waits for Redis.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Severity of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The service works, with a risk or at reduced speed.
    Warning,
    /// The service can't work.
    Error,
}

/// A problem of the Redis server, or of this machine's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable word: `version`, `loading`, `writes`, `persistence`, `eviction`, `role`, `info`, `rights`, `channel`,
    /// `clock`.
    pub code: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The problem and its remedy.
    pub detail: String,
}

/// Reachability and configuration of the Redis server. Clones share the connections.
#[derive(Clone)]
pub struct RedisHealth {
    connection: Arc<RedisConnection>,
}

impl RedisHealth {
    pub(super) fn new(connection: Arc<RedisConnection>) -> Self {
        Self { connection }
    }

    /// Sends a PING.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn ping(&self) -> Result<(), RedisError> {
        let connection = &self.connection;
        connection.client().ping::<()>(None).await.map_err(|error| connection.explain(error))
    }

    /// Lists the problems of the server.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn inspect(&self) -> Result<Vec<Finding>, RedisError> {
        let info = self.info().await?;
        // Hosted servers often refuse CONFIG. The findings then rest on INFO alone.
        let appendfsync = match self.connection.client().config_get::<HashMap<String, String>, _>("appendfsync").await {
            Ok(mut values) => values.remove("appendfsync"),
            Err(_) => None,
        };
        if let Some(version) = info.as_deref().and_then(version) {
            // From Redis 6.2 on, scripts trim streams by time (XTRIM MINID), on older versions by length.
            self.connection.has_minid.store(version >= (6, 2), Ordering::Relaxed);
        }
        let mut findings = match &info {
            Some(info) => findings(info, appendfsync.as_deref()),
            None => vec![Finding {
                code: "info",
                severity: Severity::Warning,
                detail: "the Redis user may not run INFO: it is unknown whether Redis keeps acknowledged writes; allow +info"
                    .to_owned(),
            }],
        };
        if findings.iter().any(|finding| finding.code == "role") {
            // The server is a replica: after a failover the connections lead to the former master, and the address may already lead to
            // the new one.
            self.connection.reconnect();
        }
        findings.extend(self.inspect_rights().await?);
        Ok(findings)
    }

    /// The server's INFO; none if the user may not run it.
    async fn info(&self) -> Result<Option<String>, RedisError> {
        match self.connection.client().info::<String>(None).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if is_denied(&error) => Ok(None),
            Err(error) => Err(self.connection.explain(error)),
        }
    }

    /// Subscribes to a channel of this service and closes the connection, so that [`RedisHealth::inspect`] knows whether the Redis user
    /// may subscribe. For processes that do not follow the revocation log: they have not subscribed otherwise.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn probe_subscription(&self) -> Result<(), RedisError> {
        let connection = &self.connection;
        let client = &connection.subscriber;
        let _connecting = AbortOnDropHandle::new(connection.keep_subscriber_connected());
        let probe = async {
            client.wait_for_connect().await?;
            let own_channel = format!("{}:{}", connection.channel, client.id());
            connection.subscribe(own_channel, &[]).await
        };
        let probed = timeout(PROBE_TIMEOUT, probe).await;
        let _ = client.quit().await;
        match probed {
            Ok(result) => result.map_err(|error| connection.explain(error)),
            Err(_) => Err(connection.explain(FredError::new(ErrorKind::Timeout, "no subscription in time"))),
        }
    }

    /// The findings about the rights of the Redis user: to run a script on a key of this service, to publish on the revocation channel
    /// and to subscribe to it.
    async fn inspect_rights(&self) -> Result<Vec<Finding>, RedisError> {
        let connection = &self.connection;
        let mut findings = Vec::new();
        // Any script would do. No throttle has this key, so `refund` finds nothing to change.
        let unused_key = connection.keys.login_throttle("probe");
        let any_bucket = "".into();
        match script::call(&connection.scripts.refund, connection, vec![unused_key], vec![any_bucket]).await {
            Ok(_) => {}
            Err(error) if is_denied(&error) => findings.push(Finding {
                code: "rights",
                severity: Severity::Error,
                detail: format!(
                    "{}; docs/redis.md lists the rights that the service needs",
                    super::failure::reason(&error)
                ),
            }),
            Err(error) => return Err(connection.explain(error)),
        }
        // No node subscribes to this channel.
        let unused_channel = format!("{}:probe", connection.channel);
        match connection.client().publish::<i64, _, _>(unused_channel, "").await {
            Ok(_) => {}
            Err(error) if is_denied(&error) => findings.push(Finding {
                code: "channel",
                severity: Severity::Warning,
                detail: format!(
                    "the Redis user may not use the channels {0} and {0}:*, so each sign-out waits for \
                     cache.max_staleness: allow &{0}* (ACL SETUSER)",
                    connection.channel
                ),
            }),
            Err(error) => return Err(connection.explain(error)),
        }
        let publish_denied = findings.iter().any(|finding| finding.code == "channel");
        if !publish_denied && connection.subscribe_denied.load(Ordering::Relaxed) {
            findings.push(Finding {
                code: "channel",
                severity: Severity::Warning,
                detail: format!(
                    "the Redis user may not subscribe to the channels {0} and {0}:*, so each sign-out waits for \
                     cache.max_staleness: allow +subscribe &{0}* (ACL SETUSER)",
                    connection.channel
                ),
            });
        }
        Ok(findings)
    }
}

/// Whether an ACL of Redis has refused a command.
fn is_denied(error: &FredError) -> bool {
    error.details().contains("NOPERM")
}

/// The largest difference between this machine's clock and Redis' clock that is not reported.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(2);

/// The server: version, topology and round-trip time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisDescription {
    /// The name and version, from INFO.
    pub server: String,
    /// Whether the server is a node of a cluster.
    pub clustered: bool,
    /// The state of a cluster, such as `ok`; none outside a cluster.
    pub cluster_state: Option<String>,
    /// The number of the server's replicas.
    pub replicas: u64,
    /// The median of several round trips.
    pub round_trip: Duration,
}

impl RedisHealth {
    /// Describes the server.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn describe(&self) -> Result<RedisDescription, RedisError> {
        let client = self.connection.client();
        let info = self.info().await?.unwrap_or_default();
        let mut round_trips = Vec::new();
        // An odd number, so that the median is one of them.
        for _ in 0..11 {
            let sent = Instant::now();
            client.ping::<String>(None).await.map_err(|error| self.connection.explain(error))?;
            round_trips.push(sent.elapsed());
        }
        round_trips.sort_unstable();
        let median = round_trips[round_trips.len() / 2];
        let clustered = client.is_clustered();
        let cluster_state = if clustered {
            let (any_node, blocking) = (ClusterHash::Random, false);
            let command = CustomCommand::new_static("CLUSTER", any_node, blocking);
            let answer: String =
                client.custom(command, vec!["INFO"]).await.map_err(|error| self.connection.explain(error))?;
            field(&answer, "cluster_state").map(str::to_owned)
        } else {
            None
        };
        let server = match field(&info, "valkey_version") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", field(&info, "redis_version").unwrap_or("of an unknown version")),
        };
        let replicas = field(&info, "connected_slaves").and_then(|count| count.parse().ok()).unwrap_or_default();
        Ok(RedisDescription { server, clustered, cluster_state, replicas, round_trip: median })
    }

    /// Compares this machine's clock with Redis'. Returns `None` without a comparison if `clock` is a test's clock, or if the Redis user may
    /// not run TIME.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn inspect_clock(&self, clock: &Clock) -> Result<Option<Finding>, RedisError> {
        // An offset clock follows Redis' clock: it adds the difference to this machine's clock, which is compared here.
        let machine_clock = match clock {
            Clock::Offset(base, _) => base,
            clock => clock,
        };
        if !machine_clock.is_system() {
            return Ok(None);
        }
        let before = machine_clock.now();
        let redis_time = match redis_clock::server_time(self.connection.client()).await {
            Ok(time) => time,
            Err(error) if is_denied(&error) => return Ok(None),
            Err(error) => return Err(self.connection.explain(error)),
        };
        Ok(skew_finding(before, redis_time, machine_clock.now()))
    }
}

/// The finding about this machine's clock, if any. The clock showed `before` when the command was sent, and `after` when the answer
/// `redis_time` arrived.
fn skew_finding(before: Timestamp, redis_time: Timestamp, after: Timestamp) -> Option<Finding> {
    // Redis read its clock between `before` and `after`, so a time between them is no skew.
    let (ahead, behind) = (redis_time.saturating_since(after), before.saturating_since(redis_time));
    let (difference, direction) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    (difference > MAX_CLOCK_SKEW).then(|| Finding {
        code: "clock",
        severity: Severity::Warning,
        detail: format!(
            "Redis' clock is {:.1} s {direction} this machine's; synchronize both (NTP): sessions and tokens follow \
             Redis' clock, and services that verify tokens use their own",
            difference.as_secs_f64()
        ),
    })
}

/// The value of a field in an answer to `INFO` or `CLUSTER INFO`, which has lines of the form `name:value`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The major and minor version of Redis.
fn version(info: &str) -> Option<(u32, u32)> {
    // The field `redis_version` of Valkey is the Redis version that it is compatible with; its own version is `valkey_version`.
    let mut numbers = field(info, "redis_version")?.split('.').map(str::parse);
    let (major, minor) = (numbers.next()?, numbers.next()?);
    Some((major.ok()?, minor.ok()?))
}

/// The findings about the answer to `INFO` and the value of `appendfsync`, if it is known.
fn findings(info: &str, appendfsync: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |code, severity, detail: String| findings.push(Finding { code, severity, detail });
    match version(info) {
        Some(version) if version < (6, 0) => add(
            "version",
            Severity::Error,
            format!(
                "Redis {} is too old: Latchkey needs Redis 6.0 or newer, or Valkey",
                field(info, "redis_version").unwrap_or_default()
            ),
        ),
        Some(_) => {}
        None => add(
            "version",
            Severity::Warning,
            "INFO of this server has no version: check that it is Redis 6.0 or newer, or Valkey".to_owned(),
        ),
    }
    if field(info, "loading") == Some("1") {
        add(
            "loading",
            Severity::Error,
            "Redis is loading its data and refuses commands until it has finished".to_owned(),
        );
    }
    if field(info, "aof_last_write_status").is_some_and(|status| status != "ok") {
        let detail = "Redis can't write its append-only file and refuses writes: check its disk and log";
        add("writes", Severity::Error, detail.to_owned());
    }
    if field(info, "rdb_last_bgsave_status").is_some_and(|status| status != "ok") {
        let detail = "the last background save failed; Redis may refuse writes (MISCONF): check its disk and log";
        add("writes", Severity::Warning, detail.to_owned());
    }
    let bytes = |name| field(info, name).and_then(|value| value.parse::<u64>().ok()).unwrap_or_default();
    let (used, limit) = (bytes("used_memory"), bytes("maxmemory"));
    if limit > 0 && used >= limit && field(info, "maxmemory_policy") == Some("noeviction") {
        let detail =
            format!("Redis is out of memory and refuses sign-ins and refreshes: raise `maxmemory` ({limit} bytes)");
        add("writes", Severity::Error, detail);
    }
    if field(info, "aof_enabled") == Some("0") {
        add(
            "persistence",
            Severity::Warning,
            "no append-only file: Redis loses sign-ins and revocations when it stops; \
             set `appendonly yes` and `appendfsync always`"
                .to_owned(),
        );
    } else if let Some(appendfsync) = appendfsync.filter(|value| *value != "always") {
        add(
            "persistence",
            Severity::Warning,
            format!(
                "`appendfsync {appendfsync}`: a crash loses the last writes, revocations included; \
                 set `appendfsync always`"
            ),
        );
    }
    if let Some(policy) = field(info, "maxmemory_policy").filter(|policy| *policy != "noeviction") {
        add(
            "eviction",
            Severity::Warning,
            format!(
                "`maxmemory-policy {policy}` evicts sessions when memory is short; set `maxmemory-policy noeviction`"
            ),
        );
    }
    if field(info, "role") == Some("slave") {
        let detail = "this server is a replica and takes no writes: redis.url must lead to its master".to_owned();
        add("role", Severity::Error, detail);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes and severities of the findings.
    fn codes(info: &str, appendfsync: Option<&str>) -> Vec<(&'static str, Severity)> {
        findings(info, appendfsync).into_iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    #[test]
    fn findings_of_durable_master_are_empty() {
        let info = "redis_version:6.0.16\r\nrole:master\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";
        assert_eq!(codes(info, Some("always")), []);
        let refused_config = None;
        assert_eq!(codes(info, refused_config), []);
    }

    #[test]
    fn clock_skew_above_two_seconds_is_a_finding() {
        // All times are in milliseconds: this machine's before the command, Redis', and this machine's after the answer.
        let detail = |before, redis_time, after| {
            let at = |millis: i64| Timestamp::from_millis(1_800_000_000_000 + millis);
            skew_finding(at(before), at(redis_time), at(after)).map(|finding| finding.detail)
        };
        assert_eq!(detail(0, 0, 1), None, "no difference");
        assert_eq!(detail(0, 2000, 0), None, "two seconds ahead");
        assert_eq!(detail(2000, 0, 2100), None, "two seconds behind");
        assert_eq!(detail(0, 5000, 10_000), None, "the answer took ten seconds, and Redis' time lies within them");
        assert!(detail(0, 4500, 1000).unwrap().contains("3.5 s ahead of this machine's"));
        assert!(detail(9000, 0, 9001).unwrap().contains("9.0 s behind this machine's"));
    }

    #[test]
    fn each_problem_of_the_server_is_a_finding() {
        let info = "redis_version:5.0.7\r\nrole:slave\r\naof_enabled:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(
            codes(info, Some("everysec")),
            [
                ("version", Severity::Error),
                ("persistence", Severity::Warning),
                ("eviction", Severity::Warning),
                ("role", Severity::Error)
            ]
        );
        let only_fsync = "redis_version:7.2.4\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";
        assert_eq!(codes(only_fsync, Some("everysec")), [("persistence", Severity::Warning)]);
        let refuses_writes = "redis_version:7.2.4\r\naof_enabled:1\r\naof_last_write_status:err\r\nrdb_last_bgsave_status:err\r\n\
                              used_memory:2\r\nmaxmemory:2\r\nmaxmemory_policy:noeviction\r\nloading:1\r\n";
        assert_eq!(
            codes(refuses_writes, None),
            // the writes: append-only file, background save, memory
            [
                ("loading", Severity::Error),
                ("writes", Severity::Error),
                ("writes", Severity::Warning),
                ("writes", Severity::Error)
            ]
        );
    }
}
