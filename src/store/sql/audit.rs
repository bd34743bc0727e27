//! The `audit` table, which holds the audit log: inserts, reads and prunes rows.

use std::{fmt::Write, net::IpAddr, sync::LazyLock};

use sqlx::{Any, AssertSqlSafe, Row, Transaction, any::AnyRow};
use uuid::Uuid;

use super::{Dialect, Sql, SqlError, query};
use crate::domain::{
    audit::{Actor, AddressPrecision, AuditEntry, AuditEvent},
    clock::Timestamp,
    ids::AccountId,
};

/// The largest number of rows of one `INSERT`. Each row has [`COLUMNS`] parameters, and SQLite allows 32,766 parameters.
const ROWS_PER_INSERT: usize = 64;

/// The number of columns of a row.
const COLUMNS: usize = 12;

/// A row of the audit log, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// The row's id.
    pub id: String,
    /// The time of the event.
    pub at: Timestamp,
    /// The event.
    pub event: String,
    /// `success` or `refused`.
    pub outcome: String,
    /// The reason of a refusal, or of the end of a session.
    pub reason: Option<String>,
    /// The account that the event concerns.
    pub account_id: Option<String>,
    /// The session that the event concerns.
    pub session_id: Option<String>,
    /// The client that the event concerns.
    pub client_id: Option<String>,
    /// Further details, such as the id of a key or the name of a limit.
    pub detail: Option<String>,
    /// The actor.
    pub actor: String,
    /// The client's IP address, as recorded.
    pub address: Option<String>,
    /// The number of events that the row represents.
    pub count: i64,
}

/// A filter of audit rows. A field that is `None` matches all rows.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// The earliest time.
    pub since: Option<Timestamp>,
    /// The end of the interval, exclusive.
    pub until: Option<Timestamp>,
    /// The event.
    pub event: Option<AuditEvent>,
    /// The account.
    pub account: Option<AccountId>,
    /// The client's IP address, as recorded.
    pub address: Option<IpAddr>,
}

