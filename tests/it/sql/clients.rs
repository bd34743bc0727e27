//! Service clients in SQL.

use latchkey::domain::{
    app_client::{AppSettings, ClientKind, GrantType},
    client::{Client, ClientId, ClientSecretHash, FormerSecret, SpaceSeparated},
    clock::Timestamp,
};

use super::on_every_backend;

/// An enabled client with the secret `hash(1)`.
fn client(name: &str) -> Client {
    Client {
        kind: ClientKind::Service,
        app: AppSettings { grant_types: vec![GrantType::ClientCredentials], ..AppSettings::default() },
        id: ClientId::parse(name).unwrap(),
        scopes: SpaceSeparated::parse(["read", "write"]).unwrap(),
        audiences: SpaceSeparated::parse(["latchkey"]).unwrap(),
        jwks: None,
        secret: hash(1),
        former_secret: None,
        created_at: Timestamp::from_millis(1_800_000_000_000),
        disabled_at: None,
        dynamic: None,
    }
}

/// The stored hash of a secret.
fn hash(byte: u8) -> ClientSecretHash {
    ClientSecretHash::new([byte; 32])
}

/// The time `minute` minutes after the Unix epoch.
fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(minute * 60_000)
}

#[tokio::test]
async fn stored_clients_are_read_back_ordered_by_name() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        assert_eq!(sql.clients().await.unwrap(), []);
        let with_keys =
            Client { jwks: Some("{\"keys\":[]}".to_owned()), scopes: SpaceSeparated::default(), ..client("b") };
        assert!(sql.insert_client(&with_keys).await.unwrap());
        assert!(sql.insert_client(&client("a")).await.unwrap());
        assert!(!sql.insert_client(&Client { secret: hash(9), ..client("a") }).await.unwrap(), "the name is taken");
        assert_eq!(sql.clients().await.unwrap(), [client("a"), with_keys]);
    })
    .await;
}

#[tokio::test]
async fn client_secret_rotates_and_first_disable_time_is_kept() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        sql.insert_client(&client("a")).await.unwrap();
        sql.insert_client(&client("b")).await.unwrap();
        let (a, unknown) = (ClientId::parse("a").unwrap(), ClientId::parse("nobody").unwrap());
        let now = at(1);
        // A client keeps the secret that was replaced last, and no older one.
        for (new, old, until) in [(2, 1, 10), (3, 2, 20)] {
            assert!(sql.rotate_client_secret(&a, &hash(new), at(until), now).await.unwrap());
            let former_secret = Some(FormerSecret { hash: hash(old), until: at(until) });
            let expected = Client { secret: hash(new), former_secret, ..client("a") };
            assert_eq!(sql.clients().await.unwrap(), [expected, client("b")]);
        }
        assert!(!sql.rotate_client_secret(&unknown, &hash(4), at(30), now).await.unwrap());
        assert!(sql.disable_client(&a, at(30)).await.unwrap());
        assert!(sql.disable_client(&a, at(40)).await.unwrap(), "disabling again is no error");
        assert!(!sql.disable_client(&unknown, at(30)).await.unwrap());
        let clients = sql.clients().await.unwrap();
        let disabled_at: Vec<_> = clients.iter().map(|client| client.disabled_at).collect();
        assert_eq!(disabled_at, [Some(at(30)), None]);
    })
    .await;
}

#[tokio::test]
async fn client_is_enabled_again_and_deleted_client_frees_its_name() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        sql.insert_client(&client("a")).await.unwrap();
        let (a, unknown) = (ClientId::parse("a").unwrap(), ClientId::parse("nobody").unwrap());
        assert!(sql.disable_client(&a, at(1)).await.unwrap());
        assert!(sql.enable_client(&a, at(2)).await.unwrap());
        assert!(sql.enable_client(&a, at(3)).await.unwrap(), "enabling again is no error");
        assert_eq!(sql.clients().await.unwrap(), [client("a")]);
        assert!(!sql.enable_client(&unknown, at(4)).await.unwrap());
        assert!(sql.delete_client(&a, at(5)).await.unwrap());
        assert!(!sql.delete_client(&a, at(6)).await.unwrap(), "the client is gone");
        assert!(
            sql.insert_client(&Client { secret: hash(7), ..client("a") }).await.unwrap(),
            "the name can be used again"
        );
    })
    .await;
}
