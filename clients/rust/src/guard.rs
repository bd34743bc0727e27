//! Authorizes requests for the middlewares: the requirements of a route, and the check of a token against them.

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::{
    Claims, VerifiedSession, Verifier,
    bearer::{self, Refusal},
    error::Invalid,
};

/// A verifier, and the requirements that it checks for a route.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    verifier: Verifier,
    pub(crate) requirements: Requirements,
}

/// The accepted callers: by default every user, and no service client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requirements {
    /// Whether tokens that service clients obtained for themselves are accepted.
    pub(crate) allow_clients: bool,
    /// Each entry is a list of roles of which the account must have one.
    pub(crate) roles: Vec<Vec<String>>,
    /// The token must have all of these scopes.
    pub(crate) scopes: Vec<String>,
    /// The authentication context must be one of these or higher. Empty if none is required.
    pub(crate) acr: Vec<String>,
    /// The longest time since the user authenticated.
    pub(crate) max_age: Option<Duration>,
}

impl Guard {
    pub(crate) fn new(verifier: Verifier) -> Self {
        Self { verifier, requirements: Requirements::default() }
    }

    /// Verifies the token of a request and checks the requirements.
    pub(crate) async fn authorize(&self, headers: &HeaderMap) -> Result<VerifiedSession, Refusal> {
        let claims = self.verifier.verify(bearer::token(headers)?).await.map_err(Refusal::Token)?;
        let is_recent = |max_age| self.verifier.authenticated_within(&claims, max_age);
        self.requirements.check(&claims, is_recent)?;
        Ok(VerifiedSession::new(self.verifier.clone(), claims))
    }
}

impl Requirements {
    /// Checks the claims of a valid token. `is_recent` returns whether the user authenticated at most a duration ago.
    fn check(&self, claims: &Claims, is_recent: impl Fn(Duration) -> bool) -> Result<(), Refusal> {
        if claims.is_service_client() && !self.allow_clients {
            return Err(Refusal::Token(Invalid::ServiceClient.into()));
        }
        let has_one_of = |roles: &Vec<String>| roles.iter().any(|role| claims.has_role(role));
        if !self.roles.iter().all(has_one_of) {
            return Err(Refusal::MissingRole);
        }
        if !self.scopes.iter().all(|scope| claims.has_scope(scope)) {
            return Err(Refusal::MissingScope(self.scopes.join(" ")));
        }
        // Checked last, so that a user who would be refused anyway is not asked to authenticate again.
        let has_acr = self.acr.is_empty() || self.acr.iter().any(|acr| claims.has_acr(acr));
        let is_recent_enough = self.max_age.is_none_or(is_recent);
        if !has_acr || !is_recent_enough {
            // names both requirements, because the next authentication must meet both
            return Err(Refusal::Authentication { acr_values: self.acr.join(" "), max_age: self.max_age });
        }
        Ok(())
    }
}

/// Returns required values that a challenge can quote: each is a `scope-token` (RFC 6749, section 3.3). `kind` names them in the panic.
///
/// # Panics
/// If a value is not a `scope-token`.
pub(crate) fn expect_scope_tokens<V: Into<String>>(kind: &str, values: impl IntoIterator<Item = V>) -> Vec<String> {
    let values: Vec<String> = values.into_iter().map(Into::into).collect();
    for value in &values {
        let is_token =
            !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        assert!(is_token, "{kind} {value:?} must be printable ASCII without spaces, double quotes and backslashes");
    }
    values
}

/// Defines the public methods that create and configure a middleware, a type whose only field is `guard: Guard`.
macro_rules! guard_methods {
    ($middleware:ident) => {
        impl $middleware {
            /// Lets signed-in users pass. Service clients' own tokens are refused.
            pub fn new(verifier: $crate::Verifier) -> Self {
                Self { guard: $crate::guard::Guard::new(verifier) }
            }

            /// Also accepts tokens that service clients obtained for themselves (`client_credentials`).
            #[must_use]
            pub fn allow_clients(mut self) -> Self {
                self.guard.requirements.allow_clients = true;
                self
            }

            /// Answers 403 unless the account has one of these roles. If called several times, the account needs one role of each
            /// call.
            #[must_use]
            pub fn require_role<R: Into<String>>(mut self, any_of: impl IntoIterator<Item = R>) -> Self {
                self.guard.requirements.roles.push(any_of.into_iter().map(Into::into).collect());
                self
            }

            /// Answers 403 with an `insufficient_scope` challenge unless the token has all of these scopes.
            ///
            /// # Panics
            /// If a scope is empty, or has spaces, double quotes, backslashes or characters other than printable ASCII (RFC 6749, section 3.3).
            #[must_use]
            pub fn require_scope<S: Into<String>>(mut self, all_of: impl IntoIterator<Item = S>) -> Self {
                self.guard.requirements.scopes.extend($crate::guard::expect_scope_tokens("scope", all_of));
                self
            }

            /// Answers 401 with an `insufficient_user_authentication` challenge (RFC 9470) unless the session's
            /// authentication context is one of these, or a higher one of `aal1`, `aal2` and `aal3`. A second call replaces
            /// the first.
            ///
            /// # Panics
            /// If a value is empty, or has spaces, double quotes, backslashes or characters other than printable ASCII.
            #[must_use]
            pub fn require_acr<A: Into<String>>(mut self, any_of: impl IntoIterator<Item = A>) -> Self {
                self.guard.requirements.acr = $crate::guard::expect_scope_tokens("acr", any_of);
                self
            }

            /// Answers 401 with an `insufficient_user_authentication` challenge (RFC 9470) unless the user authenticated
            /// within the last `max_age`, a number of whole seconds. A second call replaces the first.
            #[must_use]
            pub fn require_max_age(mut self, max_age: std::time::Duration) -> Self {
                self.guard.requirements.max_age = Some(max_age);
                self
            }
        }
    };
}
pub(crate) use guard_methods;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_value_that_no_challenge_can_quote_is_refused() {
        let values = ["orders:read", "https://api.example.com/", "!#[]~"];
        assert_eq!(expect_scope_tokens("scope", values), values);
        for value in ["", "orders:read orders:write", "a\"b", "a\\b", "a\tb", "\u{7f}", "\u{e9}"] {
            assert!(std::panic::catch_unwind(|| expect_scope_tokens("scope", [value])).is_err(), "{value:?}");
        }
    }
}
