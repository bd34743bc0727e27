//! Public keys. Each is read from a JSON Web Key (RFC 7517), and parsed once, for the only algorithm that it is used with.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
        VerificationAlgorithm,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::IgnoredAny};

/// A signature algorithm of JWTs (RFC 7518, section 3.1; RFC 8037). All are asymmetric (RFC 8725, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
}

impl Algorithm {
    /// The allow-list: every supported algorithm.
    pub const ALL: [Self; 4] = [Self::Es256, Self::EdDsa, Self::Rs256, Self::Ps256];

    /// The name in a JWT's `alg` header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    /// The implementation in aws-lc.
    fn implementation(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Es256 => &ECDSA_P256_SHA256_FIXED,
            Self::EdDsa => &ED25519,
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
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

/// The text names no supported algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not one of ES256, EdDSA, RS256, PS256")]
pub struct UnknownAlgorithm;

/// A public key, parsed once, with its one algorithm.
pub struct VerificationKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
    parsed: ParsedPublicKey,
}

impl VerificationKey {
    /// Parses a public key as aws-lc represents it: the uncompressed point of ECDSA, the 32 bytes of Ed25519, or the DER of RSA. `None` if
    /// the bytes are not such a key.
    pub fn new(algorithm: Algorithm, bytes: Vec<u8>) -> Option<Self> {
        let parsed = ParsedPublicKey::new(algorithm.implementation(), &bytes).ok()?;
        Some(Self { algorithm, bytes, parsed })
    }

    /// The only algorithm the key is used with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether the private key made `signature` of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for VerificationKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.bytes == other.bytes
    }
}

impl Eq for VerificationKey {}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerificationKey").field(&self.algorithm).finish()
    }
}

/// A key as JSON (RFC 7517, section 4): the members of a public key that are read, and the members that only private (`d`) and
/// symmetric (`k`) keys have. The values of `d` and `k` are not kept.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[expect(missing_docs, reason = "the members are those of the RFC")]
pub struct Jwk {
    pub kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
    #[serde(skip_serializing)]
    pub d: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub k: Option<IgnoredAny>,
}

impl Jwk {
    /// Whether the JWK holds a private or a symmetric key.
    pub fn is_private(&self) -> bool {
        self.d.is_some() || self.k.is_some()
    }

    /// Whether `use` and `key_ops`, where present, allow the verification of signatures.
    pub fn may_verify(&self) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_deref().is_none_or(|operations| operations.iter().any(|operation| operation == "verify"))
    }

    /// Parses the key for `algorithm`; `None` if its type, curve, size or `alg` doesn't fit (RFC 7518, section 6; RFC 8037,
    /// section 2). RSA keys have 2048 to 8192 bits.
    pub fn verification_key(&self, algorithm: Algorithm) -> Option<VerificationKey> {
        if self.alg.as_deref().is_some_and(|alg| alg != algorithm.as_str()) {
            return None;
        }
        let bytes = match (algorithm, self.kty.as_str(), self.crv.as_deref()) {
            // an uncompressed point: 4, then x and y of 32 bytes each (SEC 1, section 2.3.3)
            (Algorithm::Es256, "EC", Some("P-256")) => {
                let x = decode_exactly(32, self.x.as_deref()?)?;
                let y = decode_exactly(32, self.y.as_deref()?)?;
                [vec![4], x, y].concat()
            }
            (Algorithm::EdDsa, "OKP", Some("Ed25519")) => decode_exactly(32, self.x.as_deref()?)?,
            (Algorithm::Rs256 | Algorithm::Ps256, "RSA", None) => {
                let n = decode_number(self.n.as_deref()?)?;
                let e = decode_number(self.e.as_deref()?)?;
                // a modulus of 2048 to 8192 bits, and an exponent of at most 64 bits, both in bytes
                if !(256..=1024).contains(&n.len()) || e.is_empty() || e.len() > 8 {
                    return None;
                }
                let der: PublicKeyX509Der<'static> = PublicKeyComponents { n, e }.as_der().ok()?;
                der.as_ref().to_vec()
            }
            _ => return None,
        };
        VerificationKey::new(algorithm, bytes)
    }
}

/// Decodes base64url.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes base64url of exactly `size` bytes.
fn decode_exactly(size: usize, text: &str) -> Option<Vec<u8>> {
    decode(text).filter(|bytes| bytes.len() == size)
}

/// Decodes a big-endian number in base64url, without the leading zeros that some implementations write.
fn decode_number(text: &str) -> Option<Vec<u8>> {
    let mut bytes = decode(text)?;
    let leading_zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..leading_zeros);
    Some(bytes)
}
