//! From the service's one secret to as many keys as there are purposes (HKDF-SHA256, RFC 5869), so that no key is ever
//! used for two things and none of them tells anything about another.

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::domain::secret::SecretText;

/// Encrypts what is kept in SQL: [`super::seal`].
pub const SEALING: &str = "latchkey/1/sealing";
/// Tells under which secret something was sealed, without telling anything about the secret: [`super::seal`].
pub const SEALING_ID: &str = "latchkey/1/sealing-id";
/// Authenticates refresh tokens: [`super::refresh_token`].
pub const REFRESH_TOKEN_MAC: &str = "latchkey/1/refresh-token-mac";
/// Hashes whom rate limits are about, so that their keys don't tell: [`super::subject`].
pub const LIMITS: &str = "latchkey/1/limits";

const SALT: &[u8] = b"latchkey";

/// The 32-byte key for `purpose`, one of this module's constants. The same secret and purpose always give the same key.
///
/// HKDF spreads the secret's strength over the keys, it adds none: a secret that can be guessed makes keys that can be.
pub fn derive(secret: &SecretText, purpose: &'static str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, SALT)
        .extract(secret.expose().as_bytes())
        .expand(&[purpose.as_bytes()], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *key))
        .expect("one block of output is always to be had, and the buffer has its length");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, an upgrade ends every session and loses every signing key.
    #[test]
    fn keys_are_those_of_the_first_release() {
        let secret = SecretText::from("correct horse battery staple");
        // Computed with Python's hmac module, by RFC 5869.
        assert_eq!(hex(&derive(&secret, SEALING)), "e94f682c21f20f1d8e58787a21ca6fac7942366688015ab4e7e9f6fbbac206a0");
        assert_eq!(
            hex(&derive(&secret, SEALING_ID)),
            "e9c5fa3aed6aa11fb6f669fb3aa522547fbaba0b564a29dad88aa2b696a47f67"
        );
        assert_eq!(
            hex(&derive(&secret, REFRESH_TOKEN_MAC)),
            "d152b981f7009be2dbecf114d45e397ca216c331787103d2038f8bf812b0ceeb"
        );
    }

    fn hex(bytes: &[u8; 32]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
