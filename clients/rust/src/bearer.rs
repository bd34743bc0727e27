//! Bearer authentication of HTTP requests (RFC 6750): reads a request's token, and builds the response to a refused request.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};

use crate::error::{Invalid, VerifyError};

/// Tells clients what to do after the claims of the account have changed.
const CLAIMS_CHANGED: &str = "The claims of the account have changed. Refresh the access token.";

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request has no bearer token.
    NoToken,
    /// The token is not accepted.
    Token(VerifyError),
    /// The account has none of the required roles.
    MissingRole,
    /// The token lacks one of these scopes, which are separated by spaces. [`crate::guard::expect_scope_tokens`] has
    /// refused characters that a challenge would have to escape.
    MissingScope(String),
    /// The user's authentication is too weak or too old (RFC 9470).
    Authentication {
        /// The accepted authentication contexts, separated by spaces, without characters to escape; empty if every one is
        /// accepted.
        acr_values: String,
        /// The maximum age of the authentication; `None` if every age is accepted.
        max_age: Option<Duration>,
    },
}

impl Refusal {
    /// The status of the response.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Token(error) if error.is_unavailable() => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoToken | Self::Token(_) | Self::Authentication { .. } => StatusCode::UNAUTHORIZED,
            Self::MissingRole | Self::MissingScope(_) => StatusCode::FORBIDDEN,
        }
    }

    /// The headers of the response.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static("no-store"))]);
        if let Some(parameters) = self.challenge_parameters()
            && let Ok(challenge) = HeaderValue::from_str(&format!(r#"Bearer realm="latchkey"{parameters}"#))
        {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        headers
    }

    /// The parameters of the challenge after the realm (RFC 6750, section 3; RFC 9470, section 3). `None` if the response has
    /// no challenge.
    fn challenge_parameters(&self) -> Option<String> {
        Some(match self {
            Self::NoToken => String::new(),
            Self::MissingRole => return None,
            Self::Token(error) if error.is_unavailable() => return None,
            Self::Token(VerifyError::ClaimsChanged) => {
                format!(r#", error="invalid_token", error_description="{CLAIMS_CHANGED}", reason="claims_changed""#)
            }
            Self::Token(_) => r#", error="invalid_token""#.to_owned(),
            Self::MissingScope(scopes) => format!(r#", error="insufficient_scope", scope="{scopes}""#),
            Self::Authentication { acr_values, max_age } => {
                let mut parameters = r#", error="insufficient_user_authentication""#.to_owned();
                if !acr_values.is_empty() {
                    parameters += &format!(r#", acr_values="{acr_values}""#);
                }
                if let Some(max_age) = max_age {
                    parameters += &format!(r#", max_age="{}""#, max_age.as_secs());
                }
                parameters
            }
        })
    }

    /// The body of the response: a problem (RFC 9457) with the code that Latchkey itself would use.
    #[cfg(feature = "poem")]
    pub(crate) fn problem(&self) -> String {
        let (code, title, detail) = match self {
            Self::NoToken => ("authentication_required", "Sign in first", "Send an access token."),
            Self::Token(error) if error.is_unavailable() => (
                "unavailable",
                "Not available at the moment",
                "The access token cannot be verified at the moment. Try again.",
            ),
            Self::Token(VerifyError::ClaimsChanged) => {
                ("claims_changed", "The access token is out of date", CLAIMS_CHANGED)
            }
            Self::Token(_) => (
                "invalid_token",
                "The access token is not valid",
                "The access token is not valid, or its session has ended.",
            ),
            Self::MissingRole => ("insufficient_role", "Not allowed", "The account lacks the required role."),
            Self::MissingScope(_) => ("insufficient_scope", "Not allowed", "The access token lacks a required scope."),
            Self::Authentication { .. } => (
                "insufficient_user_authentication",
                "Stronger or more recent authentication required",
                "Sign in again as the challenge requires.",
            ),
        };
        let status = self.status().as_u16();
        let r#type = format!("urn:latchkey:problem:{code}");
        serde_json::json!({ "type": r#type, "title": title, "status": status, "detail": detail, "code": code })
            .to_string()
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
    // Several spaces may separate the scheme and the token (RFC 9110, section 11.4).
    Ok(token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(refusal: &Refusal) -> String {
        refusal.headers()[WWW_AUTHENTICATE].to_str().unwrap().to_owned()
    }

    #[test]
    fn claims_changed_challenge_tells_clients_to_refresh() {
        let refusal = Refusal::Token(VerifyError::ClaimsChanged);
        let expected = concat!(
            r#"Bearer realm="latchkey", error="invalid_token", "#,
            r#"error_description="The claims of the account have changed. Refresh the access token.", "#,
            r#"reason="claims_changed""#
        );
        assert_eq!(challenge(&refusal), expected);
        assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn step_up_challenge_has_the_required_parameters_only() {
        let start = r#"Bearer realm="latchkey", error="insufficient_user_authentication""#;
        for (acr_values, max_age, parameters) in [
            ("aal2 aal3", Some(300), r#", acr_values="aal2 aal3", max_age="300""#),
            ("aal2", None, r#", acr_values="aal2""#),
            ("", Some(0), r#", max_age="0""#),
        ] {
            let acr_values = acr_values.to_owned();
            let refusal = Refusal::Authentication { acr_values, max_age: max_age.map(Duration::from_secs) };
            assert_eq!(challenge(&refusal), format!("{start}{parameters}"));
            assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED);
        }
    }

    #[test]
    fn token_requires_one_bearer_header() {
        let malformed = Refusal::Token(Invalid::Malformed.into());
        let cases: [(&[&str], _); 7] = [
            (&[], Err(Refusal::NoToken)),
            (&["Basic YTpi"], Err(Refusal::NoToken)),
            (&["Bearer"], Err(Refusal::NoToken)),
            (&["Bearer a.b.c"], Ok("a.b.c")),
            (&["bEARER   a.b.c"], Ok("a.b.c")),
            (&["Bearer a.b.c", "Bearer a.b.c"], Err(malformed.clone())),
            (&["Bearer \u{e9}"], Err(malformed)),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(token(&headers), expected, "{values:?}");
        }
    }
}
