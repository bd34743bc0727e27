//! Client assertions: JWTs by which a client authenticates without a secret (`private_key_jwt`; RFC 7523, section 3).
//!
//! The claims name the client whose keys verify the signature, so they are parsed first. Before the signature is verified, only the
//! client's id is used, to find the keys.

use std::time::Duration;

use latchkey_verify::jose::{access_token::Audience, jws::Jws, strict_json};
use serde::Deserialize;

use super::client_keys::ClientKeys;
use crate::domain::clock::Timestamp;

/// The longest accepted assertion, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// The longest time until an accepted assertion expires. Its `jti` is stored that long, so that the assertion is accepted once.
pub const MAX_LIFETIME: Duration = Duration::from_hours(1);

/// The longest accepted `jti`, in bytes.
const MAX_JTI_BYTES: usize = 256;

/// The accepted values of `typ`. The header may also lack `typ`.
const TYPES: [&str; 2] = ["JWT", "client-authentication+jwt"];

/// Why an assertion is refused. The texts are for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// The text is not a signed JWT, its JSON is ambiguous, or the text or its `jti` is too long.
    #[error("it is not a well-formed signed JWT")]
    Malformed,
    /// The header has a `crit` member, or a `typ` that is not accepted.
    #[error("it is another kind of JWT")]
    WrongType,
    /// A claim that RFC 7523 requires is missing.
    #[error("it has no {0} claim")]
    MissingClaim(&'static str),
    /// `iss` and `sub` differ.
    #[error("its iss and sub differ")]
    WrongIssuer,
    /// No key of the client verifies the signature with the algorithm of the header.
    #[error("none of the client's keys verifies its signature")]
    BadSignature,
    /// `aud` names another recipient, alone or beside this service.
    #[error("its audience is another recipient")]
    WrongAudience,
    /// `exp` is in the past.
    #[error("it has expired")]
    Expired,
    /// `exp` is further ahead than [`MAX_LIFETIME`].
    #[error("it expires too far in the future")]
    LifetimeTooLong,
    /// `nbf` or `iat` is in the future.
    #[error("it is not valid yet")]
    NotYetValid,
}

/// A client assertion whose signature has not been verified.
pub struct Assertion<'a> {
    jws: Jws<'a>,
    claims: Claims,
}

/// The id of an accepted assertion, to be stored so that the assertion is accepted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedAssertion {
    /// The `jti`, unique per client.
    pub jti: String,
    /// When the assertion expires, with the tolerated clock difference.
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

impl<'a> Assertion<'a> {
    /// Parses an assertion and checks its form and its header.
    ///
    /// # Errors
    /// [`AssertionError`]
    pub fn parse(text: &'a str) -> Result<Self, AssertionError> {
        if text.len() > MAX_BYTES {
            return Err(AssertionError::Malformed);
        }
        let jws = Jws::parse(text).ok_or(AssertionError::Malformed)?;
        let claims: Option<Claims> = jws.payload().and_then(|payload| strict_json::from_slice(&payload));
        let claims = claims.ok_or(AssertionError::Malformed)?;
        if jws.header.crit || (jws.header.typ.is_some() && !jws.header.is_type(&TYPES)) {
            return Err(AssertionError::WrongType);
        }
        Ok(Self { jws, claims })
    }

    /// The `client_id` of the client: `iss` and `sub`, which must be equal.
    ///
    /// # Errors
    /// [`AssertionError`]
    pub fn client_id(&self) -> Result<&str, AssertionError> {
        let iss = self.claims.iss.as_deref().ok_or(AssertionError::MissingClaim("iss"))?;
        let sub = self.claims.sub.as_deref().ok_or(AssertionError::MissingClaim("sub"))?;
        if iss == sub { Ok(sub) } else { Err(AssertionError::WrongIssuer) }
    }

    /// Verifies the signature with `keys`, and the claims at `now`. Every `aud` must be one of `audiences`. `leeway` is the tolerated
    /// clock difference.
    ///
    /// # Errors
    /// [`AssertionError`]
    pub fn verify(
        &self,
        keys: &ClientKeys,
        audiences: &[String],
        leeway: Duration,
        now: Timestamp,
    ) -> Result<AcceptedAssertion, AssertionError> {
        if !keys.verify(&self.jws) {
            return Err(AssertionError::BadSignature);
        }
        let is_for_this_service = match self.claims.aud.as_ref().ok_or(AssertionError::MissingClaim("aud"))? {
            Audience::One(one) => audiences.contains(one),
            Audience::Several(several) => !several.is_empty() && several.iter().all(|one| audiences.contains(one)),
        };
        if !is_for_this_service {
            return Err(AssertionError::WrongAudience);
        }
        let exp = timestamp(self.claims.exp.ok_or(AssertionError::MissingClaim("exp"))?);
        if now >= exp + leeway {
            return Err(AssertionError::Expired);
        }
        if exp > now + MAX_LIFETIME + leeway {
            return Err(AssertionError::LifetimeTooLong);
        }
        let is_in_future = |claim: Option<f64>| claim.is_some_and(|seconds| timestamp(seconds) > now + leeway);
        if is_in_future(self.claims.nbf) || is_in_future(self.claims.iat) {
            return Err(AssertionError::NotYetValid);
        }
        let jti = self.claims.jti.as_ref().filter(|jti| !jti.is_empty()).ok_or(AssertionError::MissingClaim("jti"))?;
        if jti.len() > MAX_JTI_BYTES {
            return Err(AssertionError::Malformed);
        }
        Ok(AcceptedAssertion { jti: jti.clone(), until: exp + leeway })
    }
}

