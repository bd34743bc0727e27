//! Encryption at rest: AES-256-GCM (NIST SP 800-38D) under a key derived from the service's secret. SQL stores signing keys, the
//! secrets of second factors and the data of mails only in this form.
//!
//! Sealed bytes are a version (1 byte), the id of the secret (8), a random nonce (12), the ciphertext and the tag (16). The
//! id and the key are both derived from the secret, independently. The version, the id and the caller's associated data, which
//! names the row, are authenticated, so a sealed value can't be moved to another row.
//!
//! Random nonces are safe for 2^32 values per secret (section 8.3 of the standard): 136 years at one value a second.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::derive::{self, derive};
use crate::{
    config::Secrets,
    domain::{entropy::Entropy, secret::SecretText},
};

const VERSION: u8 = 1;
const ID_BYTES: usize = 8;
/// The version and the id of the secret.
const HEADER_BYTES: usize = 1 + ID_BYTES;
const TAG_BYTES: usize = 16;

/// Why sealed bytes can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The format is unknown to this release.
    #[error("the sealed bytes have an unknown format")]
    Malformed,
    /// The value is sealed under a secret that is neither the current secret nor a previous one.
    #[error("it was sealed under a secret that is not configured")]
    UnknownSecret,
    /// The value or its associated data was changed.
    #[error("it was changed or moved from another row")]
    Tampered,
}

/// An opened value.
pub struct Unsealed {
    /// The plaintext; wiped from memory when dropped.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether the value is sealed under a previous secret; reseal it before that secret is removed.
    pub outdated: bool,
}

impl fmt::Debug for Unsealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsealed").field("outdated", &self.outdated).finish_non_exhaustive()
    }
}

/// Seals under the current secret and opens under the current and the previous ones.
pub struct Sealer {
    /// The current secret's key, then those of the previous secrets.
    keys: Vec<SealingKey>,
}

struct SealingKey {
    id: [u8; ID_BYTES],
    key: LessSafeKey,
}

impl Sealer {
    /// Derives a key from each secret.
    pub fn new(secrets: &Secrets) -> Self {
        Self { keys: std::iter::once(&secrets.current).chain(&secrets.previous).map(SealingKey::new).collect() }
    }

    /// Encrypts `plaintext`. The associated data `aad` must be equal when the value is opened.
    pub fn seal(&self, plaintext: &[u8], aad: &[u8], entropy: &Entropy) -> Vec<u8> {
        let current = self.current_key();
        let nonce = entropy.bytes::<NONCE_LEN>();
        let mut sealed = Vec::with_capacity(HEADER_BYTES + NONCE_LEN + plaintext.len() + TAG_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&current.id);
        // `sealed` holds only the header so far.
        let authenticated = Aad::from([&sealed, aad].concat());
        sealed.extend_from_slice(&nonce);
        let plaintext_start = sealed.len();
        sealed.extend_from_slice(plaintext);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = current
            .key
            .seal_in_place_separate_tag(nonce, authenticated, &mut sealed[plaintext_start..])
            .expect("AES-GCM encrypts up to 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// The first bytes of every value that is sealed under the current secret. No other sealed value begins with them.
    pub fn current_header(&self) -> Vec<u8> {
        [&[VERSION], self.current_key().id.as_slice()].concat()
    }

    /// The key of the current secret. It is the first, and always exists.
    fn current_key(&self) -> &SealingKey {
        &self.keys[0]
    }

    /// Decrypts a value that was sealed under any of the secrets.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn open(&self, sealed: &[u8], aad: &[u8]) -> Result<Unsealed, SealError> {
        let (header, rest) = sealed.split_at_checked(HEADER_BYTES).ok_or(SealError::Malformed)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Malformed)?;
        if header[0] != VERSION || ciphertext.len() < TAG_BYTES {
            return Err(SealError::Malformed);
        }
        let position = self.keys.iter().position(|key| key.id == header[1..]).ok_or(SealError::UnknownSecret)?;
        let authenticated = Aad::from([header, aad].concat());
        let mut bytes = Zeroizing::new(ciphertext.to_vec());
        let plaintext_length = self.keys[position]
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), authenticated, &mut bytes)
            .map_err(|_| SealError::Tampered)?
            .len();
        bytes.truncate(plaintext_length);
        // Only the first key is of the current secret.
        Ok(Unsealed { bytes, outdated: position > 0 })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealing keys]")
    }
}

