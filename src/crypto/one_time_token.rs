//! The secrets of one-time tokens: the token of a link and the code beside it. Redis holds only their HMACs, under a key that
//! it never sees, so that a copy of Redis reveals neither links nor codes.
//!
//! The token of a link is `lk_ot_` and 56 characters of base64url, which encode a version (1 byte), the purpose (1), the
//! account (16) and a secret (24). A code is 8 characters of an alphabet without look-alikes: 40 bits.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::domain::{
    entropy::Entropy,
    ids::AccountId,
    one_time_token::{Binding, TokenPurpose},
    secret::SecretText,
};

/// The prefix of every token of a link, by which secret scanners find leaked ones.
pub const PREFIX: &str = "lk_ot_";

const VERSION: u8 = 1;
const SECRET_BYTES: usize = 24;
/// Where the secret starts in a link's token: after the version (1 byte), the purpose (1) and the account (16).
const SECRET_START: usize = 18;
const TOKEN_BYTES: usize = SECRET_START + SECRET_BYTES;
/// The characters of a link's token after the prefix: base64url encodes three bytes in four characters.
const TOKEN_CHARS: usize = TOKEN_BYTES / 3 * 4;

/// The characters of codes: no `0`, `O`, `1` and `I`, which are easily confused.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// The number of characters of a code.
pub const CODE_CHARS: usize = 8;

/// The token of a link. `Debug` omits its secret.
#[derive(Clone)]
pub struct LinkToken {
    /// The action that the token allows, such as a reset of the password.
    pub purpose: TokenPurpose,
    /// The account for which the token allows the action.
    pub account: AccountId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// A code, without separators. `Debug` omits it.
#[derive(Clone)]
pub struct Code(SecretText);

impl LinkToken {
    /// A new token.
    pub fn generate(entropy: &Entropy, purpose: TokenPurpose, account: AccountId) -> Self {
        Self { purpose, account, secret: Zeroizing::new(entropy.bytes()) }
    }

    /// Reads a token; `None` if the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX).filter(|encoded| encoded.len() == TOKEN_CHARS)?;
        let mut bytes = Zeroizing::new([0_u8; TOKEN_BYTES]);
        BASE64_URL_SAFE_NO_PAD.decode_slice(encoded, bytes.as_mut_slice()).ok()?;
        if bytes[0] != VERSION {
            return None;
        }
        Some(Self {
            purpose: TokenPurpose::from_byte(bytes[1])?,
            account: AccountId::from_bytes(bytes[2..SECRET_START].try_into().ok()?),
            secret: Zeroizing::new(bytes[SECRET_START..].try_into().ok()?),
        })
    }

    /// The text to send.
    pub fn to_text(&self) -> SecretText {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        bytes[0] = VERSION;
        bytes[1] = self.purpose.byte();
        bytes[2..SECRET_START].copy_from_slice(self.account.as_bytes());
        bytes[SECRET_START..].copy_from_slice(self.secret.as_slice());
        let mut text = String::with_capacity(PREFIX.len() + TOKEN_CHARS);
        text.push_str(PREFIX);
        BASE64_URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
        text.into()
    }
}

impl fmt::Debug for LinkToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[one-time token for {:?}]", self.purpose)
    }
}

impl Code {
    /// A new code.
    pub fn generate(entropy: &Entropy) -> Self {
        // 32 divides 256, so all characters are equally likely.
        let bytes = Zeroizing::new(entropy.bytes::<CODE_CHARS>());
        Self(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect::<String>().into())
    }

    /// Parses a typed code: in any case, with or without spaces and hyphens. `None` if the text is not a code.
    pub fn parse(text: &str) -> Option<Self> {
        // Each character may have a separator of at most three bytes beside it.
        if text.len() > CODE_CHARS * (1 + 3) {
            return None;
        }
        // U+2011 is a hyphen, and U+00A0 a space, at which no line breaks. Word processors write them.
        let kept = text.chars().filter(|c| !matches!(c, ' ' | '-' | '\u{2011}' | '\u{a0}'));
        let code: Zeroizing<String> = Zeroizing::new(kept.map(|c| c.to_ascii_uppercase()).collect());
        let is_valid = code.len() == CODE_CHARS && code.bytes().all(|byte| ALPHABET.contains(&byte));
        is_valid.then(|| Self(code.as_str().into()))
    }

    /// The code as mails show it: two groups of four characters.
    pub fn to_text(&self) -> SecretText {
        let (first, second) = self.0.expose().split_at(CODE_CHARS / 2);
        format!("{first}-{second}").into()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[code]")
    }
}

/// Computes the digests that Redis holds.
pub struct TokenDigests {
    current: hmac::Key,
    previous: Vec<hmac::Key>,
}

