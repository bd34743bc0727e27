//! The signing keys in use: a snapshot of what SQL holds, opened and parsed, that answers which key signs and which are
//! believed at a given time; and the place where all of a node finds the latest snapshot.
//!
//! A key is believed only if its private half opens under the service's secret. The public JWK beside it in SQL is for
//! people to look at: whoever can write to the database still can't slip in a key of their own.

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

/// What is wrong with the signing keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// A key doesn't open under any secret that is configured.
    #[error(
        "the signing key {kid} can't be opened: {source}. If LATCHKEY_SECRET was changed, put the one before it into \
         LATCHKEY_SECRET_PREVIOUS. If that is lost, run `latchkey keys rotate --now` and `latchkey keys retire {kid}`: \
         access tokens that it signed will be refused, sessions go on"
    )]
    Sealed {
        /// Which key.
        kid: String,
        /// Why.
        source: SealError,
    },
    /// What a key's record holds can't be used, or can't be written.
    #[error("the signing key {kid} can't be used: {source}")]
    Unusable {
        /// Which key.
        kid: String,
        /// Why.
        source: SigningKeyError,
    },
    /// A key's record holds another key than it says.
    #[error("the record of the signing key {kid} holds another key")]
    Mismatch {
        /// Which key.
        kid: String,
    },
    /// No key may sign.
    #[error("there is no key to sign with: `latchkey keys rotate --now` makes one")]
    NoSigner,
}

/// The keys that are believed, or will be. Never changes; another takes its place when SQL has changed.
pub struct KeyRing {
    /// In the order in which they begin to sign.
    entries: Vec<Entry>,
    outdated: Vec<String>,
    made_from: Vec<StoredKey>,
}

struct Entry {
    key: SigningKey,
    signs_from: Timestamp,
    verifies_until: Option<Timestamp>,
}

impl KeyRing {
    /// Opens the keys. Those that are believed no more at `now` are left out, and need not open.
    ///
    /// # Errors
    /// [`KeyRingError`] about the first key that doesn't open.
    pub fn open(stored: Vec<StoredKey>, sealer: &Sealer, now: Timestamp) -> Result<Self, KeyRingError> {
        let mut believed: Vec<_> = stored.iter().filter(|key| is_believed(key.verifies_until, now)).collect();
        believed.sort_by_key(|key| (key.signs_from, key.verifies_until.is_none(), key.created_at, key.kid.clone()));
        let (mut entries, mut outdated) = (Vec::new(), Vec::new());
        for stored in believed {
            let (key, is_outdated) = open(stored, sealer)?;
            if is_outdated {
                outdated.push(stored.kid.clone());
            }
            entries.push(Entry { key, signs_from: stored.signs_from, verifies_until: stored.verifies_until });
        }
        Ok(Self { entries, outdated, made_from: stored })
    }

    /// The key that signs at `now`: of those whose time to sign has come, the one whose time came last. Where none's has
    /// come, the one whose time comes first: better a key that not everybody knows yet than none.
    ///
    /// # Errors
    /// [`KeyRingError::NoSigner`]
    pub fn signer(&self, now: Timestamp) -> Result<&SigningKey, KeyRingError> {
        self.believed(now)
            .rfind(|entry| entry.signs_from <= now)
            .or_else(|| self.believed(now).next())
            .map(|entry| &entry.key)
            .ok_or(KeyRingError::NoSigner)
    }

    /// How long the key that signs at `now` has been signing.
    pub fn signer_age(&self, now: Timestamp) -> Option<std::time::Duration> {
        let signer = self.believed(now).rfind(|entry| entry.signs_from <= now)?;
        Some(now.saturating_since(signer.signs_from))
    }

    /// The key called `kid`, if what it signed is believed at `now`.
    pub fn verification_key(&self, kid: &str, now: Timestamp) -> Option<&PublicKey> {
        self.believed(now).find(|entry| entry.key.kid() == kid).map(|entry| entry.key.public())
    }

    /// The JWK set to publish at `now` (RFC 7517, section 5), JSON: every key that is believed or will sign, in the order
    /// in which they begin to sign.
    pub fn jwks(&self, now: Timestamp) -> String {
        let keys: Vec<_> = self.believed(now).map(|entry| entry.key.public_jwk()).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    /// The keys that are sealed under a previous secret: [`reseal`] them before it is removed.
    pub fn outdated(&self) -> &[String] {
        &self.outdated
    }

    /// Whether it was opened from exactly these records, so that opening them again can be spared.
    pub fn is_made_from(&self, stored: &[StoredKey]) -> bool {
        self.made_from == stored
    }

    fn believed(&self, now: Timestamp) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| is_believed(entry.verifies_until, now))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| &entry.key)).finish()
    }
}

