//! The part of migration 6 that SQL can't express. A name, an e-mail address or a username, has a key by which its account is found. The
//! migration brings these keys into Unicode Normalization Form C.

use sqlx::{Any, Row, Transaction};

use super::{SqlError, query};
use crate::domain::text::comparison_key;

/// The number of the migration that this module completes.
pub(super) const MIGRATION: i64 = 6;

/// A kind of name, with the statements that replace its keys.
struct Name {
    /// The column of the key.
    column: &'static str,
    /// Selects the accounts whose keys have characters outside ASCII.
    select: &'static str,
    /// Selects the account that has a key.
    holder: &'static str,
    /// Replaces the key of an account.
    update: &'static str,
    /// The call that gives an account another name, for the log.
    remedy: &'static str,
}

/// The two kinds of names. Only a key with characters outside ASCII can change. It is longer in bytes than in characters.
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

/// Recomputes the keys of names with characters outside ASCII. If another account already has the new key, the account keeps its
/// old key: each of the two accounts is still found by the spelling that it was registered with.
pub(super) async fn recompute_keys(tx: &mut Transaction<'_, Any>) -> Result<(), SqlError> {
    for Name { column, select, holder, update, remedy } in NAMES {
        for row in query(select).fetch_all(&mut **tx).await? {
            let id: String = row.try_get("id")?;
            let name: String = row.try_get("name")?;
            let old_key: String = row.try_get("name_key")?;
            let new_key = comparison_key(&name);
            if new_key == old_key {
                continue;
            }
            if let Some(holder_row) = query(holder).bind(new_key.clone()).fetch_optional(&mut **tx).await? {
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
            query(update).bind(new_key).bind(id).execute(&mut **tx).await?;
        }
    }
    Ok(())
}
