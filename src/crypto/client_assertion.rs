//! What a service client signs to authenticate instead of showing a secret: `private_key_jwt` (RFC 7523, section 3).
//!
//! It names the client, so its claims are read before its signature can be checked; nothing of them is believed but which
//! client's keys to check it with.

use std::time::Duration;

use serde::Deserialize;

use super::{
    client_keys::ClientKeys,
    jws::{Header, Jws, Malformed},
    strict_json,
};
use crate::domain::clock::Timestamp;

/// The longest assertion that is looked at, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// How far ahead its end may lie: it is remembered until then, so that it can't be used twice.
pub const MAX_LIFE: Duration = Duration::from_hours(1);

/// The longest `jti`, in bytes.
const MAX_JTI: usize = 256;

/// What `typ` may be, where it is there.
const TYPES: [&str; 2] = ["JWT", "client-authentication+jwt"];

/// Why an assertion authenticates nobody. For the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not a signed JWT, or one whose JSON is ambiguous.
    #[error("it is not a well-formed signed JWT")]
    Malformed,
    /// It has a `crit` header, or a `typ` of something else.
    #[error("it is a JWT for something else")]
    WrongType,
    /// A claim that RFC 7523 asks for isn't there.
    #[error("it has no {0} claim")]
    MissingClaim(&'static str),
    /// `iss` and `sub` differ.
    #[error("its iss and sub differ")]
    WrongIssuer,
    /// None of the client's keys made the signature, by the algorithm it names.
    #[error("its signature is by none of the client's keys")]
    BadSignature,
    /// Meant for somebody else, or for others too.
    #[error("it is meant for someone else")]
    WrongAudience,
    /// Its `exp` has come.
    #[error("it has expired")]
    Expired,
    /// It would be valid for longer than [`MAX_LIFE`].
    #[error("it would be valid for too long")]
    TooLong,
    /// Its `nbf` or `iat` hasn't come yet.
    #[error("it is not valid yet")]
    NotYetValid,
}

/// An assertion whose signature hasn't been checked.
pub struct Assertion<'a> {
    message: &'a str,
    signature: Vec<u8>,
    header: Header,
    claims: Claims,
}

/// What a valid assertion is remembered by, so that it isn't accepted twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id, its client's own.
    pub jti: String,
    /// Until when it would be accepted again.
    pub until: Timestamp,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl From<Malformed> for AssertionError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl<'a> Assertion<'a> {
    /// Takes it apart.
    ///
    /// # Errors
    /// [`AssertionError`]
    pub fn parse(text: &'a str) -> Result<Self, AssertionError> {
        if text.len() > MAX_BYTES {
            return Err(AssertionError::Malformed);
        }
        let Jws { message, header, payload, signature } = Jws::parse(text)?;
        let claims: Claims = strict_json::from_slice(&payload).ok_or(AssertionError::Malformed)?;
        let foreign = header.typ.as_deref().is_some_and(|typ| !TYPES.iter().any(|own| typ.eq_ignore_ascii_case(own)));
        if header.crit || foreign {
            return Err(AssertionError::WrongType);
        }
        Ok(Self { message, signature, header, claims })
    }

    /// The client that it says it is from.
    ///
    /// # Errors
    /// [`AssertionError`] if it says nothing of the kind, or two things.
    pub fn client_id(&self) -> Result<&str, AssertionError> {
        let iss = self.claims.iss.as_deref().ok_or(AssertionError::MissingClaim("iss"))?;
        let sub = self.claims.sub.as_deref().ok_or(AssertionError::MissingClaim("sub"))?;
        if iss == sub { Ok(sub) } else { Err(AssertionError::WrongIssuer) }
    }

    /// Whether it is valid at `now`: signed by one of `keys`, and meant for `audiences` and nobody else.
    ///
    /// # Errors
    /// [`AssertionError`]
    pub fn verify(
        &self,
        keys: &ClientKeys,
        audiences: &[String],
        leeway: Duration,
        now: Timestamp,
    ) -> Result<Accepted, AssertionError> {
        let Header { alg, kid, .. } = &self.header;
        if !keys.verify(alg, kid.as_deref(), self.message.as_bytes(), &self.signature) {
            return Err(AssertionError::BadSignature);
        }
        let ours = |audience: &String| audiences.contains(audience);
        let for_us = match self.claims.aud.as_ref().ok_or(AssertionError::MissingClaim("aud"))? {
            Audience::One(one) => ours(one),
            Audience::Several(several) => !several.is_empty() && several.iter().all(ours),
        };
        if !for_us {
            return Err(AssertionError::WrongAudience);
        }
        let exp = time(self.claims.exp.ok_or(AssertionError::MissingClaim("exp"))?);
        if now >= exp + leeway {
            return Err(AssertionError::Expired);
        }
        if exp > now + MAX_LIFE + leeway {
            return Err(AssertionError::TooLong);
        }
        if [self.claims.nbf, self.claims.iat].into_iter().flatten().any(|from| time(from) > now + leeway) {
            return Err(AssertionError::NotYetValid);
        }
        let jti = self.claims.jti.clone().filter(|jti| !jti.is_empty()).ok_or(AssertionError::MissingClaim("jti"))?;
        if jti.len() > MAX_JTI {
            return Err(AssertionError::Malformed);
        }
        Ok(Accepted { jti, until: exp + leeway })
    }
}

