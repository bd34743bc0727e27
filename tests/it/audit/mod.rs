//! The audit log: recorded events, immutability and bounds.

mod command_line;
mod events;
mod store;

use latchkey::store::sql::{AuditFilter, AuditRow, Sql};

/// All rows, oldest first.
async fn rows(sql: &Sql) -> Vec<AuditRow> {
    let mut rows = sql.audit(&AuditFilter::default(), 10_000).await.unwrap();
    rows.reverse();
    rows
}
