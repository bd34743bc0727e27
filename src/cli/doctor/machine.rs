//! The machine: memory for hashing, file descriptors, the file system beneath SQLite.

use std::{fs, path::Path};

use rustix::{
    fs::statfs,
    process::{Resource, getrlimit},
};

use super::Finding;
use crate::config::Config;

/// What a file system that is reached over a network calls itself (statfs(2)): NFS, SMB, CIFS, SMB2, Ceph, 9P.
const NETWORKED: [u32; 6] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400, 0x0102_1997];

/// File descriptors beside those of connections: the database's, Redis', logs, libraries.
const SPARE: u64 = 64;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let limit = cgroup_limit().into_iter().chain(physical()).min();
    let mut findings = vec![memory(config, limit), descriptors(config, getrlimit(Resource::Nofile).current)];
    findings.extend(file_system(config));
    findings
}

fn memory(config: &Config, limit: Option<u64>) -> Finding {
    const CHECK: &str = "memory";
    let password = &config.password;
    let hashing = u64::from(password.memory_kib) * 1024 * password.threads as u64;
    let remembered = config.cache.max_sessions as u64 * 100 + config.cache.max_tokens as u64 * 1500;
    let needed = hashing + remembered;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let budget = format!(
        "hashing takes up to {} MiB ({} threads of {} KiB), what is remembered up to {} MiB",
        mib(hashing),
        password.threads,
        password.memory_kib,
        mib(remembered)
    );
    let mend = "lower password.threads or cache.max_tokens, or give it more memory";
    match limit {
        None => Finding::ok(CHECK, budget),
        Some(limit) if needed > limit => {
            Finding::fail(CHECK, format!("{budget}; there are only {} MiB: {mend}", mib(limit)))
        }
        Some(limit) if needed > limit / 2 => {
            Finding::warn(CHECK, format!("{budget}, more than half of {} MiB: {mend}", mib(limit)))
        }
        Some(limit) => Finding::ok(CHECK, format!("{budget}, of {} MiB", mib(limit))),
    }
}

/// The limit of the control group that this process is in (cgroups version 2, or 1).
fn cgroup_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/').to_owned();
    let root = Path::new("/sys/fs/cgroup");
    let candidates =
        [root.join(path).join("memory.max"), root.join("memory.max"), root.join("memory/memory.limit_in_bytes")];
    let limits = candidates.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    limits.min()
}

fn physical() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn descriptors(config: &Config, limit: Option<u64>) -> Finding {
    const CHECK: &str = "descriptors";
    let http = config.http.max_connections as u64;
    let needed = http + u64::from(config.database.max_connections) + config.redis.pool_size as u64 + SPARE;
    match limit {
        Some(limit) if limit < needed => Finding::warn(
            CHECK,
            format!(
                "{limit} file descriptors may be open here, and http.max_connections = {http} needs {needed}: raise \
                 the limit (`ulimit -n {needed}`, LimitNOFILE= of systemd), or lower http.max_connections"
            ),
        ),
        Some(limit) => Finding::ok(CHECK, format!("{limit} may be open, {needed} are needed at most")),
        None => Finding::ok(CHECK, "any number may be open"),
    }
}

/// SQLite's write-ahead log needs memory that all its processes share (<https://www.sqlite.org/wal.html>).
fn file_system(config: &Config) -> Option<Finding> {
    let path = config.database.url.expose().strip_prefix("sqlite:")?.trim_start_matches("//").split('?').next()?;
    let folder = Path::new(path).parent()?;
    // by its low 32 bits: what there is above differs by machine
    let kind = u32::try_from(statfs(folder).ok()?.f_type & 0xffff_ffff).ok()?;
    NETWORKED.contains(&kind).then(|| {
        let detail = "the SQLite file is on a file system that is reached over a network, where it can be corrupted: \
                      move it to a disk of this machine, or use Postgres (database.url)";
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

    fn config() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let settings = [("LATCHKEY_PASSWORD_THREADS", "4"), ("LATCHKEY_HTTP_MAX_CONNECTIONS", "1000")];
        let config = load(&Sources::from_environment(folder.path(), settings), &Entropy::system()).unwrap();
        (folder, config)
    }

    #[test]
    fn memory_is_measured_against_what_there_is() {
        let (_folder, config) = config();
        let status = |mib: Option<u64>| memory(&config, mib.map(|mib| mib << 20)).status;
        assert_eq!(
            [None, Some(1024), Some(200), Some(100)].map(status),
            [Status::Ok, Status::Ok, Status::Warn, Status::Fail]
        );
    }

    #[test]
    fn descriptors_are_counted() {
        let (_folder, config) = config();
        assert_eq!(descriptors(&config, Some(1024)).status, Status::Warn);
        assert_eq!(descriptors(&config, Some(2048)).status, Status::Ok);
        assert_eq!(descriptors(&config, None).status, Status::Ok);
    }
}
