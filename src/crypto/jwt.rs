//! The `jsonwebtoken` crypto provider of this service: it signs and verifies with keys that were parsed once.
//!
//! `jsonwebtoken` passes the bytes of a key to its provider on every call, and its own providers parse them every time,
//! which doubles the cost of an ES256 signature. Here, the passed bytes are a handle: the number under which a parsed key is
//! registered for as long as its [`SigningKey`](super::signing_key::SigningKey) or [`JwtKey`] lives. The provider passes
//! keys of any other form on to the crate's aws-lc provider, so that other code in the process can use the crate as usual.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, LazyLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm as JwtAlgorithm, DecodingKey, EncodingKey, Header, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, aws_lc},
    errors::{ErrorKind, Result as JwtResult, new_error},
    signature::{Error as SignatureError, Signer, Verifier},
};
use latchkey_verify::jose::{jwk::VerificationKey, strict_json::Strict};
use serde::{Serialize, de::DeserializeOwned};

use super::signing_key::KeyPair;
use crate::domain::key::Algorithm;

static SIGNERS: Registry<KeyPair> = Registry(RwLock::new(BTreeMap::new()));
static VERIFIERS: Registry<VerificationKey> = Registry(RwLock::new(BTreeMap::new()));
static NEXT_HANDLE: AtomicU64 = AtomicU64::new(0);

static PROVIDER: LazyLock<CryptoProvider> = LazyLock::new(|| CryptoProvider {
    signer_factory: create_signer,
    verifier_factory: create_verifier,
    key_utils: aws_lc::DEFAULT_PROVIDER.key_utils.clone(),
});
static IS_INSTALLED: LazyLock<bool> = LazyLock::new(|| LazyLock::force(&PROVIDER).install_default().is_ok());

/// Installs this provider for the process, on the first call. Returns whether it is installed: false if `jsonwebtoken` uses another
/// provider.
pub(super) fn install_provider() -> bool {
    *IS_INSTALLED
}

/// Parsed keys by their handles. A poisoned lock is used like any other: a panic cannot leave the map half changed.
struct Registry<T>(RwLock<BTreeMap<u64, Arc<T>>>);

impl<T> Registry<T> {
    fn register(&'static self, key: Arc<T>) -> Handle<T> {
        let id = NEXT_HANDLE.fetch_add(1, Ordering::Relaxed);
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, key);
        Handle { registry: self, id }
    }

    fn get(&self, id: u64) -> JwtResult<Arc<T>> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&id).cloned().ok_or_else(|| new_error(ErrorKind::InvalidKeyFormat))
    }
}

/// The number of a registered key. The key stays registered until its handle is dropped.
struct Handle<T: 'static> {
    registry: &'static Registry<T>,
    id: u64,
}

impl<T> Handle<T> {
    fn as_bytes(&self) -> [u8; 8] {
        self.id.to_be_bytes()
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.registry.0.write().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Parses the eight bytes of a handle. `None` for the bytes of a key, which are always more than eight.
fn handle_id(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// Creates a signer: with the parsed key if `key` is a handle, else with the aws-lc provider.
fn create_signer(algorithm: &JwtAlgorithm, key: &EncodingKey) -> JwtResult<Box<dyn JwtSigner>> {
    match handle_id(key.as_bytes()) {
        Some(id) => Ok(Box::new(ParsedSigner { pair: SIGNERS.get(id)?, algorithm: *algorithm })),
        None => (aws_lc::DEFAULT_PROVIDER.signer_factory)(algorithm, key),
    }
}

/// Creates a verifier: with the parsed key if `key` is a handle, else with the aws-lc provider.
fn create_verifier(algorithm: &JwtAlgorithm, key: &DecodingKey) -> JwtResult<Box<dyn JwtVerifier>> {
    // an RSA key that consists of a modulus and an exponent has no bytes, and is not a handle
    match key.try_get_as_bytes().ok().and_then(handle_id) {
        Some(id) => Ok(Box::new(ParsedVerifier { key: VERIFIERS.get(id)?, algorithm: *algorithm })),
        None => (aws_lc::DEFAULT_PROVIDER.verifier_factory)(algorithm, key),
    }
}

struct ParsedSigner {
    pair: Arc<KeyPair>,
    algorithm: JwtAlgorithm,
}

impl Signer<Vec<u8>> for ParsedSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        if jwt_algorithm(self.pair.algorithm()) != self.algorithm {
            return Err(SignatureError::new());
        }
        self.pair.sign(message).map_err(|_| SignatureError::new())
    }
}

impl JwtSigner for ParsedSigner {
    fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }
}

