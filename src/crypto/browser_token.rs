//! Browser tokens: the values of the cookies that name browsers' sessions (single sign-on). A browser token is `lk_bs_` and 87
//! characters of base64url, which encode a version (1 byte), the account (16), the session (16), and an HMAC-SHA256 of all these (32).
//!
//! The MAC key is derived from the service's secret, which Redis never sees: forged cookies are refused without Redis, and a copy of
//! Redis contains no usable cookie. A browser token is accepted in the cookie only, and never as a refresh token.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::domain::ids::{AccountId, SessionId};

/// The prefix of every browser token, by which secret scanners find leaked ones.
pub const PREFIX: &str = "lk_bs_";

const VERSION: u8 = 1;
/// The bytes that the MAC covers: version (1), account (16) and session (16).
const SIGNED_BYTES: usize = 1 + 16 + 16;
const MAC_BYTES: usize = 32;
const TOKEN_BYTES: usize = SIGNED_BYTES + MAC_BYTES;
/// The length of a token without its prefix.
const ENCODED_CHARS: usize = (TOKEN_BYTES * 4).div_ceil(3);

/// An encoded browser token. `Debug` omits it: it is all that a browser needs to be signed in.
#[derive(Clone, PartialEq, Eq)]
pub struct BrowserToken(Zeroizing<String>);

impl BrowserToken {
    /// The text, for the cookie.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BrowserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[browser token]")
    }
}

/// Encodes and decodes browser tokens.
pub struct BrowserTokens {
    current: hmac::Key,
    previous: Vec<hmac::Key>,
}

impl BrowserTokens {
    /// Encodes with the MAC key `current` and decodes with all keys, so that the key can be rotated without ending sessions.
    pub fn new<'a>(current: &[u8; 32], previous: impl IntoIterator<Item = &'a [u8; 32]>) -> Self {
        let key = |bytes: &[u8; 32]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Self { current: key(current), previous: previous.into_iter().map(key).collect() }
    }

    /// Encodes the token of a session.
    pub fn encode(&self, account: AccountId, session: SessionId) -> BrowserToken {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(account.as_bytes());
        bytes[17..SIGNED_BYTES].copy_from_slice(session.as_bytes());
        let mac = hmac::sign(&self.current, &bytes[..SIGNED_BYTES]);
        bytes[SIGNED_BYTES..].copy_from_slice(mac.as_ref());
        let mut text = String::with_capacity(PREFIX.len() + ENCODED_CHARS);
        text.push_str(PREFIX);
        BASE64_URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
        BrowserToken(Zeroizing::new(text))
    }

    /// The account and the session of a token that was encoded with one of the keys; `None` for any other text.
    pub fn decode(&self, text: &str) -> Option<(AccountId, SessionId)> {
        let encoded = text.strip_prefix(PREFIX).filter(|encoded| encoded.len() == ENCODED_CHARS)?;
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        BASE64_URL_SAFE_NO_PAD.decode_slice(encoded, &mut *bytes).ok()?;
        let (signed, mac) = bytes.split_at(SIGNED_BYTES);
        if signed[0] != VERSION {
            return None;
        }
        let mut keys = std::iter::once(&self.current).chain(&self.previous);
        if !keys.any(|key| hmac::verify(key, signed, mac).is_ok()) {
            return None;
        }
        let account = AccountId::from_bytes(signed[1..17].try_into().ok()?);
        let session = SessionId::from_bytes(signed[17..].try_into().ok()?);
        Some((account, session))
    }
}

impl fmt::Debug for BrowserTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[browser token keys]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_token_is_decoded_with_current_and_previous_key_only() {
        let (account, session) = (AccountId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        let (old_key, new_key) = ([7; 32], [8; 32]);
        let token = BrowserTokens::new(&old_key, []).encode(account, session);
        assert_eq!(format!("{token:?}"), "[browser token]");
        assert_eq!(token.expose().len(), "lk_bs_".len() + 87);
        let encoded_ids = Some((account, session));
        assert_eq!(BrowserTokens::new(&old_key, []).decode(token.expose()), encoded_ids);
        assert_eq!(BrowserTokens::new(&new_key, [&old_key]).decode(token.expose()), encoded_ids);
        assert_eq!(BrowserTokens::new(&new_key, []).decode(token.expose()), None);
    }

    #[test]
    fn changed_browser_token_and_other_text_are_refused() {
        let tokens = BrowserTokens::new(&[7; 32], []);
        let token = tokens.encode(AccountId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        for at in 0..token.expose().len() {
            let mut text = token.expose().to_owned();
            let replacement = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            text.replace_range(at..=at, replacement);
            assert_eq!(tokens.decode(&text), None, "{at}");
        }
        let start_of_a_refresh_token = "lk_rt_AQ";
        for text in ["", "lk_bs_", start_of_a_refresh_token] {
            assert_eq!(tokens.decode(text), None);
        }
    }
}
