//! The public keys of clients: read from a JWK set, a JWK or PEM, stored as a JWK set (RFC 7517), and used to
//! verify client assertions.

use std::fmt;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use latchkey_verify::jose::{jwk::Jwk, jws::Jws, strict_json};
use serde::{Deserialize, Serialize};

use super::jwt::JwtKey;
use crate::domain::key::Algorithm;

/// The maximum number of keys of a client.
const MAX_KEYS: usize = 16;

/// Why a key file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeysError {
    /// The file is neither PEM nor a JWK nor a JWK set.
    #[error("is neither a public key in PEM nor a JWK nor a JWK set")]
    Unreadable,
    /// The file holds a private or symmetric key.
    #[error("holds a private key; pass the public key and leave the private key with the client")]
    Private,
    /// The set holds no key or too many.
    #[error("must hold 1 to {MAX_KEYS} keys")]
    Count,
    /// A key has an unsupported type, curve, size or use.
    #[error(
        "holds a key that can't be used: it must be P-256 (ES256), Ed25519 (EdDSA), or RSA of 2048 to 8192 bits (RS256, PS256)"
    )]
    Unusable,
}

#[derive(Deserialize, Serialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// Converts the contents of a file of public keys to the JWK set to store, reduced to the members that are needed.
///
/// # Errors
/// [`ClientKeysError`]
pub fn to_jwks(contents: &str) -> Result<String, ClientKeysError> {
    let text = contents.trim();
    if text.contains("PRIVATE KEY-----") {
        return Err(ClientKeysError::Private);
    }
    let keys = if text.starts_with("-----BEGIN PUBLIC KEY-----") {
        vec![from_pem(text)?]
    } else if let Some(set) = strict_json::from_slice::<Jwks>(text.as_bytes()) {
        set.keys
    } else {
        vec![strict_json::from_slice::<Jwk>(text.as_bytes()).ok_or(ClientKeysError::Unreadable)?]
    };
    parse_jwks(&keys)?; // refuses what could not be used later
    to_json(keys)
}

/// Converts a JWK set that a dynamic client has published to the set to store. Omits keys that can't verify a signature here: the set
/// may have keys for other purposes (RFC 7517, section 5).
///
/// # Errors
/// [`ClientKeysError`] if the text is no JWK set, if the set has too many keys, if no key is left, or if one is private.
pub fn usable_jwks(set: &str) -> Result<String, ClientKeysError> {
    #[derive(Deserialize)]
    struct AnyKeys {
        keys: Vec<serde_json::Value>,
    }
    let set: AnyKeys = strict_json::from_slice(set.as_bytes()).ok_or(ClientKeysError::Unreadable)?;
    if set.keys.len() > MAX_KEYS {
        return Err(ClientKeysError::Count);
    }
    let mut keys = Vec::new();
    for key in set.keys {
        let Ok(key) = serde_json::from_value::<Jwk>(key) else { continue };
        match parse_jwks(std::slice::from_ref(&key)) {
            Ok(_) => keys.push(key),
            Err(ClientKeysError::Private) => return Err(ClientKeysError::Private),
            Err(_) => {}
        }
    }
    if keys.is_empty() {
        return Err(ClientKeysError::Count);
    }
    to_json(keys)
}

fn to_json(keys: Vec<Jwk>) -> Result<String, ClientKeysError> {
    serde_json::to_string(&Jwks { keys }).map_err(|_| ClientKeysError::Unreadable)
}

/// The parsed public keys of one client.
#[derive(Default)]
pub struct ClientKeys(Vec<ClientKey>);

struct ClientKey {
    kid: Option<String>,
    key: JwtKey,
}

impl ClientKeys {
    /// Parses a JWK set made by [`to_jwks`] or [`usable_jwks`].
    ///
    /// # Errors
    /// [`ClientKeysError`]
    pub fn parse(jwks: &str) -> Result<Self, ClientKeysError> {
        let set: Jwks = strict_json::from_slice(jwks.as_bytes()).ok_or(ClientKeysError::Unreadable)?;
        parse_jwks(&set.keys)
    }

