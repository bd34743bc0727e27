//! Whether this Redis can keep what it promises to: its version, its persistence, its eviction policy (I9).

use std::{collections::HashMap, sync::atomic::Ordering};

use fred::interfaces::{ClientLike, ConfigInterface};
use fred::types::InfoKind;

use super::connection::{Redis, RedisError};

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
    /// A stable word: `version`, `persistence`, `eviction`, `role`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what to do about it.
    pub detail: String,
}

impl Redis {
    /// Looks at the server and lists what is wrong with it; nothing, if all is well.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn inspect(&self) -> Result<Vec<Finding>, RedisError> {
        let client = self.inner.pool.next();
        let mut info = String::new();
        for section in [InfoKind::Server, InfoKind::Persistence, InfoKind::Memory, InfoKind::Replication] {
            info.push_str(&client.info::<String>(Some(section)).await.map_err(|error| self.explain(error))?);
            info.push('\n');
        }
        // Hosted ones often refuse CONFIG: then INFO alone has to do.
        let fsync = match client.config_get::<HashMap<String, String>, _>("appendfsync").await {
            Ok(mut values) => values.remove("appendfsync"),
            Err(_) => None,
        };
        if let Some(version) = version(&info) {
            self.inner.has_minid.store(version >= (6, 2), Ordering::Relaxed);
        }
        Ok(findings(&info, fsync.as_deref()))
    }
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
