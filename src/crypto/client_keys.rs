//! The public keys of service clients: read from a JWK Set, a JWK or PEM, kept as a JWK Set (RFC 7517), and used to verify
//! what their holders sign.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
        VerificationAlgorithm,
    },
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};

use super::strict_json;
use crate::domain::key::Algorithm;

/// Keys that a client may have.
const MAX_KEYS: usize = 16;

/// Why a file holds no keys that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeysError {
    /// Neither PEM nor a JWK nor a set of them.
    #[error("is neither a public key in PEM nor a JWK nor a JWK Set")]
    Unreadable,
    /// A private key: what it is for was given away.
    #[error("holds a private key; give the public one, and keep that one to the client")]
    Private,
    /// None, or too many.
    #[error("must hold 1 to {MAX_KEYS} keys")]
    Count,
    /// A key of a kind, a curve, a length or a purpose that can't be used.
    #[error(
        "holds a key that can't be used: it must be P-256 (ES256), Ed25519 (EdDSA), or RSA of 2048 to 8192 bits (RS256, PS256)"
    )]
    Unusable,
}

/// The members of a public JWK that matter, and those that give a private one away.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Jwk {
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_ops: Option<Vec<String>>,
    #[serde(skip_serializing)]
    d: Option<serde::de::IgnoredAny>,
    #[serde(skip_serializing)]
    k: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Serialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// A file of public keys as the JWK Set that is stored: nothing in it but what is needed.
///
/// # Errors
/// [`ClientKeysError`]
pub fn to_jwks(file: &str) -> Result<String, ClientKeysError> {
    let text = file.trim();
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
    parse(&keys)?;
    serde_json::to_string(&Jwks { keys }).map_err(|_| ClientKeysError::Unreadable)
}

/// A client's keys, parsed and ready to verify.
#[derive(Default)]
pub struct ClientKeys(Vec<ClientKey>);

struct ClientKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl ClientKeys {
    /// Reads what [`to_jwks`] made.
    ///
    /// # Errors
    /// [`ClientKeysError`]
    pub fn parse(jwks: &str) -> Result<Self, ClientKeysError> {
        let set: Jwks = strict_json::from_slice(jwks.as_bytes()).ok_or(ClientKeysError::Unreadable)?;
        parse(&set.keys)
    }

    /// Whether one of the keys made the signature: of those of this algorithm and, where both the caller and the key have
    /// one, this key id.
    pub fn verify(&self, algorithm: &str, kid: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        let fits = |key: &&ClientKey| {
            let named = kid.zip(key.kid.as_deref()).is_none_or(|(kid, own)| kid == own);
            key.algorithm.as_str() == algorithm && named
        };
        self.0.iter().filter(fits).any(|key| key.key.verify_sig(message, signature).is_ok())
    }
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| (key.algorithm, &key.kid))).finish()
    }
}

fn parse(jwks: &[Jwk]) -> Result<ClientKeys, ClientKeysError> {
    if jwks.is_empty() || jwks.len() > MAX_KEYS {
        return Err(ClientKeysError::Count);
    }
    let mut keys = Vec::new();
    for jwk in jwks {
        if jwk.d.is_some() || jwk.k.is_some() {
            return Err(ClientKeysError::Private);
        }
        let verifies = |operations: &[String]| operations.iter().any(|operation| operation == "verify");
        let other_use = jwk.usage.as_deref().is_some_and(|usage| usage != "sig");
        if other_use || jwk.key_ops.as_deref().is_some_and(|operations| !verifies(operations)) {
            return Err(ClientKeysError::Unusable);
        }
        let before = keys.len();
        for algorithm in Algorithm::ALL {
            if jwk.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str())
                && let Some(key) = public_key(jwk, algorithm)
            {
                keys.push(ClientKey { kid: jwk.kid.clone(), algorithm, key });
            }
        }
        if keys.len() == before {
            return Err(ClientKeysError::Unusable);
        }
    }
    Ok(ClientKeys(keys))
}

