//! The id of a request: in the response, in the log and in every problem.

use std::ops::RangeInclusive;

use poem::{
    Request,
    http::{HeaderName, HeaderValue},
};
use uuid::fmt::Hyphenated;

use crate::domain::entropy::Entropy;

/// The header that carries a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The length of an id that a caller may choose, in bytes: long enough to be unique, and short enough for a log line.
const CALLER_ID_LENGTH: RangeInclusive<usize> = 8..=64;

/// A request's id, as the header has it.
pub(super) struct RequestId(pub(super) HeaderValue);

impl RequestId {
    /// The id that the caller sent, if it is fit for a log line; a new one otherwise.
    pub(super) fn of(request: &Request, entropy: &Entropy) -> Self {
        Self::sent(request).unwrap_or_else(|| Self::generate(entropy))
    }

    fn sent(request: &Request) -> Option<Self> {
        let id = request.headers().get(REQUEST_ID)?;
        let fit = CALLER_ID_LENGTH.contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        fit.then(|| Self(id.clone()))
    }

    fn generate(entropy: &Entropy) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        entropy.uuid().hyphenated().encode_lower(&mut text);
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("")))
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}
