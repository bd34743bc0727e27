//! Accounts: reading, registering and rehashing them.

use std::collections::HashSet;

use sqlx::{Any, AssertSqlSafe, Row, SqlSafeStr, SqlStr, Transaction, any::AnyRow};

use super::{Sql, SqlError, imports::ImportOutcome, query};
use crate::domain::{
    account::{Account, Email, Epoch, Identifier, NewAccount, Roles, Username},
    audit::{AuditEvent, Entry},
    clock::Timestamp,
    ids::AccountId,
    secret::PasswordHash,
};

/// Why an account wasn't stored.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// Another account has the e-mail address, in this case or another.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// Another account has the username, in this case or another.
    #[error("the username is taken")]
    UsernameTaken,
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// `SELECT` every column that [`read`] reads, and then what follows.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, username, password_hash, roles, disabled_at, created_at, updated_at, ",
            "password_changed_at, epoch FROM accounts ",
            $rest
        )
    };
}
pub(super) use select;

impl Sql {
    /// Stores a new account.
    ///
    /// # Errors
    /// [`InsertError`]: exactly one of any number of callers with the same address or name succeeds.
    pub async fn insert_account(&self, new: &NewAccount) -> Result<Account, InsertError> {
        self.insert_account_as(new, &Entry::new(new.created_at, AuditEvent::AccountAdded).account(new.id)).await
    }

    /// The same, and what the audit log says of it.
    ///
    /// # Errors
    /// [`InsertError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "sql insert_account_as", skip_all, fields(otel.kind = "client", db.system.name = "sql", db.operation.name = "insert_account_as"))]
    pub async fn insert_account_as(&self, new: &NewAccount, entry: &Entry) -> Result<Account, InsertError> {
        let mut tx = self.begin_write().await?;
        match insert(&mut tx, std::slice::from_ref(new)).await?.first() {
            Some(ImportOutcome::Inserted) => {
                self.record(&mut tx, entry).await?;
                tx.commit().await.map_err(SqlError::from)?;
            }
            Some(ImportOutcome::UsernameTaken) => return Err(InsertError::UsernameTaken),
            Some(ImportOutcome::EmailTaken) | None => return Err(InsertError::EmailTaken),
        }
        Ok(Account {
            id: new.id,
            email: new.email.clone(),
            username: new.username.clone(),
            password_hash: new.password_hash.clone(),
            roles: new.roles.clone(),
            disabled_at: None,
            created_at: new.created_at,
            updated_at: new.created_at,
            password_changed_at: new.created_at,
            epoch: Epoch::default(),
        })
    }

    /// The account with this id.
    ///
    /// # Errors
    /// [`SqlError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "sql account", skip_all, fields(otel.kind = "client", db.system.name = "sql", db.operation.name = "account"))]
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, SqlError> {
        self.one(select!("WHERE id = $1"), id.to_string()).await
    }

    /// The account that someone who signs in with `identifier` means.
    ///
    /// # Errors
    /// [`SqlError`]
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "sql find_account", skip_all, fields(otel.kind = "client", db.system.name = "sql", db.operation.name = "find_account"))]
    pub async fn find_account(&self, identifier: &Identifier) -> Result<Option<Account>, SqlError> {
        let (sql, key) = match identifier {
            Identifier::Email(key) => (select!("WHERE email_key = $1"), key),
            Identifier::Username(key) => (select!("WHERE username_key = $1"), key),
        };
        // No name holds a NUL, and Postgres refuses to be asked for one.
        if key.contains('\0') { Ok(None) } else { self.one(sql, key.clone()).await }
    }

    /// Accounts in order of id, beginning after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn list_accounts(&self, after: Option<AccountId>, limit: u32) -> Result<Vec<Account>, SqlError> {
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

    /// Replaces the hash of an unchanged password by a better one, if the stored hash is still `old`: so it never undoes
    /// a change of the password. Says whether it did. Neither `password_changed_at` nor the epoch moves.
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

    async fn one(&self, sql: &'static str, key: String) -> Result<Option<Account>, SqlError> {
        let row = self.read_one(sql, key).await?;
        row.as_ref().map(read).transpose()
    }
}

/// Rows per statement: 8 parameters each, of which SQLite takes 32,766.
const AT_ONCE: usize = 500;

/// Inserts those whose address and name are free and says which were, in order. Of two rows with the same address the
/// first wins. Nothing is committed.
pub(super) async fn insert(tx: &mut Transaction<'_, Any>, rows: &[NewAccount]) -> Result<Vec<ImportOutcome>, SqlError> {
    let mut outcomes = Vec::with_capacity(rows.len());
    for rows in rows.chunks(AT_ONCE) {
        let inserted = insert_free(tx, rows).await?;
        for (row, following) in rows.iter().zip(1..).map(|(row, next)| (row, &rows[next..])) {
            outcomes.push(if inserted.contains(&row.id.to_string()) {
                ImportOutcome::Inserted
            } else {
                insert_taken(tx, row, following).await?
            });
        }
    }
    Ok(outcomes)
}

