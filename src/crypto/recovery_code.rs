//! Recovery codes: an account has ten random codes of 50 bits. SQL holds their HMACs, under a random key of the account.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::domain::{entropy::Entropy, secret::SecretText};

/// The number of codes of an account.
pub const COUNT: usize = 10;

/// The characters of codes: no `0`, `O`, `1` and `I`, which are easily confused.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/// The number of characters of a code.
const CHARS: usize = 10;

/// A code, without separators. `Debug` omits it.
#[derive(Clone)]
pub struct RecoveryCode(SecretText);

impl RecoveryCode {
    /// A new code.
    pub fn generate(entropy: &Entropy) -> Self {
        // 256 is a multiple of 32, so all characters are equally likely.
        let bytes = Zeroizing::new(entropy.bytes::<CHARS>());
        Self(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect::<String>().into())
    }

    /// Reads a typed code: in any case, with or without spaces and hyphens. `None` if the text is not a code.
    pub fn parse(text: &str) -> Option<Self> {
        // Each character may have a separator of at most three bytes beside it.
        if text.len() > CHARS * (1 + 3) {
            return None;
        }
        // U+2011 is a hyphen, and U+00A0 a space, at which no line breaks. Word processors write them.
        let kept = text.chars().filter(|c| !matches!(c, ' ' | '-' | '\u{2011}' | '\u{a0}'));
        let code: Zeroizing<String> = Zeroizing::new(kept.map(|c| c.to_ascii_uppercase()).collect());
        let is_code = code.len() == CHARS && code.bytes().all(|byte| ALPHABET.contains(&byte));
        is_code.then(|| Self(code.as_str().into()))
    }

    /// The code as its owner sees it: two groups of five characters.
    pub fn to_text(&self) -> SecretText {
        let (first, second) = self.0.expose().split_at(CHARS / 2);
        format!("{first}-{second}").into()
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[recovery code]")
    }
}

/// The key of an account's codes. `Debug` omits it.
#[derive(Clone)]
pub struct RecoveryKey(Zeroizing<Vec<u8>>);

impl RecoveryKey {
    /// A new key.
    pub fn generate(entropy: &Entropy) -> Self {
        Self(Zeroizing::new(entropy.bytes::<32>().to_vec()))
    }

    /// The key with these bytes, which were stored encrypted and are now decrypted.
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes of the key, to be encrypted before they are stored.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The digest of a code, in hexadecimal.
    pub fn digest(&self, code: &RecoveryCode) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), code.0.expose().as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[recovery key]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_read_in_any_case_and_grouping_and_other_text_is_refused() {
        let code = RecoveryCode::generate(&Entropy::system());
        let text = code.to_text();
        assert_eq!(text.expose().len(), CHARS + 1, "two groups and a hyphen");
        for typed in [text.expose().to_lowercase(), text.expose().replace('-', " "), text.expose().replace('-', "")] {
            assert_eq!(RecoveryCode::parse(&typed).unwrap().0, code.0, "{typed}");
        }
        let (too_short, with_zero, one_too_long) = ("ABCDE", "ABCDE-FGHJ0", "ABCDE-FGHJKL");
        let longer_than_any_typed_code = "A".repeat(99);
        for invalid in ["", too_short, with_zero, one_too_long, "ÄBCDE-FGHJK", &longer_than_any_typed_code] {
            assert!(RecoveryCode::parse(invalid).is_none(), "{invalid}");
        }
    }

    #[test]
    fn digest_depends_on_the_key_and_the_code() {
        let entropy = Entropy::system();
        let (key, code) = (RecoveryKey::generate(&entropy), RecoveryCode::generate(&entropy));
        let digest = key.digest(&code);
        let stored_key = RecoveryKey::from_bytes(Zeroizing::new(key.expose().to_vec()));
        assert_eq!(stored_key.digest(&code), digest);
        let other_key = RecoveryKey::generate(&entropy);
        assert_ne!(other_key.digest(&code), digest);
        let other_code = RecoveryCode::generate(&entropy);
        assert_ne!(key.digest(&other_code), digest);
    }

    #[test]
    fn debug_output_omits_key_and_code() {
        let entropy = Entropy::system();
        let (key, code) = (RecoveryKey::generate(&entropy), RecoveryCode::generate(&entropy));
        assert_eq!(format!("{key:?} {code:?}"), "[recovery key] [recovery code]");
    }
}
