//! What an access token says: [`Claims`].

use serde::Serialize;

/// What a valid access token says (RFC 9068, section 2.2). Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// Whose it is: an account's UUID, or the client's own id where [`Claims::is_clients_own`].
    pub sub: String,
    /// Whom it is for: one of them is an audience of this verifier.
    pub aud: Vec<String>,
    /// The client it was issued to.
    pub client_id: String,
    /// When it was issued.
    pub iat: i64,
    /// From when on it is no longer valid.
    pub exp: i64,
    /// Its own id.
    pub jti: String,
    /// Its session; a client's own token has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// When its owner signed in; a client's own token doesn't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// How sure that sign-in was: the authentication context class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// By which methods (RFC 8176).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// What it may be used for, separated by spaces.
    pub scope: String,
    /// The account's roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

impl Claims {
    /// Whether a service got this token for itself (`client_credentials`), so that no person stands behind it and `sub` is
    /// no account. Ask before `sub` is taken for one: a client may be called anything.
    pub fn is_clients_own(&self) -> bool {
        self.sid.is_none()
    }

    /// Whether `scope` is among the token's scopes.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|one| one == scope && !one.is_empty())
    }

    /// Whether `role` is among the account's roles.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|one| one == role)
    }
}
