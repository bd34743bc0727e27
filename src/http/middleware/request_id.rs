//! The id of a request: in the response, in the log and in every error body (problem).

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

/// A request's id, as the value of [`REQUEST_ID`].
#[derive(Clone)]
pub(super) struct RequestId(pub(super) HeaderValue);

impl RequestId {
    /// The id that the caller sent, or a new one if it sent none that is fit for a log line.
    pub(super) fn of(request: &Request, entropy: &Entropy) -> Self {
        Self::from_header(request).unwrap_or_else(|| Self::generate(entropy))
    }

    fn from_header(request: &Request) -> Option<Self> {
        let id = request.headers().get(REQUEST_ID)?;
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let is_fit = CALLER_ID_LENGTH.contains(&id.len()) && id.as_bytes().iter().all(is_allowed);
        is_fit.then(|| Self(id.clone()))
    }

    fn generate(entropy: &Entropy) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        entropy.uuid().hyphenated().encode_lower(&mut text);
        // A UUID has only characters that a header may contain, so the fallback is never used.
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("")))
    }

    /// The id as text. It is ASCII, whether the caller or this node chose it.
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}
