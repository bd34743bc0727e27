//! Verifies Latchkey's access tokens locally, in microseconds, and refuses a token within milliseconds after its session
//! ended.
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
//!     Ok(_) => println!("403: the scope is missing"),
//!     Err(error) if error.is_unavailable() => println!("503: {error}"),
//!     Err(error) => println!("401: {error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Validation
//!
//! Tokens are validated as RFC 8725 and RFC 9068 require: the issuer publishes the key; `alg` is the algorithm of the key
//! (ES256, EdDSA, RS256 or PS256); `typ` is `at+jwt`; the header has no `crit`; no member is duplicated; all required claims
//! are present; `iss` and `aud` match; `exp`, `nbf` and `iat` fit the current time. Headers that contain or locate keys (`jwk`, `jku`,
//! `x5c`, `x5u`) are ignored. Verified tokens are cached by their SHA-256; times, keys and revocations are checked on every
//! hit.
//!
//! Then the verifier looks up the token among the revocations of the issuer's feed, a stream of events. A revocation concerns
//! a session, the sessions of an account that began before a given time, or a signing key. When the claims of an account
//! change, such as its roles, the verifier refuses the account's older tokens with [`VerifyError::ClaimsChanged`]. The
//! client's next refresh returns a token with the current claims.
//!
//! # Open connections and jobs
//!
//! [`Verifier::watch`] and [`Verifier::on_end`] register a session for which the service holds a connection, an event stream or
//! a long job. The registration ends with an [`EndCause`] when the session ends, its last known token expires, its claims
//! change, or the feed is silent for longer than [`Builder::end_after_silence`].
//!
//! ```no_run
//! # use latchkey_verify::{Verifier, VerifyError};
//! # async fn serve(verifier: Verifier, token: &str, connection: impl Future<Output = ()>) -> Result<(), VerifyError> {
//! let claims = verifier.verify(token).await?;
//! let mut session = verifier.watch(&claims);
//! if let Err(cause) = session.run(connection).await {
//!     println!("the connection of {} is closed: {cause}", claims.sub);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A lost feed
//!
//! The feed sends a heartbeat every second. After its last event, tokens are verified locally for at most
//! [`Builder::max_staleness`], which bounds the delay of a revocation. Then the feed counts as lost, as before the first
//! snapshot (all revocations that still affect tokens): the verifier introspects each token or refuses all, as
//! [`OnFeedLost`] says. It reconnects with exponential backoff and resumes after the last event. If the issuer no longer has
//! the missed events, it sends a new snapshot.
//!
//! Memory is bounded. A revocation is evicted when it can no longer affect an unexpired token, but never to make room for
//! another one: with more than [`Builder::max_revocations`] revocations, the feed counts as lost.
//!
//! # Features
//!
//! - `verifier` (default): everything described above.
//! - `tower`: a layer for axum, hyper and tonic.
//! - `tower-upgrade`: WebSockets and other upgraded connections that close with their session, for tower on hyper.
//! - `poem`: a middleware and extractors.
//! - `poem-websocket`: WebSockets that close with their session, for poem.
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
#[cfg(any(feature = "tower", feature = "poem"))]
mod guard;
#[cfg(feature = "verifier")]
mod http;
#[cfg(feature = "verifier")]
mod id;
// For Latchkey itself, which validates tokens with the same code; not part of the public API.
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
mod secret;
#[cfg(feature = "verifier")]
mod session_end;
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
pub use session_end::{EndCause, Registration, RenewError, SessionWatch, VerifiedSession};
#[cfg(feature = "verifier")]
pub use verifier::{Status, Verifier};