    /// Whether one of the keys made the signature of a JWS. Only keys of the header's algorithm are tried. If the header and
    /// a key both have a key id, the ids must be equal.
    pub fn verify(&self, jws: &Jws<'_>) -> bool {
        self.0.iter().any(|ClientKey { kid, key }| {
            let kid_matches = match (jws.header.kid.as_deref(), kid.as_deref()) {
                (Some(wanted), Some(kid)) => wanted == kid,
                _ => true,
            };
            let algorithm_matches = key.algorithm().as_str() == jws.header.alg;
            kid_matches && algorithm_matches && key.verify_encoded(jws.message, jws.signature)
        })
    }
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| (key.key.algorithm(), &key.kid))).finish()
    }
}

/// Parses JWKs, all of which must be usable public keys.
fn parse_jwks(jwks: &[Jwk]) -> Result<ClientKeys, ClientKeysError> {
    if jwks.is_empty() || jwks.len() > MAX_KEYS {
        return Err(ClientKeysError::Count);
    }
    let mut keys = Vec::new();
    for jwk in jwks {
        if jwk.is_private() {
            return Err(ClientKeysError::Private);
        }
        if !jwk.may_verify() {
            return Err(ClientKeysError::Unusable);
        }
        let count_before = keys.len();
        // An RSA key without `alg` is used with both RSA algorithms.
        for algorithm in Algorithm::ALL {
            if let Some(key) = jwk.verification_key(algorithm) {
                let key = JwtKey::new(key).ok_or(ClientKeysError::Unusable)?;
                keys.push(ClientKey { kid: jwk.kid.clone(), key });
            }
        }
        if keys.len() == count_before {
            return Err(ClientKeysError::Unusable);
        }
    }
    Ok(ClientKeys(keys))
}

/// The start of a `SubjectPublicKeyInfo` for P-256 (RFC 5480); the uncompressed point follows.
const P256_INFO: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The start of a `SubjectPublicKeyInfo` for Ed25519 (RFC 8410); the key follows.
const ED25519_INFO: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The contents of an RSA key's algorithm identifier: `rsaEncryption` and NULL (RFC 3279, section 2.3.1).
const RSA_ALGORITHM: [u8; 13] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Converts a public key in PEM (RFC 7468, section 13) to a JWK without a key id.
fn from_pem(text: &str) -> Result<Jwk, ClientKeysError> {
    let body = text
        .strip_prefix("-----BEGIN PUBLIC KEY-----")
        .and_then(|text| text.strip_suffix("-----END PUBLIC KEY-----"))
        .ok_or(ClientKeysError::Unreadable)?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = BASE64_STANDARD.decode(body).map_err(|_| ClientKeysError::Unreadable)?;
    let encoded = |bytes: &[u8]| Some(BASE64_URL_SAFE_NO_PAD.encode(bytes));
    // The byte 4 marks an uncompressed point (SEC 1, section 2.3.3).
    if let Some([4, point @ ..]) = der.strip_prefix(&P256_INFO)
        && let Some((x, y)) = point.split_at_checked(32)
    {
        let crv = Some("P-256".to_owned());
        return Ok(Jwk { kty: "EC".to_owned(), crv, x: encoded(x), y: encoded(y), ..Jwk::default() });
    }
    if let Some(x) = der.strip_prefix(&ED25519_INFO) {
        let crv = Some("Ed25519".to_owned());
        return Ok(Jwk { kty: "OKP".to_owned(), crv, x: encoded(x), ..Jwk::default() });
    }
    let (n, e) = extract_rsa_numbers(&der).ok_or(ClientKeysError::Unusable)?;
    Ok(Jwk { kty: "RSA".to_owned(), n: encoded(n), e: encoded(e), ..Jwk::default() })
}

