//! The key ring: an immutable snapshot of the signing keys in SQL, decrypted and parsed. It answers which key signs and
//! which keys are trusted at a given time. [`SharedKeyRing`] holds a node's latest snapshot.
//!
//! A key is trusted only if its private key decrypts under the service's secret. The public JWK in the same row is
//! informative: write access to the database is not enough to add a trusted key.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    seal::{SealError, Sealer},
    signing_key::{PublicKey, SigningKey, SigningKeyError},
};
use crate::domain::{
    clock::Timestamp,
    entropy::Entropy,
    key::{Algorithm, StoredKey},
};

/// Why the signing keys can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// A stored key can't be decrypted.
    #[error(
        "the signing key {kid} can't be decrypted: {source}. Add the secret under which it was encrypted, which is the previous \
         one or that of the other nodes, to LATCHKEY_SECRET_PREVIOUS or as a second line to the secret file. Only if that \
         secret is lost, run `latchkey keys rotate --now` and then `latchkey keys retire {kid}`: all sessions are then lost, \
         and every user has to sign in"
    )]
    Sealed {
        /// The key's id.
        kid: String,
        /// The cause.
        source: SealError,
    },
    /// A key can't be parsed or serialized.
    #[error("the signing key {kid} can't be used: {source}")]
    Unusable {
        /// The key's id.
        kid: String,
        /// The cause.
        source: SigningKeyError,
    },
    /// The key in a row is not the one that the row names.
    #[error("the database row of the signing key {kid} holds another key")]
    Mismatch {
        /// The key's id.
        kid: String,
    },
    /// No trusted key exists.
    #[error("there is no signing key: run `latchkey keys rotate --now` to generate one")]
    NoSigner,
}

/// The keys that are trusted now or later. Immutable: a change in SQL leads to a new key ring.
pub struct KeyRing {
    /// The keys, ordered by the start of signing.
    entries: Vec<Entry>,
    /// The ids of the keys that are sealed (encrypted) under a previous secret.
    outdated: Vec<String>,
    /// The rows from which the key ring was made.
    rows: Vec<StoredKey>,
}

/// A parsed key with the times of its row.
struct Entry {
    key: SigningKey,
    signs_from: Timestamp,
    verifies_until: Option<Timestamp>,
}

impl KeyRing {
    /// Decrypts and parses the keys. Keys that are no longer trusted at `now` are skipped, whether they decrypt or not.
    ///
    /// # Errors
    /// [`KeyRingError`] about the first key that can't be used.
    pub fn open(rows: Vec<StoredKey>, sealer: &Sealer, now: Timestamp) -> Result<Self, KeyRingError> {
        let mut trusted: Vec<_> = rows.iter().filter(|row| is_trusted(row.verifies_until, now)).collect();
        // Of keys with the same start, the last one in this order signs. A key without an end of trust signs rather than one with
        // an end, and then a newer key rather than an older one. The id makes the order the same on all nodes.
        trusted.sort_by_key(|row| (row.signs_from, row.verifies_until.is_none(), row.created_at, row.kid.clone()));
        let mut entries = Vec::new();
        let mut outdated = Vec::new();
        for row in trusted {
            let (key, is_outdated) = open_key(row, sealer)?;
            if is_outdated {
                outdated.push(row.kid.clone());
            }
            entries.push(Entry { key, signs_from: row.signs_from, verifies_until: row.verifies_until });
        }
        Ok(Self { entries, outdated, rows })
    }

    /// The key that signs at `now`: the one with the latest `signs_from` that is not in the future. If all are in the
    /// future, the earliest key signs, although verifiers may not have fetched this key yet.
    ///
    /// # Errors
    /// [`KeyRingError::NoSigner`]
    pub fn signer(&self, now: Timestamp) -> Result<&SigningKey, KeyRingError> {
        self.trusted(now)
            .rfind(|entry| entry.signs_from <= now)
            .or_else(|| self.trusted(now).next())
            .map(|entry| &entry.key)
            .ok_or(KeyRingError::NoSigner)
    }

