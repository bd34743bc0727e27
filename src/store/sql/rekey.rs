//! The part of migration 6 that SQL can't express: it recomputes the keys of account names in Unicode Normalization Form C. A key is the
//! form of an address or a username by which the account is found.

use sqlx::{Any, Row, Transaction};

use super::{SqlError, query};
use crate::domain::text::comparison_key;

/// The number of the migration that this module completes.
pub(super) const MIGRATION: i64 = 6;

/// A kind of name, with the statements that recompute its keys.
struct Name {
    /// The column of the key.
    column: &'static str,
    /// Selects the accounts whose keys have characters outside ASCII.
    select: &'static str,
    /// Finds the account that has a key.
    holder: &'static str,
    /// Replaces the key of an account.
    update: &'static str,
    /// How one of two accounts with the same key gets another name, for the log.
    remedy: &'static str,
}

/// The two kinds of names. In PostgreSQL and SQLite, a key with characters outside ASCII is longer in bytes than in characters.
const NAMES: [Name; 2] = [
    Name {
        column: "email_key",
        select: "SELECT id, email AS name, email_key AS name_key FROM accounts \
                 WHERE octet_length(email_key) <> length(email_key) ORDER BY id",
        holder: "SELECT id FROM accounts WHERE email_key = $1",
        update: "UPDATE accounts SET email_key = $1 WHERE id = $2",
        remedy: "latchkey user set-email id:ACCOUNT ADDRESS",
    },
    Name {
        column: "username_key",
        select: "SELECT id, username AS name, username_key AS name_key FROM accounts WHERE username_key IS NOT NULL \
                 AND octet_length(username_key) <> length(username_key) ORDER BY id",
        holder: "SELECT id FROM accounts WHERE username_key = $1",
        update: "UPDATE accounts SET username_key = $1 WHERE id = $2",
        remedy: "PATCH /v1/me, by the owner of one of the accounts",
    },
];

/// Recomputes the keys of names with characters outside ASCII. If another account has the new key, the account keeps its
/// old one: both stay usable, each under the spelling it was registered with.
pub(super) async fn normalize_names(tx: &mut Transaction<'_, Any>) -> Result<(), SqlError> {
    for Name { column, select, holder, update, remedy } in NAMES {
        for row in query(select).fetch_all(&mut **tx).await? {
            let id: String = row.try_get("id")?;
            let name: String = row.try_get("name")?;
            let old_key: String = row.try_get("name_key")?;
            let key = comparison_key(&name);
            if key == old_key {
                continue;
            }
            if let Some(holder_row) = query(holder).bind(key.clone()).fetch_optional(&mut **tx).await? {
                let other: String = holder_row.try_get("id")?;
                tracing::warn!(
                    account = %id,
                    %other,
                    column,
                    remedy,
                    "two accounts have names that look the same; each is found only by its exact spelling: rename one of them"
                );
                continue;
            }
            query(update).bind(key).bind(id).execute(&mut **tx).await?;
        }
    }
    Ok(())
}