/// Whether what a key signed is believed at `now`.
pub(super) fn is_believed(verifies_until: Option<Timestamp>, now: Timestamp) -> bool {
    verifies_until.is_none_or(|until| now < until)
}

/// Where a node keeps its key ring. Readers take the latest one and keep it as long as they need it.
#[derive(Debug)]
pub struct SharedKeyRing(RwLock<Arc<KeyRing>>);

impl SharedKeyRing {
    /// Begins with this one.
    pub fn new(ring: KeyRing) -> Self {
        Self(RwLock::new(Arc::new(ring)))
    }

    /// The latest one.
    pub fn current(&self) -> Arc<KeyRing> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another in its place.
    pub fn replace(&self, ring: KeyRing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }
}

/// The record of a new key that signs from `now` on. [`super::key_rotation`] fits it in with those that are there.
///
/// # Errors
/// [`KeyRingError::Unusable`] if the key can't be written.
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

/// The record of the same key, sealed under the current secret.
///
/// # Errors
/// [`KeyRingError`] if it doesn't open.
pub fn reseal(stored: &StoredKey, sealer: &Sealer, entropy: &Entropy) -> Result<StoredKey, KeyRingError> {
    let (key, _) = open(stored, sealer)?;
    let sealed_private = seal_key(&key, sealer, entropy, stored.created_at)?.sealed_private;
    Ok(StoredKey { sealed_private, ..stored.clone() })
}

/// The key of a record, and whether it is sealed under a previous secret.
fn open(stored: &StoredKey, sealer: &Sealer) -> Result<(SigningKey, bool), KeyRingError> {
    let kid = || stored.kid.clone();
    let opened = sealer
        .open(&stored.sealed_private, &aad(&stored.kid, stored.algorithm))
        .map_err(|source| KeyRingError::Sealed { kid: kid(), source })?;
    let key = SigningKey::from_pkcs8(stored.algorithm, &opened.bytes)
        .map_err(|source| KeyRingError::Unusable { kid: kid(), source })?;
    if key.kid() == stored.kid { Ok((key, opened.outdated)) } else { Err(KeyRingError::Mismatch { kid: kid() }) }
}