struct ParsedVerifier {
    key: Arc<VerificationKey>,
    algorithm: JwtAlgorithm,
}

impl Verifier<Vec<u8>> for ParsedVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let is_valid = jwt_algorithm(self.key.algorithm()) == self.algorithm && self.key.verify(message, signature);
        if is_valid { Ok(()) } else { Err(SignatureError::new()) }
    }
}

impl JwtVerifier for ParsedVerifier {
    fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }
}

pub(super) fn jwt_algorithm(algorithm: Algorithm) -> JwtAlgorithm {
    match algorithm {
        Algorithm::Es256 => JwtAlgorithm::ES256,
        Algorithm::EdDsa => JwtAlgorithm::EdDSA,
        Algorithm::Rs256 => JwtAlgorithm::RS256,
        Algorithm::Ps256 => JwtAlgorithm::PS256,
    }
}

/// Encodes JWTs with one key pair under one header.
pub(super) struct JwtEncoder {
    header: Header,
    /// The header as it appears in the tokens: JSON in base64url.
    encoded_header: String,
    key: EncodingKey,
    /// Keeps the key pair registered.
    _handle: Handle<KeyPair>,
}

impl JwtEncoder {
    /// Registers a key pair. This module's provider must be installed. `None` if the header can't be encoded.
    pub(super) fn new(pair: Arc<KeyPair>, typ: &str, kid: &str) -> Option<Self> {
        let algorithm = pair.algorithm();
        let header =
            Header { typ: Some(typ.to_owned()), kid: Some(kid.to_owned()), ..Header::new(jwt_algorithm(algorithm)) };
        let encoded_header = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).ok()?);
        let handle = SIGNERS.register(pair);
        // These constructors parse nothing. They note the family of the key, which `jsonwebtoken` compares with the algorithm.
        let key = match algorithm {
            Algorithm::Es256 => EncodingKey::from_ec_der(&handle.as_bytes()),
            Algorithm::EdDsa => EncodingKey::from_ed_der(&handle.as_bytes()),
            Algorithm::Rs256 | Algorithm::Ps256 => EncodingKey::from_rsa_der(&handle.as_bytes()),
        };
        Some(Self { header, encoded_header, key, _handle: handle })
    }

    /// The part of each token before its first dot.
    pub(super) fn encoded_header(&self) -> &str {
        &self.encoded_header
    }

    pub(super) fn encode(&self, claims: &impl Serialize) -> JwtResult<String> {
        jsonwebtoken::encode(&self.header, claims, &self.key)
    }
}

/// A public key that verifies JWTs with its one algorithm.
pub struct JwtKey {
    key: Arc<VerificationKey>,
    decoding_key: DecodingKey,
    validation: Validation,
    /// Keeps the key registered.
    _handle: Handle<VerificationKey>,
}