/// A `NumericDate` (RFC 7519, section 2), which may have a fraction.
#[expect(clippy::cast_possible_truncation, reason = "what is beyond all times becomes the last or the first")]
fn time(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0) as i64)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        crypto::{client_keys::to_jwks, signing_key::testing},
        domain::key::Algorithm,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn signed(algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = testing::key(algorithm).sign(message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn claims() -> Value {
        let now = NOW.as_secs();
        json!({ "iss": "billing", "sub": "billing", "aud": "https://as", "exp": now + 60, "iat": now, "jti": "1" })
    }

    fn outcome(assertion: &str) -> Result<Accepted, AssertionError> {
        let keys = ClientKeys::parse(&to_jwks(testing::key(Algorithm::Es256).public_jwk()).unwrap()).unwrap();
        let audiences = ["https://as".to_owned(), "https://as/oauth2/token".to_owned()];
        let assertion = Assertion::parse(assertion)?;
        assert_eq!(assertion.client_id()?, "billing");
        assertion.verify(&keys, &audiences, Duration::from_secs(5), NOW)
    }

    fn with(changes: &Value) -> Result<Accepted, AssertionError> {
        let mut claims = claims();
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name)
            } else {
                claims.as_object_mut().unwrap().insert(name.clone(), value.clone())
            };
        }
        outcome(&signed(Algorithm::Es256, &json!({ "alg": "ES256" }), &claims))
    }

    #[test]
    fn every_algorithm_authenticates() {
        for algorithm in Algorithm::ALL {
            let keys = ClientKeys::parse(&to_jwks(testing::key(algorithm).public_jwk()).unwrap()).unwrap();
            let text = signed(algorithm, &json!({ "alg": algorithm.as_str(), "typ": "JWT" }), &claims());
            let assertion = Assertion::parse(&text).unwrap();
            let accepted = assertion.verify(&keys, &["https://as".to_owned()], Duration::ZERO, NOW);
            assert_eq!(accepted, Ok(Accepted { jti: "1".to_owned(), until: NOW + Duration::from_secs(60) }));
        }
    }

    #[test]
    fn what_rfc_7523_allows_is_accepted() {
        for changes in [
            json!({}),
            json!({ "aud": ["https://as"] }),
            json!({ "aud": ["https://as", "https://as/oauth2/token"] }),
            json!({ "exp": 1_800_000_060.5, "iat": null, "nbf": 1_800_000_000 }),
            json!({ "exp": 1_800_003_600, "more": [1] }),
        ] {
            assert!(with(&changes).is_ok(), "{changes}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        use AssertionError as E;
        for (changes, error) in [
            (json!({ "iss": null }), E::MissingClaim("iss")),
            (json!({ "sub": null }), E::MissingClaim("sub")),
            (json!({ "iss": "other" }), E::WrongIssuer),
            (json!({ "aud": null }), E::MissingClaim("aud")),
            (json!({ "aud": "https://other" }), E::WrongAudience),
            (json!({ "aud": [] }), E::WrongAudience),
            (json!({ "aud": ["https://as", "https://other"] }), E::WrongAudience),
            (json!({ "exp": null }), E::MissingClaim("exp")),
            (json!({ "exp": 1_799_999_995 }), E::Expired),
            (json!({ "exp": 1_800_003_606 }), E::TooLong),
            (json!({ "exp": 1e300 }), E::TooLong),
            (json!({ "exp": "1800000060" }), E::Malformed),
            (json!({ "iat": 1_800_000_006 }), E::NotYetValid),
            (json!({ "nbf": 1_800_000_006 }), E::NotYetValid),
            (json!({ "jti": null }), E::MissingClaim("jti")),
            (json!({ "jti": "" }), E::MissingClaim("jti")),
            (json!({ "jti": "x".repeat(257) }), E::Malformed),
        ] {
            assert_eq!(with(&changes), Err(error), "{changes}");
        }
        for (header, error) in [
            (json!({ "alg": "none" }), E::BadSignature),
            (json!({ "alg": "HS256" }), E::BadSignature),
            (json!({ "alg": "RS256" }), E::BadSignature),
            (json!({ "alg": "ES256", "kid": "other" }), E::BadSignature),
            (json!({ "alg": "ES256", "typ": "at+jwt" }), E::WrongType),
            (json!({ "alg": "ES256", "crit": ["b64"] }), E::WrongType),
        ] {
            assert_eq!(outcome(&signed(Algorithm::Es256, &header, &claims())), Err(error), "{header}");
        }
        let foreign = signed(Algorithm::EdDsa, &json!({ "alg": "ES256" }), &claims());
        assert_eq!(outcome(&foreign), Err(E::BadSignature));
        for text in ["", "a.b", "a.b.c", "e30.e30.", &format!("{foreign}{}", "A".repeat(9000))] {
            assert_eq!(outcome(text), Err(E::Malformed), "{text}");
        }
    }
}
