//! Generates, parses and serializes signing keys, and signs and verifies with them.
//!
//! A key is parsed once and has one algorithm, which no caller can change (RFC 8725, section 3.1). [`super::jwt`] lends the
//! parsed key to `jsonwebtoken`, which also makes the JWK and its thumbprint.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
    OctetKeyPairParameters, OctetKeyPairType, PublicKeyUse, RSAKeyParameters, RSAKeyType, ThumbprintHash,
};
use latchkey_verify::jose::jwk::VerificationKey;
use serde::Serialize;
use zeroize::Zeroizing;

use super::id_token;
use super::jwt::{JwtEncoder, JwtKey, jwt_algorithm};
use crate::domain::key::Algorithm;

/// The `typ` of access tokens (RFC 9068, section 2.1).
const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// Why a key can't be generated, parsed or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// aws-lc failed to generate a key pair.
    #[error("no key pair could be generated")]
    Generate,
    /// The bytes are not a private key of this algorithm, or the key is too weak.
    #[error("the bytes are not a usable PKCS#8 private key of the algorithm")]
    Rejected,
    /// aws-lc failed to serialize the key.
    #[error("the key could not be serialized")]
    Serialize,
    /// aws-lc failed to sign.
    #[error("the signature could not be made")]
    Sign,
    /// Other code in the process has installed another provider for `jsonwebtoken`.
    #[error("another crypto provider is installed for JSON Web Tokens in this process")]
    ForeignProvider,
}

/// The bytes are not a signature of this message by this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signature by this key")]
pub struct BadSignature;

/// A parsed private key with its public key.
pub struct SigningKey {
    pair: Arc<KeyPair>,
    access_token_encoder: JwtEncoder,
    id_token_encoder: JwtEncoder,
    public: PublicKey,
}

/// A parsed private key.
pub(super) enum KeyPair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rs256(RsaKeyPair),
    Ps256(RsaKeyPair),
}

/// The public key of a [`SigningKey`].
pub struct PublicKey {
    kid: String,
    key: JwtKey,
    jwk: String,
}