impl SealingKey {
    fn new(secret: &SecretText) -> Self {
        let derived_id = derive(secret, derive::SEALING_ID);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&derived_id[..ID_BYTES]);
        let derived_key = derive(secret, derive::SEALING);
        let key = UnboundKey::new(&AES_256_GCM, derived_key.as_slice()).expect("AES-256 takes 32 bytes");
        Self { id, key: LessSafeKey::new(key) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer(current: &str, previous: &[&str]) -> Sealer {
        Sealer::new(&Secrets {
            current: current.into(),
            previous: previous.iter().map(|&secret| secret.into()).collect(),
        })
    }

    const PLAINTEXT: &[u8] = b"the plaintext";

    /// The associated data. In production, it names the row that has the value.
    const AAD: &[u8] = b"its place";

    /// [`PLAINTEXT`], sealed under this secret with the associated data [`AAD`].
    fn sealed_under(secret: &str) -> Vec<u8> {
        sealer(secret, &[]).seal(PLAINTEXT, AAD, &Entropy::system())
    }

    #[test]
    fn value_opens_under_current_secret() {
        let sealed = sealed_under("one");
        let opened = sealer("one", &[]).open(&sealed, AAD).unwrap();
        assert_eq!(opened.bytes.as_slice(), PLAINTEXT);
        assert!(!opened.outdated);
        assert!(sealed.starts_with(&sealer("one", &[]).current_header()));
        assert!(!sealed.starts_with(&sealer("two", &["one"]).current_header()));
        assert!(!String::from_utf8_lossy(&sealed).contains("plaintext"));
    }

    #[test]
    fn value_of_previous_secret_opens_as_outdated() {
        let sealer = sealer("three", &["two", "one"]);
        for secret in ["one", "two"] {
            let opened = sealer.open(&sealed_under(secret), AAD).unwrap();
            assert_eq!(opened.bytes.as_slice(), PLAINTEXT);
            assert!(opened.outdated);
        }
    }

    #[test]
    fn value_of_unknown_secret_is_refused() {
        let error = sealer("two", &["three"]).open(&sealed_under("one"), AAD).unwrap_err();
        assert_eq!(error, SealError::UnknownSecret);
    }

    #[test]
    fn value_with_other_associated_data_is_refused() {
        let truncated = &AAD[..AAD.len() - 1];
        for other in [b"another place".as_slice(), truncated] {
            let error = sealer("one", &[]).open(&sealed_under("one"), other).unwrap_err();
            assert_eq!(error, SealError::Tampered);
        }
    }

    #[test]
    fn changed_or_truncated_value_is_refused() {
        // a second secret, which a changed key id could name
        let sealer = sealer("one", &["zero"]);
        let sealed = sealed_under("one");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&changed, AAD).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open(&sealed[..length], AAD).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn sealing_twice_gives_different_bytes() {
        assert_ne!(sealed_under("one"), sealed_under("one"));
    }

    #[test]
    fn debug_output_omits_keys_and_plaintext() {
        let sealer = sealer("one", &[]);
        let opened = sealer.open(&sealed_under("one"), AAD).unwrap();
        assert_eq!(format!("{sealer:?} {opened:?}"), "[sealing keys] Unsealed { outdated: false, .. }");
    }

    /// A value sealed by another implementation of the format. If this fails, an upgrade loses every signing key.
    #[test]
    fn value_of_another_implementation_opens() {
        // the version, the id of the secret, the nonce, the ciphertext with the tag
        let hex = [
            "01",
            "45813cc938063480",
            "000102030405060708090a0b",
            "1fc5054bf575266a5d919e373a2ce8aa9a4b1876a52f9489ba88fae3b9",
        ]
        .concat();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let sealed: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let opened = sealer("one", &[]).open(&sealed, AAD).unwrap();
        assert_eq!(opened.bytes.as_slice(), PLAINTEXT);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>, aad: Vec<u8>) {
            prop_assert!(sealer("one", &[]).open(&bytes, &aad).is_err());
        }

        #[test]
        fn sealed_value_opens(plaintext: Vec<u8>, aad: Vec<u8>) {
            let sealer = sealer("one", &[]);
            let sealed = sealer.seal(&plaintext, &aad, &Entropy::system());
            let opened = sealer.open(&sealed, &aad).unwrap();
            prop_assert_eq!(opened.bytes.as_slice(), plaintext.as_slice());
        }
    }
}
