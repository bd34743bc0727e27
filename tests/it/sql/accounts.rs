//! Registering, finding, listing and rehashing accounts.

use latchkey::{
    domain::account::{Account, Epoch, Identifier, NewAccount, Roles},
    store::sql::InsertError,
};

use super::{LATER, NOW, hash, new_account, new_id, on_every_backend, with_username};

#[tokio::test]
async fn an_account_comes_back_as_it_was_stored() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let plain = new_account("plain@example.com");
        let full = NewAccount {
            roles: Roles::parse(["support", "admin"]).unwrap(),
            ..with_username("Zoë.Q@Example.com", "Zoë_Q")
        };
        for new in [plain, full] {
            let stored = sql.insert_account(&new).await.unwrap();
            let expected = Account {
                id: new.id,
                email: new.email,
                username: new.username,
                password_hash: new.password_hash,
                roles: new.roles,
                disabled_at: None,
                created_at: NOW,
                updated_at: NOW,
                password_changed_at: NOW,
                epoch: Epoch(0),
            };
            assert_eq!(stored, expected);
            assert_eq!(sql.account(new.id).await.unwrap(), Some(expected));
        }
        assert_eq!(sql.account(new_id()).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn names_are_found_without_regard_to_case() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let new = with_username("Ünal@Example.com", "Ünal");
        sql.insert_account(&new).await.unwrap();
        for identifier in ["ünal@example.COM", "ÜNAL@EXAMPLE.COM", "ünal", "ÜNAL"] {
            let found = sql.find_account(&Identifier::parse(identifier)).await.unwrap();
            assert_eq!(found.map(|account| account.id), Some(new.id), "{identifier}");
        }
        for identifier in ["", "unal", "ünal@example.co", "%", "' OR 1=1 --", "nul\0", "nul\0@example.com"] {
            assert_eq!(sql.find_account(&Identifier::parse(identifier)).await.unwrap(), None, "{identifier}");
        }
    })
    .await;
}

#[tokio::test]
async fn names_are_unique_without_regard_to_case() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        sql.insert_account(&with_username("Ann@Example.com", "Ann")).await.unwrap();
        let taken = sql.insert_account(&new_account("ann@example.COM")).await;
        assert!(matches!(taken, Err(InsertError::EmailTaken)), "{taken:?}");
        let taken = sql.insert_account(&with_username("other@example.com", "aNN")).await;
        assert!(matches!(taken, Err(InsertError::UsernameTaken)), "{taken:?}");
        assert_eq!(sql.list_accounts(None, 10).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_id_is_never_given_twice() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let first = new_account("first@example.com");
        sql.insert_account(&first).await.unwrap();
        let second = NewAccount { id: first.id, ..new_account("second@example.com") };
        let refused = sql.insert_account(&second).await;
        assert!(matches!(&refused, Err(InsertError::Sql(error)) if !error.is_unavailable()), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn pages_follow_each_other() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let mut expected = Vec::new();
        for n in 0..7 {
            expected.push(sql.insert_account(&new_account(&format!("{n}@example.com"))).await.unwrap().id);
        }
        expected.sort();
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = sql.list_accounts(after, 3).await.unwrap();
            assert!(page.len() <= 3);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            listed.extend(page.into_iter().map(|account| account.id));
        }
        assert_eq!(listed, expected);
    })
    .await;
}

#[tokio::test]
async fn a_rehash_never_undoes_a_change_of_password() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let id = sql.insert_account(&new_account("ann@example.com")).await.unwrap().id;
        assert!(sql.upgrade_password_hash(id, &hash("first"), &hash("better"), LATER).await.unwrap());
        let account = sql.account(id).await.unwrap().unwrap();
        assert_eq!(account.password_hash, hash("better"));
        assert_eq!((account.updated_at, account.password_changed_at, account.epoch), (LATER, NOW, Epoch(0)));

        let mut change = sql.change_account(id).await.unwrap().unwrap();
        change.set_password(&hash("changed"), LATER).await.unwrap();
        change.commit().await.unwrap();
        assert!(!sql.upgrade_password_hash(id, &hash("better"), &hash("best"), LATER).await.unwrap());
        assert_eq!(sql.account(id).await.unwrap().unwrap().password_hash, hash("changed"));
        assert!(!sql.upgrade_password_hash(new_id(), &hash("first"), &hash("best"), LATER).await.unwrap());
    })
    .await;
}