/// Says what about `row` was taken before the rows `following` it were inserted. Between the attempt to insert it and
/// this question the other account may have been deleted; the row is then inserted after all.
async fn insert_taken(
    tx: &mut Transaction<'_, Any>,
    row: &NewAccount,
    following: &[NewAccount],
) -> Result<ImportOutcome, SqlError> {
    let before = |holder: Option<String>| {
        holder.is_some_and(|holder| !following.iter().any(|later| later.id.to_string() == holder))
    };
    for _ in 0..3 {
        if before(holder(tx, "SELECT id FROM accounts WHERE email_key = $1", row.email.key()).await?) {
            return Ok(ImportOutcome::EmailTaken);
        }
        if let Some(username) = &row.username
            && before(holder(tx, "SELECT id FROM accounts WHERE username_key = $1", username.key()).await?)
        {
            return Ok(ImportOutcome::UsernameTaken);
        }
        if !insert_free(tx, std::slice::from_ref(row)).await?.is_empty() {
            return Ok(ImportOutcome::Inserted);
        }
    }
    Err(SqlError::Other(sqlx::Error::Protocol(format!("an account with the id {} is there already", row.id))))
}

/// The id of the account that has a name.
async fn holder(tx: &mut Transaction<'_, Any>, sql: &'static str, key: String) -> Result<Option<String>, SqlError> {
    let row = query(sql).bind(key).fetch_optional(&mut **tx).await?;
    Ok(row.map(|row| row.try_get("id")).transpose()?)
}

/// Inserts the rows that conflict with none, and answers their ids.
async fn insert_free(tx: &mut Transaction<'_, Any>, rows: &[NewAccount]) -> Result<HashSet<String>, SqlError> {
    let mut insert = query(insert_statement(rows.len()));
    for row in rows {
        let created_at = row.created_at.as_millis();
        insert = insert
            .bind(row.id.to_string())
            .bind(row.email.as_str().to_owned())
            .bind(row.email.key())
            .bind(row.username.as_ref().map(|name| name.as_str().to_owned()))
            .bind(row.username.as_ref().map(Username::key))
            .bind(row.password_hash.expose().to_owned())
            .bind(row.roles.to_string())
            .bind(created_at);
    }
    let inserted = insert.fetch_all(&mut **tx).await?;
    inserted.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// One statement for `rows` rows. An error would end a Postgres transaction, so conflicts are passed over instead.
fn insert_statement(rows: usize) -> SqlStr {
    use std::fmt::Write;

    let mut sql = String::from(
        "INSERT INTO accounts (id, email, email_key, username, username_key, password_hash, roles, disabled_at, \
         created_at, updated_at, password_changed_at, epoch) VALUES ",
    );
    for row in 0..rows {
        let [id, email, email_key, name, name_key, hash, roles, at] = std::array::from_fn(|i| row * 8 + i + 1);
        let comma = if row == 0 { "" } else { ", " };
        let _ = write!(
            sql,
            "{comma}(${id}, ${email}, ${email_key}, ${name}, ${name_key}, ${hash}, ${roles}, NULL, ${at}, ${at}, ${at}, 0)"
        );
    }
    sql.push_str(" ON CONFLICT DO NOTHING RETURNING id");
    AssertSqlSafe(sql).into_sql_str()
}

/// Reads a row of `select!`.
pub(super) fn read(row: &AnyRow) -> Result<Account, SqlError> {
    let id: String = row.try_get("id")?;
    let unreadable = |column: &str| SqlError::Corrupt(format!("{column} of the account {id}"));
    let username: Option<String> = row.try_get("username")?;
    let disabled_at: Option<i64> = row.try_get("disabled_at")?;
    Ok(Account {
        id: id.parse().map_err(|_| unreadable("id"))?,
        email: Email::parse(&row.try_get::<String, _>("email")?).map_err(|_| unreadable("email"))?,
        username: username.map(|name| Username::parse(&name)).transpose().map_err(|_| unreadable("username"))?,
        password_hash: PasswordHash::new(row.try_get::<String, _>("password_hash")?),
        roles: Roles::from_spaced(&row.try_get::<String, _>("roles")?).map_err(|_| unreadable("roles"))?,
        disabled_at: disabled_at.map(Timestamp::from_millis),
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        updated_at: Timestamp::from_millis(row.try_get("updated_at")?),
        password_changed_at: Timestamp::from_millis(row.try_get("password_changed_at")?),
        epoch: Epoch(u32::try_from(row.try_get::<i64, _>("epoch")?).map_err(|_| unreadable("epoch"))?),
    })
}
