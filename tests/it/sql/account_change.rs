//! Changes to an account: committed as a whole, or not at all.

use std::time::Duration;

use latchkey::{
    domain::{
        account::{Account, ClaimsVersion, Email, Epoch, Identifier, Roles},
        ids::FactorId,
    },
    store::sql::{AddressRecord, TotpFactor},
};

use super::{LATER, hash, new_account, new_id, on_every_backend, with_username};

#[tokio::test]
async fn committed_change_is_stored() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let before = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        let mut change = sql.change_account(before.id).await.unwrap().unwrap();
        assert_eq!(change.account, before);
        let roles = Roles::parse(["admin"]).unwrap();
        change.set_password(&hash("second"), LATER).await.unwrap();
        // also increments the claims version
        change.set_roles(&roles, LATER).await.unwrap();
        change.set_disabled(Some(LATER), LATER).await.unwrap();
        // a new account has epoch 0
        assert_eq!(change.bump_epoch().await.unwrap(), Epoch(1));
        let expected = Account {
            password_hash: Some(hash("second")),
            password_changed_at: LATER,
            roles,
            disabled_at: Some(LATER),
            updated_at: LATER,
            epoch: Epoch(1),
            claims_version: ClaimsVersion(1),
            ..before
        };
        assert_eq!(change.account, expected);
        change.commit().await.unwrap();
        assert_eq!(sql.account(before.id).await.unwrap(), Some(expected));

        let mut change = sql.change_account(before.id).await.unwrap().unwrap();
        change.set_disabled(None, LATER).await.unwrap();
        assert_eq!(change.bump_epoch().await.unwrap(), Epoch(2));
        change.commit().await.unwrap();
        let after = sql.account(before.id).await.unwrap().unwrap();
        assert_eq!(after.disabled_at, None);
        assert_eq!(after.epoch, Epoch(2));
    })
    .await;
}

#[tokio::test]
async fn change_dropped_without_commit_is_rolled_back() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let before = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        // More rounds than the pool has connections: each connection stays usable.
        for _ in 0..20 {
            let mut change = sql.change_account(before.id).await.unwrap().unwrap();
            change.set_password(&hash("second"), LATER).await.unwrap();
            change.bump_epoch().await.unwrap();
            drop(change);
            let mut change = sql.change_account(before.id).await.unwrap().unwrap();
            change.delete().await.unwrap();
            drop(change);
        }
        assert_eq!(sql.account(before.id).await.unwrap(), Some(before));
    })
    .await;
}

#[tokio::test]
async fn authenticator_app_of_another_account_is_not_confirmed() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let ann = sql.insert_account(&new_account("ann@example.com")).await.unwrap().id;
        let ben = sql.insert_account(&new_account("ben@example.com")).await.unwrap().id;
        let app = TotpFactor {
            id: FactorId(ben.0),
            account: ben,
            label: "Phone".to_owned(),
            sealed: vec![1],
            created_at: LATER,
            confirmed_at: None,
            last_step: 0,
            last_used_at: None,
        };
        let mut change = sql.change_account(ben).await.unwrap().unwrap();
        change.add_totp(&app).await.unwrap();
        change.commit().await.unwrap();
        let mut change = sql.change_account(ann).await.unwrap().unwrap();
        change.confirm_totp(app.id, 1, LATER).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(sql.totp_factors(ben).await.unwrap(), [app]);
    })
    .await;
}

#[tokio::test]
async fn former_address_that_is_stored_again_keeps_its_creation_time_and_expires_later() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let id = sql.insert_account(&new_account("ann@example.com")).await.unwrap().id;
        let email = |text: &str| Email::parse(text).unwrap();
        let at = |hours: u64| LATER + Duration::from_hours(hours);
        // The case makes no difference: the third address is the first one again.
        let stored = [("ann@example.com", 0), ("eve@example.com", 1), ("Ann@example.com", 2)];
        for (address, hour) in stored {
            let mut change = sql.change_account(id).await.unwrap().unwrap();
            let (created_at, expires_at) = (at(hour), at(hour + 72));
            change.add_former_address(&email(address), created_at, expires_at).await.unwrap();
            change.commit().await.unwrap();
        }
        let found = sql.former_addresses(id, at(2)).await.unwrap();
        let found: Vec<_> =
            found.into_iter().map(|former| (former.email.key(), former.created_at, former.expires_at)).collect();
        let expected = |key: &str, created, expires| (key.to_owned(), at(created), at(expires));
        // newest first
        assert_eq!(found, [expected("eve@example.com", 1, 73), expected("ann@example.com", 0, 74)]);
    })
    .await;
}

#[tokio::test]
async fn former_addresses_are_deleted_by_address_by_time_or_all() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let id = sql.insert_account(&new_account("ann@example.com")).await.unwrap().id;
        let email = |text: &str| Email::parse(text).unwrap();
        let at = |hours: u64| LATER + Duration::from_hours(hours);
        let mut change = sql.change_account(id).await.unwrap().unwrap();
        for (address, hours) in [("ann@example.com", 0), ("eve@example.com", 1), ("bob@example.com", 2)] {
            change.add_former_address(&email(address), at(hours), at(72)).await.unwrap();
        }
        change.commit().await.unwrap();

        // Each change is dropped without a commit, so the next one finds all three addresses again.
        let mut change = sql.change_account(id).await.unwrap().unwrap();
        change.remove_former_address(&email("EVE@example.com")).await.unwrap();
        assert_eq!(keys(change.former_addresses(at(2)).await.unwrap()), ["bob@example.com", "ann@example.com"]);
        drop(change);
        let mut change = sql.change_account(id).await.unwrap().unwrap();
        change.retain_former_address(&email("EVE@example.com")).await.unwrap();
        assert_eq!(keys(change.former_addresses(at(2)).await.unwrap()), ["eve@example.com"]);
        drop(change);
        let mut change = sql.change_account(id).await.unwrap().unwrap();
        change.clear_former_addresses_since(at(1)).await.unwrap();
        assert_eq!(keys(change.former_addresses(at(2)).await.unwrap()), ["ann@example.com"]);
        drop(change);
        let mut change = sql.change_account(id).await.unwrap().unwrap();
        change.clear_former_addresses().await.unwrap();
        assert!(change.former_addresses(at(2)).await.unwrap().is_empty());
    })
    .await;
}

/// The addresses in the form in which they are compared.
fn keys(addresses: Vec<AddressRecord>) -> Vec<String> {
    addresses.into_iter().map(|address| address.email.key()).collect()
}

#[tokio::test]
async fn names_of_deleted_account_can_be_registered() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let id = sql.insert_account(&with_username("ann@example.com", "ann")).await.unwrap().id;
        let mut change = sql.change_account(id).await.unwrap().unwrap();
        change.delete().await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(sql.account(id).await.unwrap(), None);
        assert_eq!(sql.find_account(&Identifier::parse("ann")).await.unwrap(), None);
        assert!(sql.change_account(id).await.unwrap().is_none());
        assert!(sql.change_account(new_id()).await.unwrap().is_none());
        sql.insert_account(&with_username("ann@example.com", "ann")).await.unwrap();
    })
    .await;
}
