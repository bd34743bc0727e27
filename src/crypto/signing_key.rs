//! Signing keys: made, read, written, and used to sign and to verify.
//!
//! The JWK and its thumbprint are jsonwebtoken's. The signatures are made and checked by aws-lc-rs directly, with key
//! pairs and public keys that were parsed once: jsonwebtoken parses the private key again for each token, which doubles
//! the price of an ES256 signature and triples that of an RS256 one, and teaching it otherwise takes a process-wide
//! registry of keys, because its hook is a plain function. Beside those, a token is three base64url texts with dots
//! between them, and [`super::access_token`] checks far more of it than jsonwebtoken does.
//!
//! A key has one algorithm and does nothing else (RFC 8725, section 3.1): no caller can name another.

use std::fmt;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256,
        RsaEncoding, RsaKeyPair, VerificationAlgorithm,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
    KeyAlgorithm, OctetKeyPairParameters, OctetKeyPairType, PublicKeyUse, RSAKeyParameters, RSAKeyType, ThumbprintHash,
};
use zeroize::Zeroizing;

use crate::domain::key::Algorithm;

/// What can go wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// aws-lc could not make a key pair.
    #[error("no key pair could be made")]
    Generate,
    /// The bytes are no private key of this algorithm, or one too weak to use.
    #[error("this is not a usable PKCS#8 private key of its algorithm")]
    Rejected,
    /// aws-lc could not sign.
    #[error("the signature could not be made")]
    Sign,
}

/// The signature isn't one that the key made of this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signature by this key")]
pub struct BadSignature;

/// A private key, parsed and ready to sign, and its public half.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
    header: String,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

/// The public half of a [`SigningKey`].
pub struct PublicKey {
    kid: String,
    algorithm: Algorithm,
    key: ParsedPublicKey,
    jwk: String,
}

impl SigningKey {
    /// Makes a key; 2048 bits for RSA. aws-lc takes the randomness from its own generator.
    ///
    /// # Errors
    /// [`SigningKeyError::Generate`]
    pub fn generate(algorithm: Algorithm) -> Result<Self, SigningKeyError> {
        let pair = match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Ecdsa),
            Algorithm::EdDsa => Ed25519KeyPair::generate().map(Pair::Ed25519),
            Algorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048).map(Pair::rs256),
            Algorithm::Ps256 => RsaKeyPair::generate(KeySize::Rsa2048).map(Pair::ps256),
        };
        Self::new(algorithm, pair.map_err(|_| SigningKeyError::Generate)?)
    }

    /// Reads an unencrypted PKCS#8 private key (RFC 5208; for Ed25519 RFC 8410 too). RSA keys have 2048 to 8192 bits.
    ///
    /// # Errors
    /// [`SigningKeyError::Rejected`]
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, SigningKeyError> {
        let pair = match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Pair::Ecdsa),
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).map(Pair::Ed25519),
            Algorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).map(Pair::rs256),
            Algorithm::Ps256 => RsaKeyPair::from_pkcs8(pkcs8).map(Pair::ps256),
        };
        Self::new(algorithm, pair.map_err(|_| SigningKeyError::Rejected)?)
    }

    fn new(algorithm: Algorithm, pair: Pair) -> Result<Self, SigningKeyError> {
        let public = PublicKey::new(algorithm, &pair).ok_or(SigningKeyError::Rejected)?;
        let header = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{}"}}"#, public.kid);
        Ok(Self { pair, public, header: BASE64_URL_SAFE_NO_PAD.encode(header) })
    }

    /// The private key, PKCS#8 version 1, for [`super::seal`]. Every call is a place to review.
    ///
    /// # Errors
    /// [`SigningKeyError::Rejected`], which no key has been seen to answer.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SigningKeyError> {
        let bytes = match &self.pair {
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            Pair::Rsa(pair, _) => pair.as_der().map(|document| document.as_ref().to_vec()),
        };
        bytes.map(Zeroizing::new).map_err(|_| SigningKeyError::Rejected)
    }

    /// The signature of `message` in the form JWS wants it (RFC 7518, section 3; RFC 8037, section 3.1): R and S side by
    /// side for ES256, not ASN.1.
    ///
    /// # Errors
    /// [`SigningKeyError::Sign`]
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        // aws-lc takes its randomness itself; the argument is there for ring's sake.
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()),
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).map(|()| signature)
            }
        };
        signature.map_err(|_| SigningKeyError::Sign)
    }

    /// The public half: what is published and what verifies.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// See [`PublicKey::kid`].
    pub fn kid(&self) -> &str {
        &self.public.kid
    }

    /// See [`PublicKey::algorithm`].
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm
    }

    /// See [`PublicKey::jwk`].
    pub fn public_jwk(&self) -> &str {
        &self.public.jwk
    }

    /// The base64url text of the header of every access token that it signs: `alg`, `typ` and `kid`.
    pub fn encoded_header(&self) -> &str {
        &self.header
    }
}

