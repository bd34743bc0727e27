//! Checks Latchkey's access tokens in memory, in microseconds, and still sees a sign-out
//! everywhere within milliseconds.
//!
//! ```no_run
//! use latchkey_verify::{OnFeedLost, Verifier, VerifyError};
//!
//! # async fn serve(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Verifier::builder("https://auth.example.com")
//!     .audience("orders")
//!     .client("orders-service", std::env::var("LATCHKEY_CLIENT_SECRET")?)
//!     .on_feed_lost(OnFeedLost::Introspect)
//!     .build()
//!     .await?;
//!
//! match verifier.verify(token).await {
//!     Ok(claims) if claims.has_scope("account") => println!("{} is signed in", claims.sub),
//!     Ok(_) => println!("403"),
//!     Err(error) if error.is_unavailable() => println!("503: {error}"),
//!     Err(error) => println!("401: {error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is checked
//!
//! A token is checked as RFC 8725 and RFC 9068 say: its key is one that the issuer publishes now, the algorithm is that
//! key's (ES256, EdDSA, RS256 or PS256) whatever the token says, `typ` is `at+jwt`, no header is `crit`, no member stands
//! there twice, all required claims are there, `iss` and `aud` are right, and `exp`, `nbf` and `iat` hold now. Headers that
//! bring or name keys (`jwk`, `jku`, `x5c`, `x5u`) are not looked at. Tokens found good are remembered by their SHA-256; what
//! can change is checked every time all the same.
//!
//! Then it is looked up among the revocations that the issuer's feed has told: a session, the sessions of an account that
//! began before a time, or all that a key has signed.
//!
//! # When the feed is lost
//!
//! The feed is heard every second. When it is silent, tokens are still answered from memory for
//! [`Builder::max_staleness`], which bounds how late a sign-out can be seen. After that, and before the feed was complete
//! for the first time, [`OnFeedLost`] says what is done: ask the issuer about each token, or refuse. Connections are made
//! anew with growing pauses, and resumed where they ended; if the issuer can't fill the gap, it tells everything again.
//!
//! Memory is bounded: a revocation is forgotten when no token that it could touch is accepted any longer; and with more
//! than [`Builder::max_revocations`] of them the feed counts as lost, instead of any being forgotten.
//!
//! # Features
//!
//! - `verifier` (default): everything described above.
//! - `tower`: a layer for axum, hyper and tonic.
//! - `poem`: a middleware and an extractor.
#![forbid(unsafe_code)]

#[cfg(any(feature = "tower", feature = "poem"))]
mod bearer;
#[cfg(feature = "verifier")]
mod builder;
#[cfg(feature = "verifier")]
mod cache;
#[cfg(feature = "verifier")]
mod claims;
#[cfg(feature = "verifier")]
mod clock;
#[cfg(feature = "verifier")]
mod error;
#[cfg(feature = "verifier")]
mod feed;
#[cfg(feature = "verifier")]
mod http;
#[cfg(feature = "verifier")]
mod id;
#[doc(hidden)]
pub mod jose;
#[cfg(feature = "verifier")]
mod jwk;
#[cfg(feature = "verifier")]
mod key_store;
#[cfg(feature = "verifier")]
mod metadata;
#[cfg(feature = "poem")]
pub mod poem;
#[cfg(feature = "verifier")]
mod revocations;
#[cfg(feature = "verifier")]
mod rfc3339;
#[cfg(feature = "verifier")]
mod secret;
#[cfg(feature = "verifier")]
mod token;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "verifier")]
mod verifier;

#[cfg(feature = "verifier")]
pub use builder::{Builder, OnFeedLost};
#[cfg(feature = "verifier")]
pub use claims::Claims;
#[cfg(feature = "verifier")]
pub use clock::{Clock, SystemClock};
#[cfg(feature = "verifier")]
pub use error::{BuildError, FetchError, Invalid, VerifyError};
#[cfg(feature = "verifier")]
pub use jose::access_token::MAX_TOKEN_BYTES;
#[cfg(feature = "verifier")]
pub use verifier::{Status, Verifier};
