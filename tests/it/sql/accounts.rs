//! Inserting, finding and listing accounts, and replacing their password hashes by stronger ones.

use latchkey::{
    domain::{
        account::{Account, ClaimsVersion, Epoch, Identifier, NewAccount, Roles},
        factor::{Factors, FactorsVersion},
    },
    store::sql::InsertError,
};

use super::{LATER, NOW, hash, new_account, new_id, on_every_backend, with_username};

#[tokio::test]
async fn inserted_account_is_read_back_unchanged() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let plain = new_account("plain@example.com");
        let full = NewAccount {
            email_verified: true,
            roles: Roles::parse(["support", "admin"]).unwrap(),
            disabled_at: Some(LATER),
            updated_at: LATER,
            ..with_username("Zoë.Q@Example.com", "Zoë_Q")
        };
        let without_password = NewAccount { password_hash: None, ..new_account("social@example.com") };
        for new in [plain, full, without_password] {
            let stored = sql.insert_account(&new).await.unwrap();
            let expected = Account {
                id: new.id,
                email: new.email,
                email_verified: new.email_verified,
                username: new.username,
                password_hash: new.password_hash,
                roles: new.roles,
                disabled_at: new.disabled_at,
                deletion_at: None,
                created_at: NOW,
                updated_at: new.updated_at,
                password_changed_at: NOW,
                epoch: Epoch(0),
                claims_version: ClaimsVersion(0),
                factors: Factors::NONE,
                factors_version: FactorsVersion(0),
                factor_required_at: None,
            };
            assert_eq!(stored, expected);
            assert_eq!(sql.account(new.id).await.unwrap(), Some(expected));
        }
        assert_eq!(sql.account(new_id()).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn find_account_ignores_case() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let new = with_username("Ünal@Example.com", "Ünal");
        sql.insert_account(&new).await.unwrap();
        for identifier in ["ünal@example.COM", "ÜNAL@EXAMPLE.COM", "ünal", "ÜNAL"] {
            let found = sql.find_account(&Identifier::parse(identifier)).await.unwrap();
            assert_eq!(found.map(|account| account.id), Some(new.id), "{identifier}");
        }
        // Accents count, `%` is no wildcard, quotes end no string, and Postgres stores no NUL.
        for identifier in ["", "unal", "ünal@example.co", "%", "' OR 1=1 --", "nul\0", "nul\0@example.com"] {
            assert_eq!(sql.find_account(&Identifier::parse(identifier)).await.unwrap(), None, "{identifier}");
        }
    })
    .await;
}

#[tokio::test]
async fn find_account_ignores_unicode_composition() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        // These names have é as one character. The identifiers below also have it as e and a combining accent.
        let new = with_username("jos\u{e9}@example.com", "jos\u{e9}");
        sql.insert_account(&new).await.unwrap();
        for identifier in ["jose\u{301}@example.com", "JOSE\u{301}", "jos\u{e9}"] {
            let found = sql.find_account(&Identifier::parse(identifier)).await.unwrap();
            assert_eq!(found.map(|account| account.id), Some(new.id), "{identifier}");
        }
        let taken = sql.insert_account(&new_account("jose\u{301}@example.com")).await;
        assert!(matches!(taken, Err(InsertError::EmailTaken)), "{taken:?}");
    })
    .await;
}

#[tokio::test]
async fn insert_of_name_in_another_case_is_refused() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        sql.insert_account(&with_username("Ann@Example.com", "Ann")).await.unwrap();
        let taken = sql.insert_account(&new_account("ann@example.COM")).await;
        assert!(matches!(taken, Err(InsertError::EmailTaken)), "{taken:?}");
        let taken = sql.insert_account(&with_username("other@example.com", "aNN")).await;
        assert!(matches!(taken, Err(InsertError::UsernameTaken)), "{taken:?}");
        let (after, limit) = (None, 10);
        assert_eq!(sql.list_accounts(after, limit).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn insert_with_existing_id_fails() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let first = new_account("first@example.com");
        sql.insert_account(&first).await.unwrap();
        let second = NewAccount { id: first.id, ..new_account("second@example.com") };
        let refused = sql.insert_account(&second).await;
        // an error of the database, but no outage: a retry would not help
        assert!(matches!(&refused, Err(InsertError::Sql(error)) if !error.is_unavailable()), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn list_accounts_pages_in_order_of_id() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let mut expected = Vec::new();
        for n in 0..7 {
            expected.push(sql.insert_account(&new_account(&format!("{n}@example.com"))).await.unwrap().id);
        }
        // New ids of the same millisecond are in no order.
        expected.sort();
        let page_size = 3;
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = sql.list_accounts(after, page_size).await.unwrap();
            assert!(page.len() <= page_size as usize);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            listed.extend(page.into_iter().map(|account| account.id));
        }
        assert_eq!(listed, expected);
    })
    .await;
}

#[tokio::test]
async fn upgrade_password_hash_replaces_the_hash_unless_the_password_has_changed() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        // the stored hash is `first`
        let id = sql.insert_account(&new_account("ann@example.com")).await.unwrap().id;
        let was_replaced = sql.upgrade_password_hash(id, &hash("first"), &hash("better"), LATER).await.unwrap();
        assert!(was_replaced);
        let account = sql.account(id).await.unwrap().unwrap();
        assert_eq!(account.password_hash, Some(hash("better")));
        assert_eq!(account.updated_at, LATER);
        // The password has not changed.
        assert_eq!((account.password_changed_at, account.epoch), (NOW, Epoch(0)));

        let mut change = sql.change_account(id).await.unwrap().unwrap();
        change.set_password(&hash("changed"), LATER).await.unwrap();
        change.commit().await.unwrap();
        let was_replaced = sql.upgrade_password_hash(id, &hash("better"), &hash("best"), LATER).await.unwrap();
        assert!(!was_replaced);
        assert_eq!(sql.account(id).await.unwrap().unwrap().password_hash, Some(hash("changed")));

        let unknown_id = new_id();
        let was_replaced = sql.upgrade_password_hash(unknown_id, &hash("first"), &hash("best"), LATER).await.unwrap();
        assert!(!was_replaced);
    })
    .await;
}
