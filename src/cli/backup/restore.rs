//! `latchkey restore`: puts a backup into an empty data directory.
//!
//! Sessions are left out by default. A session that was signed out after the backup was made is still live in the backup, and
//! no surviving data records its end (I3: a revoked session stays revoked).

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;

use super::manifest::{DATABASE, Manifest, SECRET, SESSIONS, new_file};
use crate::{
    cli::Global,
    config::load_data_locations,
    store::{redis::embedded, sql::sqlite_path},
};

/// Arguments of `latchkey restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// Directory that `latchkey backup` wrote
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Restore the sessions too, including those that ended after the backup was made: for a backup of a stopped service
    #[arg(long)]
    pub keep_sessions: bool,
}

/// Checks a backup and restores it. Changes nothing if the data directory has data of a service.
///
/// # Errors
/// If the backup is incomplete or damaged, does not match the configuration, or there is data already.
pub fn run(args: &RestoreArgs, global: &Global) -> anyhow::Result<()> {
    // `secret_file` is `None` if the configuration names the secret.
    let (config, secret_file) = load_data_locations(&global.sources()?)?;
    let manifest = Manifest::read(&args.dir)?;
    let database_file = sqlite_path(&config.database)?;
    // The directory of the embedded Redis, if Latchkey runs one.
    let redis_dir = config.redis.url.is_none().then(|| config.data_dir.join("redis"));

    if database_file.is_some() && !manifest.has(DATABASE) {
        bail!(
            "the backup has no database: it was made with PostgreSQL. Set database.url, and restore the dump with pg_restore"
        );
    }
    if database_file.is_none() && manifest.has(DATABASE) {
        bail!("the backup has a SQLite database, and database.url names PostgreSQL: restore it without database.url");
    }
    if args.keep_sessions && !manifest.has(SESSIONS) {
        bail!("the backup has no sessions: restore it without --keep-sessions");
    }
    if args.keep_sessions && redis_dir.is_none() {
        bail!(
            "the backup has sessions of an embedded Redis, and redis.url names another Redis: restore it without --keep-sessions"
        );
    }
    let secret_target = if manifest.has(SECRET) { secret_file.as_ref() } else { None };
    for path in database_file.iter().chain(secret_target) {
        if path.exists() {
            bail!("{} exists: restore into an empty data directory, or move it away first", path.display());
        }
    }
    if let Some(redis_dir) = redis_dir.as_ref().filter(|dir| !embedded::is_unused(dir)) {
        bail!("{} has sessions: restore into an empty data directory, or move it away first", redis_dir.display());
    }

    // The database comes last: an interrupted restore leaves no accounts without the secret that decrypts their data.
    let owner = create_data_dir(&config.data_dir)?;
    if args.keep_sessions
        && let Some(redis_dir) = &redis_dir
    {
        embedded::restore(&args.dir.join(SESSIONS), redis_dir).with_context(|| redis_dir.display().to_string())?;
        owner.adopt(redis_dir)?;
        owner.adopt(&redis_dir.join("appendonly.aof"))?;
    }
    if let Some(secret_target) = secret_target {
        copy_file(&args.dir.join(SECRET), secret_target, &owner)?;
    }
    if let Some(database_file) = &database_file {
        copy_file(&args.dir.join(DATABASE), database_file, &owner)?;
    }

    println!("Restored the backup of {} (latchkey {}).", manifest.created_at, manifest.version);
    print_sessions_note(&manifest, args.keep_sessions);
    if secret_target.is_none() {
        print_secret_note(secret_file.as_deref());
    }
    println!("Passwords, roles and factors are those of the backup. Run `latchkey doctor`, then start the service.");
    Ok(())
}

/// Prints which sessions are live after the restore.
fn print_sessions_note(manifest: &Manifest, kept_sessions: bool) {
    if kept_sessions {
        println!("The sessions are those of {}.", manifest.created_at);
        if manifest.service_was_running == Some(false) {
            println!(
                "The service was stopped during the backup. If it ran again afterwards, sessions that have ended since are \
                 live again."
            );
        } else {
            println!(
                "Sessions that were signed out or revoked after the backup are live again. `latchkey session revoke \
                 --everyone` ends all sessions."
            );
        }
    } else {
        println!("No sessions were restored: everyone signs in again.");
    }
}

/// For a restore without a secret: prints which secret the service will use.
fn print_secret_note(secret_file: Option<&Path>) {
    match secret_file {
        None => println!("The secret is the configured one; it must be the one of the service that was backed up."),
        Some(path) if path.exists() => {
            println!(
                "The secret is the one in {}; it must be the one of the service that was backed up.",
                path.display()
            );
        }
        Some(_) => println!(
            "The backup has no secret, and none is configured. Before you start the service, set secret or secret_file to the \
             secret of the service that was backed up: only that secret decrypts the signing keys and the secrets of second \
             factors, and the service does not start without it. If it is lost, see \"Rotate the secret\" in \
             docs/operations.md."
        ),
    }
}

/// The owner of the data directory: files that root restores must belong to the service's user.
struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// Makes a restored file belong to the owner, if this process runs as root.
    fn adopt(&self, path: &Path) -> io::Result<()> {
        if rustix::process::geteuid().is_root() { chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }
}

/// Creates the data directory if it does not exist, and returns its owner.
fn create_data_dir(dir: &Path) -> anyhow::Result<Owner> {
    let path = || dir.display().to_string();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(path)?;
    let metadata = fs::metadata(dir).with_context(path)?;
    Ok(Owner { uid: metadata.uid(), gid: metadata.gid() })
}

/// Copies a file. Until the copy is complete, it has another name, so that the service never starts with a part of the data.
fn copy_file(from: &Path, to: &Path, owner: &Owner) -> anyhow::Result<()> {
    let mut name = to.as_os_str().to_owned();
    name.push(".restoring");
    let unfinished = PathBuf::from(name);
    // An interrupted restore may have left the file.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut copy = new_file(&unfinished)?;
    io::copy(&mut fs::File::open(from)?, &mut copy).with_context(|| to.display().to_string())?;
    copy.sync_all()?;
    owner.adopt(&unfinished)?;
    fs::rename(&unfinished, to)?;
    // Makes the new name durable.
    if let Some(dir) = to.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}