/// The key for this algorithm, if it is one for it (RFC 7518, section 6; RFC 8037, section 2).
fn public_key(jwk: &Jwk, algorithm: Algorithm) -> Option<ParsedPublicKey> {
    let bytes = |member: &Option<String>| BASE64_URL_SAFE_NO_PAD.decode(member.as_deref()?).ok();
    let (verification, bytes): (&'static dyn VerificationAlgorithm, Vec<u8>) =
        match (algorithm, jwk.kty.as_str(), jwk.crv.as_deref()) {
            (Algorithm::Es256, "EC", Some("P-256")) => {
                let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
                if (x.len(), y.len()) != (32, 32) {
                    return None;
                }
                (&ECDSA_P256_SHA256_FIXED, [&[4], &x[..], &y[..]].concat())
            }
            (Algorithm::EdDsa, "OKP", Some("Ed25519")) => (&ED25519, bytes(&jwk.x).filter(|x| x.len() == 32)?),
            (Algorithm::Rs256 | Algorithm::Ps256, "RSA", None) => {
                let (n, e) = (bytes(&jwk.n)?, bytes(&jwk.e)?);
                if !(256..=1024).contains(&n.len()) {
                    return None;
                }
                let der: PublicKeyX509Der<'static> = PublicKeyComponents { n, e }.as_der().ok()?;
                let verification: &'static dyn VerificationAlgorithm = match algorithm {
                    Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
                    _ => &RSA_PSS_2048_8192_SHA256,
                };
                (verification, der.as_ref().to_vec())
            }
            _ => return None,
        };
    ParsedPublicKey::new(verification, bytes).ok()
}

/// How a `SubjectPublicKeyInfo` of a point on P-256 begins (RFC 5480), before the point's 4, x and y.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same for Ed25519 (RFC 8410).
const ED25519_INFO: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The algorithm of an RSA key (RFC 3279).
const RSA: [u8; 13] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A public key in PEM (RFC 7468, section 13) as a JWK without a key id.
fn from_pem(text: &str) -> Result<Jwk, ClientKeysError> {
    let body = text
        .strip_prefix("-----BEGIN PUBLIC KEY-----")
        .and_then(|text| text.strip_suffix("-----END PUBLIC KEY-----"))
        .ok_or(ClientKeysError::Unreadable)?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = BASE64_STANDARD.decode(body).map_err(|_| ClientKeysError::Unreadable)?;
    let encode = |bytes: &[u8]| Some(BASE64_URL_SAFE_NO_PAD.encode(bytes));
    if let Some([4, point @ ..]) = der.strip_prefix(&P256)
        && let Some((x, y)) = point.split_at_checked(32)
    {
        let crv = Some("P-256".to_owned());
        return Ok(Jwk { kty: "EC".to_owned(), crv, x: encode(x), y: encode(y), ..Jwk::default() });
    }
    if let Some(x) = der.strip_prefix(&ED25519_INFO) {
        let crv = Some("Ed25519".to_owned());
        return Ok(Jwk { kty: "OKP".to_owned(), crv, x: encode(x), ..Jwk::default() });
    }
    let (n, e) = rsa_numbers(&der).ok_or(ClientKeysError::Unusable)?;
    Ok(Jwk { kty: "RSA".to_owned(), n: encode(n), e: encode(e), ..Jwk::default() })
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// The modulus and the exponent of a `SubjectPublicKeyInfo` of RSA.
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, []) = element(der, SEQUENCE)? else { return None };
    let (algorithm, rest) = element(info, SEQUENCE)?;
    let (bits, []) = element(rest, BIT_STRING)? else { return None };
    let (numbers, []) = element(bits.strip_prefix(&[0])?, SEQUENCE)? else { return None };
    let (n, rest) = element(numbers, INTEGER)?;
    let (e, []) = element(rest, INTEGER)? else { return None };
    // a leading zero only says that the number isn't negative
    let zeros = |number: &[u8]| number.iter().take_while(|byte| **byte == 0).count();
    (algorithm == RSA).then_some((&n[zeros(n)..], &e[zeros(e)..]))
}

