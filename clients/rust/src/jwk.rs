//! The issuer's public keys, read from its JWK set.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Deserialize;

use crate::jose::{
    jwk::{Algorithm, Jwk, VerificationKey},
    strict_json,
};

/// The maximum number of keys that are read from a JWK set. The rest is ignored. The packages for Python and JavaScript have the same
/// limit.
const MAX_KEYS: usize = 100;

/// A public key of the issuer.
pub(crate) struct Key {
    kid: String,
    key: VerificationKey,
    /// Cleared for good by [`Key::distrust`]. Atomic, because tokens are verified while the keys are refreshed.
    trusted: AtomicBool,
}

impl Key {
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The only algorithm that the key is used with.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// Whether the private key made `signature` of `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify(message, signature)
    }

    /// Whether the issuer still publishes the key and has not retired it.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Acquire)
    }

    /// Stops trusting the key, which invalidates every token that it signed, cached tokens included.
    pub(crate) fn distrust(&self) {
        self.trusted.store(false, Ordering::Release);
    }

    /// Whether the id, the algorithm and the public key are equal.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.kid == other.kid && self.key == other.key
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.algorithm()).field(&self.kid).finish()
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

/// Parses a JWK set; `None` if the JSON is not a JWK set. Keys without a `kid`, without a supported `alg`, with wrong
/// parameters or for another purpose than signatures are skipped (RFC 7517, section 5).
pub(crate) fn parse_jwk_set(json: &[u8]) -> Option<Vec<Key>> {
    let set: JwkSet = strict_json::from_slice(json)?;
    let mut keys: Vec<Key> = Vec::new();
    for jwk in set.keys.into_iter().take(MAX_KEYS) {
        let Some(key) = serde_json::from_value(jwk).ok().and_then(parse_key) else {
            continue;
        };
        // of two keys with the same id, the first is used
        if keys.iter().all(|other| other.kid != key.kid) {
            keys.push(key);
        }
    }
    Some(keys)
}

fn parse_key(jwk: Jwk) -> Option<Key> {
    let algorithm = jwk.alg.as_deref()?.parse().ok()?;
    if !jwk.may_verify() {
        return None;
    }
    let key = jwk.verification_key(algorithm)?;
    Some(Key { kid: jwk.kid?, key, trusted: AtomicBool::new(true) })
}

#[cfg(test)]
mod tests {
    use latchkey::{crypto::signing_key::SigningKey, domain::key::Algorithm as ServiceAlgorithm};
    use serde_json::{Value, json};

    use super::*;

    fn parse_keys(keys: &[Value]) -> Vec<Key> {
        parse_jwk_set(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn published_key_of_service_verifies_its_signatures() {
        for algorithm in ServiceAlgorithm::ALL {
            let signing_key = SigningKey::generate(algorithm).unwrap();
            let jwk = serde_json::from_str(signing_key.public_jwk()).unwrap();
            let key = parse_keys(&[jwk]).pop().unwrap();
            assert_eq!(key.kid(), signing_key.kid());
            assert_eq!(key.algorithm().as_str(), algorithm.as_str());
            let signature = signing_key.sign(b"message").unwrap();
            assert!(key.verify(b"message", &signature), "{algorithm}");
            assert!(!key.verify(b"another message", &signature), "{algorithm}");
            assert!(!key.verify(b"message", b""), "{algorithm}");
        }
    }

    #[test]
    fn unusable_keys_are_skipped() {
        let signing_key = SigningKey::generate(ServiceAlgorithm::Es256).unwrap();
        let good: Value = serde_json::from_str(signing_key.public_jwk()).unwrap();
        let good_with = |name: &str, value: Value| {
            let mut key = good.clone();
            key[name] = value;
            key
        };
        let keys = parse_keys(&[
            good_with("alg", json!("ES384")),
            good_with("alg", json!("none")),
            good_with("alg", json!("HS256")),
            good_with("alg", json!("EdDSA")),
            good_with("alg", Value::Null),
            good_with("kid", Value::Null),
            good_with("use", json!("enc")),
            good_with("key_ops", json!(["encrypt"])),
            good_with("crv", json!("P-384")),
            good_with("kty", json!("OKP")),
            good_with("x", json!("AAAA")),
            // 32 zero bytes, so that the point is not on the curve
            good_with("y", json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
            json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "h" }),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS256", "kid": "short" }),
            json!({ "kty": "RSA", "n": "", "e": "", "alg": "RS256", "kid": "empty" }),
            json!(7),
            good.clone(),
            // the second key with the same `kid`
            good,
        ]);
        assert_eq!(keys.len(), 1, "only the first good key: {keys:?}");
    }

    #[test]
    fn keys_beyond_the_maximum_are_ignored() {
        let key = SigningKey::generate(ServiceAlgorithm::Es256).unwrap();
        let jwk: Value = serde_json::from_str(key.public_jwk()).unwrap();
        let with_id = |number: usize| {
            let mut jwk = jwk.clone();
            jwk["kid"] = json!(number.to_string());
            jwk
        };
        let published: Vec<_> = (0..=MAX_KEYS).map(with_id).collect();
        let keys = parse_keys(&published);
        assert_eq!(keys.len(), MAX_KEYS);
        assert_eq!(keys.last().map(Key::kid), Some("99"), "the hundredth key");
    }

    #[test]
    fn anything_but_a_jwk_set_is_refused() {
        for text in ["", "{}", "[]", r#"{"keys":1}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(parse_jwk_set(text.as_bytes()).is_none(), "{text}");
        }
        assert!(parse_jwk_set(br#"{"keys":[]}"#).is_some_and(|keys| keys.is_empty()));
    }
}
