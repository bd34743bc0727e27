//! Bearer authentication of HTTP requests (RFC 6750): the token of a request, the authorization, and the refusals.

use reqwest::header::{HeaderMap, HeaderValue};

use crate::{
    Claims,
    error::{Invalid, VerifyError},
};

/// `Retry-After` of a 503, in seconds.
pub(crate) const RETRY_AFTER: &str = "1";

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request has no bearer token.
    NoToken,
    /// The token is not accepted.
    Token(VerifyError),
    /// The account has none of the required roles.
    MissingRole,
    /// The token lacks one of these scopes, which are separated by spaces.
    MissingScope(String),
}

impl Refusal {
    /// The status of the response.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Token(error) if error.is_unavailable() => 503,
            Self::NoToken | Self::Token(_) => 401,
            Self::MissingRole | Self::MissingScope(_) => 403,
        }
    }

    /// `WWW-Authenticate` of the response.
    pub(crate) fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::NoToken => Some(HeaderValue::from_static(r#"Bearer realm="latchkey""#)),
            Self::Token(error) if error.is_unavailable() => None,
            Self::Token(_) => Some(HeaderValue::from_static(r#"Bearer realm="latchkey", error="invalid_token""#)),
            Self::MissingRole => None,
            Self::MissingScope(scopes) => {
                let value = format!(r#"Bearer realm="latchkey", error="insufficient_scope", scope="{scopes}""#);
                HeaderValue::from_str(&value).ok()
            }
        }
    }

    /// `Retry-After` of the response.
    pub(crate) fn retry_after(&self) -> Option<HeaderValue> {
        (self.status() == 503).then(|| HeaderValue::from_static(RETRY_AFTER))
    }

    /// A problem (RFC 9457) with the same members and codes as Latchkey's own.
    #[cfg(feature = "poem")]
    pub(crate) fn problem(&self) -> String {
        let (code, title, detail) = match self {
            Self::NoToken => ("authentication_required", "Sign in first", "Send an access token."),
            Self::Token(error) if error.is_unavailable() => (
                "unavailable",
                "Not available at the moment",
                "The access token cannot be verified at the moment. Try again.",
            ),
            Self::Token(_) => (
                "invalid_token",
                "The access token is not valid",
                "The access token is not valid, or its session has ended.",
            ),
            Self::MissingRole => ("insufficient_role", "Not allowed", "The account lacks the required role."),
            Self::MissingScope(_) => ("insufficient_scope", "Not allowed", "The access token lacks a required scope."),
        };
        let status = self.status();
        let r#type = format!("urn:latchkey:problem:{code}");
        serde_json::json!({ "type": r#type, "title": title, "status": status, "detail": detail, "code": code })
            .to_string()
    }
}

/// The accepted callers: by default every user, and no service client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requirements {
    pub(crate) allow_clients: bool,
    /// Each entry is a list of roles of which the account must have one.
    pub(crate) roles: Vec<Vec<String>>,
    pub(crate) scopes: Vec<String>,
}

impl Requirements {
    /// Checks the claims of a valid token.
    pub(crate) fn check(&self, claims: &Claims) -> Result<(), Refusal> {
        if claims.is_service_client() && !self.allow_clients {
            return Err(Refusal::Token(Invalid::ClientsOwn.into()));
        }
        if !self.roles.iter().all(|any_of| any_of.iter().any(|role| claims.has_role(role))) {
            return Err(Refusal::MissingRole);
        }
        if !self.scopes.iter().all(|scope| claims.has_scope(scope)) {
            return Err(Refusal::MissingScope(self.scopes.join(" ")));
        }
        Ok(())
    }

    /// Adds roles of which the account must have one.
    pub(crate) fn require_role<R: Into<String>>(&mut self, any_of: impl IntoIterator<Item = R>) {
        self.roles.push(any_of.into_iter().map(Into::into).collect());
    }

    /// Adds scopes that the token must all have.
    pub(crate) fn require_scope<S: Into<String>>(&mut self, all_of: impl IntoIterator<Item = S>) {
        self.scopes.extend(all_of.into_iter().map(Into::into));
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
    fn token_requires_one_bearer_header() {
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
}
