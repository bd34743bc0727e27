//! Imports accounts from other systems: a stream of records becomes accounts, in batches.
//!
//! Each transaction stores the accounts of a batch and the number of its last record. So an interrupted import resumes where it stopped. An
//! import is identified by the name of its source and the source's first bytes ([`FINGERPRINT_BYTES`]). If either differs, the import starts at
//! the first record. Accounts that exist are then reported as taken and stay unchanged.

mod format;
mod native;
mod record;
mod records;

use std::io;

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::io::{AsyncBufRead, AsyncReadExt};

use self::{
    format::RecordReader,
    records::{RecordBytes, Records},
};
use crate::{
    config::PasswordSettings,
    crypto::{seal::Sealer, totp::TotpSecret},
    domain::{
        account::{Email, NewAccount},
        clock::{Clock, Timestamp},
        entropy::Entropy,
    },
    service::factors,
    store::sql::{ImportOutcome, SecondaryEmail, Sql, SqlError, TotpFactor},
};

pub use self::{format::Format, record::BadRecord, records::MAX_RECORD_BYTES};

/// The number of bytes at the start of a source that identify it.
pub const FINGERPRINT_BYTES: usize = 64 * 1024;
/// The default number of records in a batch.
pub const DEFAULT_BATCH: u64 = 500;
/// The highest number of records in a batch, which is held in memory.
pub const MAX_BATCH: u64 = 10_000;

/// The dependencies and settings of an import.
#[derive(Clone, Copy, Debug)]
pub struct Importer<'a> {
    /// The database.
    pub sql: &'a Sql,
    /// The source of the creation time for accounts that have none.
    pub clock: &'a Clock,
    /// The source of ids for accounts that have none.
    pub entropy: &'a Entropy,
    /// Encrypts the secrets of authenticator apps.
    pub sealer: &'a Sealer,
    /// The settings that limit the cost of imported password hashes.
    pub password: &'a PasswordSettings,
    /// The format of the source.
    pub format: &'a Format,
    /// The highest number of e-mail addresses of an account.
    pub max_emails: usize,
    /// The number of records in a transaction, 1 to [`MAX_BATCH`].
    pub batch: u64,
}

/// An event during an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The import resumes after the records of an earlier run.
    Resumed {
        /// The number of the last record that the earlier run stored.
        record: u64,
        /// The number of bytes up to the end of that record.
        bytes: u64,
    },
    /// A record was not imported. Reported in order, after its batch is stored; a resumed import doesn't repeat it.
    Refused {
        /// The number of the record, counted from 1. In the native format, it is the number of the line.
        record: u64,
        /// The reason.
        reason: BadRecord,
    },
    /// A batch is stored.
    Stored {
        /// The last record of the batch.
        record: u64,
        /// The number of bytes up to the end of that record.
        bytes: u64,
    },
}

/// The result of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number of records of the source, including blank lines.
    pub records: u64,
    /// The number of accounts that this run inserted.
    pub imported: u64,
    /// The number of records that an earlier run processed.
    pub processed_before: u64,
    /// The number of records that are not accounts: blank lines, headers, rows of other tables.
    pub ignored: u64,
    /// The number of records that this run could not import.
    pub refused: u64,
}

/// The reason why an import stopped. Stored batches stay, and the same import resumes after them.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source can't be read.
    #[error("can't read the file after record {record}")]
    Read {
        /// The last record that was read.
        record: u64,
        /// The error.
        source: io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The source is shorter than it was when an earlier run was interrupted.
    #[error("an earlier import of this file stopped after record {stored}, but the file now ends with record {last}")]
    Shorter {
        /// The last record of the earlier run.
        stored: u64,
        /// The last record of the source.
        last: u64,
    },
}

/// Imports accounts. `source_name` distinguishes sources; for a file it is the full path. A record that can't be imported is reported, and
/// the import continues. Memory use is bounded by one batch and one record.
///
/// # Errors
/// [`ImportError`]
pub async fn import(
    importer: &Importer<'_>,
    mut source: impl AsyncBufRead + Unpin,
    source_name: &str,
    report: &mut impl FnMut(Progress),
) -> Result<Summary, ImportError> {
    let mut head = Vec::with_capacity(FINGERPRINT_BYTES);
    let head_result = (&mut source).take(FINGERPRINT_BYTES as u64).read_to_end(&mut head).await;
    head_result.map_err(|source| ImportError::Read { record: 0, source })?;
    let key = source_key(source_name, &head);
    let (mut reader, splitter) = RecordReader::new(importer.format, &head);
    let mut records = Records::new(head.as_slice().chain(source), splitter);
    let mut summary = Summary::default();

    if let Some(stored) = importer.sql.import_progress(&key).await? {
        while records.number() < stored {
            if !advance(&mut records).await? {
                return Err(ImportError::Shorter { stored, last: records.number() });
            }
            // The reader needs the header, although the record is skipped. An invalid header was reported by the earlier run.
            if reader.needs_header()
                && let RecordBytes::Bytes(header) = records.record()
            {
                let _ = reader.read(header, importer.clock.now());
            }
        }
        summary.processed_before = stored;
        report(Progress::Resumed { record: stored, bytes: records.bytes() });
    }
    let mut has_more = true;
    while has_more {
        let mut batch = Batch::default();
        has_more = batch.fill(importer, &mut reader, &mut records).await?;
        // Also at the end of the source: the last batch may have accounts.
        batch.store(importer, &key, records.number(), &mut summary, report).await?;
        report(Progress::Stored { record: records.number(), bytes: records.bytes() });
    }
    importer.sql.forget_import(&key).await?;
    summary.records = records.number();
    Ok(summary)
}

