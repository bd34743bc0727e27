//! Authorization codes and the handles of authorization requests. Both are random, and Redis holds only their SHA-256, so that a copy
//! of Redis contains nothing that can be presented.
//!
//! A code is `lk_ac_` and 55 characters of base64url, which encode a version (1 byte), the account (16) and a secret (24). A handle is
//! `lk_ar_` and 43 characters: 256 random bits.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::domain::{entropy::Entropy, ids::AccountId, secret::SecretText};

/// The prefix of every authorization code, by which secret scanners find leaked codes.
pub const CODE_PREFIX: &str = "lk_ac_";
/// The prefix of every handle.
pub const HANDLE_PREFIX: &str = "lk_ar_";

const VERSION: u8 = 1;
/// The bytes of a code: version (byte 0), account (1 to 16) and secret (17 to 40).
const CODE_BYTES: usize = 41;
/// The characters of a code after its prefix.
const CODE_CHARS: usize = 55;
/// The characters of a handle after its prefix.
const HANDLE_CHARS: usize = 43;

/// The SHA-256 under which Redis holds a code or a request.
pub type Digest = [u8; 32];

/// An authorization code. `Debug` omits it.
#[derive(Clone)]
pub struct AuthorizationCode {
    /// The account that the code is for.
    pub account: AccountId,
    text: SecretText,
}

impl AuthorizationCode {
    /// A new code with 192 random bits.
    pub fn generate(entropy: &Entropy, account: AccountId) -> Self {
        let mut bytes = Zeroizing::new([0; CODE_BYTES]);
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(account.as_bytes());
        bytes[17..].copy_from_slice(&entropy.bytes::<24>());
        let mut text = String::with_capacity(CODE_PREFIX.len() + CODE_CHARS);
        text.push_str(CODE_PREFIX);
        BASE64_URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
        Self { account, text: text.into() }
    }

    /// Parses a code; `None` if the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(CODE_PREFIX)?;
        if encoded.len() != CODE_CHARS {
            return None;
        }
        let mut bytes = Zeroizing::new([0; CODE_BYTES]);
        BASE64_URL_SAFE_NO_PAD.decode_slice(encoded, &mut *bytes).ok()?;
        let account = AccountId::from_bytes(bytes[1..17].try_into().ok()?);
        (bytes[0] == VERSION).then(|| Self { account, text: text.into() })
    }

    /// The text, for the client.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// The digest under which Redis holds the code.
    pub fn digest(&self) -> Digest {
        sha256(self.text.expose())
    }
}

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[authorization code of {}]", self.account)
    }
}

/// The handle of an authorization request that waits for a step of its user, such as the sign-in. Latchkey's own pages receive it as
/// the parameter `request`. It authorizes nothing by itself. `Debug` omits it.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHandle(SecretText);

impl RequestHandle {
    /// A new handle.
    pub fn generate(entropy: &Entropy) -> Self {
        Self(format!("{HANDLE_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(entropy.bytes::<32>())).into())
    }

    /// Parses a handle; `None` if the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(HANDLE_PREFIX)?;
        if encoded.len() != HANDLE_CHARS {
            return None;
        }
        // Decoded only to check the characters: the random bytes have no meaning.
        BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?;
        Some(Self(text.into()))
    }

    /// The text, for the parameter `request`.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The digest under which Redis holds the request.
    pub fn digest(&self) -> Digest {
        sha256(self.0.expose())
    }
}

impl fmt::Debug for RequestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[authorization request]")
    }
}

fn sha256(text: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

/// Whether `verifier` has the form of a PKCE code verifier (RFC 7636, section 4.1) and `challenge` is its S256 challenge.
pub fn verifies_pkce(verifier: &str, challenge: &str) -> bool {
    use subtle::ConstantTimeEq;
    is_code_verifier(verifier) && s256(verifier).as_bytes().ct_eq(challenge.as_bytes()).into()
}

/// Whether the text has the form of a code verifier: 43 to 128 unreserved characters.
pub fn is_code_verifier(text: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&text.len()) && text.bytes().all(unreserved)
}

/// The S256 challenge of a verifier (RFC 7636, section 4.2).
pub fn s256(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(sha256(verifier))
}

/// Whether the text has the form of an S256 challenge: a SHA-256 in base64url.
pub fn is_s256_challenge(text: &str) -> bool {
    BASE64_URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// The left half of the SHA-256 of a token in base64url: the claim `at_hash` (OpenID Connect Core 1.0, section 3.1.3.6). All signature
/// algorithms of this service but EdDSA use SHA-256.
pub fn left_half_sha256(token: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(&sha256(token)[..16])
}

/// The left half of the SHA-512 of a token in base64url: the claim `at_hash` for EdDSA with Ed25519. See [`left_half_sha256`].
pub fn left_half_sha512(token: &str) -> String {
    let hash = digest(&aws_lc_rs::digest::SHA512, token.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_handle_round_trip_and_are_not_printed() {
        let entropy = Entropy::system();
        let account = AccountId::from_bytes([1; 16]);
        let code = AuthorizationCode::generate(&entropy, account);
        let parsed = AuthorizationCode::parse(code.expose()).unwrap();
        assert_eq!(parsed.account, account);
        assert_eq!(parsed.digest(), code.digest());
        assert!(!format!("{code:?}").contains(code.expose()));
        let handle = RequestHandle::generate(&entropy);
        assert_eq!(RequestHandle::parse(handle.expose()), Some(handle.clone()));
        assert_eq!(format!("{handle:?}"), "[authorization request]");
        for text in ["", "lk_ac_", "lk_ar_", "lk_ac_AQ", handle.expose()] {
            assert!(AuthorizationCode::parse(text).is_none(), "{text}");
        }
        assert!(RequestHandle::parse(code.expose()).is_none());
    }

    /// Appendix B of RFC 7636.
    #[test]
    fn pkce_challenge_matches_example_of_rfc_7636() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(verifies_pkce(verifier, challenge));
        assert!(!verifies_pkce(&verifier[1..], challenge), "shorter than a verifier");
        assert!(!verifies_pkce(challenge, challenge), "the method `plain`");
        assert!(is_s256_challenge(challenge));
        assert!(!is_s256_challenge(&challenge[1..]));
        assert!(!is_s256_challenge("plain"));
    }
}
