//! CPU-bound cryptography without I/O: signing keys, access tokens, refresh tokens, client credentials, encryption at rest.

pub mod access_token;
pub mod authorization_code;
pub mod browser_token;
pub mod challenge;
pub mod client_assertion;
pub mod client_keys;
pub mod client_registration;
pub mod client_secret;
pub mod client_token;
pub mod csrf;
pub mod derive;
pub mod digest_cache;
pub mod id_token;
pub mod jwt;
pub mod key_ring;
pub mod key_rotation;
pub mod one_time_token;
pub mod origin_tag;
pub mod passkeys;
pub mod pseudonymizer;
pub mod recovery_code;
pub mod refresh_token;
pub mod seal;
pub mod signing_key;
pub mod token_verifier;
pub mod totp;
