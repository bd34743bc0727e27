//! The `accounts` table: inserts, finds and lists accounts, and upgrades their password hashes.

use std::collections::HashSet;

use sqlx::{Any, AssertSqlSafe, Row, SqlSafeStr, SqlStr, Transaction, any::AnyRow};

use super::{Sql, SqlError, imports::ImportOutcome, query, secondary_emails};
use crate::domain::{
    account::{Account, ClaimsVersion, Email, Epoch, Identifier, NewAccount, Roles, Username},
    audit::{AuditEntry, AuditEvent},
    clock::Timestamp,
    factor::{Factors, FactorsVersion},
    ids::AccountId,
    secret::PasswordHash,
};

/// The reason why an account wasn't inserted.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// Another account has the e-mail address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// Another account has the username.
    #[error("the username is taken")]
    UsernameTaken,
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// A `SELECT` of every column that [`read`] reads, followed by the given clauses.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, email_verified, username, password_hash, roles, disabled_at, deletion_at, created_at, updated_at, ",
            "password_changed_at, epoch, claims_version, factors, factors_version, factor_required_at FROM accounts ",
            $rest
        )
    };
}
pub(super) use select;

impl Sql {
    /// Inserts an account, and records [`AuditEvent::AccountAdded`] in the audit log.
    ///
    /// # Errors
    /// [`InsertError`]. At most one of several concurrent callers with the same address or name succeeds.
    pub async fn insert_account(&self, new: &NewAccount) -> Result<Account, InsertError> {
        self.insert_account_with_entry(new, &AuditEntry::new(new.created_at, AuditEvent::AccountAdded).account(new.id))
            .await
    }

    /// Inserts an account and an audit entry in one transaction.
    ///
    /// # Errors
    /// [`InsertError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "sql insert_account_with_entry", skip_all, fields(otel.kind = "client", db.system.name = "sql", db.operation.name = "insert_account_with_entry"))]
    pub async fn insert_account_with_entry(
        &self,
        new: &NewAccount,
        entry: &AuditEntry,
    ) -> Result<Account, InsertError> {
        let mut tx = self.begin_write().await?;
        match insert(&mut tx, std::slice::from_ref(new)).await?.first() {
            Some(ImportOutcome::Inserted) => {
                self.record(&mut tx, entry).await?;
                tx.commit().await.map_err(SqlError::from)?;
            }
            Some(ImportOutcome::UsernameTaken) => return Err(InsertError::UsernameTaken),
            Some(ImportOutcome::IdTaken) => {
                let text = format!("the account id {} is taken", new.id);
                return Err(SqlError::Conflict(text).into());
            }
            // `insert` returns an outcome for each row, so `None` does not occur.
            Some(ImportOutcome::EmailTaken) | None => return Err(InsertError::EmailTaken),
        }
        Ok(Account {
            id: new.id,
            email: new.email.clone(),
            email_verified: new.email_verified,
            username: new.username.clone(),
            password_hash: new.password_hash.clone(),
            roles: new.roles.clone(),
            disabled_at: new.disabled_at,
            deletion_at: None,
            created_at: new.created_at,
            updated_at: new.updated_at,
            password_changed_at: new.created_at,
            epoch: Epoch::default(),
            claims_version: ClaimsVersion::default(),
            factors: Factors::NONE,
            factors_version: FactorsVersion::default(),
            factor_required_at: None,
        })
    }

    /// Finds an account by id.
    ///
    /// # Errors
    /// [`SqlError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "sql account", skip_all, fields(otel.kind = "client", db.system.name = "sql", db.operation.name = "account"))]
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, SqlError> {
        self.find_one(select!("WHERE id = $1"), id.to_string()).await
    }

    /// Finds the account whose primary e-mail address, verified secondary address or username is the identifier, with one query.
    /// If two accounts have the address, the one that has verified it wins (I13: no pre-hijacking).
    ///
    /// Early releases stored names (addresses and usernames) without Unicode normalization. If a normalized name belonged to another
    /// account at the migration, the account kept its old key (`rekey.rs`). Only the name as typed at registration finds such an account.
    ///
    /// # Errors
    /// [`SqlError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "sql find_account", skip_all, fields(otel.kind = "client", db.system.name = "sql", db.operation.name = "find_account"))]
    pub async fn find_account(&self, identifier: &Identifier) -> Result<Option<Account>, SqlError> {
        // Ranks: 0, verified as the primary address; 1, verified as a secondary address; 2, an unverified primary address.
        let sql = match identifier {
            Identifier::Email(_) => select!(
                "WHERE email_key = $1 OR id = \
                 (SELECT account_id FROM secondary_emails WHERE email_key = $1 AND verified_at IS NOT NULL) \
                 ORDER BY CASE WHEN email_key <> $1 THEN 1 WHEN email_verified = 1 THEN 0 ELSE 2 END LIMIT 1"
            ),
            Identifier::Username(_) => select!("WHERE username_key = $1"),
        };
        let (typed, key) = (identifier.lower_case(), identifier.key());
        // No name contains a NUL, and PostgreSQL refuses a parameter with one.
        if typed.contains('\0') {
            return Ok(None);
        }
        // The account that kept its old key precedes the one with the normalized key.
        if typed != key
            && let Some(account) = self.find_one(sql, typed.to_owned()).await?
        {
            return Ok(Some(account));
        }
        self.find_one(sql, key).await
    }