impl JwtKey {
    /// Registers a parsed key. `None` if another crypto provider is installed.
    pub(super) fn new(key: VerificationKey) -> Option<Self> {
        if !install_provider() {
            return None;
        }
        let key = Arc::new(key);
        let handle = VERIFIERS.register(Arc::clone(&key));
        let decoding_key = match key.algorithm() {
            Algorithm::Es256 => DecodingKey::from_ec_der(&handle.as_bytes()),
            Algorithm::EdDsa => DecodingKey::from_ed_der(&handle.as_bytes()),
            Algorithm::Rs256 | Algorithm::Ps256 => DecodingKey::from_rsa_der(&handle.as_bytes()),
        };
        // The callers check the claims, more strictly and against a time that is passed in.
        let mut validation = Validation::new(jwt_algorithm(key.algorithm()));
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Some(Self { key, decoding_key, validation, _handle: handle })
    }

    /// The only algorithm with which the key is used.
    pub fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// Verifies the signature of a JWT and parses its claims, without checking them. Refuses claims that are not strict JSON
    /// ([`Strict`]): `jsonwebtoken` does not notice duplicates of claims that `T` ignores. The callers check the header.
    pub(super) fn decode<T: DeserializeOwned>(&self, token: &str) -> JwtResult<T> {
        let data = jsonwebtoken::decode::<Strict<T>>(token, &self.decoding_key, &self.validation)?;
        let Strict(claims) = data.claims;
        Ok(claims)
    }

    /// Like [`Self::verify`], but takes the signature in base64url.
    pub(super) fn verify_encoded(&self, message: &str, signature: &str) -> bool {
        let algorithm = jwt_algorithm(self.algorithm());
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.decoding_key, algorithm).unwrap_or(false)
    }

    /// Whether `signature` is a signature of `message` by the private key of this public key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify(message, signature)
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JwtKey").field(&self.algorithm()).finish()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::Jwk;
    use serde_json::{Value, json};

    use super::*;
    use crate::crypto::signing_key::testing;

    #[test]
    fn token_of_every_algorithm_verifies_with_the_aws_lc_provider() {
        for algorithm in Algorithm::ALL {
            let key = testing::key(algorithm);
            let token = key.encode_as_access_token(&json!({ "sub": "ada" })).unwrap();
            let jwk: Jwk = serde_json::from_str(key.public_jwk()).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            // a key whose bytes are not a handle: this module passes it on to the aws-lc provider
            let plain_key = DecodingKey::from_jwk(&jwk).unwrap();
            assert!(handle_id(plain_key.try_get_as_bytes().unwrap_or_default()).is_none(), "{algorithm}");
            let verified =
                jsonwebtoken::crypto::verify(signature, message.as_bytes(), &plain_key, jwt_algorithm(algorithm));
            assert_eq!(verified, Ok(true), "{algorithm}");
            assert_eq!(key.public().key().decode::<Value>(&token), Ok(json!({ "sub": "ada" })), "{algorithm}");
        }
    }

    #[test]
    fn keys_refuse_every_other_algorithm() {
        for algorithm in Algorithm::ALL {
            let key = testing::key(algorithm);
            let token = key.encode_as_access_token(&json!({})).unwrap();
            for other in Algorithm::ALL.into_iter().filter(|&other| other != algorithm) {
                let result = testing::key(other).public().key().decode::<Value>(&token);
                assert_eq!(result.unwrap_err().kind(), &ErrorKind::InvalidAlgorithm, "{algorithm}, {other}");
            }
        }
    }

    #[test]
    fn handle_of_dropped_key_is_refused() {
        let key = testing::fresh(Algorithm::Es256);
        let token = key.encode_as_access_token(&json!({})).unwrap();
        // registers the public key a second time: `key` keeps its own registration
        let public = JwtKey::new(VerificationKey::new(Algorithm::Es256, key.public_bytes().to_vec()).unwrap()).unwrap();
        // copies that outlive the handle, which `public` owns
        let decoding_key = public.decoding_key.clone();
        let validation = public.validation.clone();
        assert!(jsonwebtoken::decode::<Value>(&token, &decoding_key, &validation).is_ok());
        drop(public);
        let error = jsonwebtoken::decode::<Value>(&token, &decoding_key, &validation).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidKeyFormat);
    }
}
