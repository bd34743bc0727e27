//! CPU only: password hashing, signing keys and access tokens, refresh tokens, encryption at rest. No I/O.

pub mod password;
pub mod refresh_token;
