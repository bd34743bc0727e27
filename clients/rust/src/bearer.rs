//! What a protected resource takes and answers over HTTP (RFC 6750).

use reqwest::header::{HeaderMap, HeaderValue};

use crate::error::{Invalid, VerifyError};

/// How long a caller is asked to wait when it can't be told whether its token was revoked, in seconds.
pub(crate) const RETRY_AFTER: &str = "1";

/// Why a request isn't let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It shows no token (RFC 6750, section 3.1: then the challenge says nothing of an error).
    NoToken,
    /// Its token isn't accepted.
    Token(VerifyError),
}

impl Refusal {
    /// The status of the answer.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Token(error) if error.is_unavailable() => 503,
            Self::NoToken | Self::Token(_) => 401,
        }
    }

    /// The value of `WWW-Authenticate`, of answers with 401.
    pub(crate) fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::NoToken => Some(HeaderValue::from_static("Bearer")),
            Self::Token(error) if error.is_unavailable() => None,
            Self::Token(_) => Some(HeaderValue::from_static(r#"Bearer error="invalid_token""#)),
        }
    }
}

/// The token of a request: one `Authorization` header with the scheme `Bearer` (RFC 6750, section 2.1).
pub(crate) fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let malformed = || Refusal::Token(Invalid::Malformed.into());
    let mut values = headers.get_all("authorization").iter();
    let value = values.next().ok_or(Refusal::NoToken)?;
    if values.next().is_some() {
        return Err(malformed());
    }
    let (scheme, token) = value.to_str().map_err(|_| malformed())?.split_once(' ').ok_or(Refusal::NoToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::NoToken);
    }
    Ok(token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_taken() {
        let malformed = Refusal::Token(Invalid::Malformed.into());
        for (values, expected) in [
            (&[][..], Err(Refusal::NoToken)),
            (&["Basic YTpi"], Err(Refusal::NoToken)),
            (&["Bearer"], Err(Refusal::NoToken)),
            (&["Bearer a.b.c"], Ok("a.b.c")),
            (&["bEARER   a.b.c"], Ok("a.b.c")),
            (&["Bearer a.b.c", "Bearer a.b.c"], Err(malformed.clone())),
            (&["Bearer \u{e9}"], Err(malformed)),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(token(&headers), expected, "{values:?}");
        }
    }

    #[test]
    fn what_the_caller_did_wrong_is_told_from_what_we_can_not_know() {
        let answer =
            |refusal: Refusal| (refusal.status(), refusal.challenge().map(|it| it.to_str().unwrap().to_owned()));
        assert_eq!(answer(Refusal::NoToken), (401, Some("Bearer".to_owned())));
        let invalid = Some(r#"Bearer error="invalid_token""#.to_owned());
        assert_eq!(answer(Refusal::Token(VerifyError::Revoked)), (401, invalid));
        assert_eq!(answer(Refusal::Token(VerifyError::Unavailable("x"))), (503, None));
    }
}