/// Converts a `NumericDate` (RFC 7519, section 2): seconds since 1970, which may have a fraction.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
fn timestamp(seconds: f64) -> Timestamp {
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

    /// Signs with the test key of `algorithm`, whatever the header says.
    fn signed(algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = testing::key(algorithm).sign(message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a valid assertion of the client `billing` to the service with the issuer `https://as`.
    fn claims() -> Value {
        let now = NOW.as_secs();
        json!({ "iss": "billing", "sub": "billing", "aud": "https://as", "exp": now + 60, "iat": now, "jti": "1" })
    }

    /// The keys of a client that has registered the test key of `algorithm`.
    fn client_keys(algorithm: Algorithm) -> ClientKeys {
        let jwks = to_jwks(testing::key(algorithm).public_jwk()).unwrap();
        ClientKeys::parse(&jwks).unwrap()
    }

    /// Verifies an assertion of the client `billing` with its ES256 key.
    fn outcome(assertion: &str) -> Result<AcceptedAssertion, AssertionError> {
        let keys = client_keys(Algorithm::Es256);
        let audiences = ["https://as".to_owned(), "https://as/oauth2/token".to_owned()];
        let assertion = Assertion::parse(assertion)?;
        // as in the service, the client is determined first: an invalid `iss` or `sub` is refused here
        let client_id = assertion.client_id()?;
        assert_eq!(client_id, "billing");
        assertion.verify(&keys, &audiences, Duration::from_secs(5), NOW)
    }

    /// Verifies an assertion with these claims changed; null removes a claim.
    fn outcome_with(changes: &Value) -> Result<AcceptedAssertion, AssertionError> {
        let mut claims = claims();
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        outcome(&signed(Algorithm::Es256, &json!({ "alg": "ES256" }), &claims))
    }

    #[test]
    fn assertion_of_every_algorithm_is_accepted() {
        for algorithm in Algorithm::ALL {
            let keys = client_keys(algorithm);
            let text = signed(algorithm, &json!({ "alg": algorithm.as_str(), "typ": "JWT" }), &claims());
            let assertion = Assertion::parse(&text).unwrap();
            let accepted = assertion.verify(&keys, &["https://as".to_owned()], Duration::ZERO, NOW);
            assert_eq!(accepted, Ok(AcceptedAssertion { jti: "1".to_owned(), until: NOW + Duration::from_secs(60) }));
        }
    }

    #[test]
    fn assertion_allowed_by_rfc_7523_is_accepted() {
        for changes in [
            json!({}),
            json!({ "aud": ["https://as"] }),
            json!({ "aud": ["https://as", "https://as/oauth2/token"] }),
            json!({ "exp": 1_800_000_060.5, "iat": null, "nbf": 1_800_000_000 }),
            json!({ "exp": 1_800_003_600, "unknown_claim": [1] }), // exactly MAX_LIFETIME from now
        ] {
            assert!(outcome_with(&changes).is_ok(), "{changes}");
        }
    }

    #[test]
    fn invalid_assertion_is_refused() {
        use AssertionError as E;
        // The current time is 1_800_000_000, the leeway is 5 seconds, and MAX_LIFETIME is 3600 seconds.
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
            (json!({ "exp": 1_800_003_606 }), E::LifetimeTooLong),
            (json!({ "exp": 1e300 }), E::LifetimeTooLong),
            (json!({ "exp": "1800000060" }), E::Malformed),
            (json!({ "iat": 1_800_000_006 }), E::NotYetValid),
            (json!({ "nbf": 1_800_000_006 }), E::NotYetValid),
            (json!({ "jti": null }), E::MissingClaim("jti")),
            (json!({ "jti": "" }), E::MissingClaim("jti")),
            (json!({ "jti": "x".repeat(MAX_JTI_BYTES + 1) }), E::Malformed),
        ] {
            assert_eq!(outcome_with(&changes), Err(error), "{changes}");
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
        let signed_by_other_key = signed(Algorithm::EdDsa, &json!({ "alg": "ES256" }), &claims());
        assert_eq!(outcome(&signed_by_other_key), Err(E::BadSignature));
        let too_long = format!("{signed_by_other_key}{}", "A".repeat(MAX_BYTES));
        // e30 is {}: a header without an algorithm
        for text in ["", "a.b", "a.b.c", "e30.e30.", &too_long] {
            assert_eq!(outcome(text), Err(E::Malformed), "{text}");
        }
    }
}
