//! Bulk inserts of imported accounts.

use latchkey::{
    domain::{
        account::{Epoch, NewAccount},
        clock::Timestamp,
    },
    store::sql::{
        ImportOutcome::{self, EmailTaken, IdTaken, Inserted, UsernameTaken},
        Sql, SqlError,
    },
};

use super::{LATER, NOW, new_account, new_id, on_every_backend, with_username};

/// Imports a batch of accounts without authenticator apps and secondary addresses. `last_record` is the progress of `source` after the batch.
async fn import(
    sql: &Sql,
    source: &str,
    last_record: u64,
    rows: &[NewAccount],
    now: Timestamp,
) -> Result<Vec<ImportOutcome>, SqlError> {
    sql.import_accounts(source, last_record, rows, &[], &[], now).await
}

#[tokio::test]
async fn import_returns_the_outcome_of_each_row() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        sql.insert_account(&with_username("ann@example.com", "ann")).await.unwrap();
        let cases = [
            (new_account("ben@example.com"), Inserted),
            (new_account("ANN@example.com"), EmailTaken),
            (with_username("other@example.com", "Ann"), UsernameTaken),
            (new_account("Ben@example.com"), EmailTaken),
            (with_username("cy@example.com", "cy"), Inserted),
            (with_username("dee@example.com", "CY"), UsernameTaken),
            // the skipped row with this address has not taken it
            (new_account("other@example.com"), Inserted),
        ];
        let (rows, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
        let outcomes = import(&sql, "users.jsonl", 7, &rows, LATER).await.unwrap();
        assert_eq!(outcomes, expected);
        let ben = sql.account(rows[0].id).await.unwrap().unwrap();
        assert_eq!(ben.created_at, NOW, "the time in the row, and not that of the import");
        assert_eq!(ben.epoch, Epoch(0));
        assert_eq!(sql.list_accounts(None, 100).await.unwrap().len(), 4, "ann and the three inserted rows");
    })
    .await;
}

#[tokio::test]
async fn import_of_1234_rows_in_one_batch_succeeds() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        // three statements: one inserts up to 500 rows
        let rows: Vec<NewAccount> = (0..1234).map(|n| new_account(&format!("{n}@example.com"))).collect();
        let outcomes = import(&sql, "users.jsonl", 1234, &rows, NOW).await.unwrap();
        assert_eq!(outcomes, vec![Inserted; 1234]);
        let outcomes = import(&sql, "users.jsonl", 1234, &rows, NOW).await.unwrap();
        assert_eq!(outcomes, vec![EmailTaken; 1234], "the accounts exist");
    })
    .await;
}

#[tokio::test]
async fn import_progress_is_kept_per_source_until_forgotten() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        assert_eq!(sql.import_progress("a").await.unwrap(), None);
        // a batch may have no valid record
        import(&sql, "a", 500, &[], NOW).await.unwrap();
        import(&sql, "b", 7, &[], NOW).await.unwrap();
        import(&sql, "a", 1000, &[new_account("ann@example.com")], LATER).await.unwrap();
        assert_eq!(sql.import_progress("a").await.unwrap(), Some(1000));
        assert_eq!(sql.import_progress("b").await.unwrap(), Some(7));
        sql.forget_import("a").await.unwrap();
        sql.forget_import("never begun").await.unwrap();
        assert_eq!(sql.import_progress("a").await.unwrap(), None);
        assert_eq!(sql.import_progress("b").await.unwrap(), Some(7));
    })
    .await;
}

#[tokio::test]
async fn import_of_taken_id_is_reported() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let ann = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        let ben = NewAccount { id: ann.id, ..new_account("ben@example.com") };
        let outcomes = import(&sql, "a", 2, &[ben.clone(), new_account("cy@example.com")], NOW).await.unwrap();
        assert_eq!(outcomes, [IdTaken, Inserted]);
        // two rows of a batch with the same id
        let ben = NewAccount { id: new_id(), ..ben };
        let dee = NewAccount { id: ben.id, ..new_account("dee@example.com") };
        let rows = [ben, dee];
        assert_eq!(import(&sql, "b", 2, &rows, NOW).await.unwrap(), [Inserted, IdTaken]);
        // a row that is skipped for its address does not take its id
        let eve = new_account("eve@example.com");
        let rows = [NewAccount { id: eve.id, ..new_account("ann@example.com") }, eve];
        assert_eq!(import(&sql, "c", 2, &rows, NOW).await.unwrap(), [EmailTaken, Inserted]);
    })
    .await;
}

#[tokio::test]
async fn failed_batch_stores_nothing() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        import(&sql, "a", 1, &[], NOW).await.unwrap();
        // storing the progress fails, after the account was inserted
        backend.execute_sql("ALTER TABLE imports RENAME TO elsewhere").await;
        import(&sql, "a", 3, &[new_account("cy@example.com")], NOW).await.unwrap_err();
        backend.execute_sql("ALTER TABLE elsewhere RENAME TO imports").await;
        assert_eq!(sql.import_progress("a").await.unwrap(), Some(1));
        assert_eq!(sql.list_accounts(None, 10).await.unwrap().len(), 0);
    })
    .await;
}
