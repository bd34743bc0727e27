//! The audit log: recorded events, immutability and bounds.

mod command_line;
mod events;
mod store;

use latchkey::store::sql::{AuditFilter, AuditRow, Sql};

/// All rows of the audit log, oldest first.
async fn rows(sql: &Sql) -> Vec<AuditRow> {
    let (all, limit) = (AuditFilter::default(), 10_000);
    let mut rows = sql.audit(&all, limit).await.unwrap();
    // newest first
    rows.reverse();
    rows
}
