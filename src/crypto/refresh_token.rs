//! Refresh tokens: opaque to clients and authenticated by a MAC. Encoding is deterministic, so every node computes the same
//! successor of a token (I1: a token has one successor).
//!
//! A token is `lk_rt_` and 100 characters of base64url, which encode 75 bytes, numbers in big-endian order:
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | version |
//! | 16 | account |
//! | 16 | session |
//! | 4 | generation |
//! | 6 | when the session expires unless it is refreshed, in ms since the Unix epoch |
//! | 32 | HMAC-SHA256 of the 43 bytes before |
//!
//! The MAC key is derived from the service's secret, which Redis never sees. So forged and damaged tokens are refused without Redis,
//! and a copy of Redis contains no usable token.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::domain::{
    clock::Timestamp,
    ids::{AccountId, SessionId},
    session::Generation,
};

/// The prefix of every refresh token, by which secret scanners find leaked ones.
pub const PREFIX: &str = "lk_rt_";

const VERSION: u8 = 1;
/// The bytes that the MAC covers: version, account, session, generation and expiry.
const CLAIMS_BYTES: usize = 1 + 16 + 16 + 4 + 6;
const TOKEN_BYTES: usize = CLAIMS_BYTES + 32;
/// The characters of a token after its prefix: base64url encodes three bytes in four characters.
const ENCODED_CHARS: usize = TOKEN_BYTES / 3 * 4;

/// An encoded refresh token. Any client that has the text can refresh the session, so `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(Zeroizing<String>);

impl RefreshToken {
    /// The text of the token, to be sent to its holder.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[refresh token]")
    }
}

/// The contents of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshClaims {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
    /// The generation of the session's refresh token.
    pub generation: Generation,
    /// When the session expires unless it is refreshed.
    pub expires_at: Timestamp,
}

/// Why a text is not a refresh token of this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshTokenError {
    /// The text does not have the form of a refresh token.
    #[error("not a refresh token")]
    Malformed,
    /// None of the keys verifies the MAC: the token is forged, or it was issued under another secret.
    #[error("no key verifies the refresh token")]
    UnknownKey,
}

/// Encodes and decodes refresh tokens.
pub struct RefreshTokens {
    current: hmac::Key,
    previous: Vec<hmac::Key>,
}

impl RefreshTokens {
    /// Encodes with the MAC key `current` and decodes with all keys, so that the key can be rotated without ending sessions.
    pub fn new<'a>(current: &[u8; 32], previous: impl IntoIterator<Item = &'a [u8; 32]>) -> Self {
        let key = |bytes: &[u8; 32]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Self { current: key(current), previous: previous.into_iter().map(key).collect() }
    }

    /// Encodes a token. Equal claims give equal tokens.
    pub fn encode(&self, claims: &RefreshClaims) -> RefreshToken {
        let mut bytes = [0; TOKEN_BYTES];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(claims.account.as_bytes());
        bytes[17..33].copy_from_slice(claims.session.as_bytes());
        bytes[33..37].copy_from_slice(&claims.generation.0.to_be_bytes());
        // the six low bytes; a time before 1970 becomes 0
        bytes[37..43].copy_from_slice(&claims.expires_at.as_millis().max(0).to_be_bytes()[2..]);
        let mac = hmac::sign(&self.current, &bytes[..CLAIMS_BYTES]);
        bytes[CLAIMS_BYTES..].copy_from_slice(mac.as_ref());
        let mut text = String::with_capacity(PREFIX.len() + ENCODED_CHARS);
        text.push_str(PREFIX);
        BASE64_URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        RefreshToken(Zeroizing::new(text))
    }

    /// Decodes a token that was encoded with one of the keys.
    ///
    /// # Errors
    /// [`RefreshTokenError`]
    pub fn decode(&self, text: &str) -> Result<RefreshClaims, RefreshTokenError> {
        use RefreshTokenError::{Malformed, UnknownKey};
        let encoded = text.strip_prefix(PREFIX).ok_or(Malformed)?;
        if encoded.len() != ENCODED_CHARS {
            return Err(Malformed);
        }
        let mut bytes = [0; TOKEN_BYTES];
        BASE64_URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes).map_err(|_| Malformed)?;
        let (claims, mac) = bytes.split_at(CLAIMS_BYTES);
        if claims[0] != VERSION {
            return Err(Malformed);
        }
        let verifies = |key: &hmac::Key| hmac::verify(key, claims, mac).is_ok();
        if !verifies(&self.current) && !self.previous.iter().any(verifies) {
            return Err(UnknownKey);
        }
        let id_at = |offset: usize| <[u8; 16]>::try_from(&claims[offset..offset + 16]).map_err(|_| Malformed);
        let mut expires_at = [0; 8];
        expires_at[2..].copy_from_slice(&claims[37..43]);
        Ok(RefreshClaims {
            account: AccountId::from_bytes(id_at(1)?),
            session: SessionId::from_bytes(id_at(17)?),
            generation: Generation(u32::from_be_bytes([claims[33], claims[34], claims[35], claims[36]])),
            expires_at: Timestamp::from_millis(i64::from_be_bytes(expires_at)),
        })
    }
}