impl Pair {
    fn rs256(pair: RsaKeyPair) -> Self {
        Self::Rsa(pair, &RSA_PKCS1_SHA256)
    }

    fn ps256(pair: RsaKeyPair) -> Self {
        Self::Rsa(pair, &RSA_PSS_SHA256)
    }

    fn public_bytes(&self) -> &[u8] {
        match self {
            Self::Ecdsa(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
            Self::Rsa(pair, _) => pair.public_key().as_ref(),
        }
    }

    /// The members of the JWK that are particular to its kind (RFC 7518, section 6; RFC 8037, section 2).
    fn jwk_parameters(&self) -> Option<AlgorithmParameters> {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Some(match self {
            Self::Ecdsa(pair) => {
                // An uncompressed point: 4, then x and y of 32 bytes each (SEC 1, section 2.3.3).
                let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
                AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
                    key_type: EllipticCurveKeyType::EC,
                    curve: EllipticCurve::P256,
                    x: text(x),
                    y: text(y),
                })
            }
            Self::Ed25519(pair) => AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                key_type: OctetKeyPairType::OctetKeyPair,
                curve: EllipticCurve::Ed25519,
                x: text(pair.public_key().as_ref()),
            }),
            Self::Rsa(pair, _) => AlgorithmParameters::RSA(RSAKeyParameters {
                key_type: RSAKeyType::RSA,
                n: text(pair.public_key().modulus().big_endian_without_leading_zero()),
                e: text(pair.public_key().exponent().big_endian_without_leading_zero()),
            }),
        })
    }
}

impl PublicKey {
    fn new(algorithm: Algorithm, pair: &Pair) -> Option<Self> {
        let (verification, key_algorithm): (&'static dyn VerificationAlgorithm, _) = match algorithm {
            Algorithm::Es256 => (&ECDSA_P256_SHA256_FIXED, KeyAlgorithm::ES256),
            Algorithm::EdDsa => (&ED25519, KeyAlgorithm::EdDSA),
            Algorithm::Rs256 => (&RSA_PKCS1_2048_8192_SHA256, KeyAlgorithm::RS256),
            Algorithm::Ps256 => (&RSA_PSS_2048_8192_SHA256, KeyAlgorithm::PS256),
        };
        let key = ParsedPublicKey::new(verification, pair.public_bytes()).ok()?;
        let mut jwk = Jwk { common: CommonParameters::default(), algorithm: pair.jwk_parameters()? };
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_algorithm = Some(key_algorithm);
        jwk.common.key_id = Some(kid.clone());
        Some(Self { kid, algorithm, key, jwk: serde_json::to_string(&jwk).ok()? })
    }

    /// The key's id: the SHA-256 thumbprint of its JWK, base64url (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The only algorithm it is used with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as a JWK, JSON, with `use`, `alg` and `kid` (RFC 7517, section 4).
    pub fn jwk(&self) -> &str {
        &self.jwk
    }

    /// Whether the private half made `signature` of `message`.
    ///
    /// # Errors
    /// [`BadSignature`]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.key.verify_sig(message, signature).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.algorithm()).field(&self.kid()).finish()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.algorithm).field(&self.kid).finish()
    }
}

/// Keys for tests: one of each algorithm, made once in a process, because RSA keys take their time.
#[cfg(test)]
pub(super) mod testing {
    use std::sync::LazyLock;

    use super::*;

    static RSA: LazyLock<Zeroizing<Vec<u8>>> =
        LazyLock::new(|| SigningKey::generate(Algorithm::Rs256).unwrap().to_pkcs8().unwrap());
    static KEYS: LazyLock<[SigningKey; 4]> = LazyLock::new(|| Algorithm::ALL.map(fresh));

