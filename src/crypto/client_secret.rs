//! The secrets of clients: `lk_cs_` and 256 unpredictable bits in base64url. Only their SHA-256 is stored: a secret with
//! that much entropy needs neither a salt nor a slow hash.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::domain::{client::ClientSecretHash, entropy::Entropy};

/// The prefix of every client secret, by which secret scanners find leaked ones.
pub const PREFIX: &str = "lk_cs_";

/// The length of 32 bytes in base64url.
const ENCODED_CHARS: usize = 43;

/// A client's secret. `Debug` omits it, since it authenticates the client.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret(Zeroizing<String>);

impl ClientSecret {
    /// Generates a secret.
    pub fn generate(entropy: &Entropy) -> Self {
        Self::from_bits(&Zeroizing::new(entropy.bytes::<32>()))
    }

    /// The secret with these 256 bits, which must be unpredictable.
    pub(super) fn from_bits(bits: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(PREFIX.len() + ENCODED_CHARS);
        text.push_str(PREFIX);
        BASE64_URL_SAFE_NO_PAD.encode_string(bits, &mut text);
        Self(Zeroizing::new(text))
    }

    /// The text of the secret, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The hash to store.
    pub fn hash(&self) -> ClientSecretHash {
        hash(&self.0)
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[client secret]")
    }
}

/// Hashes the text of a client secret, to be stored or compared with the stored hash.
pub fn hash(secret: &str) -> ClientSecretHash {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    ClientSecretHash::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_secret_has_prefix_and_is_not_printed() {
        let entropy = Entropy::system();
        let secret = ClientSecret::generate(&entropy);
        let another = ClientSecret::generate(&entropy);
        let encoded = secret.expose().strip_prefix("lk_cs_").unwrap();
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(encoded).unwrap().len(), 32);
        assert_eq!(encoded.len(), 43, "the base64url of 32 bytes, without padding");
        assert_eq!(format!("{secret:?}"), "[client secret]");
        assert_eq!(format!("{:?}", secret.hash()), "[client secret hash]");
        assert_eq!(secret.hash(), hash(secret.expose()));
        assert_ne!(secret.hash(), another.hash());
    }
}
