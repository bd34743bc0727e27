//! `backup.json`: lists the files of a backup. It is written last, so that an unfinished backup has no such file.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, bail};
use aws_lc_rs::digest::{self, SHA256};
use serde::{Deserialize, Serialize};

/// The name of the manifest's file in a backup.
const MANIFEST: &str = "backup.json";

/// The format of backups that this release writes and reads.
const FORMAT: u32 = 1;

/// The database in a backup.
pub(super) const DATABASE: &str = "latchkey.db";
/// The secret in a backup, if it was kept in the data directory.
pub(super) const SECRET: &str = "secret";
/// The sessions in a backup: a snapshot of the embedded Redis.
pub(super) const SESSIONS: &str = "sessions.rdb";

/// The contents of a backup.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Manifest {
    /// [`FORMAT`] of the release that made the backup.
    format: u32,
    /// The release that made the backup.
    pub(super) version: String,
    /// When the backup began (RFC 3339). The backup contains every earlier change.
    pub(super) created_at: String,
    /// Whether a node ran while its sessions were copied. `None`, and left out of the file, if the backup has no sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) service_was_running: Option<bool>,
    /// The files of the backup by their names.
    files: BTreeMap<String, FileChecksum>,
}

/// The size and the checksum of a file.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
struct FileChecksum {
    bytes: u64,
    sha256: String,
}

impl FileChecksum {
    fn of(path: &Path) -> io::Result<Self> {
        let mut file = fs::File::open(path)?;
        let mut hasher = digest::Context::new(&SHA256);
        let mut bytes = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            bytes += read as u64;
        }
        let sha256 = hasher.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { bytes, sha256 })
    }
}

impl Manifest {
    /// Describes the named files in `dir`, and writes `backup.json` beside them.
    pub(super) fn write(
        dir: &Path,
        names: &[&str],
        created_at: String,
        service_was_running: Option<bool>,
    ) -> anyhow::Result<()> {
        let mut files = BTreeMap::new();
        for name in names {
            files.insert((*name).to_owned(), FileChecksum::of(&dir.join(name))?);
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let manifest = Self { format: FORMAT, version, created_at, service_was_running, files };
        let mut text = serde_json::to_vec_pretty(&manifest)?;
        text.push(b'\n');
        let mut file = new_file(&dir.join(MANIFEST))?;
        file.write_all(&text)?;
        file.sync_all()?;
        // syncs the directory, whose new entries could be lost otherwise
        fs::File::open(dir)?.sync_all()?;
        Ok(())
    }

    /// Reads the manifest of a backup, and checks the size and the checksum of each file that it lists.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(MANIFEST);
        let text = fs::read(&path)
            .with_context(|| format!("{}: not a complete backup of `latchkey backup`", path.display()))?;
        let manifest: Self = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        if manifest.format != FORMAT {
            bail!(
                "the backup has format {}, and this release reads format {FORMAT}: restore it with latchkey {}",
                manifest.format,
                manifest.version
            );
        }
        for (name, expected) in &manifest.files {
            // This check also refuses a path that leads out of the backup.
            if ![DATABASE, SECRET, SESSIONS].contains(&name.as_str()) {
                bail!("{} names the file {name:?}, which this release does not know", path.display());
            }
            let file = dir.join(name);
            let found = FileChecksum::of(&file).with_context(|| file.display().to_string())?;
            if found != *expected {
                bail!("{} is damaged: its size or checksum differs from {MANIFEST}", file.display());
            }
        }
        Ok(manifest)
    }

    /// Whether the backup has the file `name`: [`DATABASE`], [`SECRET`] or [`SESSIONS`].
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }
}

/// Creates a file that only its owner can read and write. Fails if the file exists.
pub(super) fn new_file(path: &Path) -> anyhow::Result<fs::File> {
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.with_context(|| path.display().to_string())
}