    /// The key of this algorithm that all tests share.
    pub(crate) fn key(algorithm: Algorithm) -> &'static SigningKey {
        KEYS.iter().find(|key| key.algorithm() == algorithm).unwrap()
    }

    /// A new key, but for RSA, where it is always the same.
    pub(crate) fn fresh(algorithm: Algorithm) -> SigningKey {
        match algorithm {
            Algorithm::Es256 | Algorithm::EdDsa => SigningKey::generate(algorithm).unwrap(),
            Algorithm::Rs256 | Algorithm::Ps256 => SigningKey::from_pkcs8(algorithm, &RSA).unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_a_key_signs_it_verifies_and_nothing_else() {
        for algorithm in Algorithm::ALL {
            let key = testing::key(algorithm);
            let signature = key.sign(b"message").unwrap();
            assert_eq!(key.public().verify(b"message", &signature), Ok(()), "{algorithm}");
            assert_eq!(key.public().verify(b"massage", &signature), Err(BadSignature), "{algorithm}");
            assert_eq!(key.public().verify(b"message", &signature[1..]), Err(BadSignature), "{algorithm}");
            assert_eq!(key.public().verify(b"message", &[]), Err(BadSignature), "{algorithm}");
            for other in Algorithm::ALL.into_iter().filter(|&other| other != algorithm) {
                let other = testing::key(other).public();
                assert_eq!(other.verify(b"message", &signature), Err(BadSignature), "{algorithm}, {other:?}");
            }
        }
    }

    #[test]
    fn signatures_have_the_form_of_rfc_7518() {
        for (algorithm, length) in Algorithm::ALL.into_iter().zip([64, 64, 256, 256]) {
            assert_eq!(testing::key(algorithm).sign(b"message").unwrap().len(), length, "{algorithm}");
        }
    }

    #[test]
    fn a_key_read_again_is_the_same_key() {
        for algorithm in Algorithm::ALL {
            let key = testing::key(algorithm);
            let again = SigningKey::from_pkcs8(algorithm, &key.to_pkcs8().unwrap()).unwrap();
            assert_eq!(again.kid(), key.kid());
            assert_eq!(again.public_jwk(), key.public_jwk());
            assert_eq!(again.encoded_header(), key.encoded_header());
            let signature = again.sign(b"message").unwrap();
            assert_eq!(key.public().verify(b"message", &signature), Ok(()));
        }
    }

    #[test]
    fn a_key_of_another_kind_is_rejected() {
        let ecdsa = testing::key(Algorithm::Es256).to_pkcs8().unwrap();
        for algorithm in [Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Ps256] {
            assert_eq!(SigningKey::from_pkcs8(algorithm, &ecdsa).unwrap_err(), SigningKeyError::Rejected);
        }
        assert_eq!(SigningKey::from_pkcs8(Algorithm::Es256, b"").unwrap_err(), SigningKeyError::Rejected);
    }

    #[test]
    fn jwks_hold_what_rfc_7517_asks_for_and_nothing_private() {
        let members = [
            (Algorithm::Es256, vec!["alg", "crv", "kid", "kty", "use", "x", "y"], json!(["EC", "P-256"])),
            (Algorithm::EdDsa, vec!["alg", "crv", "kid", "kty", "use", "x"], json!(["OKP", "Ed25519"])),
            (Algorithm::Rs256, vec!["alg", "e", "kid", "kty", "n", "use"], json!(["RSA", null])),
            (Algorithm::Ps256, vec!["alg", "e", "kid", "kty", "n", "use"], json!(["RSA", null])),
        ];
        for (algorithm, names, kind) in members {
            let key = testing::key(algorithm);
            let jwk: Value = serde_json::from_str(key.public_jwk()).unwrap();
            let mut found: Vec<_> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
            found.sort_unstable();
            assert_eq!(found, names);
            assert_eq!(json!([jwk["kty"], jwk["crv"]]), kind);
            assert_eq!(json!([jwk["use"], jwk["alg"], jwk["kid"]]), json!(["sig", algorithm.as_str(), key.kid()]));
        }
    }

    /// Section 3.1 of RFC 7638.
    #[test]
    fn thumbprints_are_those_of_rfc_7638() {
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
    fn the_private_key_does_not_print() {
        let key = testing::key(Algorithm::Es256);
        assert_eq!(format!("{key:?}"), format!("SigningKey(Es256, {:?})", key.kid()));
    }
}
