//! The issuer's public keys: read from its JWK set, each with the one algorithm it is used with.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    VerificationAlgorithm,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::strict_json;

/// More keys than that no issuer has.
const MAX_KEYS: usize = 64;

/// The algorithms that are taken, all asymmetric: RFC 8725, section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Es256,
    EdDsa,
    Rs256,
    Ps256,
}

impl Algorithm {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Es256, Self::EdDsa, Self::Rs256, Self::Ps256].into_iter().find(|one| one.as_str() == text)
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Es256 => &ECDSA_P256_SHA256_FIXED,
            Self::EdDsa => &ED25519,
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
        }
    }
}

/// A public key, parsed once.
pub(crate) struct Key {
    kid: String,
    algorithm: Algorithm,
    bytes: Vec<u8>,
    parsed: ParsedPublicKey,
    believed: AtomicBool,
}

impl Key {
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether its private half made `signature` of `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    /// Whether the issuer still publishes it and hasn't retired it.
    pub(crate) fn is_believed(&self) -> bool {
        self.believed.load(Ordering::Acquire)
    }

    /// From now on nothing that it signed is believed, nor what was found valid before.
    pub(crate) fn disbelieve(&self) {
        self.believed.store(false, Ordering::Release);
    }

    /// Whether it is the very same key.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.kid == other.kid && self.algorithm == other.algorithm && self.bytes == other.bytes
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.algorithm).field(&self.kid).finish()
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// A public key as JSON (RFC 7517, section 4): the members that are looked at. A certificate or an address in it isn't.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    alg: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// The keys of a JWK set that can be used here: signature keys with a `kid` and an `alg` of ours. Others are left out, as
/// RFC 7517, section 5, asks. `None` if it is no JWK set.
pub(crate) fn read_set(json: &[u8]) -> Option<Vec<Key>> {
    let set: Set = strict_json::from_slice(json)?;
    let mut keys: Vec<Key> = Vec::new();
    for jwk in set.keys.into_iter().take(MAX_KEYS) {
        let key = serde_json::from_value(jwk).ok().and_then(read);
        // of two of one name the first counts
        if let Some(key) = key.filter(|key| keys.iter().all(|known| known.kid != key.kid)) {
            keys.push(key);
        }
    }
    Some(keys)
}

fn read(jwk: Jwk) -> Option<Key> {
    let algorithm = Algorithm::parse(&jwk.alg)?;
    if jwk.usage.is_some_and(|usage| usage != "sig") {
        return None;
    }
    let bytes = match (algorithm, jwk.kty.as_str(), jwk.crv.as_deref()) {
        // an uncompressed point: 4, then x and y of 32 bytes each (SEC 1, section 2.3.3)
        (Algorithm::Es256, "EC", Some("P-256")) => [vec![4], sized(&jwk.x?, 32)?, sized(&jwk.y?, 32)?].concat(),
        (Algorithm::EdDsa, "OKP", Some("Ed25519")) => sized(&jwk.x?, 32)?,
        (Algorithm::Rs256 | Algorithm::Ps256, "RSA", _) => rsa_public_key(&decode(&jwk.n?)?, &decode(&jwk.e?)?)?,
        _ => return None,
    };
    let parsed = ParsedPublicKey::new(algorithm.verification(), &bytes).ok()?;
    Some(Key { kid: jwk.kid, algorithm, bytes, parsed, believed: AtomicBool::new(true) })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

fn sized(text: &str, size: usize) -> Option<Vec<u8>> {
    decode(text).filter(|bytes| bytes.len() == size)
}

/// `RSAPublicKey` in DER (RFC 8017, appendix A.1.1), which aws-lc reads.
fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    // 2048 to 8192 bits, and a zero that some put before them
    if !(256..=1025).contains(&modulus.len()) || exponent.len() > 8 {
        return None;
    }
    let numbers = [integer(modulus)?, integer(exponent)?].concat();
    element(0x30, &numbers)
}

fn integer(bytes: &[u8]) -> Option<Vec<u8>> {
    let first = bytes.iter().position(|&byte| byte != 0)?;
    let bytes = bytes.get(first..)?;
    // a first bit of 1 would make it negative
    let zero: &[u8] = if bytes.first()? & 0x80 == 0 { &[] } else { &[0] };
    element(2, &[zero, bytes].concat())
}

fn element(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let [high, low] = u16::try_from(content.len()).ok()?.to_be_bytes();
    let head = match (high, low) {
        (0, 0..=127) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    Some([&head, content].concat())
}

#[cfg(test)]
mod tests {
    use latchkey::{crypto::signing_key::SigningKey, domain::key::Algorithm as Theirs};
    use serde_json::{Value, json};

    use super::*;

    fn set(keys: &[Value]) -> Vec<Key> {
        read_set(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_keys_of_the_service_are_read_and_verify_what_it_signs() {
        for algorithm in Theirs::ALL {
            let signing = SigningKey::generate(algorithm).unwrap();
            let key = set(&[serde_json::from_str(signing.public_jwk()).unwrap()]).pop().unwrap();
            assert_eq!((key.kid(), key.algorithm().as_str()), (signing.kid(), algorithm.as_str()));
            let signature = signing.sign(b"message").unwrap();
            assert!(key.verify(b"message", &signature), "{algorithm}");
            assert!(!key.verify(b"massage", &signature), "{algorithm}");
            assert!(!key.verify(b"message", &[]), "{algorithm}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_left_out() {
        let good: Value = serde_json::from_str(SigningKey::generate(Theirs::Es256).unwrap().public_jwk()).unwrap();
        let with = |name: &str, value: Value| {
            let mut key = good.clone();
            key[name] = value;
            key
        };
        let keys = set(&[
            with("alg", json!("ES384")),
            with("alg", json!("none")),
            with("alg", json!("HS256")),
            with("alg", json!("EdDSA")),
            with("alg", Value::Null),
            with("kid", Value::Null),
            with("use", json!("enc")),
            with("crv", json!("P-384")),
            with("kty", json!("OKP")),
            with("x", json!("AAAA")),
            with("y", json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
            json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "h" }),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS256", "kid": "short" }),
            json!({ "kty": "RSA", "n": "", "e": "", "alg": "RS256", "kid": "empty" }),
            json!(7),
            good.clone(),
            good,
        ]);
        assert_eq!(keys.len(), 1, "{keys:?}");
    }

    #[test]
    fn what_is_no_set_is_none() {
        for text in ["", "{}", "[]", r#"{"keys":1}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(read_set(text.as_bytes()).is_none(), "{text}");
        }
        assert!(read_set(br#"{"keys":[]}"#).is_some_and(|keys| keys.is_empty()));
    }
}