impl fmt::Debug for RefreshTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[refresh token keys]")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims(account: [u8; 16], session: [u8; 16], generation: u32, expires_at_millis: u64) -> RefreshClaims {
        RefreshClaims {
            account: AccountId::from_bytes(account),
            session: SessionId::from_bytes(session),
            generation: Generation(generation),
            expires_at: Timestamp::from_millis(i64::try_from(expires_at_millis).unwrap()),
        }
    }

    /// A token of the first release. If this fails, an upgrade ends every session.
    #[test]
    fn token_of_first_release_is_decoded() {
        let tokens = RefreshTokens::new(&[7; 32], []);
        let contents = claims([1; 16], [2; 16], 3, 1_800_000_000_000);
        let text = "lk_rt_AQEBAQEBAQEBAQEBAQEBAQECAgICAgICAgICAgICAgICAAAAAwGjGFxQAIC_UtVFcD6DSImcSqpzZVX4nrUKPhFDkjy1qF-yhaml";
        assert_eq!(tokens.encode(&contents).expose(), text);
        assert_eq!(tokens.decode(text), Ok(contents));
    }

    #[test]
    fn token_of_previous_key_is_decoded() {
        let contents = claims([1; 16], [2; 16], 3, 4);
        let (old_key, new_key) = ([7; 32], [8; 32]);
        let old = RefreshTokens::new(&old_key, []).encode(&contents);
        assert_eq!(RefreshTokens::new(&new_key, [&old_key]).decode(old.expose()), Ok(contents));
        assert_eq!(RefreshTokens::new(&new_key, []).decode(old.expose()), Err(RefreshTokenError::UnknownKey));
    }

    #[test]
    fn debug_output_omits_token() {
        let token = RefreshTokens::new(&[7; 32], []).encode(&claims([1; 16], [2; 16], 3, 4));
        assert_eq!(format!("{token:?}"), "[refresh token]");
    }

    proptest! {
        // A token has 48 bits for the expiry.
        #[test]
        fn encoded_token_is_decoded(account: [u8; 16], session: [u8; 16], generation: u32, expires_at in 0_u64..1 << 48) {
            let tokens = RefreshTokens::new(&[7; 32], []);
            let contents = claims(account, session, generation, expires_at);
            let token = tokens.encode(&contents);
            prop_assert_eq!(token.expose().len(), PREFIX.len() + ENCODED_CHARS);
            prop_assert_eq!(&token, &tokens.encode(&contents));
            prop_assert_eq!(tokens.decode(token.expose()), Ok(contents));
        }

        #[test]
        fn token_with_changed_character_is_refused(at in 0..PREFIX.len() + ENCODED_CHARS, other in "[A-Za-z0-9_-]") {
            let tokens = RefreshTokens::new(&[7; 32], []);
            let mut text = tokens.encode(&claims([1; 16], [2; 16], 3, 4)).expose().to_owned();
            prop_assume!(text[at..=at] != other);
            text.replace_range(at..=at, &other);
            prop_assert!(tokens.decode(&text).is_err());
        }

        #[test]
        fn arbitrary_text_is_refused(text in ".{0,200}") {
            let tokens = RefreshTokens::new(&[7; 32], []);
            prop_assert!(tokens.decode(&text).is_err());
        }
    }
}
