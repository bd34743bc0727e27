//! Bulk inserts of imported accounts.

use latchkey::{
    domain::account::{Epoch, NewAccount},
    store::sql::ImportOutcome::{EmailTaken, IdTaken, Inserted, UsernameTaken},
};

use super::{LATER, NOW, new_account, new_id, on_every_backend, with_username};

#[tokio::test]
async fn import_returns_the_outcome_of_each_row() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        sql.insert_account(&with_username("ann@example.com", "ann")).await.unwrap();
        let rows = [
            new_account("ben@example.com"),
            new_account("ANN@example.com"),
            with_username("other@example.com", "Ann"),
            new_account("Ben@example.com"),
            with_username("cy@example.com", "cy"),
            with_username("dee@example.com", "CY"),
            new_account("other@example.com"),
        ];
        let outcomes = sql.import_accounts("users.jsonl", 7, &rows, &[], &[], LATER).await.unwrap();
        assert_eq!(outcomes, [Inserted, EmailTaken, UsernameTaken, EmailTaken, Inserted, UsernameTaken, Inserted]);
        let ben = sql.account(rows[0].id).await.unwrap().unwrap();
        assert_eq!((ben.created_at, ben.epoch), (NOW, Epoch(0)));
        assert_eq!(sql.list_accounts(None, 100).await.unwrap().len(), 4);
    })
    .await;
}

#[tokio::test]
async fn import_of_1234_rows_in_one_batch_succeeds() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let rows: Vec<NewAccount> = (0..1234).map(|n| new_account(&format!("{n}@example.com"))).collect();
        let outcomes = sql.import_accounts("users.jsonl", 1234, &rows, &[], &[], NOW).await.unwrap();
        assert_eq!(outcomes, vec![Inserted; 1234]);
        let outcomes = sql.import_accounts("users.jsonl", 1234, &rows, &[], &[], NOW).await.unwrap();
        assert_eq!(outcomes, vec![EmailTaken; 1234], "the accounts exist");
    })
    .await;
}

#[tokio::test]
async fn import_progress_is_kept_per_source_until_forgotten() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        assert_eq!(sql.import_progress("a").await.unwrap(), None);
        sql.import_accounts("a", 500, &[], &[], &[], NOW).await.unwrap();
        sql.import_accounts("b", 7, &[], &[], &[], NOW).await.unwrap();
        sql.import_accounts("a", 1000, &[new_account("ann@example.com")], &[], &[], LATER).await.unwrap();
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
        let sql = backend.node().await;
        let ann = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        let ben = NewAccount { id: ann.id, ..new_account("ben@example.com") };
        let outcomes =
            sql.import_accounts("a", 2, &[ben.clone(), new_account("cy@example.com")], &[], &[], NOW).await.unwrap();
        assert_eq!(outcomes, [IdTaken, Inserted]);
        let twice = NewAccount { id: new_id(), ..ben };
        let rows = [twice.clone(), NewAccount { id: twice.id, ..new_account("dee@example.com") }];
        assert_eq!(sql.import_accounts("b", 2, &rows, &[], &[], NOW).await.unwrap(), [Inserted, IdTaken]);
        let eve = NewAccount { id: new_id(), ..new_account("eve@example.com") };
        let rows = [NewAccount { id: eve.id, ..new_account("ann@example.com") }, eve];
        assert_eq!(sql.import_accounts("c", 2, &rows, &[], &[], NOW).await.unwrap(), [EmailTaken, Inserted]);
    })
    .await;
}

#[tokio::test]
async fn failed_batch_stores_nothing() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        sql.import_accounts("a", 1, &[], &[], &[], NOW).await.unwrap();
        backend.execute_sql("ALTER TABLE imports RENAME TO elsewhere").await;
        sql.import_accounts("a", 3, &[new_account("cy@example.com")], &[], &[], NOW).await.unwrap_err();
        backend.execute_sql("ALTER TABLE elsewhere RENAME TO imports").await;
        assert_eq!(sql.import_progress("a").await.unwrap(), Some(1));
        assert_eq!(sql.list_accounts(None, 10).await.unwrap().len(), 0);
    })
    .await;
}
