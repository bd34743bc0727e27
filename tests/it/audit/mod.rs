//! The audit log: recorded events, immutability and bounds.

mod command_line;
mod events;
mod store;

use latchkey::store::sql::{AuditFilter, AuditRow, Sql};

/// All rows of the audit log, oldest first.
async fn rows(sql: &Sql) -> Vec<AuditRow> {
    let every_entry = AuditFilter::default();
    // more rows than any test writes
    let limit = 10_000;
    let mut rows = sql.audit(&every_entry, limit).await.unwrap();
    // `audit` returns the newest first
    rows.reverse();
    rows
}
