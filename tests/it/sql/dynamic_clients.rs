//! Dynamic clients in SQL: clients that users have allowed, and that no operator has registered.

use std::time::Duration;

use latchkey::{
    domain::{
        client::{ClientId, SpaceSeparated},
        clock::Timestamp,
        dynamic_client::{DynamicClient, DynamicSource},
        ids::AccountId,
    },
    store::sql::{AllowedClient, Permission, Sql},
};

use super::{LATER, NOW, new_id, on_every_backend};

/// A maximum number of an account's clients that the test does not reach.
const MANY: u32 = 10;

/// The id of the client with this number.
fn id(number: u8) -> ClientId {
    DynamicClient::reference(DynamicSource::Document, &format!("{number:032}"))
}

/// Stores the account's consent to the client with this number at [`NOW`]. Returns false if the account has allowed `max` others.
async fn allow(sql: &Sql, account: AccountId, number: u8, max: u32) -> bool {
    allow_at(sql, account, number, max, NOW).await
}

/// As [`allow`], at `now`.
async fn allow_at(sql: &Sql, account: AccountId, number: u8, max: u32, now: Timestamp) -> bool {
    let (id, client_id) = (id(number), format!("https://app{number}.example/client.json"));
    let client = AllowedClient { id: &id, client_id: &client_id, metadata: "{}", source: DynamicSource::Document };
    let (scope, resources) = (SpaceSeparated::parse(["openid"]).unwrap(), SpaceSeparated::default());
    let allowed = Permission { scope: &scope, resources: &resources };
    sql.allow_dynamic_client(account, client, allowed, max, now).await.unwrap()
}

#[tokio::test]
async fn allowed_clients_are_stored_once_up_to_the_limit_of_an_account() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let (ada, bob) = (new_id(), new_id());
        let max = 2;
        assert!(allow(&sql, ada, 1, max).await);
        assert!(allow(&sql, ada, 2, max).await);
        assert!(!allow(&sql, ada, 3, max).await, "the account has the maximum number of clients");
        assert!(allow(&sql, ada, 2, max).await, "a client that is stored already does not count again");
        assert!(allow(&sql, bob, 1, max).await, "each account has a limit of its own");
        let stored = sql.dynamic_clients(10).await.unwrap();
        let stored_ids: Vec<ClientId> = stored.into_iter().map(|client| client.id).collect();
        assert_eq!(stored_ids, [id(1), id(2)], "a client of two accounts is stored once");
        assert_eq!(sql.dynamic_client(id(3).as_str()).await.unwrap(), None);
        assert_eq!(sql.consents(ada).await.unwrap().len(), 2);
        let new_metadata = r#"{"client_name":"Shop"}"#;
        sql.update_dynamic_client(&id(1), new_metadata, LATER).await.unwrap();
        let updated = sql.dynamic_client(id(1).as_str()).await.unwrap().unwrap();
        assert_eq!(updated.metadata, new_metadata);
        assert_eq!(updated.fetched_at, LATER);
        assert_eq!(updated.created_at, NOW);
    })
    .await;
}

#[tokio::test]
async fn consent_adds_its_scopes_and_resources_to_an_earlier_consent() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let ada = new_id();
        let items = |text: &str| SpaceSeparated::from_spaced(text).unwrap();
        let both = "https://orders.example https://stock.example";
        for (scope, resources) in [("openid", ""), ("email", both), ("openid", "https://orders.example")] {
            let (scope, resources) = (items(scope), items(resources));
            let allowed = Permission { scope: &scope, resources: &resources };
            sql.add_consent(ada, &id(1), allowed, NOW).await.unwrap();
        }
        let given = sql.consent(ada, id(1).as_str()).await.unwrap().unwrap();
        assert_eq!(given.scope, items("openid email"));
        assert_eq!(given.resources, items(both));
        assert_eq!(sql.consents(ada).await.unwrap()[0].resources, items(both));
    })
    .await;
}

#[tokio::test]
async fn clients_without_a_consent_are_deleted_unless_they_are_disabled() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let ada = new_id();
        for number in 1..=3 {
            allow(&sql, ada, number, MANY).await;
        }
        assert!(sql.disable_dynamic_client(&id(3), NOW).await.unwrap());
        assert!(!sql.disable_dynamic_client(&id(4), NOW).await.unwrap(), "there is no such client");
        assert!(sql.dynamic_client(id(3).as_str()).await.unwrap().unwrap().disabled_at.is_some());
        // The first client keeps its consent.
        for number in 2..=3 {
            assert!(sql.delete_consent(ada, &id(number), NOW).await.unwrap());
        }
        assert_eq!(sql.prune_dynamic_clients(NOW).await.unwrap(), 0, "clients that were allowed just now are kept");
        assert_eq!(sql.prune_dynamic_clients(NOW + Duration::from_secs(1)).await.unwrap(), 1, "the second client");
        let left: Vec<_> = sql.dynamic_clients(10).await.unwrap().into_iter().map(|client| client.id).collect();
        assert_eq!(left, [id(1), id(3)]);
        assert!(sql.enable_dynamic_client(&id(3), NOW).await.unwrap());
        assert_eq!(sql.prune_dynamic_clients(LATER).await.unwrap(), 1, "the third client, now enabled");
    })
    .await;
}

#[tokio::test]
async fn client_allowed_during_a_prune_is_kept() {
    on_every_backend(async |backend| {
        let (sql, other_pool) = (backend.migrated_pool().await, backend.connect().await);
        let ada = new_id();
        // repeated, because the two transactions overlap in some rounds only
        for round in 0..20 {
            let (before, now) = (NOW + Duration::from_secs(round), NOW + Duration::from_secs(round + 1));
            allow_at(&sql, ada, 1, MANY, before).await;
            sql.delete_consent(ada, &id(1), before).await.unwrap();
            let prune = other_pool.prune_dynamic_clients(now);
            let (is_allowed, pruned) = tokio::join!(allow_at(&sql, ada, 1, MANY, now), prune);
            assert!(is_allowed);
            pruned.unwrap();
            assert!(sql.dynamic_client(id(1).as_str()).await.unwrap().is_some());
        }
    })
    .await;
}
