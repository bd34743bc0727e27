//! Signed JWTs in their compact form (RFC 7515, section 7.1), taken apart strictly: there is one way to write each of them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::strict_json;

/// Not three parts of base64url without padding, or a header that isn't JSON, names a member twice or has it of a wrong type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a well-formed signed JWT")]
pub struct Malformed;

/// A signed text, its signature not checked yet.
pub struct Jws<'a> {
    /// What is signed: the header and the payload as they came.
    pub message: &'a str,
    /// What the header says.
    pub header: Header,
    /// What it is all about.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// The members of a header that are looked at. What else it may hold about keys (`jwk`, `jku`, `x5c`, `x5u`) is not.
#[derive(Debug, Deserialize)]
pub struct Header {
    /// The algorithm of the signature.
    pub alg: String,
    /// What kind of text it is.
    pub typ: Option<String>,
    /// The key that it says it was signed with.
    pub kid: Option<String>,
    /// Whether it asks for extensions; whichever they are, none is understood here (RFC 7515, section 4.1.11).
    #[serde(default, deserialize_with = "is_present")]
    pub crit: bool,
}

impl<'a> Jws<'a> {
    /// Takes it apart.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let (message, signature) = text.rsplit_once('.').ok_or(Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Malformed)?;
        // a dot in the payload isn't base64url
        let header = strict_json::from_slice(&decode(header)?).ok_or(Malformed)?;
        Ok(Self { message, header, payload: decode(payload)?, signature: decode(signature)? })
    }
}

/// Base64url without padding, strictly: one text for each sequence of bytes (RFC 7515, section 2).
fn decode(part: &str) -> Result<Vec<u8>, Malformed> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed)
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
