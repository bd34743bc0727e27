//! Concurrent writes on two nodes: exactly one wins, no update is lost, no call fails.

use latchkey::{
    domain::{account::Epoch, key::StoredKey},
    store::sql::{AuditFilter, InsertError, Sql},
};
use tokio::task::JoinSet;

use super::{LATER, hash, new_account, on_every_backend, signing_keys::key, with_username};

const RACERS: usize = 16;
/// The creation time of keys, in minutes after the Unix epoch.
const CREATED_AT_MINUTE: i64 = 0;

/// Runs a task for each racer, alternating between the nodes, and returns the results.
async fn race<T, F>(nodes: [&Sql; 2], racer: impl Fn(Sql, usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..RACERS {
        tasks.spawn(racer(nodes[number % 2].clone(), number));
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_inserts_of_one_address_store_one_account() {
    on_every_backend(async |backend| {
        let (a, b) = (backend.migrated_pool().await, backend.migrated_pool().await);
        for round in 0..5 {
            let results = race([&a, &b], |sql, n| async move {
                let email = format!("ann{round}@example.com");
                // addresses that differ in case only are the same address
                let email = if n < RACERS / 2 { email } else { email.to_uppercase() };
                sql.insert_account(&with_username(&email, &format!("ann{round}-{n}"))).await
            })
            .await;
            let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1);
            assert!(lost.iter().all(|lost| matches!(lost, Err(InsertError::EmailTaken))), "{lost:?}");
        }
        assert_eq!(a.list_accounts(None, 100).await.unwrap().len(), 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_retirements_of_one_key_are_recorded_once() {
    on_every_backend(async |backend| {
        let (a, b) = (backend.migrated_pool().await, backend.migrated_pool().await);
        let stored = key("retired", CREATED_AT_MINUTE);
        a.rotate_keys(&stored, &[]).await.unwrap();
        let until = stored.signs_from;
        let found =
            race(
                [&a, &b],
                |sql, _| async move { sql.set_key_verifies_until("retired", Some(until), until).await.unwrap() },
            )
            .await;
        assert_eq!(found, [true; RACERS]);
        let rows = a.audit(&AuditFilter::default(), 100).await.unwrap();
        assert_eq!(rows.iter().filter(|row| row.event == "key_retired").count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_inserts_of_one_username_store_one_account() {
    on_every_backend(async |backend| {
        let (a, b) = (backend.migrated_pool().await, backend.migrated_pool().await);
        let results = race([&a, &b], |sql, n| async move {
            sql.insert_account(&with_username(&format!("{n}@example.com"), "ann")).await
        })
        .await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        assert!(lost.iter().all(|lost| matches!(lost, Err(InsertError::UsernameTaken))), "{lost:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_rehashes_store_one_hash() {
    on_every_backend(async |backend| {
        let (a, b) = (backend.migrated_pool().await, backend.migrated_pool().await);
        let id = a.insert_account(&new_account("ann@example.com")).await.unwrap().id;
        // `new_account` has stored `hash("first")`
        let were_replaced = race([&a, &b], |sql, n| async move {
            sql.upgrade_password_hash(id, &hash("first"), &hash(&n.to_string()), LATER).await.unwrap()
        })
        .await;
        assert_eq!(were_replaced.into_iter().filter(|was_replaced| *was_replaced).count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_to_one_account_are_serialized() {
    on_every_backend(async |backend| {
        let (a, b) = (backend.migrated_pool().await, backend.migrated_pool().await);
        let id = a.insert_account(&new_account("ann@example.com")).await.unwrap().id;
        let mut epochs = race([&a, &b], |sql, _| async move {
            let mut change = sql.change_account(id).await.unwrap().unwrap();
            let epoch = change.bump_epoch().await.unwrap();
            // lets other racers run before the commit
            tokio::task::yield_now().await;
            change.commit().await.unwrap();
            epoch
        })
        .await;
        epochs.sort();
        let expected: Vec<Epoch> = (1..).take(RACERS).map(Epoch).collect();
        assert_eq!(epochs, expected);
        assert_eq!(a.account(id).await.unwrap().unwrap().epoch, expected[RACERS - 1]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_first_keys_store_one_key() {
    on_every_backend(async |backend| {
        let (a, b) = (backend.migrated_pool().await, backend.migrated_pool().await);
        let won = race([&a, &b], |sql, n| async move {
            let key = key(&n.to_string(), CREATED_AT_MINUTE);
            sql.insert_first_key(&key).await.unwrap().then_some(key)
        })
        .await;
        let won: Vec<StoredKey> = won.into_iter().flatten().collect();
        assert_eq!(won.len(), 1);
        assert_eq!(b.keys().await.unwrap(), won);
    })
    .await;
}

/// Sixteen tasks share three server connections (`default_pool_size` in `harness/pgbouncer.rs`).
#[tokio::test(flavor = "multi_thread")]
async fn mixed_statements_through_a_pooler_do_not_interfere() {
    on_every_backend(async |backend| {
        const ROUNDS: usize = 20;
        let (a, b) = (backend.migrated_pool().await, backend.migrated_pool().await);
        race([&a, &b], |sql, n| async move {
            for round in 0..ROUNDS {
                let email = format!("{n}-{round}@example.com");
                let stored = sql.insert_account(&new_account(&email)).await.unwrap();
                assert_eq!(sql.account(stored.id).await.unwrap().as_ref(), Some(&stored));
                assert!(!sql.list_accounts(None, 3).await.unwrap().is_empty());
                let is_upgraded =
                    sql.upgrade_password_hash(stored.id, &hash("first"), &hash("new"), LATER).await.unwrap();
                assert!(is_upgraded);
                let mut change = sql.change_account(stored.id).await.unwrap().unwrap();
                assert_eq!(change.account.password_hash, Some(hash("new")));
                change.bump_epoch().await.unwrap();
                let commits = round % 2 == 0;
                if commits {
                    change.commit().await.unwrap();
                } else {
                    drop(change);
                }
                let epoch = sql.account(stored.id).await.unwrap().unwrap().epoch;
                assert_eq!(epoch, Epoch(u32::from(commits)), "a dropped change is rolled back");
                sql.ping().await.unwrap();
            }
        })
        .await;
        assert_eq!(a.list_accounts(None, 1000).await.unwrap().len(), RACERS * ROUNDS);
    })
    .await;
}
