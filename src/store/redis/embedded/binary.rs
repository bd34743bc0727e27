//! Finds a `redis-server` or `valkey-server` on the PATH that is new enough.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use super::EmbeddedError;

/// The programs to look for, in order.
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];
/// The oldest supported version of Redis: major and minor. All versions of Valkey are newer.
const OLDEST: (u32, u32) = (6, 0);
/// How long `--version` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Finds the first suitable program in the folders of `search_path`, which has the format of PATH.
///
/// # Errors
/// The problem of the first program that was found, or [`EmbeddedError::NotFound`].
pub(super) async fn find(search_path: &OsStr) -> Result<PathBuf, EmbeddedError> {
    let mut first_problem = None;
    for binary in NAMES.into_iter().flat_map(|name| locate(name, search_path)) {
        match check_version(&binary).await {
            Ok(()) => return Ok(binary),
            Err(error) => first_problem = first_problem.or(Some(error)),
        }
    }
    Err(first_problem.unwrap_or(EmbeddedError::NotFound))
}

/// Finds the executable files with this name in the folders of `search_path`, in the order of the folders.
fn locate(name: &str, search_path: &OsStr) -> Vec<PathBuf> {
    const ANY_EXECUTE_BIT: u32 = 0o111;
    let is_executable = |path: &PathBuf| {
        let metadata = path.metadata();
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & ANY_EXECUTE_BIT != 0)
    };
    std::env::split_paths(search_path).map(|dir| dir.join(name)).filter(is_executable).collect()
}

/// Runs `--version`, and checks that the version is supported.
async fn check_version(binary: &Path) -> Result<(), EmbeddedError> {
    let unusable = |detail: String| EmbeddedError::Unusable { binary: binary.to_owned(), detail };
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, output)
        .await
        .map_err(|_| unusable("it did not end in time".into()))?
        .map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = find_version(&text).ok_or_else(|| unusable(format!("its output was {:?}", text.trim())))?;
    let numbers = major_minor(version).ok_or_else(|| unusable(format!("its version {version:?} has no numbers")))?;
    if numbers < OLDEST {
        return Err(EmbeddedError::TooOld { binary: binary.to_owned(), version: version.to_owned() });
    }
    Ok(())
}

/// The version in the output of `--version`: `Redis server v=7.0.15 sha=…` or `Valkey server v=8.0.1 sha=…`.
fn find_version(text: &str) -> Option<&str> {
    text.split_whitespace().find_map(|word| word.strip_prefix("v="))
}

/// The first two numbers of a version.
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a program that prints `text`.
    fn folder_with(name: &str, text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        add_program(dir.path(), name, text);
        dir
    }

    /// Adds a program that prints `text`.
    fn add_program(dir: &Path, name: &str, text: &str) {
        let program = dir.join(name);
        // A shell writes the program, whose path is `$0`. If this process did, a concurrent fork could hold the file open for writing,
        // and the program could not be run (ETXTBSY).
        let script = format!("printf '#!/bin/sh\\necho {text}\\n' > \"$0\" && chmod 755 \"$0\"");
        let status = std::process::Command::new("/bin/sh").arg("-c").arg(script).arg(&program).status().unwrap();
        assert!(status.success());
    }

    #[tokio::test]
    async fn find_without_program_suggests_redis_url() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(dir.path().as_os_str()).await.unwrap_err();
        assert!(matches!(error, EmbeddedError::NotFound));
        assert!(error.to_string().contains("LATCHKEY_REDIS_URL"));
    }

    #[tokio::test]
    async fn find_with_only_valkey_returns_it() {
        let dir = folder_with("valkey-server", "Valkey server v=8.0.1 sha=0:0 malloc=jemalloc bits=64");
        assert_eq!(find(dir.path().as_os_str()).await.unwrap(), dir.path().join("valkey-server"));
    }

    #[tokio::test]
    async fn find_with_only_old_redis_names_its_version() {
        let dir = folder_with("redis-server", "Redis server v=5.0.14 sha=0:0");
        let error = find(dir.path().as_os_str()).await.unwrap_err();
        assert!(matches!(&error, EmbeddedError::TooOld { version, .. } if version == "5.0.14"), "{error}");
    }

    #[tokio::test]
    async fn find_with_old_redis_and_new_valkey_returns_valkey() {
        let dir = folder_with("redis-server", "Redis server v=5.0.14 sha=0:0");
        add_program(dir.path(), "valkey-server", "Valkey server v=9.0.0 sha=0:0");
        assert_eq!(find(dir.path().as_os_str()).await.unwrap(), dir.path().join("valkey-server"));
    }

    #[tokio::test]
    async fn find_with_new_redis_behind_old_redis_returns_the_new_one() {
        let old = folder_with("redis-server", "Redis server v=5.0.14 sha=0:0");
        let new = folder_with("redis-server", "Redis server v=7.0.15 sha=0:0");
        let search_path = std::env::join_paths([old.path(), new.path()]).unwrap();
        assert_eq!(find(&search_path).await.unwrap(), new.path().join("redis-server"));
    }

    #[tokio::test]
    async fn find_with_unknown_version_output_fails() {
        for output in ["hello", "Redis server v=unstable sha=0:0"] {
            let dir = folder_with("redis-server", output);
            let error = find(dir.path().as_os_str()).await.unwrap_err();
            assert!(matches!(error, EmbeddedError::Unusable { .. }), "{error}");
        }
    }

    #[test]
    fn major_minor_of_versions_compare_as_numbers() {
        assert!(major_minor("10.0.1") > Some(OLDEST));
        assert!(major_minor("5.9.9") < Some(OLDEST));
        assert_eq!(major_minor("unstable"), None);
    }
}
