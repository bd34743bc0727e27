//! Accounts are brought from elsewhere: a stream of JSON lines becomes accounts, batch by batch.
//!
//! A batch's accounts and the number of its last line are stored in one transaction, so an import that was interrupted
//! goes on where it was, without doing anything twice. It is known again by the name of its source and the first
//! [`FINGERPRINT`] bytes: where either differs, it is another import and begins at its first line; accounts that are there
//! already are then reported as taken and stay as they are.

mod lines;
mod row;

use std::io;

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::io::{AsyncBufRead, AsyncReadExt};

use self::lines::{Line, Lines};
use crate::{
    config::PasswordSettings,
    domain::{account::NewAccount, clock::Clock, entropy::Entropy},
    store::sql::{ImportOutcome, Sql, SqlError},
};

pub use self::{lines::MAX_LINE, row::BadLine};

/// How much of a source it is known again by, in bytes.
pub const FINGERPRINT: usize = 64 * 1024;
/// Lines in a batch, unless told otherwise.
pub const DEFAULT_BATCH: u64 = 500;
/// Lines in a batch at most: a batch is held in memory.
pub const MAX_BATCH: u64 = 10_000;

/// What an import works with.
#[derive(Clone, Copy, Debug)]
pub struct Importer<'a> {
    /// Where the accounts go.
    pub sql: &'a Sql,
    /// When accounts were made that don't say so.
    pub clock: &'a Clock,
    /// Gives them their ids.
    pub entropy: &'a Entropy,
    /// Which hashes can be checked here.
    pub password: &'a PasswordSettings,
    /// Lines in a transaction, 1 to [`MAX_BATCH`].
    pub batch: u64,
}

/// How an import gets on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An earlier run had come this far; its lines were read over.
    Resumed {
        /// The last line of the earlier run.
        line: u64,
        /// Bytes up to its end.
        bytes: u64,
    },
    /// A line wasn't imported. Told in order, once its batch is stored: an import that is resumed doesn't tell it again.
    Bad {
        /// Its number, counted from 1.
        line: u64,
        /// Why.
        reason: BadLine,
    },
    /// A batch is stored.
    Stored {
        /// Its last line.
        line: u64,
        /// Bytes up to its end.
        bytes: u64,
    },
}

/// What an import came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// All lines of the source, blank ones too.
    pub lines: u64,
    /// Accounts that were made by this run.
    pub imported: u64,
    /// Lines that an earlier run had dealt with.
    pub skipped_before: u64,
    /// Lines that weren't imported by this run.
    pub bad: u64,
}

/// Why an import stopped. What was stored stays, and the same import goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source can't be read.
    #[error("can't read on after line {line}")]
    Read {
        /// The last one that was read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The source is shorter than it was when an earlier run was interrupted.
    #[error("an earlier import of this had come to line {stored}, and now it ends with line {last}")]
    Shorter {
        /// How far the earlier run had come.
        stored: u64,
        /// Where the source ends.
        last: u64,
    },
}

/// Imports accounts, one JSON object a line: `email` and `password_hash` (a PHC string, or bcrypt's), and if wanted
/// `username`, `roles` (a list) and `created_at` (RFC 3339); blank lines mean nothing. `source_name` tells a source from
/// others: a file's full path. A line that can't be imported is reported and the rest goes on. Never holds more than a
/// batch and one line in memory.
///
/// # Errors
/// [`ImportError`]
pub async fn import(
    importer: &Importer<'_>,
    mut source: impl AsyncBufRead + Unpin,
    source_name: &str,
    report: &mut impl FnMut(Progress),
) -> Result<Summary, ImportError> {
    let mut head = Vec::with_capacity(FINGERPRINT);
    let reading_head = (&mut source).take(FINGERPRINT as u64).read_to_end(&mut head).await;
    reading_head.map_err(|source| ImportError::Read { line: 0, source })?;
    let key = source_key(source_name, &head);
    let mut lines = Lines::new(head.as_slice().chain(source));
    let mut summary = Summary::default();

    if let Some(stored) = importer.sql.import_progress(&key).await? {
        while lines.number() < stored {
            if !advance(&mut lines).await? {
                return Err(ImportError::Shorter { stored, last: lines.number() });
            }
        }
        summary.skipped_before = stored;
        report(Progress::Resumed { line: stored, bytes: lines.bytes() });
    }
    let mut more = true;
    while more {
        let mut batch = Batch::default();
        more = batch.fill(importer, &mut lines).await?;
        batch.store(importer, &key, lines.number(), &mut summary, report).await?;
        report(Progress::Stored { line: lines.number(), bytes: lines.bytes() });
    }
    importer.sql.forget_import(&key).await?;
    summary.lines = lines.number();
    Ok(summary)
}

async fn advance(lines: &mut Lines<impl AsyncBufRead + Unpin>) -> Result<bool, ImportError> {
    lines.advance().await.map_err(|source| ImportError::Read { line: lines.number(), source })
}

/// What an unfinished import is stored under.
fn source_key(name: &str, head: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    // The length first, so that no name runs on into the content.
    context.update(&(name.len() as u64).to_be_bytes());
    context.update(name.as_bytes());
    context.update(head);
    BASE64_URL_SAFE_NO_PAD.encode(context.finish())
}

/// Lines on their way into the database.
#[derive(Default)]
struct Batch {
    accounts: Vec<NewAccount>,
    /// The line of each account.
    numbers: Vec<u64>,
    bad: Vec<(u64, BadLine)>,
}

impl Batch {
    /// Reads as many lines as a batch has. False when there are no more.
    async fn fill(
        &mut self,
        importer: &Importer<'_>,
        lines: &mut Lines<impl AsyncBufRead + Unpin>,
    ) -> Result<bool, ImportError> {
        let now = importer.clock.now();
        for _ in 0..importer.batch.clamp(1, MAX_BATCH) {
            if !advance(lines).await? {
                return Ok(false);
            }
            let account = match lines.line() {
                Line::Bytes(line) if line.trim_ascii().is_empty() => continue,
                Line::Bytes(line) => row::read(line, now, importer.entropy, importer.password),
                Line::TooLong => Err(BadLine::TooLong),
            };
            match account {
                Ok(account) => {
                    self.accounts.push(account);
                    self.numbers.push(lines.number());
                }
                Err(reason) => self.bad.push((lines.number(), reason)),
            }
        }
        Ok(true)
    }

    /// Stores it, counts what became of each line, and reports those that weren't imported.
    async fn store(
        mut self,
        importer: &Importer<'_>,
        key: &str,
        upto_line: u64,
        summary: &mut Summary,
        report: &mut impl FnMut(Progress),
    ) -> Result<(), ImportError> {
        let now = importer.clock.now();
        let outcomes = importer.sql.import_accounts(key, upto_line, &self.accounts, now).await?;
        for (line, outcome) in self.numbers.into_iter().zip(outcomes) {
            match outcome {
                ImportOutcome::Inserted => summary.imported += 1,
                ImportOutcome::EmailTaken => self.bad.push((line, BadLine::EmailTaken)),
                ImportOutcome::UsernameTaken => self.bad.push((line, BadLine::UsernameTaken)),
            }
        }
        summary.bad += self.bad.len() as u64;
        self.bad.sort_by_key(|(line, _)| *line);
        for (line, reason) in self.bad {
            report(Progress::Bad { line, reason });
        }
        Ok(())
    }
}
