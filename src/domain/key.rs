//! Signing keys as they are stored: what signs access tokens, and for how long what it signed is believed.

use std::{fmt, str::FromStr};

use super::clock::Timestamp;

/// A signature algorithm of access tokens (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048-bit keys.
    Rs256,
    /// RSASSA-PSS with SHA-256, 2048-bit keys.
    Ps256,
}

impl Algorithm {
    /// Every algorithm there is: the one allow-list (RFC 8725, section 3.1).
    pub const ALL: [Self; 4] = [Self::Es256, Self::EdDsa, Self::Rs256, Self::Ps256];

    /// Its name in a JWT's `alg` header and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(UnknownAlgorithm)
    }
}

/// The text names no algorithm of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not one of ES256, EdDSA, RS256, PS256")]
pub struct UnknownAlgorithm;

/// A signing key as SQL keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The key's id: the SHA-256 thumbprint of its public half (RFC 7638).
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// The private key, PKCS#8, encrypted under the service's secret.
    pub sealed_private: Vec<u8>,
    /// The public key as a JWK (RFC 7517), JSON.
    pub public_jwk: String,
    /// When it was made, and published.
    pub created_at: Timestamp,
    /// From when it signs. Of the keys that may sign, the one with the latest `signs_from` does.
    pub signs_from: Timestamp,
    /// Until when what it signed is believed and it stays published, once it was superseded or retired.
    pub verifies_until: Option<Timestamp>,
}
