//! CPU only: password hashing, signing keys and access tokens, refresh tokens, encryption at rest. No I/O.

pub mod access_token;
pub mod client_assertion;
pub mod client_keys;
pub mod client_secret;
pub mod client_token;
pub mod derive;
pub mod digest_cache;
pub mod huge_pages;
pub mod jws;
pub mod key_ring;
pub mod key_rotation;
pub mod pseudonymizer;
pub mod refresh_token;
pub mod seal;
pub mod signing_key;
pub(crate) mod strict_json;
pub mod verified_tokens;
