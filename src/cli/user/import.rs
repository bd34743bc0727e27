//! `latchkey user import`: imports accounts, shows the progress and reports every record that was not imported.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufRead, BufReader};

use crate::{
    config::Config,
    crypto::seal::Sealer,
    domain::{clock::Clock, entropy::Entropy},
    password::FirebaseHashConfig,
    service::import_accounts::{DEFAULT_BATCH, Format, Importer, MAX_BATCH, Progress, import},
    store::sql::Sql,
};

/// The size of the read buffer, in bytes.
const BUFFER_SIZE: usize = 64 * 1024;

/// Arguments of `latchkey user import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The file to import, or - for standard input. Without --from: one JSON object a line with email, password_hash
    /// (null for none) and, optionally, id, username, roles, email_verified, secondary_emails, disabled, created_at,
    /// updated_at, totp_secret
    pub file: PathBuf,
    /// The system whose export file this is
    #[arg(long, value_enum, value_name = "SYSTEM")]
    pub from: Option<System>,
    /// With --from firebase: a file with the project's password hash parameters, as the Firebase console shows them
    #[arg(long, value_name = "FILE", required_if_eq("from", "firebase"))]
    pub hash_config: Option<PathBuf>,
    /// Records per transaction
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BATCH, value_parser = value_parser!(u64).range(1..=MAX_BATCH))]
    pub batch: u64,
}

/// A system whose export files can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// JSON of `manage.py dumpdata auth.user`
    Django,
    /// JSON of `kc.sh export`, with users
    Keycloak,
    /// NDJSON or JSON of a user export, with or without password hashes
    Auth0,
    /// JSON of `firebase auth:export --format=json`
    Firebase,
    /// CSV or JSON of the table auth.users
    Supabase,
}

impl ImportArgs {
    fn format(&self) -> anyhow::Result<Format> {
        Ok(match self.from {
            None => Format::Native,
            Some(System::Django) => Format::Django,
            Some(System::Keycloak) => Format::Keycloak,
            Some(System::Auth0) => Format::Auth0,
            Some(System::Supabase) => Format::Supabase,
            Some(System::Firebase) => {
                // clap requires it with `--from firebase`.
                let path = self.hash_config.as_deref().context("--hash-config is missing")?;
                let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                let config = FirebaseHashConfig::parse(&text).with_context(|| {
                    format!(
                        "{} must have algorithm: SCRYPT, base64_signer_key, base64_salt_separator, rounds and mem_cost",
                        path.display()
                    )
                })?;
                Format::Firebase(config)
            }
        })
    }
}

/// A file, or standard input.
struct Source {
    reader: Box<dyn AsyncBufRead + Unpin>,
    /// The name by which an interrupted import of the same source is resumed.
    name: String,
    /// Length in bytes; `None` if it is unknown.
    length: Option<u64>,
}

impl Source {
    async fn open(file: &Path) -> anyhow::Result<Self> {
        if file == Path::new("-") {
            let reader = Box::new(BufReader::with_capacity(BUFFER_SIZE, tokio::io::stdin()));
            return Ok(Self { reader, name: "-".to_owned(), length: None });
        }
        let given_path = || file.display().to_string();
        // A relative path and an absolute path of one file give the same name.
        let path = tokio::fs::canonicalize(file).await.with_context(given_path)?;
        let opened = tokio::fs::File::open(&path).await.with_context(given_path)?;
        let metadata = opened.metadata().await.with_context(given_path)?;
        Ok(Self {
            reader: Box::new(BufReader::with_capacity(BUFFER_SIZE, opened)),
            name: path.to_string_lossy().into_owned(),
            length: metadata.is_file().then_some(metadata.len()), // a named pipe has no length
        })
    }
}

/// Imports accounts. Fails at the end if this run could not import a record.
pub(super) async fn run(sql: &Sql, config: &Config, args: &ImportArgs) -> anyhow::Result<()> {
    let format = args.format()?;
    let Source { reader, name, length } = Source::open(&args.file).await?;
    let entropy = Entropy::system();
    let importer = Importer {
        sql,
        clock: &Clock::System,
        entropy: &entropy,
        sealer: &Sealer::new(&config.secrets),
        password: &config.password,
        format: &format,
        max_emails: config.account.max_emails,
        batch: args.batch,
    };
    let bar = progress_bar(length)?;
    // The native format has one record a line.
    let unit = if args.from.is_none() { "line" } else { "record" };
    let mut report = |progress| match progress {
        Progress::Resumed { record, bytes } => {
            bar.suspend(|| {
                eprintln!(
                    "resuming after {unit} {record}; the output of the earlier run names the {unit}s that it refused"
                )
            });
            // The estimated time left must not count the records of the earlier run.
            bar.set_position(bytes);
            bar.reset_eta();
        }
        Progress::Refused { record, reason } => {
            bar.suspend(|| eprintln!("{unit} {record}: {reason} ({})", reason.code()))
        }
        Progress::Stored { record, bytes } => {
            bar.set_message(format!("{unit} {record}"));
            bar.set_position(bytes);
        }
    };
    let imported = import(&importer, reader, &name, &mut report).await;
    bar.finish_and_clear();
    let summary = imported.context("the import stopped; once the cause is removed, the same command resumes it")?;
    let records = count_of(summary.records - summary.processed_before, unit);
    println!("{} imported from {records}.", count_of(summary.imported, "account"));
    // An earlier run may have found accounts in the records that it processed.
    let found_no_accounts = summary.records == summary.ignored && summary.processed_before == 0;
    if args.from.is_some() && found_no_accounts {
        bail!("the file contains no accounts; check that it is an export of the system named by --from");
    }
    match summary.refused {
        0 => Ok(()),
        1 => bail!("1 {unit} was not imported; see above"),
        several => bail!("{several} {unit}s were not imported; see above"),
    }
}

/// A number with its noun: `1 account`, `2 accounts`.
fn count_of(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A progress bar on standard error, hidden unless that is a terminal. `length` is the length of the source in bytes.
fn progress_bar(length: Option<u64>) -> anyhow::Result<ProgressBar> {
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{wide_bar} {percent:>3} %  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
    };
    Ok(bar.with_style(ProgressStyle::with_template(template)?))
}
