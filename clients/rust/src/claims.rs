//! The claims of an access token: [`Claims`].

use serde::Serialize;

/// The claims of a valid access token (RFC 9068, section 2.2). Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The account's UUID, or the client id if the token is a service client's own ([`Claims::is_service_client`]).
    pub sub: String,
    /// The audiences. At least one is an audience of this verifier.
    pub aud: Vec<String>,
    /// The client that the token was issued to.
    pub client_id: String,
    /// When the token was issued.
    pub iat: i64,
    /// When the token expires.
    pub exp: i64,
    /// The id of the token.
    pub jti: String,
    /// The session; absent in a service client's own token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// When the user signed in; absent in a service client's own token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// The authentication context class: the assurance level of the sign-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// The authentication methods (RFC 8176).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// The account's roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

impl Claims {
    /// Whether a service client obtained the token for itself (`client_credentials`). Such a token has no user, and `sub`
    /// is a client id: check this before `sub` is used as an account.
    pub fn is_service_client(&self) -> bool {
        self.sid.is_none()
    }

    /// Whether the token has this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|one| one == scope && !one.is_empty())
    }

    /// Whether the account has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|one| one == role)
    }
}