/// Tags of DER elements (X.690, section 8).
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// Extracts the modulus and the exponent from an RSA `SubjectPublicKeyInfo`.
fn extract_rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, []) = split_element(der, SEQUENCE)? else { return None };
    let (algorithm, rest) = split_element(info, SEQUENCE)?;
    let (bits, []) = split_element(rest, BIT_STRING)? else { return None };
    // The first byte of a bit string is the number of its unused bits.
    let (numbers, []) = split_element(bits.strip_prefix(&[0])?, SEQUENCE)? else { return None };
    let (n, rest) = split_element(numbers, INTEGER)?;
    let (e, []) = split_element(rest, INTEGER)? else { return None };
    // DER puts a zero byte before a number whose first bit is set. A JWK has none (RFC 7518, section 6.3.1).
    let leading_zeros = |number: &[u8]| number.iter().take_while(|byte| **byte == 0).count();
    (algorithm == RSA_ALGORITHM).then_some((&n[leading_zeros(n)..], &e[leading_zeros(e)..]))
}

/// Splits off the first DER element, which must have this tag, and returns its contents and the rest (X.690, section 8.1).
fn split_element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found_tag, length_byte, rest @ ..] = der else { return None };
    // A length from 128 takes one byte after 0x81, or two bytes after 0x82.
    let (length, rest) = match *length_byte {
        length @ 0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    if *found_tag == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crypto::signing_key::testing;

    /// The JWK of the shared test key of an algorithm.
    fn jwk(algorithm: Algorithm) -> String {
        testing::key(algorithm).public_jwk().to_owned()
    }

    fn encryption_jwk(algorithm: Algorithm) -> String {
        jwk(algorithm).replace("\"sig\"", "\"enc\"")
    }

    /// A JWK with the member `d`, which only private keys have.
    fn private_jwk(algorithm: Algorithm) -> String {
        jwk(algorithm).replace("\"kty\"", "\"d\":\"AA\",\"kty\"")
    }

    #[test]
    fn signature_verifies_with_registered_key_only() {
        for algorithm in Algorithm::ALL {
            let keys = ClientKeys::parse(&to_jwks(&jwk(algorithm)).unwrap()).unwrap();
            // The signature always covers "message", whatever message is sent.
            let verify = |alg: &str, kid: Option<&str>, message: &str| {
                let header = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": kid }).to_string());
                let signature = testing::key(algorithm).sign(format!("{header}.message").as_bytes()).unwrap();
                let text = format!("{header}.{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
                keys.verify(&Jws::parse(&text).unwrap())
            };
            let alg = algorithm.as_str();
            assert!(verify(alg, None, "message"), "{algorithm}");
            assert!(verify(alg, Some(testing::key(algorithm).kid()), "message"), "{algorithm}");
            assert!(!verify(alg, Some("other"), "message"), "{algorithm}");
            assert!(!verify(alg, None, "another"), "{algorithm}");
            for other in Algorithm::ALL.map(Algorithm::as_str).into_iter().chain(["none", "HS256", ""]) {
                assert_eq!(verify(other, None, "message"), other == alg, "{algorithm}, {other}");
            }
        }
    }

    #[test]
    fn jwk_set_is_stored_without_unknown_members() {
        let set = format!("{{\"keys\":[{},{}],\"more\":1}}", jwk(Algorithm::Es256), jwk(Algorithm::EdDsa));
        let kept = to_jwks(&set).unwrap();
        assert!(!kept.contains("more"));
        assert_eq!(ClientKeys::parse(&kept).unwrap().0.len(), 2);
        assert_eq!(to_jwks(&kept), Ok(kept.clone()));
    }

    #[test]
    fn pem_public_keys_are_accepted() {
        let p256 = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE84rkm03SNtz+8SfQKfqlYCibjywb\nYmxhajaOnXrAjaRUfy74ndV/9McTmo8o8EGve6+En81o0CG5sP8bSdLnkQ==\n-----END PUBLIC KEY-----\n";
        let ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAiUHyWIY6CCRoPeScyXNVKys2C1WI0VrehZutAlVe1Yw=\n-----END PUBLIC KEY-----\n";
        let rsa = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEArsU9nWmEzQINVHbEoi/1\nM0XUqvu8+9dCYZBDcpN9gtrWBXdMjf8HNWcYDQSdkeQfuDndi3GBymKNsY6Pr8gl\nzauvxTxXKz284rC6UN7K01DWhCNvwZ6vqh36gt6FyQ9nrGsWU8GGrpW1G07Sv53w\nR6gjUwV2gc0PxvU2svOLsH/vc2EwMsHsKOVbp8ducQx0JNmHSivXLY3NvyK5Z0Nj\nKmCxRnUlzIaTiOrGsWpbuKdC4fgkNj876+z0ixLCwW6vpk8lBkFYQiPFZQUI2oJx\nTnso42/VN7BnpJV7AHJrmyWt6lcusAPMTnnbjNF1RMcCsDSuOr4z4o+IutzZRTU5\npQIDAQAB\n-----END PUBLIC KEY-----\n";
        // An RSA key serves both RSA algorithms.
        for (pem, count) in [(p256, 1), (ed25519, 1), (rsa, 2)] {
            let kept = to_jwks(pem).unwrap();
            assert_eq!(ClientKeys::parse(&kept).unwrap().0.len(), count, "{kept}");
        }
        // the first byte of the DER is 0x34, and not a sequence's 0x30
        let not_a_sequence = p256.replace("\nMFkw", "\nNFkw");
        assert_eq!(to_jwks(&not_a_sequence), Err(ClientKeysError::Unusable));
    }

    #[test]
    fn published_jwk_set_is_stored_without_keys_for_other_purposes() {
        let usable = jwk(Algorithm::Es256);
        let for_encryption = encryption_jwk(Algorithm::EdDsa);
        let unsupported = r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#;
        let set = |keys: &str| format!("{{\"keys\":[{keys}]}}");
        let kept = usable_jwks(&set(&format!("{for_encryption},{unsupported},{{}},{usable}"))).unwrap();
        assert_eq!(kept, to_jwks(&usable).unwrap());
        let private = private_jwk(Algorithm::Es256);
        assert_eq!(usable_jwks(&set(&format!("{usable},{private}"))), Err(ClientKeysError::Private));
        let symmetric = r#"{"kty":"oct","k":"AAAA"}"#;
        assert_eq!(usable_jwks(&set(&format!("{usable},{symmetric}"))), Err(ClientKeysError::Private));
        let too_many = [usable.as_str(); MAX_KEYS + 1].join(",");
        assert_eq!(usable_jwks(&set(&too_many)), Err(ClientKeysError::Count));
        for unusable in [set(""), set(&for_encryption), set("{}")] {
            assert_eq!(usable_jwks(&unusable), Err(ClientKeysError::Count), "{unusable}");
        }
        for text in ["", "{}", "[]", &usable, "-----BEGIN PUBLIC KEY-----"] {
            assert_eq!(usable_jwks(text), Err(ClientKeysError::Unreadable), "{text}");
        }
    }

    #[test]
    fn anything_but_usable_public_keys_is_refused() {
        let es256 = jwk(Algorithm::Es256);
        let too_short_rsa = r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#;
        for (text, error) in [
            ("", ClientKeysError::Unreadable),
            ("{}", ClientKeysError::Unreadable),
            ("-----BEGIN PUBLIC KEY-----", ClientKeysError::Unreadable),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", ClientKeysError::Private),
            (&private_jwk(Algorithm::Es256), ClientKeysError::Private),
            (r#"{"kty":"oct","k":"AAAA"}"#, ClientKeysError::Private),
            (r#"{"keys":[]}"#, ClientKeysError::Count),
            (r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#, ClientKeysError::Unusable),
            (too_short_rsa, ClientKeysError::Unusable),
            (&encryption_jwk(Algorithm::Es256), ClientKeysError::Unusable),
            (&es256.replace("\"kty\"", "\"key_ops\":[\"encrypt\"],\"kty\""), ClientKeysError::Unusable),
            // the algorithm does not fit the type of the key
            (&es256.replace("ES256", "RS256"), ClientKeysError::Unusable),
        ] {
            assert_eq!(to_jwks(text), Err(error), "{text}");
        }
    }
}
