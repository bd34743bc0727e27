//! The claims of an access token: [`Claims`].

use std::sync::Arc;

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
    /// When the user last authenticated; absent in a service client's own token.
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
    /// When the session began; absent in tokens of Latchkey 0.1 and in a service client's own token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_start: Option<i64>,
    /// The version of the account's claims; absent in tokens of Latchkey 0.1 and in a service client's own token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims_version: Option<u64>,
    /// The id of the key that signed the token. The token stops being valid when this key is retired.
    #[serde(skip)]
    pub(crate) kid: Arc<str>,
}

impl Claims {
    /// Whether a service client obtained the token for itself (`client_credentials`). Such a token has no user, and `sub`
    /// is a client id: check this before you use `sub` as an account's id.
    pub fn is_service_client(&self) -> bool {
        // every token of a user belongs to a session
        self.sid.is_none()
    }

    /// Whether the token has this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        // an empty `scope` claim splits into one empty text, which is not a scope
        !scope.is_empty() && self.scope.split(' ').any(|granted| granted == scope)
    }

    /// Whether the account has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|assigned| assigned == role)
    }

    /// Whether the authentication reached the level `required`: `acr` equals `required`, or both are among `aal1`, `aal2` and `aal3`
    /// and `acr` is the higher level.
    pub fn has_acr(&self, required: &str) -> bool {
        let Some(acr) = self.acr.as_deref() else { return false };
        if acr == required {
            return true;
        }
        let rank_of = |level: &str| ["aal1", "aal2", "aal3"].iter().position(|ranked| *ranked == level);
        match (rank_of(acr), rank_of(required)) {
            (Some(actual), Some(required)) => actual > required,
            _ => false,
        }
    }
}
