//! Storing, changing and deleting signing keys in the database.

use latchkey::{
    domain::{
        clock::Timestamp,
        key::{Algorithm, StoredKey},
    },
    store::sql::AuditFilter,
};

use super::{NOW, on_every_backend};

/// A key that is created `minute` minutes after the Unix epoch, and signs from 10 minutes later.
pub(super) fn key(kid: &str, minute: i64) -> StoredKey {
    StoredKey {
        kid: kid.into(),
        algorithm: Algorithm::Es256,
        sealed_private: (0..=255).collect(), // each value of a byte
        public_jwk: r#"{"kty":"EC"}"#.into(),
        created_at: at(minute),
        signs_from: at(minute + 10),
        verifies_until: None,
    }
}

/// The time `minute` minutes after the Unix epoch.
fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(minute * 60_000)
}

/// A rotation that ends the validity of no older key.
const NO_ENDS: &[(String, Timestamp)] = &[];

#[tokio::test]
async fn keys_are_read_back_unchanged_oldest_first() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        assert_eq!(sql.keys().await.unwrap(), []);
        // The order by id and the order of insertion differ from the order by age.
        let old = StoredKey { algorithm: Algorithm::Rs256, verifies_until: Some(at(99)), ..key("z-old", 1) };
        let new = StoredKey { sealed_private: vec![], ..key("a-new", 2) };
        sql.rotate_keys(&new, NO_ENDS).await.unwrap();
        sql.rotate_keys(&old, NO_ENDS).await.unwrap();
        assert_eq!(sql.keys().await.unwrap(), [old.clone(), new]);
        // A second key with the same id is an error, and not an outage.
        assert!(!sql.rotate_keys(&old, NO_ENDS).await.unwrap_err().is_unavailable());
    })
    .await;
}

#[tokio::test]
async fn insert_first_key_with_existing_key_does_nothing() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        assert!(sql.insert_first_key(&key("a", 1)).await.unwrap());
        assert!(!sql.insert_first_key(&key("b", 2)).await.unwrap());
        assert_eq!(sql.keys().await.unwrap(), [key("a", 1)]);
    })
    .await;
}

#[tokio::test]
async fn key_changes_affect_one_key() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        for (kid, minute) in [("a", 1), ("b", 2), ("c", 3)] {
            sql.rotate_keys(&key(kid, minute), NO_ENDS).await.unwrap();
        }
        assert!(sql.set_key_verifies_until("a", Some(at(20)), NOW).await.unwrap());
        for _ in 0..2 {
            assert!(sql.set_key_verifies_until("b", Some(at(30)), NOW).await.unwrap());
        }
        // `true` means that the key exists. Its earlier end stays.
        assert!(sql.set_key_verifies_until("a", Some(at(40)), NOW).await.unwrap());
        assert!(!sql.set_key_verifies_until("x", Some(at(30)), NOW).await.unwrap());
        // The repeated end is recorded once.
        let rows = sql.audit(&AuditFilter::default(), 100).await.unwrap();
        let retired = rows.iter().filter(|row| row.event == "key_retired");
        let mut kids: Vec<_> = retired.map(|row| (row.detail.as_deref().unwrap(), row.at)).collect();
        kids.sort_unstable();
        assert_eq!(kids, [("a", NOW), ("b", NOW)], "recorded at the time of the retirement");
        assert!(sql.reseal_key("b", b"resealed").await.unwrap());
        assert!(!sql.reseal_key("x", b"resealed").await.unwrap());
        // "a" verifies until minute 20, "b" until minute 30, and "c" without an end. Only keys with an earlier end are deleted.
        assert_eq!(sql.delete_keys_before(at(20)).await.unwrap(), 0);
        assert_eq!(sql.delete_keys_before(at(30)).await.unwrap(), 1);
        let b = StoredKey { sealed_private: b"resealed".into(), verifies_until: Some(at(30)), ..key("b", 2) };
        assert_eq!(sql.keys().await.unwrap(), [b, key("c", 3)]);
        // Without an end, "b" is never deleted either.
        assert!(sql.set_key_verifies_until("b", None, NOW).await.unwrap());
        assert_eq!(sql.delete_keys_before(at(1_000_000)).await.unwrap(), 0);
    })
    .await;
}
