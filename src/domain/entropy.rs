//! Randomness is received, never fetched: everything that needs it is given an [`Entropy`].

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use uuid::{Builder, Uuid};

use super::{
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// A cryptographically secure source of random bytes.
#[derive(Clone, Debug)]
pub struct Entropy(SystemRandom);

impl Entropy {
    /// The operating system's randomness, through aws-lc's CTR-DRBG.
    pub fn system() -> Self {
        Self(SystemRandom::new())
    }

    /// `N` random bytes.
    ///
    /// # Panics
    /// If the operating system has no randomness to give; nothing safe can be done then.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes).expect("the operating system gives randomness");
        bytes
    }

    /// A random (version 4) UUID.
    pub fn uuid(&self) -> Uuid {
        Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// A new session's id.
    pub fn session_id(&self) -> SessionId {
        SessionId(self.uuid())
    }

    /// A new account's id, ordered by `now`.
    pub fn account_id(&self, now: Timestamp) -> AccountId {
        let millis = now.as_millis().max(0).unsigned_abs();
        AccountId(Builder::from_unix_timestamp_millis(millis, &self.bytes()).into_uuid())
    }
}
