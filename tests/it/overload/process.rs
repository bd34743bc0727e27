//! A node in its own process, whose memory and open files tests can measure.

use std::path::Path;

use tokio::task::block_in_place;

use crate::{binary::Service, harness::redis::Redis};

/// A node process with its Redis and the folder of its database.
pub(super) struct Process {
    pub(super) node: Service,
    // These values delete the folder and stop Redis when they are dropped.
    _folder: tempfile::TempDir,
    _redis: Redis,
}

impl Process {
    /// Starts a node without rate limits of sign-ins, with additional settings.
    pub(super) fn start(settings: &[&str]) -> Self {
        let (redis, folder) = (Redis::start(), tempfile::tempdir().unwrap());
        let url = format!("redis.url={}", redis.url());
        let base = [
            &url,
            "secret=the secret of a test, which is long enough",
            // `Service` reads the node's address from the log
            "log.filter=error,latchkey::cli=info",
            // the machine may be busy with other tests
            "redis.command_timeout=20s",
            "limits.login_per_address=off",
            "limits.login_service=off",
            "limits.login_backoff_after=off",
        ];
        let mut arguments = vec!["serve"];
        arguments.extend(base.iter().chain(settings).flat_map(|setting| ["--set", setting]));
        let node = block_in_place(|| Service::start_with(folder.path(), &arguments));
        Self { node, _folder: folder, _redis: redis }
    }

    /// Resident memory.
    pub(super) fn memory_mib(&self) -> u64 {
        self.status_kib("VmRSS:") / 1024
    }

    /// Peak resident memory.
    pub(super) fn peak_memory_mib(&self) -> u64 {
        self.status_kib("VmHWM:") / 1024
    }

    /// Number of open files and connections.
    pub(super) fn open_files(&self) -> usize {
        std::fs::read_dir(self.proc_dir().join("fd")).unwrap().count()
    }

    /// A value of `/proc/PID/status`, in KiB, which the file calls kB.
    fn status_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(self.proc_dir().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB")).unwrap();
        line.trim().parse().unwrap()
    }

    /// `/proc/PID`.
    fn proc_dir(&self) -> std::path::PathBuf {
        Path::new("/proc").join(self.node.pid().to_string())
    }
}

/// Raises the limit of open files to the hard limit, for this process and those that it starts later. Panics if the hard limit is
/// below `files`.
pub(super) fn raise_file_limit(files: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    assert!(limit.maximum.is_none_or(|maximum| maximum >= files), "{files} open files are needed; see `ulimit -Hn`");
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
