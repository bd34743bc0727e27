//! `latchkey user import`: shows how far it has come, and every line that couldn't be imported.

use std::path::Path;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufRead, BufReader};

use super::ImportArgs;
use crate::{
    config::PasswordSettings,
    domain::{clock::Clock, entropy::Entropy},
    service::import_accounts::{Importer, Progress, import},
    store::sql::Sql,
};

const BUFFER: usize = 64 * 1024;

/// A file, or standard input.
struct Source {
    reader: Box<dyn AsyncBufRead + Unpin>,
    /// What an interrupted import of it is known again by.
    name: String,
    /// In bytes, where it is known.
    length: Option<u64>,
}

impl Source {
    async fn open(file: &Path) -> anyhow::Result<Self> {
        if file == Path::new("-") {
            let reader = Box::new(BufReader::with_capacity(BUFFER, tokio::io::stdin()));
            return Ok(Self { reader, name: "-".to_owned(), length: None });
        }
        let shown = || file.display().to_string();
        let path = tokio::fs::canonicalize(file).await.with_context(shown)?;
        let opened = tokio::fs::File::open(&path).await.with_context(shown)?;
        let metadata = opened.metadata().await.with_context(shown)?;
        Ok(Self {
            reader: Box::new(BufReader::with_capacity(BUFFER, opened)),
            name: path.to_string_lossy().into_owned(),
            length: metadata.is_file().then_some(metadata.len()),
        })
    }
}

/// Imports; fails in the end if a line couldn't be imported.
pub(super) async fn run(sql: &Sql, password: &PasswordSettings, args: &ImportArgs) -> anyhow::Result<()> {
    let Source { reader, name, length } = Source::open(&args.file).await?;
    let entropy = Entropy::system();
    let importer = Importer { sql, clock: &Clock::System, entropy: &entropy, password, batch: args.batch };
    let bar = progress_bar(length)?;
    let mut report = |progress| match progress {
        Progress::Resumed { line, bytes } => {
            bar.suspend(|| eprintln!("lines 1 to {line} were dealt with by an earlier run; going on from there"));
            // What an earlier run did says nothing about how fast this one is.
            bar.set_position(bytes);
            bar.reset_eta();
        }
        Progress::Bad { line, reason } => bar.suspend(|| eprintln!("line {line}: {reason} ({})", reason.code())),
        Progress::Stored { line, bytes } => {
            bar.set_message(format!("line {line}"));
            bar.set_position(bytes);
        }
    };
    let done = import(&importer, reader, &name, &mut report).await;
    bar.finish_and_clear();
    let summary = done.context("the import stopped; the same command goes on where it was")?;
    println!("{} accounts were imported, from {} lines.", summary.imported, summary.lines);
    match summary.bad {
        0 => Ok(()),
        1 => bail!("1 line was not imported; it is named above"),
        bad => bail!("{bad} lines were not imported; they are named above"),
    }
}

/// On standard error, and only if that is a terminal.
fn progress_bar(length: Option<u64>) -> anyhow::Result<ProgressBar> {
    Ok(match length {
        Some(length) => {
            let style = "{wide_bar} {percent:>3} %  {msg}  {eta} left";
            ProgressBar::new(length).with_style(ProgressStyle::with_template(style)?)
        }
        None => ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {bytes}  {msg}")?),
    })
}
