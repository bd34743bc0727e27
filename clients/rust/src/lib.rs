//! Checks the access tokens of a [Latchkey](https://github.com/latchkey) service.
#![forbid(unsafe_code)]

mod builder;
mod cache;
mod claims;
mod clock;
mod error;
mod feed;
mod http;
mod id;
mod jwk;
mod key_store;
mod metadata;
mod revocations;
mod rfc3339;
mod secret;
mod strict_json;
mod token;
mod verifier;

pub use builder::{Builder, OnFeedLost};
pub use claims::Claims;
pub use clock::{Clock, SystemClock};
pub use error::{BuildError, FetchError, Invalid, VerifyError};
pub use token::MAX_TOKEN_BYTES;
pub use verifier::{Status, Verifier};
