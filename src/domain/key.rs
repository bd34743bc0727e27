//! Signing keys as they are stored, and the periods in which a key signs and verifies.

pub use latchkey_verify::jose::jwk::{Algorithm, UnknownAlgorithm};

use super::clock::Timestamp;

/// A signing key as SQL stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The key's id: the SHA-256 thumbprint of its public key (RFC 7638).
    pub kid: String,
    /// The algorithm the key signs with.
    pub algorithm: Algorithm,
    /// The private key as PKCS#8, encrypted under the service's secret.
    pub sealed_private: Vec<u8>,
    /// The public key as the JSON text of a JWK (RFC 7517).
    pub public_jwk: String,
    /// When the key was created and published.
    pub created_at: Timestamp,
    /// The start of the period in which the key signs. If the periods of several keys have started, the key with the latest start signs.
    pub signs_from: Timestamp,
    /// The end of the period in which tokens signed by the key are accepted and the key is published. `None`
    /// until the key is superseded or retired.
    pub verifies_until: Option<Timestamp>,
}