/// What a sealed key belongs to: its record's id and algorithm.
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

    /// A record of a key sealed under the secret `secret`, made `created` seconds into time.
    pub(crate) fn stored(algorithm: Algorithm, created: i64) -> StoredKey {
        seal_key(&fresh(algorithm), &sealer("secret", &[]), &Entropy::system(), at(created)).unwrap()
    }

    pub(crate) fn ring(stored: &[StoredKey], now: Timestamp) -> KeyRing {
        KeyRing::open(stored.to_vec(), &sealer("secret", &[]), now).unwrap()
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

    /// Three keys: retired (signed 0 to 100, believed until 400), signing since 100, published to sign from 1000.
    fn three() -> [StoredKey; 3] {
        let [mut old, mut current, mut next] = [0, 50, 300].map(|created| stored(Algorithm::Es256, created));
        old.verifies_until = Some(at(400));
        current.signs_from = at(100);
        next.signs_from = at(1000);
        [old, current, next]
    }

    #[test]
    fn the_key_whose_time_came_last_signs() {
        let keys = three();
        let ring = ring(&keys, at(0));
        for (now, signer) in [(0, 0), (99, 0), (100, 1), (399, 1), (999, 1), (1000, 2), (1_000_000, 2)] {
            assert_eq!(ring.signer(at(now)).unwrap().kid(), keys[signer].kid, "at {now}");
        }
    }

    #[test]
    fn before_all_their_times_the_first_signs() {
        let [_, current, next] = three();
        let ring = ring(&[next, current.clone()], at(0));
        assert_eq!(ring.signer(at(10)).unwrap().kid(), current.kid);
    }

    #[test]
    fn without_keys_nothing_signs() {
        assert_eq!(ring(&[], at(0)).signer(at(0)).unwrap_err(), KeyRingError::NoSigner);
        let [old, ..] = three();
        assert_eq!(ring(&[old], at(0)).signer(at(400)).unwrap_err(), KeyRingError::NoSigner);
        assert_eq!(ring(&[], at(0)).jwks(at(0)), r#"{"keys":[]}"#);
    }

    #[test]
    fn a_key_is_believed_until_its_end_and_a_published_one_before_it_signs() {
        let keys = three();
        let ring = ring(&keys, at(0));
        let believed = |now| keys.each_ref().map(|key| ring.verification_key(&key.kid, at(now)).is_some());
        assert_eq!(believed(0), [true, true, true]);
        assert_eq!(believed(399), [true, true, true]);
        assert_eq!(believed(400), [false, true, true]);
        assert!(ring.verification_key("unheard-of", at(0)).is_none());
    }

    #[test]
    fn what_is_believed_is_published_in_a_stable_order() {
        let keys = three();
        let [old, current, next] = keys.each_ref().map(|key| key.kid.clone());
        let mut mixed = keys.to_vec();
        mixed.rotate_left(1);
        for ring in [ring(&keys, at(0)), ring(&mixed, at(0))] {
            assert_eq!(kids(&ring.jwks(at(0))), [old.clone(), current.clone(), next.clone()]);
            assert_eq!(kids(&ring.jwks(at(400))), [current.clone(), next.clone()]);
        }
    }

    #[test]
    fn keys_sealed_under_a_previous_secret_are_reported_and_can_be_sealed_again() {
        let key = stored(Algorithm::EdDsa, 0);
        let after = sealer("new", &["secret"]);
        let ring = KeyRing::open(vec![key.clone()], &after, at(0)).unwrap();
        assert_eq!(ring.outdated(), std::slice::from_ref(&key.kid));

        let resealed = reseal(&key, &after, &Entropy::system()).unwrap();
        assert_eq!(resealed, StoredKey { sealed_private: resealed.sealed_private.clone(), ..key.clone() });
        let ring = KeyRing::open(vec![resealed], &sealer("new", &[]), at(0)).unwrap();
        assert!(ring.outdated().is_empty());
        assert_eq!(ring.signer(at(0)).unwrap().kid(), key.kid);
    }

    #[test]
    fn a_key_of_a_lost_secret_is_named_and_the_way_out_too() {
        let key = stored(Algorithm::Es256, 0);
        let error = KeyRing::open(vec![key.clone()], &sealer("new", &[]), at(0)).unwrap_err();
        assert_eq!(error, KeyRingError::Sealed { kid: key.kid.clone(), source: SealError::UnknownSecret });
        let text = error.to_string();
        assert!(text.contains(&key.kid) && text.contains("LATCHKEY_SECRET_PREVIOUS"), "{text}");
    }

    #[test]
    fn a_key_of_a_lost_secret_does_no_harm_once_it_is_believed_no_more() {
        let key = StoredKey { verifies_until: Some(at(400)), ..stored(Algorithm::Es256, 0) };
        assert!(KeyRing::open(vec![key.clone()], &sealer("new", &[]), at(399)).is_err());
        assert!(KeyRing::open(vec![key], &sealer("new", &[]), at(400)).is_ok());
    }

    #[test]
    fn records_that_were_exchanged_in_the_database_are_refused() {
        let [one, other] = [0, 0].map(|created| stored(Algorithm::Es256, created));
        let tampered = |kid: &str| KeyRingError::Sealed { kid: kid.to_owned(), source: SealError::Tampered };
        let mixed = StoredKey { sealed_private: other.sealed_private, ..one.clone() };
        assert_eq!(KeyRing::open(vec![mixed], &sealer("secret", &[]), at(0)).unwrap_err(), tampered(&one.kid));
        let rsa = StoredKey { algorithm: Algorithm::Ps256, ..stored(Algorithm::Rs256, 0) };
        assert_eq!(KeyRing::open(vec![rsa.clone()], &sealer("secret", &[]), at(0)).unwrap_err(), tampered(&rsa.kid));
    }

    #[test]
    fn a_public_key_written_into_the_database_is_not_believed() {
        let [one, other] = [0, 0].map(|created| stored(Algorithm::Es256, created));
        let planted = StoredKey { public_jwk: other.public_jwk, ..one.clone() };
        assert_eq!(ring(&[planted], at(0)).jwks(at(0)), format!(r#"{{"keys":[{}]}}"#, one.public_jwk));
    }

    #[test]
    fn readers_see_the_ring_that_was_put_in_place() {
        let keys = three();
        let shared = SharedKeyRing::new(ring(&keys[..1], at(0)));
        let before = shared.current();
        assert!(before.is_made_from(&keys[..1]) && !before.is_made_from(&keys));
        shared.replace(ring(&keys, at(0)));
        assert!(shared.current().is_made_from(&keys));
        assert_eq!(before.signer(at(100)).unwrap().kid(), keys[0].kid);
        assert_eq!(shared.current().signer(at(100)).unwrap().kid(), keys[1].kid);
    }
}