/// Reads the next record. Returns false at the end of the source.
async fn advance(records: &mut Records<impl AsyncBufRead + Unpin>) -> Result<bool, ImportError> {
    records.advance().await.map_err(|source| ImportError::Read { record: records.number(), source })
}

/// The key under which an unfinished import is stored.
fn source_key(name: &str, head: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    // The length says where the name ends: no other name and head give the same input.
    context.update(&(name.len() as u64).to_be_bytes());
    context.update(name.as_bytes());
    context.update(head);
    BASE64_URL_SAFE_NO_PAD.encode(context.finish())
}

/// A validated record.
struct ImportedAccount {
    account: NewAccount,
    totp_secret: Option<TotpSecret>,
    /// Each address, and whether it is verified.
    secondary_emails: Vec<(Email, bool)>,
}

/// Reads and validates a record. Returns `None` for a record that is not an account.
fn read_account(
    importer: &Importer<'_>,
    reader: &mut RecordReader<'_>,
    bytes: RecordBytes<'_>,
    now: Timestamp,
) -> Result<Option<ImportedAccount>, BadRecord> {
    let RecordBytes::Bytes(bytes) = bytes else { return Err(BadRecord::TooLong) };
    let Some(record) = reader.read(bytes, now)? else { return Ok(None) };
    let totp_secret = record.totp_secret()?;
    let secondary_emails = record.secondary_emails(importer.max_emails)?;
    let account = record.validate(now, importer.entropy, importer.password)?;
    Ok(Some(ImportedAccount { account, totp_secret, secondary_emails }))
}

/// A batch of records to store in one transaction.
#[derive(Default)]
struct Batch {
    accounts: Vec<NewAccount>,
    /// The authenticator apps of `accounts`.
    factors: Vec<TotpFactor>,
    /// The secondary addresses, each with the index of its account in `accounts`.
    emails: Vec<(usize, SecondaryEmail)>,
    /// The record number of each of `accounts`, in the same order.
    numbers: Vec<u64>,
    /// The records that can't be imported, each with its number.
    refused: Vec<(u64, BadRecord)>,
    /// The number of records that are not accounts.
    ignored: u64,
}

impl Batch {
    /// Reads the records of a batch. Returns false at the end of the source.
    async fn fill(
        &mut self,
        importer: &Importer<'_>,
        reader: &mut RecordReader<'_>,
        records: &mut Records<impl AsyncBufRead + Unpin>,
    ) -> Result<bool, ImportError> {
        let now = importer.clock.now();
        for _ in 0..importer.batch.clamp(1, MAX_BATCH) {
            if !advance(records).await? {
                return Ok(false);
            }
            match read_account(importer, reader, records.record(), now) {
                Ok(Some(imported)) => self.add(importer, imported, records.number(), now),
                Ok(None) => self.ignored += 1,
                Err(reason) => self.refused.push((records.number(), reason)),
            }
        }
        Ok(true)
    }

    /// Adds an account, its secondary addresses and its authenticator app. `number` is the number of its record.
    fn add(&mut self, importer: &Importer<'_>, imported: ImportedAccount, number: u64, now: Timestamp) {
        let ImportedAccount { account, totp_secret, secondary_emails } = imported;
        let created_at = account.created_at;
        for (email, is_verified) in secondary_emails {
            let id = importer.entropy.email_id(now);
            // records don't have the time of a verification
            let verified_at = is_verified.then_some(created_at);
            let email = SecondaryEmail { id, account: account.id, email, verified_at, created_at };
            self.emails.push((self.accounts.len(), email));
        }
        if let Some(secret) = totp_secret {
            self.factors.push(factors::totp::imported(importer.sealer, importer.entropy, account.id, &secret, now));
        }
        self.accounts.push(account);
        self.numbers.push(number);
    }

    /// Stores the batch, counts the outcomes and reports the records that were not imported.
    async fn store(
        mut self,
        importer: &Importer<'_>,
        key: &str,
        last_record: u64,
        summary: &mut Summary,
        report: &mut impl FnMut(Progress),
    ) -> Result<(), ImportError> {
        let now = importer.clock.now();
        let outcomes =
            importer.sql.import_accounts(key, last_record, &self.accounts, &self.factors, &self.emails, now).await?;
        for (record, outcome) in self.numbers.into_iter().zip(outcomes) {
            match outcome {
                ImportOutcome::Inserted => summary.imported += 1,
                ImportOutcome::EmailTaken => self.refused.push((record, BadRecord::EmailTaken)),
                ImportOutcome::UsernameTaken => self.refused.push((record, BadRecord::UsernameTaken)),
                ImportOutcome::IdTaken => self.refused.push((record, BadRecord::IdTaken)),
            }
        }
        summary.ignored += self.ignored;
        summary.refused += self.refused.len() as u64;
        // The records that the database refused were added after those that are invalid.
        self.refused.sort_by_key(|(record, _)| *record);
        for (record, reason) in self.refused {
            report(Progress::Refused { record, reason });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::PasswordSettings;

    /// Settings that allow 1 MiB for imported hashes, for the tests of this module's files.
    pub(super) fn settings() -> PasswordSettings {
        PasswordSettings {
            min_length: 8,
            max_length: 128,
            min_score: 2,
            banned_words: Vec::new(),
            memory_kib: 64,
            iterations: 1,
            parallelism: 1,
            threads: 1,
            queue: 1,
            max_import_memory_kib: 1024,
            max_import_work: 32,
            pepper: None,
            previous_peppers: Vec::new(),
        }
    }
}