/// The contents of the first element, which must have this tag, and what comes after it (X.690, section 8.1).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, first, rest @ ..] = der else { return None };
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    if *found == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::signing_key::testing;

    /// A key of each algorithm, as a JWK.
    fn jwk(algorithm: Algorithm) -> String {
        testing::key(algorithm).public_jwk().to_owned()
    }

    #[test]
    fn what_a_registered_key_signed_is_verified() {
        for algorithm in Algorithm::ALL {
            let signature = testing::key(algorithm).sign(b"message").unwrap();
            let keys = ClientKeys::parse(&to_jwks(&jwk(algorithm)).unwrap()).unwrap();
            let kid = testing::key(algorithm).kid();
            assert!(keys.verify(algorithm.as_str(), None, b"message", &signature), "{algorithm}");
            assert!(keys.verify(algorithm.as_str(), Some(kid), b"message", &signature), "{algorithm}");
            assert!(!keys.verify(algorithm.as_str(), Some("other"), b"message", &signature), "{algorithm}");
            assert!(!keys.verify(algorithm.as_str(), None, b"massage", &signature), "{algorithm}");
            for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert!(!keys.verify(other.as_str(), None, b"message", &signature), "{algorithm}, {other}");
            }
            for other in ["none", "HS256", ""] {
                assert!(!keys.verify(other, None, b"message", &signature), "{algorithm}, {other}");
            }
        }
    }

    #[test]
    fn sets_are_read_and_only_what_is_needed_is_kept() {
        let set = format!("{{\"keys\":[{},{}],\"more\":1}}", jwk(Algorithm::Es256), jwk(Algorithm::EdDsa));
        let kept = to_jwks(&set).unwrap();
        assert!(!kept.contains("more"));
        assert_eq!(ClientKeys::parse(&kept).unwrap().0.len(), 2);
        assert_eq!(to_jwks(&kept), Ok(kept.clone()));
    }

    #[test]
    fn pem_is_read() {
        let p256 = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE84rkm03SNtz+8SfQKfqlYCibjywb\nYmxhajaOnXrAjaRUfy74ndV/9McTmo8o8EGve6+En81o0CG5sP8bSdLnkQ==\n-----END PUBLIC KEY-----\n";
        let ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAiUHyWIY6CCRoPeScyXNVKys2C1WI0VrehZutAlVe1Yw=\n-----END PUBLIC KEY-----\n";
        let rsa = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEArsU9nWmEzQINVHbEoi/1\nM0XUqvu8+9dCYZBDcpN9gtrWBXdMjf8HNWcYDQSdkeQfuDndi3GBymKNsY6Pr8gl\nzauvxTxXKz284rC6UN7K01DWhCNvwZ6vqh36gt6FyQ9nrGsWU8GGrpW1G07Sv53w\nR6gjUwV2gc0PxvU2svOLsH/vc2EwMsHsKOVbp8ducQx0JNmHSivXLY3NvyK5Z0Nj\nKmCxRnUlzIaTiOrGsWpbuKdC4fgkNj876+z0ixLCwW6vpk8lBkFYQiPFZQUI2oJx\nTnso42/VN7BnpJV7AHJrmyWt6lcusAPMTnnbjNF1RMcCsDSuOr4z4o+IutzZRTU5\npQIDAQAB\n-----END PUBLIC KEY-----\n";
        for (pem, count) in [(p256, 1), (ed25519, 1), (rsa, 2)] {
            let kept = to_jwks(pem).unwrap();
            assert_eq!(ClientKeys::parse(&kept).unwrap().0.len(), count, "{kept}");
        }
        assert_eq!(
            to_jwks(&p256.replace("BEGIN PUBLIC KEY-----\nM", "BEGIN PUBLIC KEY-----\nN")),
            Err(ClientKeysError::Unusable)
        );
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let private = jwk(Algorithm::Es256).replace("\"kty\"", "\"d\":\"AA\",\"kty\"");
        for (text, error) in [
            ("", ClientKeysError::Unreadable),
            ("{}", ClientKeysError::Unreadable),
            ("-----BEGIN PUBLIC KEY-----", ClientKeysError::Unreadable),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", ClientKeysError::Private),
            (&private, ClientKeysError::Private),
            (r#"{"kty":"oct","k":"AAAA"}"#, ClientKeysError::Private),
            (r#"{"keys":[]}"#, ClientKeysError::Count),
            (r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#, ClientKeysError::Unusable),
            (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#, ClientKeysError::Unusable),
            (&jwk(Algorithm::Es256).replace("\"sig\"", "\"enc\""), ClientKeysError::Unusable),
            (&jwk(Algorithm::Es256).replace("\"kty\"", "\"key_ops\":[\"encrypt\"],\"kty\""), ClientKeysError::Unusable),
            (&jwk(Algorithm::Es256).replace("ES256", "RS256"), ClientKeysError::Unusable),
        ] {
            assert_eq!(to_jwks(text), Err(error), "{text}");
        }
    }
}