impl TokenDigests {
    /// The digests to store are computed under `current`. Those to look up are computed under all keys, so that tokens issued before a
    /// rotation of the key still work.
    pub fn new<'a>(current: &[u8; 32], previous: impl IntoIterator<Item = &'a [u8; 32]>) -> Self {
        let key = |bytes: &[u8; 32]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Self { current: key(current), previous: previous.into_iter().map(key).collect() }
    }

    /// The digest of a link's token, to store. `request_secret` is the secret of the sign-in request that the token is bound to; empty
    /// for an unbound token.
    pub fn link_digest(&self, token: &LinkToken, request_secret: &[u8]) -> [u8; 32] {
        digest(&self.current, b"link", token.purpose, token.account, token.secret.as_slice(), request_secret)
    }

    /// The digest of a code, to store. See [`Self::link_digest`] for `request_secret`.
    pub fn code_digest(
        &self,
        code: &Code,
        purpose: TokenPurpose,
        account: AccountId,
        request_secret: &[u8],
    ) -> [u8; 32] {
        digest(&self.current, b"code", purpose, account, code.0.expose().as_bytes(), request_secret)
    }

    /// The digests that a link's token may be stored under, one for each key.
    pub fn link_digests(&self, token: &LinkToken, request_secret: &[u8]) -> Vec<[u8; 32]> {
        let digest_under =
            |key| digest(key, b"link", token.purpose, token.account, token.secret.as_slice(), request_secret);
        self.keys().map(digest_under).collect()
    }

    /// The digests that a code may be stored under, one for each key.
    pub fn code_digests(
        &self,
        code: &Code,
        purpose: TokenPurpose,
        account: AccountId,
        request_secret: &[u8],
    ) -> Vec<[u8; 32]> {
        let digest_under = |key| digest(key, b"code", purpose, account, code.0.expose().as_bytes(), request_secret);
        self.keys().map(digest_under).collect()
    }

    fn keys(&self) -> impl Iterator<Item = &hmac::Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl fmt::Debug for TokenDigests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[one-time token digests]")
    }
}

/// A digest of the state that a token is bound to, such as the account's address and epoch: the token works only while the digest
/// is the same. It depends on every part of the state and on the boundaries between the parts.
pub fn binding(parts: &[&[u8]]) -> Binding {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    // The first half of the digest suffices, and takes less space in Redis.
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    Binding(bytes)
}

/// The digest of a link's token or of a code under one key. `kind` is `link` or `code`, so that neither passes for the other.
fn digest(
    key: &hmac::Key,
    kind: &[u8; 4],
    purpose: TokenPurpose,
    account: AccountId,
    secret: &[u8],
    request_secret: &[u8],
) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(kind);
    context.update(&[purpose.byte()]);
    context.update(account.as_bytes());
    // All secrets of a kind have the same length, so no separator is needed.
    context.update(secret);
    context.update(request_secret);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.sign().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_read_back_and_its_secret_is_not_printed() {
        let account = AccountId::from_bytes([7; 16]);
        let token = LinkToken::generate(&Entropy::system(), TokenPurpose::ResetPassword, account);
        let text = token.to_text();
        assert_eq!(text.expose().len(), PREFIX.len() + 56);
        let read = LinkToken::parse(text.expose()).unwrap();
        assert_eq!(read.purpose, token.purpose);
        assert_eq!(read.account, account);
        assert_eq!(read.secret, token.secret);
        assert_eq!(format!("{token:?}"), "[one-time token for ResetPassword]");
        let too_long = format!("{}A", text.expose());
        let broken_prefix = &text.expose()[1..];
        for bad in ["", "lk_ot_", broken_prefix, &too_long, "lk_ot_ä"] {
            assert!(LinkToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn code_is_read_in_any_case_and_grouping() {
        let code = Code::generate(&Entropy::system());
        let text = code.to_text();
        assert_eq!(text.expose().len(), CODE_CHARS + 1, "eight characters and a hyphen");
        for typed in [text.expose().to_lowercase(), text.expose().replace('-', " "), text.expose().replace('-', "")] {
            assert_eq!(Code::parse(&typed).unwrap().0, code.0, "{typed}");
        }
        // empty, too short, with a look-alike (0), too long, with a letter that is not ASCII, much too long
        for bad in ["", "ABCD", "ABCD-EFG0", "ABCD-EFGHJ", "ÄBCD-EFGH", &"A".repeat(99)] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn digest_depends_on_key_purpose_account_secret_and_request_secret() {
        let (current_key, previous_key) = ([1; 32], [2; 32]);
        let digests = TokenDigests::new(&current_key, [&previous_key]);
        let entropy = Entropy::system();
        let account = AccountId::from_bytes([7; 16]);
        let code = Code::generate(&entropy);
        let request_secret = b"a";
        let stored = digests.code_digest(&code, TokenPurpose::Login, account, request_secret);
        // the first digest is under the current key
        assert_eq!(digests.code_digests(&code, TokenPurpose::Login, account, request_secret)[0], stored);
        let other_account = AccountId::from_bytes([8; 16]);
        for different in [
            digests.code_digest(&code, TokenPurpose::Login, account, b"b"),
            digests.code_digest(&code, TokenPurpose::ResetPassword, account, request_secret),
            digests.code_digest(&code, TokenPurpose::Login, other_account, request_secret),
            digests.code_digest(&Code::generate(&entropy), TokenPurpose::Login, account, request_secret),
            digests.code_digests(&code, TokenPurpose::Login, account, request_secret)[1], // under the previous key
        ] {
            assert_ne!(stored, different);
        }
        let rotated = TokenDigests::new(&[3; 32], [&current_key]);
        assert!(rotated.code_digests(&code, TokenPurpose::Login, account, request_secret).contains(&stored));
    }
}
