//! Whether this Redis can keep what it promises to: its version, its persistence, its eviction policy (I9).

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use fred::interfaces::{ClientLike, ConfigInterface};
use fred::types::{ClusterHash, CustomCommand, InfoKind};

use super::connection::{RedisConnection, RedisError};
use crate::domain::clock::{Clock, Timestamp};

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The service works, and may lose what it acknowledged.
    Warning,
    /// The service can't work.
    Error,
}

/// Something about this Redis that its operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable word: `version`, `persistence`, `eviction`, `role`, `clock`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what to do about it.
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

    /// Looks at the server and lists what is wrong with it; nothing, if all is well.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn inspect(&self) -> Result<Vec<Finding>, RedisError> {
        let client = self.connection.client();
        let mut info = String::new();
        for section in [InfoKind::Server, InfoKind::Persistence, InfoKind::Memory, InfoKind::Replication] {
            info.push_str(&client.info::<String>(Some(section)).await.map_err(|error| self.connection.explain(error))?);
            info.push('\n');
        }
        // Hosted ones often refuse CONFIG: then INFO alone has to do.
        let fsync = match client.config_get::<HashMap<String, String>, _>("appendfsync").await {
            Ok(mut values) => values.remove("appendfsync"),
            Err(_) => None,
        };
        if let Some(version) = version(&info) {
            self.connection.has_minid.store(version >= (6, 2), Ordering::Relaxed);
        }
        Ok(findings(&info, fsync.as_deref()))
    }
}

/// How far a clock may be from Redis' before that is told of.
const SKEW: Duration = Duration::from_secs(2);

/// What there is to know of a server beside what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name and version, as it tells them.
    pub server: String,
    /// Whether it is one of a cluster.
    pub clustered: bool,
    /// What a cluster says of itself, `ok` or not; none for others.
    pub cluster_state: Option<String>,
    /// How many replicas follow it.
    pub replicas: u64,
    /// The median of several round trips.
    pub round_trip: Duration,
}

impl RedisHealth {
    /// What server this is, and how far away.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn describe(&self) -> Result<Description, RedisError> {
        let client = self.connection.client();
        let mut info = String::new();
        for section in [InfoKind::Server, InfoKind::Replication] {
            info.push_str(&client.info::<String>(Some(section)).await.map_err(|error| self.connection.explain(error))?);
            info.push('\n');
        }
        let mut trips = Vec::new();
        for _ in 0..11 {
            let asked = Instant::now();
            client.ping::<String>(None).await.map_err(|error| self.connection.explain(error))?;
            trips.push(asked.elapsed());
        }
        trips.sort_unstable();
        let clustered = client.is_clustered();
        let cluster_state = if clustered {
            let command = CustomCommand::new_static("CLUSTER", ClusterHash::Random, false);
            let told: String =
                client.custom(command, vec!["INFO"]).await.map_err(|error| self.connection.explain(error))?;
            field(&told, "cluster_state").map(str::to_owned)
        } else {
            None
        };
        let server = match field(&info, "valkey_version") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", field(&info, "redis_version").unwrap_or("of an unknown version")),
        };
        let replicas = field(&info, "connected_slaves").and_then(|count| count.parse().ok()).unwrap_or_default();
        Ok(Description { server, clustered, cluster_state, replicas, round_trip: trips[trips.len() / 2] })
    }

    /// Whether the clock of this machine agrees with Redis'. Not asked with a clock that stands still.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn inspect_clock(&self, clock: &Clock) -> Result<Option<Finding>, RedisError> {
        if !matches!(clock, Clock::System) {
            return Ok(None);
        }
        let command = CustomCommand::new_static("TIME", ClusterHash::Random, false);
        let before = clock.now();
        let told = self.connection.client().custom(command, Vec::<String>::new()).await;
        let (seconds, micros): (i64, i64) = told.map_err(|error| self.connection.explain(error))?;
        Ok(skew(before, Timestamp::from_millis(seconds * 1000 + micros / 1000), clock.now()))
    }
}

/// What there is to say of a clock that showed `before` and `after` around the moment when Redis' showed `theirs`.
fn skew(before: Timestamp, theirs: Timestamp, after: Timestamp) -> Option<Finding> {
    let (ahead, behind) = (theirs.saturating_since(after), before.saturating_since(theirs));
    let (apart, which) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    (apart > SKEW).then(|| Finding {
        code: "clock",
        severity: Severity::Warning,
        detail: format!(
            "Redis' clock is {:.1} s {which} this machine's; have both kept by NTP: sessions end, and tokens are valid, by \
             this machine's clock",
            apart.as_secs_f64()
        ),
    })
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn version(info: &str) -> Option<(u32, u32)> {
    // Valkey states the Redis version that it is compatible with here, and its own as `valkey_version`.
    let mut parts = field(info, "redis_version")?.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn findings(info: &str, fsync: Option<&str>) -> Vec<Finding> {
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
        None => add("version", Severity::Warning, "this server doesn't tell its version in INFO".to_owned()),
    }
    if field(info, "aof_enabled") == Some("0") {
        add(
            "persistence",
            Severity::Warning,
            "no append-only file: sign-ins and revocations are lost when Redis stops; \
             set `appendonly yes` and `appendfsync always`"
                .to_owned(),
        );
    } else if let Some(fsync) = fsync.filter(|fsync| *fsync != "always") {
        add(
            "persistence",
            Severity::Warning,
            format!(
                "`appendfsync {fsync}`: the last moments before a crash may be lost, revocations among them; \
                 set `appendfsync always`"
            ),
        );
    }
    if let Some(policy) = field(info, "maxmemory_policy").filter(|policy| *policy != "noeviction") {
        add(
            "eviction",
            Severity::Warning,
            format!(
                "`maxmemory-policy {policy}` throws sessions away when memory is short; set `maxmemory-policy noeviction`"
            ),
        );
    }
    if field(info, "role") == Some("slave") {
        add("role", Severity::Error, "this is a replica, which takes no writes; name its master".to_owned());
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(info: &str, fsync: Option<&str>) -> Vec<(&'static str, Severity)> {
        findings(info, fsync).into_iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    #[test]
    fn a_sound_server_gives_no_findings() {
        let info = "redis_version:6.0.16\r\nrole:master\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";
        assert_eq!(codes(info, Some("always")), []);
        assert_eq!(codes(info, None), []);
    }

    #[test]
    fn clocks_that_are_apart_are_told_of() {
        let of = |before, theirs, after| {
            let at = |millis: i64| Timestamp::from_millis(1_800_000_000_000 + millis);
            skew(at(before), at(theirs), at(after)).map(|finding| finding.detail)
        };
        assert_eq!((of(0, 0, 1), of(0, 2000, 0), of(2000, 0, 2100)), (None, None, None));
        // an answer that took long says nothing
        assert_eq!(of(0, 5000, 10_000), None);
        assert!(of(0, 4500, 1000).unwrap().contains("3.5 s ahead of this machine's"));
        assert!(of(9000, 0, 9001).unwrap().contains("9.0 s behind this machine's"));
    }

    #[test]
    fn each_fault_is_found() {
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
        let info = "redis_version:7.2.4\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";
        assert_eq!(codes(info, Some("everysec")), [("persistence", Severity::Warning)]);
    }
}
