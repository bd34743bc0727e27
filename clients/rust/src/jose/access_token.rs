//! Splits access tokens, and checks their size, form and header (RFC 8725; RFC 9068, section 4). The signature is checked
//! later.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use super::jws::Jws;

/// The longest access token that is issued or accepted, in bytes. HTTP servers refuse headers that are much longer.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The `typ` of access tokens, and its long form (RFC 9068, section 4).
const TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];

/// Why a text cannot be an access token, even with a valid signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The token is longer than [`MAX_TOKEN_BYTES`].
    TooLong,
    /// The token is not a JWS in compact form, or its header lacks `alg`, has a member twice, or has a member of a wrong
    /// type.
    Malformed,
    /// The header has a `crit` member. No extension is supported (RFC 7515, section 4.1.11).
    CriticalHeader,
    /// `typ` is not `at+jwt`.
    WrongType,
    /// The header has no `kid`.
    NoKeyId,
}

/// An access token whose header has been checked and whose signature has not.
#[derive(Debug)]
pub struct UnverifiedToken<'a> {
    /// The parts of the token.
    pub jws: Jws<'a>,
    /// The id of the key that, according to the header, signed the token.
    pub kid: String,
}

impl<'a> UnverifiedToken<'a> {
    /// Splits a token and checks its header. Headers that carry or locate keys (`jwk`, `jku`, `x5c`, `x5u`) are ignored.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn parse(token: &'a str) -> Result<Self, HeaderError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(HeaderError::TooLong);
        }
        let mut jws = Jws::parse(token).ok_or(HeaderError::Malformed)?;
        if jws.header.crit {
            return Err(HeaderError::CriticalHeader);
        }
        if !jws.header.is_type(&TYPES) {
            return Err(HeaderError::WrongType);
        }
        let kid = jws.header.kid.take().ok_or(HeaderError::NoKeyId)?;
        Ok(Self { jws, kid })
    }
}

/// The claims of an access token (RFC 9068, section 2.2), each of the right type where it is present.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the claims")]
pub struct RawClaims {
    pub iss: Option<String>,
    pub sub: Option<String>,
    pub aud: Option<Audience>,
    pub client_id: Option<String>,
    pub iat: Option<i64>,
    pub exp: Option<i64>,
    pub nbf: Option<i64>,
    pub jti: Option<String>,
    pub sid: Option<String>,
    pub auth_time: Option<i64>,
    pub acr: Option<String>,
    pub amr: Option<Vec<String>>,
    pub scope: Option<String>,
    pub roles: Option<Vec<String>>,
    pub email_verified: Option<bool>,
    pub app_metadata: Option<Box<serde_json::Map<String, serde_json::Value>>>,
    /// When the session began, in whole seconds since the Unix epoch. Tokens of Latchkey 0.1 lack it.
    pub session_start: Option<i64>,
    /// The version of the account's claims. Tokens of Latchkey 0.1 lack it.
    pub claims_version: Option<u64>,
}

impl RawClaims {
    /// The later of `iat` and `nbf`, in seconds since the Unix epoch. `i64::MAX` for a token with neither,
    /// which is never valid.
    pub fn not_before(&self) -> i64 {
        // `None` is less than any number
        self.iat.max(self.nbf).unwrap_or(i64::MAX)
    }

    /// Whether `sub` is the client itself, as for the `client_credentials` grant (RFC 9068, section 2.2).
    pub fn names_client_as_subject(&self) -> bool {
        self.sub.is_some() && self.sub == self.client_id
    }
}

/// One audience or several (RFC 7519, section 4.1.3).
#[derive(Debug)]
pub enum Audience {
    /// A string.
    One(String),
    /// An array of strings.
    Several(Vec<String>),
}

// By hand, because a derived untagged enum copies the value before it looks at its type.
impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AudienceVisitor)
    }
}

struct AudienceVisitor;

impl<'de> Visitor<'de> for AudienceVisitor {
    type Value = Audience;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_str<E>(self, text: &str) -> Result<Audience, E> {
        Ok(Audience::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Audience, A::Error> {
        Deserialize::deserialize(SeqAccessDeserializer::new(seq)).map(Audience::Several)
    }
}

impl Audience {
    /// Whether the token is for `audience`.
    pub fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }

    /// The audiences as a list.
    pub fn into_list(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Several(several) => several,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    /// The error of a token with this header; `None` if the header is accepted.
    fn error_of(header: &str) -> Option<HeaderError> {
        // The payload `e30` is `{}`. Parsing does not verify the signature, so `AAAA` is as good as any.
        let token = format!("{}.e30.AAAA", BASE64_URL_SAFE_NO_PAD.encode(header));
        UnverifiedToken::parse(&token).err()
    }

    #[test]
    fn header_of_access_token_is_accepted_and_its_jwk_is_ignored() {
        for typ in ["at+jwt", "application/at+jwt", "AT+JWT"] {
            assert_eq!(error_of(&format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"k","jwk":{{}}}}"#)), None, "{typ}");
        }
    }

    #[test]
    fn audience_is_one_string_or_an_array_of_strings() {
        let parse = |json: &str| serde_json::from_str::<Audience>(json).map(Audience::into_list).ok();
        assert_eq!(parse(r#""api""#), Some(vec!["api".to_owned()]));
        assert_eq!(parse(r#""\u0061pi""#), Some(vec!["api".to_owned()])); // an escaped `a`
        assert_eq!(parse(r#"["api","app"]"#), Some(vec!["api".to_owned(), "app".to_owned()]));
        assert_eq!(parse("[]"), Some(vec![]));
        for json in ["null", "1", "{}", r#"["api",1]"#, r#"[["api"]]"#] {
            assert_eq!(parse(json), None, "{json}");
        }
    }

    #[test]
    fn header_of_other_jwt_is_refused() {
        for (header, error) in [
            (r#"{"typ":"at+jwt","kid":"k"}"#, HeaderError::Malformed),
            (r#"{"alg":"ES256","typ":"at+jwt","kid":"k","alg":"none"}"#, HeaderError::Malformed),
            (r#"{"alg":"ES256","typ":"at+jwt","kid":7}"#, HeaderError::Malformed),
            (r#"{"alg":"ES256","typ":"at+jwt","kid":"k","crit":[]}"#, HeaderError::CriticalHeader),
            (r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#, HeaderError::WrongType),
            (r#"{"alg":"ES256","kid":"k"}"#, HeaderError::WrongType),
            (r#"{"alg":"ES256","typ":"at+jwt"}"#, HeaderError::NoKeyId),
        ] {
            assert_eq!(error_of(header), Some(error), "{header}");
        }
        assert_eq!(UnverifiedToken::parse(&"a".repeat(MAX_TOKEN_BYTES + 1)).err(), Some(HeaderError::TooLong));
    }
}
