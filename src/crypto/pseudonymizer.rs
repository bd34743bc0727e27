//! Pseudonyms for the subjects of rate limits, such as an e-mail address or a network whose attempts are counted. They are HMACs under a
//! key that Redis never sees, so that a copy of Redis reveals neither e-mail addresses nor networks.

use std::fmt;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// Computes pseudonyms with an HMAC key.
pub struct Pseudonymizer(Key);

impl Pseudonymizer {
    /// Uses this HMAC key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Key::new(HMAC_SHA256, key))
    }

    /// The pseudonym of a subject: 22 characters of base64url. The subject consists of `parts`, such as `login` and `ada`. The pseudonym
    /// depends on every part and on the boundaries between the parts.
    pub fn pseudonym(&self, parts: &[&[u8]]) -> String {
        let mut message = Vec::new();
        for part in parts {
            // the length marks the boundary
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part);
        }
        let tag = sign(&self.0, &message);
        // 128 bits suffice to tell subjects apart, and make short Redis keys
        BASE64_URL_SAFE_NO_PAD.encode(&tag.as_ref()[..16])
    }
}

impl fmt::Debug for Pseudonymizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[pseudonymizer]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonym_depends_on_key_and_on_boundaries_of_parts() {
        let pseudonymizer = Pseudonymizer::new(&[1; 32]);
        let pseudonym = pseudonymizer.pseudonym(&[b"login", b"ada"]);
        assert_eq!(pseudonym.len(), 22);
        assert_eq!(pseudonym, pseudonymizer.pseudonym(&[b"login", b"ada"]));
        assert_ne!(pseudonym, pseudonymizer.pseudonym(&[b"logi", b"nada"]));
        assert_ne!(pseudonym, Pseudonymizer::new(&[2; 32]).pseudonym(&[b"login", b"ada"]));
    }
}
