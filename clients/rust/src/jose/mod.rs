//! Strict JSON, JWS and JWK checks, shared by this crate and the Latchkey service. Not part of the public API.
//!
//! The checks here need neither a clock nor an issuer. [`access_token`] splits a token and checks its header,
//! [`jwk::Jwk`] turns a published key into a [`jwk::VerificationKey`] with one algorithm, and [`strict_json`] refuses
//! JSON that two readers could understand differently.

pub mod access_token;
pub mod jwk;
pub mod jws;
pub mod strict_json;