impl SigningKey {
    /// Generates a key with the random number generator of aws-lc. RSA keys have 2048 bits.
    ///
    /// # Errors
    /// [`SigningKeyError::Generate`], [`SigningKeyError::Rejected`], [`SigningKeyError::ForeignProvider`]
    pub fn generate(algorithm: Algorithm) -> Result<Self, SigningKeyError> {
        let pair = match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(KeyPair::Ecdsa),
            Algorithm::EdDsa => Ed25519KeyPair::generate().map(KeyPair::Ed25519),
            Algorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048).map(KeyPair::Rs256),
            Algorithm::Ps256 => RsaKeyPair::generate(KeySize::Rsa2048).map(KeyPair::Ps256),
        };
        Self::new(pair.map_err(|_| SigningKeyError::Generate)?)
    }

    /// Parses an unencrypted PKCS#8 private key (RFC 5208; RFC 8410 for Ed25519). RSA keys have 2048 to 8192 bits.
    ///
    /// # Errors
    /// [`SigningKeyError::Rejected`], [`SigningKeyError::ForeignProvider`]
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, SigningKeyError> {
        let pair = match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(KeyPair::Ecdsa),
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).map(KeyPair::Ed25519),
            Algorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).map(KeyPair::Rs256),
            Algorithm::Ps256 => RsaKeyPair::from_pkcs8(pkcs8).map(KeyPair::Ps256),
        };
        Self::new(pair.map_err(|_| SigningKeyError::Rejected)?)
    }

    fn new(pair: KeyPair) -> Result<Self, SigningKeyError> {
        let pair = Arc::new(pair);
        let verification_key = VerificationKey::new(pair.algorithm(), pair.public_bytes().to_vec());
        let verification_key = verification_key.ok_or(SigningKeyError::Rejected)?;
        // Before the thumbprint, which would install the crate's own provider: `JwtKey::new` installs that of this service.
        let key = JwtKey::new(verification_key).ok_or(SigningKeyError::ForeignProvider)?;
        let (kid, jwk) = pair.kid_and_jwk().ok_or(SigningKeyError::Rejected)?;
        let encoder =
            |token_type: &str| JwtEncoder::new(Arc::clone(&pair), token_type, &kid).ok_or(SigningKeyError::Rejected);
        let access_token_encoder = encoder(ACCESS_TOKEN_TYPE)?;
        let id_token_encoder = encoder(id_token::TOKEN_TYPE)?;
        Ok(Self { pair, access_token_encoder, id_token_encoder, public: PublicKey { kid, key, jwk } })
    }

    /// The private key as PKCS#8 version 1, for [`super::seal`].
    ///
    /// # Errors
    /// [`SigningKeyError::Serialize`]
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SigningKeyError> {
        let bytes = match &*self.pair {
            KeyPair::Ecdsa(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            KeyPair::Ed25519(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            KeyPair::Rs256(pair) | KeyPair::Ps256(pair) => pair.as_der().map(|document| document.as_ref().to_vec()),
        };
        bytes.map(Zeroizing::new).map_err(|_| SigningKeyError::Serialize)
    }

    /// Signs `message`. The signature has the form that JWS requires (RFC 7518, section 3; RFC 8037, section 3.1).
    ///
    /// # Errors
    /// [`SigningKeyError::Sign`]
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        self.pair.sign(message)
    }

    /// Encodes and signs an access token with these claims.
    pub(super) fn encode_as_access_token(&self, claims: &impl Serialize) -> Result<String, SigningKeyError> {
        self.access_token_encoder.encode(claims).map_err(|_| SigningKeyError::Sign)
    }

    /// The header of the access tokens that this key signs, encoded: the part before the first dot.
    pub(super) fn access_token_header(&self) -> &str {
        self.access_token_encoder.encoded_header()
    }

    /// Encodes and signs an ID token with these claims.
    pub(super) fn encode_as_id_token(&self, claims: &impl Serialize) -> Result<String, SigningKeyError> {
        self.id_token_encoder.encode(claims).map_err(|_| SigningKeyError::Sign)
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// See [`PublicKey::kid`].
    pub fn kid(&self) -> &str {
        &self.public.kid
    }

    /// See [`PublicKey::algorithm`].
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// See [`PublicKey::jwk`].
    pub fn public_jwk(&self) -> &str {
        &self.public.jwk
    }

    #[cfg(test)]
    pub(super) fn public_bytes(&self) -> &[u8] {
        self.pair.public_bytes()
    }
}

impl KeyPair {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ecdsa(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
            Self::Rs256(_) => Algorithm::Rs256,
            Self::Ps256(_) => Algorithm::Ps256,
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        // aws-lc ignores this argument, which exists for compatibility with ring.
        let random = SystemRandom::new();
        let rsa = |pair: &RsaKeyPair, encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &random, message, &mut signature).map(|()| signature)
        };
        let signature = match self {
            Self::Ecdsa(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Self::Ed25519(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()),
            Self::Rs256(pair) => rsa(pair, &RSA_PKCS1_SHA256),
            Self::Ps256(pair) => rsa(pair, &RSA_PSS_SHA256),
        };
        signature.map_err(|_| SigningKeyError::Sign)
    }

    fn public_bytes(&self) -> &[u8] {
        match self {
            Self::Ecdsa(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
            Self::Rs256(pair) | Self::Ps256(pair) => pair.public_key().as_ref(),
        }
    }

    /// The key id, and the public JWK as JSON, with `use`, `alg` and `kid`. The id is the JWK's thumbprint.
    fn kid_and_jwk(&self) -> Option<(String, String)> {
        let mut jwk = Jwk { common: CommonParameters::default(), algorithm: self.jwk_parameters()? };
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_algorithm = Some(jwt_algorithm(self.algorithm()).into());
        jwk.common.key_id = Some(kid.clone());
        Some((kid, serde_json::to_string(&jwk).ok()?))
    }

    /// The members of the JWK that depend on the key type (RFC 7518, section 6; RFC 8037, section 2).
    fn jwk_parameters(&self) -> Option<AlgorithmParameters> {
        let base64url = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Some(match self {
            Self::Ecdsa(pair) => {
                // An uncompressed point is a byte 4, then x and y of 32 bytes each (SEC 1, section 2.3.3).
                let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
                AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
                    key_type: EllipticCurveKeyType::EC,
                    curve: EllipticCurve::P256,
                    x: base64url(x),
                    y: base64url(y),
                })
            }
            Self::Ed25519(pair) => AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                key_type: OctetKeyPairType::OctetKeyPair,
                curve: EllipticCurve::Ed25519,
                x: base64url(pair.public_key().as_ref()),
            }),
            Self::Rs256(pair) | Self::Ps256(pair) => AlgorithmParameters::RSA(RSAKeyParameters {
                key_type: RSAKeyType::RSA,
                n: base64url(pair.public_key().modulus().big_endian_without_leading_zero()),
                e: base64url(pair.public_key().exponent().big_endian_without_leading_zero()),
            }),
        })
    }
}

impl PublicKey {
    /// The key id: the SHA-256 thumbprint of the JWK in base64url (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The only algorithm with which the key is used.
    pub fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// The public key as a JWK in JSON, with `use`, `alg` and `kid` (RFC 7517, section 4).
    pub fn jwk(&self) -> &str {
        &self.jwk
    }

    pub(super) fn key(&self) -> &JwtKey {
        &self.key
    }

    /// Verifies that `signature` is a signature of `message` by the private key.
    ///
    /// # Errors
    /// [`BadSignature`]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        if self.key.verify(message, signature) { Ok(()) } else { Err(BadSignature) }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.algorithm()).field(&self.kid()).finish()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.algorithm()).field(&self.kid).finish()
    }
}

/// Keys for tests: one of each algorithm per process, because generating RSA keys is slow.
#[cfg(test)]
pub(super) mod testing {
    use std::sync::LazyLock;

    use super::*;

    static RSA_PKCS8: LazyLock<Zeroizing<Vec<u8>>> =
        LazyLock::new(|| SigningKey::generate(Algorithm::Rs256).unwrap().to_pkcs8().unwrap());
    static KEYS: LazyLock<[SigningKey; 4]> = LazyLock::new(|| Algorithm::ALL.map(fresh));