    /// How long the key that signs at `now` has been signing. `None` if no trusted key's `signs_from` has been reached.
    pub fn signer_age(&self, now: Timestamp) -> Option<std::time::Duration> {
        let signer = self.trusted(now).rfind(|entry| entry.signs_from <= now)?;
        Some(now.saturating_since(signer.signs_from))
    }

    /// The public key with this id, if the key is trusted at `now`.
    pub fn verification_key(&self, kid: &str, now: Timestamp) -> Option<&PublicKey> {
        self.trusted(now).find(|entry| entry.key.kid() == kid).map(|entry| entry.key.public())
    }

    /// The public key whose access tokens have this encoded header, if the key is trusted at `now`.
    pub(super) fn verification_key_of_header(&self, header: &str, now: Timestamp) -> Option<&PublicKey> {
        self.trusted(now).find(|entry| entry.key.access_token_header() == header).map(|entry| entry.key.public())
    }

    /// The JWK set to publish at `now`, as JSON (RFC 7517, section 5): every trusted key, ordered by the start of signing.
    pub fn jwks(&self, now: Timestamp) -> String {
        let keys: Vec<_> = self.trusted(now).map(|entry| entry.key.public_jwk()).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    /// The ids of the keys that are sealed under a previous secret; [`reseal`] them before that secret is removed.
    pub fn outdated(&self) -> &[String] {
        &self.outdated
    }

    /// Whether the key ring was made from exactly these rows.
    pub fn is_made_from(&self, rows: &[StoredKey]) -> bool {
        self.rows == rows
    }

    fn trusted(&self, now: Timestamp) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| is_trusted(entry.verifies_until, now))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| &entry.key)).finish()
    }
}

/// Whether a key with this end of trust, if any, is trusted at `now`.
pub(super) fn is_trusted(verifies_until: Option<Timestamp>, now: Timestamp) -> bool {
    verifies_until.is_none_or(|until| now < until)
}

/// A node's current key ring. A reader gets a snapshot, which a later replacement does not change.
#[derive(Debug)]
pub struct SharedKeyRing(RwLock<Arc<KeyRing>>);

impl SharedKeyRing {
    /// Starts with this key ring.
    pub fn new(ring: KeyRing) -> Self {
        Self(RwLock::new(Arc::new(ring)))
    }

    /// The current key ring.
    pub fn current(&self) -> Arc<KeyRing> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the key ring.
    pub fn replace(&self, ring: KeyRing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }
}

/// Creates the row of a new key that signs from `now` on. [`super::key_rotation`] schedules it among the existing keys.
///
/// # Errors
/// [`KeyRingError::Unusable`] if the key can't be serialized.
pub fn seal_key(
    key: &SigningKey,
    sealer: &Sealer,
    entropy: &Entropy,
    now: Timestamp,
) -> Result<StoredKey, KeyRingError> {
    let kid = key.kid().to_owned();
    let pkcs8 = key.to_pkcs8().map_err(|source| KeyRingError::Unusable { kid: kid.clone(), source })?;
    Ok(StoredKey {
        sealed_private: sealer.seal(&pkcs8, &aad(&kid, key.algorithm()), entropy),
        algorithm: key.algorithm(),
        public_jwk: key.public_jwk().to_owned(),
        created_at: now,
        signs_from: now,
        verifies_until: None,
        kid,
    })
}

/// Encrypts a stored key again, under the current secret. Everything else in the row stays the same.
///
/// # Errors
/// [`KeyRingError`] if the key can't be decrypted.
pub fn reseal(stored: &StoredKey, sealer: &Sealer, entropy: &Entropy) -> Result<StoredKey, KeyRingError> {
    let (key, _) = open_key(stored, sealer)?;
    let StoredKey { sealed_private, .. } = seal_key(&key, sealer, entropy, stored.created_at)?;
    Ok(StoredKey { sealed_private, ..stored.clone() })
}

/// Decrypts a stored key; returns the key and whether it is sealed under a previous secret.
fn open_key(stored: &StoredKey, sealer: &Sealer) -> Result<(SigningKey, bool), KeyRingError> {
    let kid = || stored.kid.clone();
    let opened = sealer
        .open(&stored.sealed_private, &aad(&stored.kid, stored.algorithm))
        .map_err(|source| KeyRingError::Sealed { kid: kid(), source })?;
    let key = SigningKey::from_pkcs8(stored.algorithm, &opened.bytes)
        .map_err(|source| KeyRingError::Unusable { kid: kid(), source })?;
    if key.kid() == stored.kid { Ok((key, opened.outdated)) } else { Err(KeyRingError::Mismatch { kid: kid() }) }
}

