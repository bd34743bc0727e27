//! `latchkey backup`: copies the data directory's contents while the service runs: the SQLite database, the secret, and the
//! sessions of the embedded Redis.
//!
//! The database is copied before the sessions. A change that ends sessions ends them in Redis first and is committed
//! afterwards. So the copy of Redis has no session that a change in the copy of the database has ended.

mod manifest;
mod restore;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;

use self::manifest::{DATABASE, Manifest, SECRET, SESSIONS, new_file};
pub use self::restore::{RestoreArgs, run as restore};
use super::{Global, block_on, bootstrap::embedded_redis_socket};
use crate::{
    config::{Config, load_data_locations, load_existing},
    domain::clock::Clock,
    logging,
    store::{
        redis::embedded,
        sql::{Sql, sqlite_path},
    },
};

/// Arguments of `latchkey backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// Directory to create, such as /backup/2026-11-30; if it exists, it must be empty
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Leave out the sessions: after a restore, everyone signs in again
    #[arg(long)]
    pub no_sessions: bool,
}

/// Writes a backup, and prints which data it does not contain.
///
/// # Errors
/// If there is no service or nothing to copy, or a file can't be read or written.
pub fn run(args: &BackupArgs, global: &Global) -> anyhow::Result<()> {
    let sources = global.sources()?;
    let config = load_existing(&sources)?;
    // `None` if the secret is kept outside the data directory
    let (_config, secret_file) = load_data_locations(&sources)?;
    logging::init(&config.log, None)?;
    let database = sqlite_path(&config.database)?;
    let has_embedded_redis = config.redis.url.is_none();
    let external_data = describe_external_data(&config, database.is_some(), has_embedded_redis);
    if database.is_none() && secret_file.is_none() && !has_embedded_redis {
        bail!("there is nothing to copy: this service keeps all its data elsewhere.\n{external_data}");
    }
    if let Some(path) = &database {
        let exists = path.try_exists().with_context(|| format!("the database {} can't be read", path.display()))?;
        if !exists {
            bail!("there is no database at {}; correct database.url (LATCHKEY_DATABASE_URL)", path.display());
        }
    }
    create_dir(&args.dir).with_context(|| args.dir.display().to_string())?;

    // taken before the copies, so that they contain every earlier change
    let created_at = Clock::System.now().to_string();
    let mut names = Vec::new();
    if let Some(path) = &secret_file {
        let mut copy = new_file(&args.dir.join(SECRET))?;
        let mut original = fs::File::open(path).with_context(|| path.display().to_string())?;
        io::copy(&mut original, &mut copy)?;
        copy.sync_all()?;
        names.push(SECRET);
    }
    let node_was_running = block_on(async {
        if database.is_some() {
            let sql = Sql::connect(&config.database).await?;
            let copy = args.dir.join(DATABASE);
            // created here, so that only its owner can read the copy
            drop(new_file(&copy)?);
            sql.copy_to(&copy).await?;
            fs::File::open(&copy)?.sync_all()?;
            sql.close().await;
            names.push(DATABASE);
        }
        if !has_embedded_redis || args.no_sessions {
            return Ok(None);
        }
        let (socket, started_redis) = embedded_redis_socket(&config).await?;
        let mut copy = tokio::fs::File::from_std(new_file(&args.dir.join(SESSIONS))?);
        let copied =
            embedded::copy(&socket, &mut copy).await.context("can't copy the sessions from the embedded Redis");
        // an embedded Redis that this command did not have to start belongs to a running node
        let node_was_running = started_redis.is_none();
        // stopped even if the copy failed
        if let Some(redis) = started_redis {
            redis.stop().await;
        }
        copied?;
        names.push(SESSIONS);
        Ok(Some(node_was_running))
    })?;
    Manifest::write(&args.dir, &names, created_at, node_was_running)?;

    println!("Wrote {} to {}.", names.join(", "), args.dir.display());
    if secret_file.is_some() {
        println!("It contains the secret: anyone who has it can forge tokens. Keep it encrypted.");
    }
    if !external_data.is_empty() {
        println!("Not included, back it up too:\n{external_data}");
    }
    Ok(())
}

/// Lists the data that the backup does not contain, and how to back it up. `has_sqlite` and
/// `has_embedded_redis` say whether the service has these stores of its own.
fn describe_external_data(config: &Config, has_sqlite: bool, has_embedded_redis: bool) -> String {
    let mut lines = Vec::new();
    if !has_sqlite {
        lines.push(
            "- PostgreSQL (database.url): `pg_dump --format=custom --file=accounts.dump DATABASE`, before a copy of Redis"
                .to_owned(),
        );
    }
    if !has_embedded_redis {
        lines.push(
            "- Redis (redis.url): its append-only file survives a restart; after a loss, an empty Redis is safe, and \
             everyone signs in again"
                .to_owned(),
        );
    }
    if config.password.pepper.is_some() || !config.password.previous_peppers.is_empty() {
        lines.push("- the peppers (password.pepper): without them all passwords are unusable".to_owned());
    }
    lines.join("\n")
}

/// Creates a directory for its owner only, or accepts an empty one.
fn create_dir(dir: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if fs::read_dir(dir)?.next().is_some() {
        bail!("the directory is not empty: name a new one for each backup");
    }
    Ok(())
}
