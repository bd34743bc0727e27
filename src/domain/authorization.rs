//! Authorization requests (RFC 6749, section 4.1.1; OpenID Connect Core 1.0, section 3.1.2.1) and their responses.

use serde::{Deserialize, Serialize};

use super::{
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// How the response reaches the client (OAuth 2.0 Multiple Response Types; OAuth 2.0 Form Post Response Mode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseMode {
    /// In the query of the redirect URI.
    #[default]
    Query,
    /// In a form that the browser posts to the redirect URI.
    FormPost,
}

/// The parameter `prompt` (OpenID Connect Core 1.0, section 3.1.2.1; Initiating User Registration via OpenID Connect 1.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// No page may be shown.
    pub none: bool,
    /// The user authenticates again.
    pub login: bool,
    /// The user consents again.
    pub consent: bool,
    /// The user chooses the account.
    pub select_account: bool,
    /// The user creates an account.
    pub create: bool,
}

impl Prompt {
    /// The values that [`Prompt::parse`] knows.
    pub const VALUES: [&str; 5] = ["none", "login", "consent", "select_account", "create"];

    /// Parses the values, separated by spaces. Returns `None` for an unknown value, or for the value `none` with another one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut prompt = Self::default();
        for value in text.split(' ').filter(|value| !value.is_empty()) {
            match value {
                "none" => prompt.none = true,
                "login" => prompt.login = true,
                "consent" => prompt.consent = true,
                "select_account" => prompt.select_account = true,
                "create" => prompt.create = true,
                _ => return None,
            }
        }
        let shows_page = prompt.login || prompt.consent || prompt.select_account || prompt.create;
        if prompt.none && shows_page {
            return None;
        }
        Some(prompt)
    }
}

/// A validated authorization request. The redirect URI is one of the client's, PKCE is present unless the client may omit it,
/// and the client may request the scopes and resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationRequest {
    /// The client.
    pub client_id: String,
    /// The redirect URI, exactly as it was sent.
    pub redirect_uri: String,
    /// How the response reaches the client.
    pub response_mode: ResponseMode,
    /// The parameter `state`, returned unmodified.
    pub state: Option<String>,
    /// The requested scopes that the client may have, separated by spaces.
    pub scope: String,
    /// The resources (RFC 8707) for which the access tokens are requested; empty if they are for Latchkey itself.
    pub resources: Vec<String>,
    /// The parameter `nonce`, returned in the ID token.
    pub nonce: Option<String>,
    /// The S256 challenge (RFC 7636); empty if the client may omit PKCE and has omitted it.
    pub code_challenge: String,
    /// The parameter `prompt`.
    pub prompt: Prompt,
    /// The parameter `max_age` in seconds: a user who authenticated longer ago authenticates again.
    pub max_age: Option<u64>,
    /// The lowest level that `acr_values` names, which the session must reach: 1 for `aal1` to 3 for `aal3`. 0 (any level is enough) if
    /// it names none.
    pub acr: u8,
    /// The parameter `login_hint`, for the sign-in form.
    pub login_hint: Option<String>,
    /// The parameter `ui_locales`, for the pages' language.
    pub ui_locales: Option<String>,
    /// The account of `id_token_hint`: the user that the client expects.
    pub subject: Option<AccountId>,
    /// When the request was made.
    pub created_at: Timestamp,
    /// The browser's session (single sign-on) that the user has chosen to continue with (`prompt=select_account`).
    pub selected: Option<SessionId>,
    /// The browser's session in which the user has consented.
    pub consented: Option<SessionId>,
}

impl AuthorizationRequest {
    /// Whether the scope was requested.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|requested| requested == scope)
    }
}

/// The response to send to the client's redirect URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationResponse {
    /// The redirect URI.
    pub redirect_uri: String,
    /// How the response is sent.
    pub mode: ResponseMode,
    /// The parameters: `code` or `error`, `state`, and `iss` (RFC 9207). `Debug` shows the code: don't log it.
    pub parameters: Vec<(&'static str, String)>,
}

impl AuthorizationResponse {
    /// The URL of the response mode `query`: the redirect URI with the parameters added to its query.
    pub fn to_url(&self) -> String {
        // cannot fail: the redirect URIs of all clients are URLs
        let Ok(mut url) = url::Url::parse(&self.redirect_uri) else { return self.redirect_uri.clone() };
        url.query_pairs_mut().extend_pairs(&self.parameters);
        url.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_none_excludes_other_values() {
        assert_eq!(Prompt::parse(""), Some(Prompt::default()));
        assert_eq!(Prompt::parse("none"), Some(Prompt { none: true, ..Prompt::default() }));
        let both = Prompt { login: true, consent: true, ..Prompt::default() };
        assert_eq!(Prompt::parse("login consent"), Some(both));
        // `none` beside another value, an unknown value, and a value in the wrong case
        for text in ["none login", "select_account none", "other", "Login"] {
            assert_eq!(Prompt::parse(text), None, "{text}");
        }
        assert!(Prompt::VALUES.into_iter().all(|value| Prompt::parse(value).is_some()));
    }

    #[test]
    fn response_keeps_query_of_redirect_uri() {
        let parameters = vec![("code", "a b&c".to_owned()), ("iss", "https://auth.example.com".to_owned())];
        let redirect_uri = "https://app.example.com/cb?tenant=1".to_owned();
        let response = AuthorizationResponse { redirect_uri, mode: ResponseMode::Query, parameters };
        let url = "https://app.example.com/cb?tenant=1&code=a+b%26c&iss=https%3A%2F%2Fauth.example.com";
        assert_eq!(response.to_url(), url);
    }
}