    /// The shared key of this algorithm.
    pub(crate) fn key(algorithm: Algorithm) -> &'static SigningKey {
        KEYS.iter().find(|key| key.algorithm() == algorithm).unwrap()
    }

    /// A new key on each call; for RSA, the same key pair on every call.
    pub(crate) fn fresh(algorithm: Algorithm) -> SigningKey {
        match algorithm {
            Algorithm::Es256 | Algorithm::EdDsa => SigningKey::generate(algorithm).unwrap(),
            Algorithm::Rs256 | Algorithm::Ps256 => SigningKey::from_pkcs8(algorithm, &RSA_PKCS8).unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::crypto::jwt::install_provider;

    #[test]
    fn signature_verifies_with_its_own_key_only() {
        for algorithm in Algorithm::ALL {
            let key = testing::key(algorithm);
            let signature = key.sign(b"message").unwrap();
            assert_eq!(key.public().verify(b"message", &signature), Ok(()), "{algorithm}");
            assert_eq!(key.public().verify(b"another message", &signature), Err(BadSignature), "{algorithm}");
            assert_eq!(key.public().verify(b"message", &signature[1..]), Err(BadSignature), "{algorithm}");
            assert_eq!(key.public().verify(b"message", &[]), Err(BadSignature), "{algorithm}");
            // the test keys of RS256 and PS256 are the same key pair, so they differ in the algorithm only
            for other in Algorithm::ALL.into_iter().filter(|&other| other != algorithm) {
                let other = testing::key(other).public();
                assert_eq!(other.verify(b"message", &signature), Err(BadSignature), "{algorithm}, {other:?}");
            }
        }
    }

    #[test]
    fn signatures_have_the_length_that_jws_requires() {
        let lengths =
            [(Algorithm::Es256, 64), (Algorithm::EdDsa, 64), (Algorithm::Rs256, 256), (Algorithm::Ps256, 256)];
        for (algorithm, length) in lengths {
            assert_eq!(testing::key(algorithm).sign(b"message").unwrap().len(), length, "{algorithm}");
        }
    }

    #[test]
    fn key_survives_pkcs8_round_trip() {
        for algorithm in Algorithm::ALL {
            let key = testing::key(algorithm);
            let parsed = SigningKey::from_pkcs8(algorithm, &key.to_pkcs8().unwrap()).unwrap();
            assert_eq!(parsed.kid(), key.kid());
            assert_eq!(parsed.public_jwk(), key.public_jwk());
            let signature = parsed.sign(b"message").unwrap();
            assert_eq!(key.public().verify(b"message", &signature), Ok(()));
        }
    }

    #[test]
    fn key_of_other_algorithm_is_rejected() {
        let ecdsa = testing::key(Algorithm::Es256).to_pkcs8().unwrap();
        for algorithm in [Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Ps256] {
            assert_eq!(SigningKey::from_pkcs8(algorithm, &ecdsa).unwrap_err(), SigningKeyError::Rejected);
        }
        assert_eq!(SigningKey::from_pkcs8(Algorithm::Es256, b"").unwrap_err(), SigningKeyError::Rejected);
    }

    #[test]
    fn jwk_has_required_members_and_no_private_ones() {
        let cases = [
            (Algorithm::Es256, vec!["alg", "crv", "kid", "kty", "use", "x", "y"], json!(["EC", "P-256"])),
            (Algorithm::EdDsa, vec!["alg", "crv", "kid", "kty", "use", "x"], json!(["OKP", "Ed25519"])),
            (Algorithm::Rs256, vec!["alg", "e", "kid", "kty", "n", "use"], json!(["RSA", null])),
            (Algorithm::Ps256, vec!["alg", "e", "kid", "kty", "n", "use"], json!(["RSA", null])),
        ];
        for (algorithm, members, kty_and_crv) in cases {
            let key = testing::key(algorithm);
            let jwk: Value = serde_json::from_str(key.public_jwk()).unwrap();
            let mut found: Vec<_> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
            found.sort_unstable();
            assert_eq!(found, members);
            assert_eq!(json!([jwk["kty"], jwk["crv"]]), kty_and_crv);
            assert_eq!(jwk["use"], "sig");
            assert_eq!(jwk["alg"], algorithm.as_str());
            assert_eq!(jwk["kid"], key.kid());
        }
    }

    /// The example of RFC 7638, section 3.1.
    #[test]
    fn thumbprint_matches_example_of_rfc_7638() {
        let is_installed = install_provider();
        assert!(is_installed);
        let jwk: Jwk = serde_json::from_value(json!({
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX\
                  jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs\
                  8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_\
                  xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB",
            "alg": "RS256",
            "kid": "2011-04-29"
        }))
        .unwrap();
        let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).unwrap();
        assert_eq!(thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn debug_output_omits_private_key() {
        let key = testing::key(Algorithm::Es256);
        assert_eq!(format!("{key:?}"), format!("SigningKey(Es256, {:?})", key.kid()));
    }
}
