//! Accounts brought from elsewhere.

use latchkey::{
    domain::account::{Epoch, NewAccount},
    store::sql::ImportOutcome::{EmailTaken, Inserted, UsernameTaken},
};

use super::{LATER, NOW, new_account, on_every_backend, with_username};

#[tokio::test]
async fn each_row_is_told_what_became_of_it() {
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
        let outcomes = sql.import_accounts("users.jsonl", 7, &rows, LATER).await.unwrap();
        assert_eq!(outcomes, [Inserted, EmailTaken, UsernameTaken, EmailTaken, Inserted, UsernameTaken, Inserted]);
        let ben = sql.account(rows[0].id).await.unwrap().unwrap();
        assert_eq!((ben.created_at, ben.epoch), (NOW, Epoch(0)));
        assert_eq!(sql.list_accounts(None, 100).await.unwrap().len(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_batch_may_be_large() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let rows: Vec<NewAccount> = (0..1234).map(|n| new_account(&format!("{n}@example.com"))).collect();
        let outcomes = sql.import_accounts("users.jsonl", 1234, &rows, NOW).await.unwrap();
        assert_eq!(outcomes, vec![Inserted; 1234]);
        let outcomes = sql.import_accounts("users.jsonl", 1234, &rows, NOW).await.unwrap();
        assert_eq!(outcomes, vec![EmailTaken; 1234], "a second time, it is all there");
    })
    .await;
}

#[tokio::test]
async fn progress_is_kept_for_each_source_until_it_is_forgotten() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        assert_eq!(sql.import_progress("a").await.unwrap(), None);
        sql.import_accounts("a", 500, &[], NOW).await.unwrap();
        sql.import_accounts("b", 7, &[], NOW).await.unwrap();
        sql.import_accounts("a", 1000, &[new_account("ann@example.com")], LATER).await.unwrap();
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
async fn a_failed_batch_leaves_no_trace() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let ann = new_account("ann@example.com");
        // The same id under another address: an error, not an outcome.
        let rows = [ann.clone(), NewAccount { id: ann.id, ..new_account("ben@example.com") }];
        sql.insert_account(&ann).await.unwrap();
        sql.import_accounts("a", 1, &[], NOW).await.unwrap();
        sql.import_accounts("a", 3, &[new_account("cy@example.com"), rows[1].clone()], NOW).await.unwrap_err();
        assert_eq!(sql.import_progress("a").await.unwrap(), Some(1));
        assert_eq!(sql.list_accounts(None, 10).await.unwrap().len(), 1);
    })
    .await;
}
