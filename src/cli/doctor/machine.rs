//! Checks of the machine: memory for hashing, file descriptors, the file system of SQLite.

use std::{fs, path::Path};

use rustix::{
    fs::statfs,
    process::{Resource, getrlimit},
};

use super::Finding;
use crate::config::Config;

/// The magic numbers of network file systems (statfs(2)): NFS, SMB, CIFS, SMB2, Ceph, 9P.
const NETWORK_FILE_SYSTEMS: [u32; 6] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400, 0x0102_1997];

/// Memory of a cached session, as the configuration reference says for `cache.max_sessions`.
const SESSION_BYTES: u64 = 100;

/// Memory of a cached access token, as the configuration reference says for `cache.max_tokens`.
const TOKEN_BYTES: u64 = 1500;

/// Number of file descriptors for logs and libraries, in addition to those for connections.
const OTHER_FILES: u64 = 64;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let available_memory = cgroup_limit().into_iter().chain(physical_memory()).min();
    let descriptor_limit = getrlimit(Resource::Nofile).current;
    let mut findings = vec![check_memory(config, available_memory), check_descriptors(config, descriptor_limit)];
    findings.extend(check_file_system(config));
    findings
}

fn check_memory(config: &Config, available: Option<u64>) -> Finding {
    const CHECK: &str = "memory";
    let password = &config.password;
    let hashing = u64::from(password.memory_kib) * 1024 * password.threads as u64;
    let cached = config.cache.max_sessions as u64 * SESSION_BYTES + config.cache.max_tokens as u64 * TOKEN_BYTES;
    let needed = hashing + cached;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let budget = format!(
        "hashing takes up to {} MiB ({} threads of {} KiB), caches up to {} MiB",
        mib(hashing),
        password.threads,
        password.memory_kib,
        mib(cached)
    );
    let remedy = "lower password.threads or cache.max_tokens, or add memory";
    match available {
        None => Finding::ok(CHECK, budget),
        Some(available) if needed > available => {
            Finding::fail(CHECK, format!("{budget}; only {} MiB are available: {remedy}", mib(available)))
        }
        Some(available) if needed > available / 2 => {
            Finding::warn(CHECK, format!("{budget}, more than half of {} MiB: {remedy}", mib(available)))
        }
        Some(available) => Finding::ok(CHECK, format!("{budget}, of {} MiB", mib(available))),
    }
}

/// The memory limit of the control group of this process in bytes (cgroups version 2 or 1).
fn cgroup_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // The line of version 2 is "0::" and the group's path.
    let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/');
    let root = Path::new("/sys/fs/cgroup");
    // version 2; version 2 in a container, whose mount begins at its own group; version 1
    let limit_files =
        [root.join(group).join("memory.max"), root.join("memory.max"), root.join("memory/memory.limit_in_bytes")];
    // A file without a limit contains "max", which is no number.
    let limits = limit_files.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    limits.min()
}

/// The memory of the machine in bytes.
fn physical_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    // "MemTotal:       16310408 kB"
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn check_descriptors(config: &Config, limit: Option<u64>) -> Finding {
    const CHECK: &str = "descriptors";
    let max_http = config.http.max_connections as u64;
    let needed = max_http + u64::from(config.database.max_connections) + config.redis.pool_size as u64 + OTHER_FILES;
    match limit {
        Some(limit) if limit < needed => Finding::warn(
            CHECK,
            format!(
                "the limit of open files is {limit}, and http.max_connections = {max_http} needs {needed}: raise it \
                 (`ulimit -n {needed}`, systemd's LimitNOFILE=) or lower http.max_connections"
            ),
        ),
        Some(limit) => Finding::ok(CHECK, format!("the limit is {limit}, at most {needed} are needed")),
        None => Finding::ok(CHECK, "unlimited"),
    }
}

/// SQLite's write-ahead log needs shared memory, which network file systems lack (<https://www.sqlite.org/wal.html>).
fn check_file_system(config: &Config) -> Option<Finding> {
    // `sqlite://PATH?PARAMETERS`
    let path = config.database.url.expose().strip_prefix("sqlite:")?.trim_start_matches("//").split('?').next()?;
    let folder = Path::new(path).parent()?;
    // `f_type` is signed or wider on some platforms; the low 32 bits are the magic number.
    let magic = u32::try_from(statfs(folder).ok()?.f_type & 0xffff_ffff).ok()?;
    NETWORK_FILE_SYSTEMS.contains(&magic).then(|| {
        let detail = "the SQLite file is on a network file system, where it can be corrupted: move it to a local disk, \
                      or use PostgreSQL (database.url)";
        Finding::fail("database", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::doctor::Status,
        config::{Sources, load},
        domain::entropy::Entropy,
    };

    /// Returns a configuration, and its data directory, which is removed when it is dropped.
    fn config() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let settings = [("LATCHKEY_PASSWORD_THREADS", "4"), ("LATCHKEY_HTTP_MAX_CONNECTIONS", "1000")];
        let config = load(&Sources::from_environment(folder.path(), settings), &Entropy::system()).unwrap();
        (folder, config)
    }

    #[test]
    fn memory_budget_above_half_of_the_limit_warns_and_above_the_limit_fails() {
        let (_folder, config) = config();
        // By default, hashing takes 4 × 19 MiB, and the caches 38 MiB (100,000 sessions and 20,000 tokens): 114 MiB.
        let status = |available_mib: u64| check_memory(&config, Some(available_mib << 20)).status;
        assert_eq!(status(1024), Status::Ok);
        assert_eq!(status(200), Status::Warn);
        assert_eq!(status(100), Status::Fail);
        assert_eq!(check_memory(&config, None).status, Status::Ok, "the limit is unknown");
    }

    #[test]
    fn descriptor_limit_below_the_need_warns() {
        // 1000 connections of clients, the connections to the stores, and 64 other files are more than 1024
        let (_folder, config) = config();
        assert_eq!(check_descriptors(&config, Some(1024)).status, Status::Warn);
        assert_eq!(check_descriptors(&config, Some(2048)).status, Status::Ok);
        assert_eq!(check_descriptors(&config, None).status, Status::Ok);
    }
}