    /// Lists at most `limit` accounts in order of id, starting after the id `after`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn list_accounts(&self, after: Option<AccountId>, limit: u32) -> Result<Vec<Account>, SqlError> {
        // Every id is greater than the empty text.
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let mut tx = self.begin_read().await?;
        let rows = query(select!("WHERE id > $1 ORDER BY id LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// Replaces a password's hash by a stronger one of the same password, if the stored hash is still `old`, so that a
    /// concurrent password change wins. Returns whether the hash was replaced. `password_changed_at` and the epoch stay.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn upgrade_password_hash(
        &self,
        id: AccountId,
        old: &PasswordHash,
        new: &PasswordHash,
        now: Timestamp,
    ) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "UPDATE accounts SET password_hash = $1, updated_at = $2 WHERE id = $3 AND password_hash = $4";
        let done = query(sql)
            .bind(new.expose().to_owned())
            .bind(now.as_millis())
            .bind(id.to_string())
            .bind(old.expose().to_owned())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Runs a `select!` whose only parameter is `key`.
    async fn find_one(&self, sql: &'static str, key: String) -> Result<Option<Account>, SqlError> {
        let row = self.read_one(sql, key).await?;
        row.as_ref().map(read).transpose()
    }
}

/// The number of parameters of a row in an `INSERT`.
const PARAMETERS: usize = 11;

/// The maximum number of rows of one `INSERT`, well within the 32,766 parameters that SQLite allows.
const ROWS_PER_STATEMENT: usize = 500;

/// Inserts the rows whose id, address and name no other account has, without committing. Returns the outcome of each row, in order.
/// Of two rows with the same id, address or name, the first is inserted.
pub(super) async fn insert(tx: &mut Transaction<'_, Any>, rows: &[NewAccount]) -> Result<Vec<ImportOutcome>, SqlError> {
    let mut outcomes = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(ROWS_PER_STATEMENT) {
        let keys: Vec<String> = chunk.iter().map(|row| row.email.key()).collect();
        let taken_keys = secondary_emails::verified_keys(tx, &keys).await?;
        let candidates: Vec<&NewAccount> = chunk.iter().filter(|row| !taken_keys.contains(&row.email.key())).collect();
        let mut inserted = insert_unless_conflicting(tx, &candidates).await?;
        for (index, row) in chunk.iter().enumerate() {
            let following = &chunk[index + 1..];
            // `remove`, so that of two equal rows only the first counts as inserted.
            outcomes.push(if inserted.remove(&unique_columns(row)) {
                ImportOutcome::Inserted
            } else if taken_keys.contains(&row.email.key()) {
                ImportOutcome::EmailTaken
            } else {
                resolve_conflict(tx, row, following).await?
            });
        }
    }
    Ok(outcomes)
}

/// Finds the value of `row` that another account already has. An account from one of the rows `following` does not count: it was inserted
/// because `row` had another conflict. If the other account was deleted in the meantime, inserts the row after all.
async fn resolve_conflict(
    tx: &mut Transaction<'_, Any>,
    row: &NewAccount,
    following: &[NewAccount],
) -> Result<ImportOutcome, SqlError> {
    let is_other = |holder: Option<String>| {
        holder.is_some_and(|holder| following.iter().all(|later| later.id.to_string() != holder))
    };
    // Repeated, since an account may be deleted or inserted between the statements.
    for _ in 0..3 {
        let email_holder = find_holder(tx, "SELECT id FROM accounts WHERE email_key = $1", row.email.key()).await?;
        if is_other(email_holder) {
            return Ok(ImportOutcome::EmailTaken);
        }
        if let Some(username) = &row.username
            && is_other(find_holder(tx, "SELECT id FROM accounts WHERE username_key = $1", username.key()).await?)
        {
            return Ok(ImportOutcome::UsernameTaken);
        }
        if find_holder(tx, "SELECT id FROM accounts WHERE id = $1", row.id.to_string()).await?.is_some() {
            return Ok(ImportOutcome::IdTaken);
        }
        if !insert_unless_conflicting(tx, &[row]).await?.is_empty() {
            return Ok(ImportOutcome::Inserted);
        }
    }
    Err(SqlError::Conflict(format!("the account {} conflicts with a changing row", row.id)))
}

/// The id of the account whose unique column has the value `key`. `sql` selects the id by this column.
async fn find_holder(
    tx: &mut Transaction<'_, Any>,
    sql: &'static str,
    key: String,
) -> Result<Option<String>, SqlError> {
    let row = query(sql).bind(key).fetch_optional(&mut **tx).await?;
    Ok(row.map(|row| row.try_get("id")).transpose()?)
}

/// The columns of a row that no other account shares: `id`, `email_key` and `username_key`. The id alone does not identify which of
/// two rows with the same id was inserted.
type UniqueColumns = (String, String, Option<String>);

fn unique_columns(row: &NewAccount) -> UniqueColumns {
    (row.id.to_string(), row.email.key(), row.username.as_ref().map(Username::key))
}

/// Inserts the rows that conflict with no other row, and returns their unique columns.
async fn insert_unless_conflicting(
    tx: &mut Transaction<'_, Any>,
    rows: &[&NewAccount],
) -> Result<HashSet<UniqueColumns>, SqlError> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let mut insert = query(insert_statement(rows.len()));
    for row in rows {
        insert = insert
            .bind(row.id.to_string())
            .bind(row.email.as_str().to_owned())
            .bind(row.email.key())
            .bind(i64::from(row.email_verified))
            .bind(row.username.as_ref().map(|name| name.as_str().to_owned()))
            .bind(row.username.as_ref().map(Username::key))
            .bind(stored_hash(row.password_hash.as_ref()))
            .bind(row.roles.to_string())
            .bind(row.disabled_at.map(Timestamp::as_millis))
            .bind(row.created_at.as_millis())
            .bind(row.updated_at.as_millis());
    }
    let inserted = insert.fetch_all(&mut **tx).await?;
    inserted
        .iter()
        .map(|row| Ok((row.try_get("id")?, row.try_get("email_key")?, row.try_get("username_key")?)))
        .collect()
}

