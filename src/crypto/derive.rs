//! Key derivation: one key per purpose from the service's secret (HKDF-SHA256, RFC 5869). No key reveals anything about another.
//!
//! The constants are the labels of the purposes: `latchkey/SCHEME_VERSION/PURPOSE`. The labels and the salt never change: with other
//! keys, the service could not read what it has stored.

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::domain::secret::SecretText;

/// Encrypts values at rest, such as signing keys: [`super::seal`].
pub const SEALING: &str = "latchkey/1/sealing";
/// Identifies the secret that a value is sealed under, without revealing it: [`super::seal`].
pub const SEALING_ID: &str = "latchkey/1/sealing-id";
/// Authenticates refresh tokens: [`super::refresh_token`].
pub const REFRESH_TOKEN_MAC: &str = "latchkey/1/refresh-token-mac";
/// Authenticates the cookies of browsers' sessions: [`super::browser_token`].
pub const BROWSER_SESSION_MAC: &str = "latchkey/1/browser-session-mac";
/// Computes the anti-forgery tokens of forms: [`super::csrf`].
pub const CSRF: &str = "latchkey/1/csrf";
/// Tags the origins of requests, which are their networks and user agents: [`super::origin_tag`].
pub const ORIGIN_TAGS: &str = "latchkey/1/origin-tags";
/// Pseudonymizes the subjects of rate limits: [`super::pseudonymizer`].
pub const LIMITS: &str = "latchkey/1/limits";
/// Authenticates the client ids of apps that have registered themselves: [`super::client_registration`].
pub const CLIENT_REGISTRATION: &str = "latchkey/1/client-registration";
/// Computes the secrets of apps that have registered themselves: [`super::client_registration`].
pub const CLIENT_REGISTRATION_SECRET: &str = "latchkey/1/client-registration-secret";
/// Computes the digests of one-time tokens: [`super::one_time_token`].
pub const ONE_TIME_TOKENS: &str = "latchkey/1/one-time-tokens";

/// Public and constant, so that all nodes derive the same keys.
const SALT: &[u8] = b"latchkey";

/// Derives the 32-byte key for `purpose`, one of this module's labels.
///
/// HKDF adds no entropy: the keys are as easy to guess as the secret.
pub fn derive(secret: &SecretText, purpose: &'static str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, SALT)
        .extract(secret.expose().as_bytes())
        .expand(&[purpose.as_bytes()], HKDF_SHA256)
        .and_then(|output| output.fill(&mut *key))
        .expect("HKDF-SHA256 outputs up to 255 blocks of 32 bytes");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, an upgrade ends every session and loses every signing key. The values were computed with Python's
    /// hmac module by RFC 5869.
    #[test]
    fn derived_keys_match_first_release() {
        let secret = SecretText::from("correct horse battery staple");
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
