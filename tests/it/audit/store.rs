//! The rows of the audit log on every database: insertion, filters, immutability and retention.

use std::net::IpAddr;

use latchkey::{
    domain::{
        audit::{Actor, AddressPrecision, AuditEntry, AuditEvent},
        clock::Timestamp,
        entropy::Entropy,
    },
    store::sql::{AuditFilter, AuditRow, Sql},
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use uuid::Uuid;

use super::rows;
use crate::sql::{Backend, new_account, new_id, on_every_backend};

const fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A row to add: its id, and a sign-in at this time.
fn sign_in_at(millis: i64) -> (Uuid, AuditEntry) {
    (new_row_id(), AuditEntry::new(at(millis), AuditEvent::SignIn))
}

fn new_row_id() -> Uuid {
    Entropy::system().uuid()
}

/// Runs a statement with the service's own database credentials, as an intruder might.
async fn tamper(backend: &Backend, sql: &str) -> Result<(), String> {
    let mut connection = AnyConnection::connect(backend.settings.url.expose()).await.unwrap();
    let done = connection.execute(AssertSqlSafe(sql.to_owned())).await;
    connection.close().await.unwrap();
    done.map(drop).map_err(|error| error.to_string())
}

/// The times of the rows that match a filter, in milliseconds, newest first.
async fn times_of(sql: &Sql, filter: AuditFilter) -> Vec<i64> {
    let limit = 100;
    sql.audit(&filter, limit).await.unwrap().iter().map(|row| row.at.as_millis()).collect()
}

/// The newest row.
async fn newest(sql: &Sql) -> AuditRow {
    let limit = 1;
    sql.audit(&AuditFilter::default(), limit).await.unwrap().remove(0)
}

#[tokio::test]
async fn rows_are_added_once_and_found_by_each_filter() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let account = new_id();
        let ip: IpAddr = "192.0.2.77".parse().unwrap();
        let of_account = AuditEntry::new(at(2), AuditEvent::PasswordChange).account(account).actor(Actor::Account);
        let batch = [
            sign_in_at(1),
            (new_row_id(), of_account.address(Some(ip))),
            // one row for 7 refused requests
            (new_row_id(), AuditEntry::new(at(3), AuditEvent::RateLimit).refused("too_many").count(7)),
        ];
        // A node repeats the insertion after a lost response.
        for _ in 0..2 {
            sql.append_audit(&batch).await.unwrap();
        }
        assert_eq!(times_of(&sql, AuditFilter::default()).await, [3, 2, 1]);
        let from_2_to_before_3 = AuditFilter { since: Some(at(2)), until: Some(at(3)), ..Default::default() };
        assert_eq!(times_of(&sql, from_2_to_before_3).await, [2]);
        assert_eq!(times_of(&sql, AuditFilter { event: Some(AuditEvent::SignIn), ..Default::default() }).await, [1]);
        assert_eq!(times_of(&sql, AuditFilter { account: Some(account), ..Default::default() }).await, [2]);
        assert_eq!(times_of(&sql, AuditFilter { address: Some(ip), ..Default::default() }).await, [2]);
        assert_eq!(newest(&sql).await.count, 7);
    })
    .await;
}

#[tokio::test]
async fn row_has_the_truncated_address_and_the_actor_of_the_connection() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let ip: IpAddr = "192.0.2.77".parse().unwrap();
        let truncated =
            sql.clone().with_address_precision(AddressPrecision::Truncated).acting_as(Actor::operator("root"));
        let entry = AuditEntry::new(at(4), AuditEvent::SignIn).address(Some(ip));
        truncated.append_audit(&[(new_row_id(), entry)]).await.unwrap();
        let row = newest(&sql).await;
        assert_eq!(row.address.as_deref(), Some("192.0.2.0"));
        assert_eq!(row.actor, "operator:root");
    })
    .await;
}

#[tokio::test]
async fn rows_are_append_only_until_their_retention_ends() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        sql.append_audit(&[1, 2, 3, 4].map(sign_in_at)).await.unwrap();
        for attack in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "DELETE FROM audit WHERE at = 1"] {
            let refused = tamper(&backend, attack).await.unwrap_err();
            assert!(refused.contains("append-only"), "{attack}: {refused}");
        }
        // SQLite has no TRUNCATE
        if backend.name != "SQLite" {
            let refused = tamper(&backend, "TRUNCATE audit").await.unwrap_err();
            assert!(refused.contains("append-only"), "{refused}");
        }
        assert_eq!(times_of(&sql, AuditFilter::default()).await, [4, 3, 2, 1]);

        // three rows are older than 4 ms
        let limit = 2;
        assert_eq!(sql.prune_audit(at(4), limit).await.unwrap(), 2);
        assert_eq!(times_of(&sql, AuditFilter::default()).await, [4, 3]);
        assert_eq!(sql.prune_audit(at(4), limit).await.unwrap(), 1);
        assert_eq!(sql.prune_audit(at(4), limit).await.unwrap(), 0);
        assert!(tamper(&backend, "DELETE FROM audit").await.is_err(), "the retention of the last row has not ended");
        assert_eq!(times_of(&sql, AuditFilter::default()).await, [4]);
    })
    .await;
}

#[tokio::test]
async fn change_and_its_audit_row_are_committed_together() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let account = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        // the address is taken: neither a second account nor its row is stored
        assert!(sql.insert_account(&new_account("ann@example.com")).await.is_err());
        let mut change = sql.change_account(account.id).await.unwrap().unwrap();
        let entry = AuditEntry::new(at(5), AuditEvent::AccountDeleted).account(account.id);
        change.delete().await.unwrap();
        change.record(&entry).await.unwrap();
        // rolls back: neither the deletion nor its row is stored
        drop(change);
        let recorded: Vec<_> = rows(&sql).await.into_iter().map(|row| (row.event, row.account_id)).collect();
        assert_eq!(recorded, [("account_added".to_owned(), Some(account.id.to_string()))]);
    })
    .await;
}