/// The `INSERT` of `rows` rows. It skips conflicting rows, because an error would abort a transaction of PostgreSQL.
fn insert_statement(rows: usize) -> SqlStr {
    use std::fmt::Write;

    let mut sql = String::from(
        "INSERT INTO accounts (id, email, email_key, email_verified, username, username_key, password_hash, roles, \
         disabled_at, created_at, updated_at, password_changed_at, epoch) VALUES ",
    );
    for row in 0..rows {
        // The numbers of the row's parameters, in the order in which `insert_unless_conflicting` binds them.
        let [id, email, email_key, verified, name, name_key, hash, roles, disabled, created, updated]: [usize;
            PARAMETERS] = std::array::from_fn(|i| row * PARAMETERS + i + 1);
        let comma = if row == 0 { "" } else { ", " };
        // `password_changed_at` starts as `created_at`, and the epoch as 0. Writing to a `String` does not fail.
        let _ = write!(
            sql,
            "{comma}(${id}, ${email}, ${email_key}, ${verified}, ${name}, ${name_key}, ${hash}, ${roles}, ${disabled}, \
             ${created}, ${updated}, ${created}, 0)"
        );
    }
    sql.push_str(" ON CONFLICT DO NOTHING RETURNING id, email_key, username_key");
    AssertSqlSafe(sql).into_sql_str()
}

/// The value of the column `password_hash`: empty for an account without a password.
pub(super) fn stored_hash(hash: Option<&PasswordHash>) -> String {
    hash.map(|hash| hash.expose().to_owned()).unwrap_or_default()
}

/// Reads a row of `select!`. Does not validate the address and the username: an earlier release may have accepted others.
pub(super) fn read(row: &AnyRow) -> Result<Account, SqlError> {
    let id: String = row.try_get("id")?;
    let unreadable = |column: &str| SqlError::Corrupt(format!("{column} of the account {id}"));
    let number = |column: &str| -> Result<u32, SqlError> {
        u32::try_from(row.try_get::<i64, _>(column)?).map_err(|_| unreadable(column))
    };
    let username: Option<String> = row.try_get("username")?;
    let password_hash: String = row.try_get("password_hash")?;
    let disabled_at: Option<i64> = row.try_get("disabled_at")?;
    let deletion_at: Option<i64> = row.try_get("deletion_at")?;
    let factor_required_at: Option<i64> = row.try_get("factor_required_at")?;
    Ok(Account {
        id: id.parse().map_err(|_| unreadable("id"))?,
        email: Email::from_stored(row.try_get("email")?),
        email_verified: row.try_get::<i64, _>("email_verified")? != 0,
        username: username.map(Username::from_stored),
        password_hash: Some(password_hash).filter(|hash| !hash.is_empty()).map(PasswordHash::new),
        roles: Roles::from_spaced(&row.try_get::<String, _>("roles")?).map_err(|_| unreadable("roles"))?,
        disabled_at: disabled_at.map(Timestamp::from_millis),
        deletion_at: deletion_at.map(Timestamp::from_millis),
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        updated_at: Timestamp::from_millis(row.try_get("updated_at")?),
        password_changed_at: Timestamp::from_millis(row.try_get("password_changed_at")?),
        epoch: Epoch(number("epoch")?),
        claims_version: ClaimsVersion(number("claims_version")?),
        factors: Factors::from_bits(number("factors")?),
        factors_version: FactorsVersion(number("factors_version")?),
        factor_required_at: factor_required_at.map(Timestamp::from_millis),
    })
}
