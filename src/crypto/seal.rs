//! Encryption at rest: what SQL keeps of a signing key is of no use to anyone without the service's secret.
//!
//! Sealed bytes are: a version (1 byte), which secret it was sealed under (8), a random nonce (12), and the plaintext
//! encrypted with AES-256-GCM (NIST SP 800-38D) with its tag (16). The key and the secret's id are derived from the
//! secret for these two purposes alone. Version and id are authenticated, and so is what the caller says the plaintext
//! belongs to: a sealed thing moved to another's place doesn't open.
//!
//! A random nonce is safe for 2^32 things sealed under one secret; signing keys are made by the dozen.

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
const HEADER_BYTES: usize = 1 + ID_BYTES;
const TAG_BYTES: usize = 16;

/// Why something sealed doesn't open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not something this release, or one before it, sealed.
    #[error("these bytes are not sealed in a form that is known here")]
    Malformed,
    /// Sealed under a secret that is neither the current one nor one of the previous.
    #[error("it was sealed under a secret that is not configured")]
    UnknownSecret,
    /// Changed since it was sealed, or sealed as belonging to something else.
    #[error("it was changed since it was sealed, or belongs elsewhere")]
    Tampered,
}

/// What was sealed.
pub struct Services {
    /// The plaintext; wiped from memory when dropped.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether it was sealed under a previous secret: it should be sealed again before that one is removed.
    pub outdated: bool,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("outdated", &self.outdated).finish_non_exhaustive()
    }
}

/// Seals under the current secret and opens under that and those before it.
pub struct Sealer {
    /// The current one first.
    keys: Vec<SealingKey>,
}

struct SealingKey {
    id: [u8; ID_BYTES],
    key: LessSafeKey,
}

impl Sealer {
    /// Derives the keys.
    pub fn new(secrets: &Secrets) -> Self {
        Self { keys: std::iter::once(&secrets.current).chain(&secrets.previous).map(SealingKey::new).collect() }
    }

    /// Encrypts `plaintext`. `aad` says what it belongs to; the same must be given to open it.
    pub fn seal(&self, plaintext: &[u8], aad: &[u8], entropy: &Entropy) -> Vec<u8> {
        let current = &self.keys[0]; // there always is the current secret's
        let nonce = entropy.bytes::<NONCE_LEN>();
        // Room for everything at once, so that no copy of the plaintext is left behind by growing.
        let mut sealed = Vec::with_capacity(HEADER_BYTES + NONCE_LEN + plaintext.len() + TAG_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&current.id);
        let aad = Aad::from([&sealed, aad].concat());
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(plaintext);
        let tag = current
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed[start..])
            .expect("AES-GCM encrypts up to 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Decrypts what [`Sealer::seal`] made, whichever of the secrets it was sealed under.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn open(&self, sealed: &[u8], aad: &[u8]) -> Result<Services, SealError> {
        let (header, rest) = sealed.split_at_checked(HEADER_BYTES).ok_or(SealError::Malformed)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Malformed)?;
        if header[0] != VERSION || ciphertext.len() < TAG_BYTES {
            return Err(SealError::Malformed);
        }
        let position = self.keys.iter().position(|key| key.id == header[1..]).ok_or(SealError::UnknownSecret)?;
        let aad = Aad::from([header, aad].concat());
        let mut bytes = Zeroizing::new(ciphertext.to_vec());
        let length = self.keys[position]
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut bytes)
            .map_err(|_| SealError::Tampered)?
            .len();
        bytes.truncate(length);
        Ok(Services { bytes, outdated: position > 0 })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealing keys]")
    }
}

impl SealingKey {
    fn new(secret: &SecretText) -> Self {
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&derive(secret, derive::SEALING_ID)[..ID_BYTES]);
        let key = UnboundKey::new(&AES_256_GCM, &*derive(secret, derive::SEALING)).expect("AES-256 takes 32 bytes");
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

    fn sealed_under(secret: &str) -> Vec<u8> {
        sealer(secret, &[]).seal(b"the plaintext", b"its place", &Entropy::system())
    }

    #[test]
    fn the_current_secret_opens_what_it_sealed() {
        let sealed = sealed_under("one");
        let opened = sealer("one", &[]).open(&sealed, b"its place").unwrap();
        assert_eq!((&opened.bytes[..], opened.outdated), (&b"the plaintext"[..], false));
        assert!(!sealed.windows(9).any(|window| window == b"plaintext"));
    }

    #[test]
    fn previous_secrets_open_and_say_that_it_should_be_sealed_again() {
        let now = sealer("three", &["two", "one"]);
        for secret in ["one", "two"] {
            let opened = now.open(&sealed_under(secret), b"its place").unwrap();
            assert_eq!((&opened.bytes[..], opened.outdated), (&b"the plaintext"[..], true));
        }
    }

    #[test]
    fn another_secret_does_not_open_it_and_the_error_says_why() {
        let error = sealer("two", &["three"]).open(&sealed_under("one"), b"its place").unwrap_err();
        assert_eq!(error, SealError::UnknownSecret);
    }

    #[test]
    fn it_does_not_open_in_another_place() {
        let error = sealer("one", &[]).open(&sealed_under("one"), b"its plac").unwrap_err();
        assert_eq!(error, SealError::Tampered);
    }

    #[test]
    fn no_bit_can_be_changed_and_none_left_out() {
        let sealer = sealer("one", &["zero"]);
        let sealed = sealed_under("one");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&changed, b"its place").is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open(&sealed[..length], b"its place").is_err(), "cut to {length}");
        }
    }

    #[test]
    fn the_same_is_never_sealed_to_the_same() {
        assert_ne!(sealed_under("one"), sealed_under("one"));
    }

    #[test]
    fn nothing_of_it_prints() {
        let sealer = sealer("one", &[]);
        let opened = sealer.open(&sealed_under("one"), b"its place").unwrap();
        assert_eq!(format!("{sealer:?} {opened:?}"), "[sealing keys] Services { outdated: false, .. }");
    }

    /// Sealed by another implementation of the same form. If this fails, an upgrade loses every signing key.
    #[test]
    fn the_form_is_that_of_the_first_release() {
        let sealed = "0145813cc938063480000102030405060708090a0b1fc5054bf575266a5d919e373a2c\
                      e8aa9a4b1876a52f9489ba88fae3b9";
        let byte = |at| u8::from_str_radix(&sealed[at..at + 2], 16).unwrap();
        let sealed: Vec<u8> = (0..sealed.len()).step_by(2).map(byte).collect();
        let opened = sealer("one", &[]).open(&sealed, b"its place").unwrap();
        assert_eq!(&opened.bytes[..], b"the plaintext");
    }

    proptest! {
        #[test]
        fn anything_else_is_refused(bytes: Vec<u8>, aad: Vec<u8>) {
            prop_assert!(sealer("one", &[]).open(&bytes, &aad).is_err());
        }

        #[test]
        fn whatever_is_sealed_is_opened(plaintext: Vec<u8>, aad: Vec<u8>) {
            let sealer = sealer("one", &[]);
            let sealed = sealer.seal(&plaintext, &aad, &Entropy::system());
            prop_assert_eq!(&*sealer.open(&sealed, &aad).unwrap().bytes, &plaintext);
        }
    }
}