impl Sql {
    /// This database, with `actor` recorded as the actor of changes.
    #[must_use]
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = actor;
        self
    }

    /// This database, recording client addresses with this precision.
    #[must_use]
    pub const fn with_address_precision(mut self, precision: AddressPrecision) -> Self {
        self.address_precision = precision;
        self
    }

    /// Inserts rows in one transaction. Skips rows whose id exists, so that the call can be repeated.
    ///
    /// # Errors
    /// [`SqlError`]. The rows may or may not have been stored.
    pub async fn append_audit(&self, entries: &[(Uuid, AuditEntry)]) -> Result<(), SqlError> {
        let mut tx = self.begin_background_write().await?;
        for chunk in entries.chunks(ROWS_PER_INSERT) {
            self.insert_audit(&mut tx, chunk.iter().map(|(id, entry)| (*id, entry))).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Reads at most `limit` matching rows, newest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRow>, SqlError> {
        let mut tx = self.begin_read().await?;
        let (sql, filter_values) = selection(filter);
        let mut query = query(AssertSqlSafe(sql))
            .bind(filter.since.map_or(i64::MIN, Timestamp::as_millis))
            .bind(filter.until.map_or(i64::MAX, Timestamp::as_millis))
            .bind(i64::from(limit));
        for value in filter_values {
            query = query.bind(value);
        }
        let rows = query.fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// Deletes at most `limit` rows older than `before`, and returns their number.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn prune_audit(&self, before: Timestamp, limit: u32) -> Result<u64, SqlError> {
        let mut tx = self.begin_background_write().await?;
        // A trigger of the table refuses to delete rows that are not older than `released_until`.
        query("UPDATE audit_retention SET released_until = $1 WHERE released_until < $1")
            .bind(before.as_millis())
            .execute(&mut *tx)
            .await?;
        let sql = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)";
        let done = query(sql).bind(before.as_millis()).bind(i64::from(limit)).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    /// Inserts a row in the transaction of the change that it records.
    pub(super) async fn record(&self, tx: &mut Transaction<'_, Any>, entry: &AuditEntry) -> Result<(), SqlError> {
        self.insert_audit(tx, std::iter::once((self.entropy.ordered_uuid(entry.at), entry))).await
    }

    /// Inserts rows by one statement.
    async fn insert_audit<'a>(
        &self,
        tx: &mut Transaction<'_, Any>,
        entries: impl ExactSizeIterator<Item = (Uuid, &'a AuditEntry)>,
    ) -> Result<(), SqlError> {
        // SQLite connections are not shared through a pooler, so frequent statements can stay prepared.
        static ONE_ROW: LazyLock<String> = LazyLock::new(|| insertion(1, Dialect::Sqlite));
        static FULL_CHUNK: LazyLock<String> = LazyLock::new(|| insertion(ROWS_PER_INSERT, Dialect::Sqlite));
        let mut query = match (self.dialect, entries.len()) {
            (Dialect::Sqlite, 1) => query(ONE_ROW.as_str()).persistent(true),
            (Dialect::Sqlite, ROWS_PER_INSERT) => query(FULL_CHUNK.as_str()).persistent(true),
            (dialect, rows) => query(AssertSqlSafe(insertion(rows, dialect))),
        };
        for (id, entry) in entries {
            let facts = &entry.facts;
            let recorded_address = facts.address.and_then(|ip| self.address_precision.apply(ip));
            query = query
                .bind(id.to_string())
                .bind(entry.at.as_millis())
                .bind(facts.event.as_str())
                .bind(facts.outcome.as_str())
                .bind(facts.reason)
                .bind(facts.account.map(|id| id.to_string()))
                .bind(facts.session.map(|id| id.to_string()))
                .bind(facts.client.as_ref().map(ToString::to_string))
                .bind(facts.detail.clone())
                .bind(facts.actor.as_ref().unwrap_or(&self.actor).to_string())
                .bind(recorded_address.map(|ip| ip.to_string()))
                .bind(i64::try_from(entry.count).unwrap_or(i64::MAX));
        }
        query.execute(&mut **tx).await?;
        Ok(())
    }
}

/// The `SELECT` of the newest rows, and the values of its equality conditions. Its first parameters are the start time, the
/// end time and the limit. It has conditions on filtered columns only, so that the database uses their indexes.
fn selection(filter: &AuditFilter) -> (String, Vec<String>) {
    let filtered = [
        ("event", filter.event.map(|event| event.as_str().to_owned())),
        ("account_id", filter.account.map(|id| id.to_string())),
        ("address", filter.address.map(|ip| ip.to_string())),
    ];
    let mut sql =
        "SELECT id, at, event, outcome, reason, account_id, session_id, client_id, detail, actor, address, count \
                   FROM audit WHERE at >= $1 AND at < $2"
            .to_owned();
    let mut values = Vec::new();
    for (column, value) in filtered {
        if let Some(value) = value {
            values.push(value);
            let parameter = 3 + values.len();
            // Writing to a String can't fail.
            let _ = write!(sql, " AND {column} = ${parameter}");
        }
    }
    sql += " ORDER BY at DESC, id DESC LIMIT $3";
    (sql, values)
}

/// The `INSERT` of `rows` rows. SQLite gets the parameters as `?`, because it reads `$1` as a name and searches it among all parameters.
fn insertion(rows: usize, dialect: Dialect) -> String {
    // Without OR FAIL, SQLite writes a journal to a file, to undo a failed statement. The transaction makes that unnecessary.
    let or_fail = if dialect == Dialect::Sqlite { " OR FAIL" } else { "" };
    let mut sql = format!(
        "INSERT{or_fail} INTO audit \
         (id, at, event, outcome, reason, account_id, session_id, client_id, detail, actor, address, count) VALUES "
    );
    for row in 0..rows {
        for column in 1..=COLUMNS {
            let separator = match (row, column) {
                (0, 1) => "(",
                (_, 1) => "), (",
                _ => ", ",
            };
            // Writing to a String can't fail.
            let _ = match dialect {
                Dialect::Sqlite => write!(sql, "{separator}?"),
                Dialect::Postgres => write!(sql, "{separator}${}", row * COLUMNS + column),
            };
        }
    }
    sql += ") ON CONFLICT (id) DO NOTHING";
    sql
}

fn read(row: &AnyRow) -> Result<AuditRow, SqlError> {
    Ok(AuditRow {
        id: row.try_get("id")?,
        at: Timestamp::from_millis(row.try_get("at")?),
        event: row.try_get("event")?,
        outcome: row.try_get("outcome")?,
        reason: row.try_get("reason")?,
        account_id: row.try_get("account_id")?,
        session_id: row.try_get("session_id")?,
        client_id: row.try_get("client_id")?,
        detail: row.try_get("detail")?,
        actor: row.try_get("actor")?,
        address: row.try_get("address")?,
        count: row.try_get("count")?,
    })
}

#[cfg(test)]
mod tests {
    use sqlx::{AnyConnection, Connection, Executor};

    use super::*;

    #[tokio::test]
    async fn selection_uses_the_index_of_the_account_or_else_of_the_time() {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect("sqlite::memory:").await.unwrap();
        connection.execute(include_str!("../../../migrations/0005_audit.sql")).await.unwrap();
        let mut plan = async |filter| {
            let (sql, filter_values) = selection(&filter);
            // any values: the plan does not depend on them
            let (since, until, limit) = (0, 9, 1);
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
            let mut query = query(explain).bind(since).bind(until).bind(limit);
            for value in filter_values {
                query = query.bind(value);
            }
            query.fetch_all(&mut connection).await.unwrap()[0].get::<String, _>("detail")
        };
        let account = Some(AccountId::from_bytes([1; 16]));
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let event = Some(AuditEvent::SignIn);
        let account_plan = plan(AuditFilter { account, address, event, ..AuditFilter::default() }).await;
        assert!(account_plan.contains("INDEX audit_account (account_id=? AND at>? AND at<?)"), "{account_plan}");
        let time_plan = plan(AuditFilter { event, ..AuditFilter::default() }).await;
        assert!(time_plan.contains("INDEX audit_at (at>? AND at<?)"), "{time_plan}");
    }

    #[test]
    fn insertion_has_a_parameter_for_each_column_of_each_row() {
        let one = insertion(1, Dialect::Postgres);
        assert!(
            one.ends_with(" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING")
        );
        assert!(insertion(2, Dialect::Postgres).ends_with(
            "$12), ($13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24) ON CONFLICT (id) DO NOTHING"
        ));
        assert_eq!(insertion(ROWS_PER_INSERT, Dialect::Sqlite).matches('?').count(), ROWS_PER_INSERT * COLUMNS);
    }
}
