//! The audit log: what is told of whom, that it stays, and that it keeps within its bounds.

mod command_line;
mod events;
mod store;

use latchkey::store::sql::{AuditFilter, AuditRow, Sql};

/// Everything that was written down, oldest first.
async fn rows(sql: &Sql) -> Vec<AuditRow> {
    let mut rows = sql.audit(&AuditFilter::default(), 10_000).await.unwrap();
    rows.reverse();
    rows
}