/// The associated data of a sealed key: the id and the algorithm of its row. It binds the sealed key to this row.
fn aad(kid: &str, algorithm: Algorithm) -> Vec<u8> {
    format!("signing key {kid} {algorithm}").into_bytes()
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::{config::Secrets, crypto::signing_key::testing::fresh};

    pub(crate) fn sealer(current: &str, previous: &[&str]) -> Sealer {
        Sealer::new(&Secrets {
            current: current.into(),
            previous: previous.iter().map(|&secret| secret.into()).collect(),
        })
    }

    pub(crate) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// The row of a new key, sealed under the secret `secret`, created at second `created`.
    pub(crate) fn stored(algorithm: Algorithm, created: i64) -> StoredKey {
        seal_key(&fresh(algorithm), &sealer("secret", &[]), &Entropy::system(), at(created)).unwrap()
    }

    /// The key ring of these rows, opened at `now` with the secret of [`stored`].
    pub(crate) fn ring(rows: &[StoredKey], now: Timestamp) -> KeyRing {
        KeyRing::open(rows.to_vec(), &sealer("secret", &[]), now).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;

    use super::{
        testing::{at, ring, sealer, stored},
        *,
    };

    fn kids(jwks: &str) -> Vec<String> {
        let set: JwkSet = serde_json::from_str(jwks).unwrap();
        set.keys.into_iter().map(|key| key.common.key_id.unwrap()).collect()
    }

    /// Three keys, with times in seconds: old (signs from 0 to 100, trusted until 400), current (signs from 100 to
    /// 1000), next (signs from 1000).
    fn three_keys() -> [StoredKey; 3] {
        // `current` and `next` are published before they sign.
        let [mut old, mut current, mut next] = [0, 50, 300].map(|created| stored(Algorithm::Es256, created));
        old.verifies_until = Some(at(400));
        current.signs_from = at(100);
        next.signs_from = at(1000);
        [old, current, next]
    }

    #[test]
    fn signer_is_key_with_latest_start() {
        let keys = three_keys();
        let ring = ring(&keys, at(0));
        let [old, current, next] = &keys;
        for (now, expected) in [(0, old), (99, old), (100, current), (999, current), (1000, next), (1_000_000, next)] {
            assert_eq!(ring.signer(at(now)).unwrap().kid(), expected.kid, "at {now}");
        }
    }

    #[test]
    fn signer_before_any_start_is_earliest_key() {
        let [_, current, next] = three_keys();
        let ring = ring(&[next, current.clone()], at(0));
        let before_any_start = at(10);
        assert_eq!(ring.signer(before_any_start).unwrap().kid(), current.kid);
    }

    #[test]
    fn ring_without_trusted_keys_has_no_signer() {
        let empty = ring(&[], at(0));
        assert_eq!(empty.signer(at(0)).unwrap_err(), KeyRingError::NoSigner);
        assert_eq!(empty.jwks(at(0)), r#"{"keys":[]}"#);

        let [old, ..] = three_keys();
        assert_eq!(ring(&[old], at(0)).signer(at(400)).unwrap_err(), KeyRingError::NoSigner);
    }

    #[test]
    fn key_is_trusted_from_publication_until_its_end() {
        let keys = three_keys();
        let ring = ring(&keys, at(0));
        let trusted = |now| keys.each_ref().map(|key| ring.verification_key(&key.kid, at(now)).is_some());
        assert_eq!(trusted(0), [true, true, true]);
        assert_eq!(trusted(399), [true, true, true]);
        assert_eq!(trusted(400), [false, true, true]);
        assert!(ring.verification_key("unknown", at(0)).is_none());
    }

    #[test]
    fn trusted_keys_are_published_in_stable_order() {
        let keys = three_keys();
        let [old, current, next] = keys.each_ref().map(|key| key.kid.clone());
        let mut reordered = keys.to_vec();
        reordered.rotate_left(1);
        for ring in [ring(&keys, at(0)), ring(&reordered, at(0))] {
            assert_eq!(kids(&ring.jwks(at(0))), [old.clone(), current.clone(), next.clone()]);
            assert_eq!(kids(&ring.jwks(at(400))), [current.clone(), next.clone()]);
        }
    }

    #[test]
    fn keys_sealed_under_previous_secret_are_reported_and_resealed() {
        let key = stored(Algorithm::EdDsa, 0);
        let both_secrets = sealer("new", &["secret"]);
        let ring = KeyRing::open(vec![key.clone()], &both_secrets, at(0)).unwrap();
        assert_eq!(ring.outdated(), std::slice::from_ref(&key.kid));

        let resealed = reseal(&key, &both_secrets, &Entropy::system()).unwrap();
        // Only the sealed key differs.
        assert_eq!(resealed, StoredKey { sealed_private: resealed.sealed_private.clone(), ..key.clone() });
        let ring = KeyRing::open(vec![resealed], &sealer("new", &[]), at(0)).unwrap();
        assert!(ring.outdated().is_empty());
        assert_eq!(ring.signer(at(0)).unwrap().kid(), key.kid);
    }

    #[test]
    fn error_about_lost_secret_names_key_and_consequences() {
        let key = stored(Algorithm::Es256, 0);
        let error = KeyRing::open(vec![key.clone()], &sealer("new", &[]), at(0)).unwrap_err();
        assert_eq!(error, KeyRingError::Sealed { kid: key.kid.clone(), source: SealError::UnknownSecret });
        let text = error.to_string();
        for part in [&key.kid, "LATCHKEY_SECRET_PREVIOUS", "Only if that secret is lost", "latchkey keys rotate --now"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn untrusted_key_of_lost_secret_is_skipped() {
        let key = StoredKey { verifies_until: Some(at(400)), ..stored(Algorithm::Es256, 0) };
        assert!(KeyRing::open(vec![key.clone()], &sealer("new", &[]), at(399)).is_err());
        assert!(KeyRing::open(vec![key], &sealer("new", &[]), at(400)).is_ok());
    }

    #[test]
    fn sealed_key_in_wrong_row_is_refused() {
        let [one, other] = [0, 0].map(|created| stored(Algorithm::Es256, created));
        let tampered = |kid: &str| KeyRingError::Sealed { kid: kid.to_owned(), source: SealError::Tampered };
        let error_of = |row: StoredKey| KeyRing::open(vec![row], &sealer("secret", &[]), at(0)).unwrap_err();
        // The id and the algorithm of the row are authenticated with the sealed key.
        let with_other_key = StoredKey { sealed_private: other.sealed_private, ..one.clone() };
        assert_eq!(error_of(with_other_key), tampered(&one.kid));
        let with_other_algorithm = StoredKey { algorithm: Algorithm::Ps256, ..stored(Algorithm::Rs256, 0) };
        assert_eq!(error_of(with_other_algorithm.clone()), tampered(&with_other_algorithm.kid));
    }

    #[test]
    fn public_key_planted_in_database_is_not_published() {
        let [one, other] = [0, 0].map(|created| stored(Algorithm::Es256, created));
        let planted = StoredKey { public_jwk: other.public_jwk, ..one.clone() };
        assert_eq!(ring(&[planted], at(0)).jwks(at(0)), format!(r#"{{"keys":[{}]}}"#, one.public_jwk));
    }

    #[test]
    fn readers_see_replaced_ring() {
        let keys = three_keys();
        let shared = SharedKeyRing::new(ring(&keys[..1], at(0)));
        let before = shared.current();
        assert!(before.is_made_from(&keys[..1]));
        assert!(!before.is_made_from(&keys));
        shared.replace(ring(&keys, at(0)));
        assert!(shared.current().is_made_from(&keys));
        // The snapshot stays as it was.
        assert_eq!(before.signer(at(100)).unwrap().kid(), keys[0].kid);
        assert_eq!(shared.current().signer(at(100)).unwrap().kid(), keys[1].kid);
    }
}
