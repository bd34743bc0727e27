//! Whom a rate limit is about, hashed under a key that Redis never sees: what is in Redis tells neither e-mail addresses
//! nor where people sign in.

use std::fmt;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// Makes names of subjects.
pub struct Pseudonymizer(Key);

impl Pseudonymizer {
    /// With a key of 32 bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Key::new(HMAC_SHA256, key))
    }

    /// The name of a subject: 22 characters of base64url. Other parts, or the same letters parted otherwise, make another
    /// name.
    pub fn name(&self, parts: &[&[u8]]) -> String {
        let mut text = Vec::new();
        for part in parts {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        BASE64_URL_SAFE_NO_PAD.encode(&sign(&self.0, &text).as_ref()[..16])
    }
}

impl fmt::Debug for Pseudonymizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[subjects]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_the_key_and_every_part() {
        let subjects = Pseudonymizer::new(&[1; 32]);
        let name = subjects.name(&[b"login", b"ada"]);
        assert_eq!(name.len(), 22);
        assert_eq!(name, subjects.name(&[b"login", b"ada"]));
        assert_ne!(name, subjects.name(&[b"logi", b"nada"]));
        assert_ne!(name, Pseudonymizer::new(&[2; 32]).name(&[b"login", b"ada"]));
    }
}
