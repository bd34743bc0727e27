//! JSON Web Signatures in compact form (RFC 7515, section 7.1), split strictly: every JWS has exactly one spelling.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::strict_json;

/// A JWS whose signature has not been checked.
#[derive(Debug)]
pub struct Jws<'a> {
    /// The parsed header.
    pub header: Header,
    /// The signed text: the header and the payload, encoded.
    pub message: &'a str,
    /// The payload in base64url; [`Jws::payload()`] decodes it.
    payload: &'a str,
    /// The signature in base64url; [`Jws::signature()`] decodes it.
    pub signature: &'a str,
}

/// The members of a JWS header that are read. All others are ignored, those that carry or locate keys (`jwk`, `jku`,
/// `x5c`, `x5u`) included.
#[derive(Debug, Deserialize)]
pub struct Header {
    /// The signature algorithm.
    pub alg: String,
    /// The media type of the JWS.
    pub typ: Option<String>,
    /// The id of the signing key.
    pub kid: Option<String>,
    /// Whether a `crit` member is present, with any value.
    #[serde(default, deserialize_with = "is_present")]
    pub crit: bool,
}

impl Header {
    /// Whether `typ` is one of `types`; media types are compared without regard to case.
    pub fn is_type(&self, types: &[&str]) -> bool {
        self.typ.as_deref().is_some_and(|typ| types.iter().any(|one| typ.eq_ignore_ascii_case(one)))
    }
}

impl<'a> Jws<'a> {
    /// Splits a text into its three parts and parses the header. `None` if there are not exactly three parts, or if the
    /// header is not base64url of a JSON object with an `alg` and without duplicate members.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let header = strict_json::from_slice(&decode(header)?)?;
        Some(Self { header, message, payload, signature })
    }

    /// The decoded payload; `None` if it is not base64url.
    pub fn payload(&self) -> Option<Vec<u8>> {
        decode(self.payload)
    }

    /// The decoded signature; `None` if it is not base64url.
    pub fn signature(&self) -> Option<Vec<u8>> {
        decode(self.signature)
    }
}

/// Decodes base64url without padding strictly: one spelling for each sequence of bytes (RFC 7515, section 2).
fn decode(part: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(part).ok()
}

/// Reads any value, also `null`, as `true`.
fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"alg":"ES256"}` in base64url. In these tests, `e30` is `{}`, and `AAEC` is the bytes 0, 1 and 2.
    const HEADER: &str = "eyJhbGciOiJFUzI1NiJ9";

    #[test]
    fn jws_with_three_parts_is_split() {
        let text = format!("{HEADER}.e30.AAEC");
        let jws = Jws::parse(&text).unwrap();
        assert_eq!(jws.header.alg, "ES256");
        assert!(!jws.header.crit);
        assert_eq!(jws.message, format!("{HEADER}.e30"));
        assert_eq!(jws.payload().unwrap(), b"{}");
        assert_eq!(jws.signature().unwrap(), [0, 1, 2]);
    }

    #[test]
    fn text_without_three_parts_or_without_alg_is_refused() {
        let two_parts = format!("{HEADER}.e30");
        let four_parts = format!("{HEADER}.e30.e30.AAEC");
        let without_alg = "e30..";
        for text in ["", ".", "..", HEADER, &two_parts, &four_parts, without_alg] {
            assert!(Jws::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn padded_base64_is_refused_in_each_part() {
        assert!(Jws::parse(&format!("{HEADER}==.e30.AAEC")).is_none());
        // `parse` decodes only the header.
        let text = format!("{HEADER}.e30=.AA==");
        let jws = Jws::parse(&text).unwrap();
        assert_eq!(jws.payload(), None);
        assert_eq!(jws.signature(), None);
    }
}
