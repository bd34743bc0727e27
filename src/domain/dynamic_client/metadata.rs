//! The client metadata that Latchkey uses.

use serde::{Deserialize, Serialize};

use crate::domain::app_client::{ClientAuthMethod, GrantType};

/// The client metadata (RFC 7591, section 2) that Latchkey uses. The stored form is JSON with names of one letter, to keep a
/// `client_id` that contains it short. The letters never change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientMetadata {
    /// `client_name`, sanitized for display. None if nothing of it can be displayed.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `redirect_uris`
    #[serde(rename = "r")]
    pub redirect_uris: Vec<String>,
    /// `post_logout_redirect_uris`
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    pub post_logout_redirect_uris: Vec<String>,
    /// Whether `grant_types` contains `refresh_token`.
    #[serde(rename = "o", default)]
    pub refreshes: bool,
    /// `token_endpoint_auth_method`
    #[serde(rename = "a")]
    pub auth_method: String,
    /// `scope`; none for all scopes that dynamic clients may request.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// `client_uri`
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    /// `jwks`, for [`ClientAuthMethod::PrivateKeyJwt`].
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// `jwks_uri`, for [`ClientAuthMethod::PrivateKeyJwt`].
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// `initiate_login_uri` (OpenID Connect Core 1.0, section 4).
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub initiate_login_uri: Option<String>,
}

impl ClientMetadata {
    /// The authentication method. A stored method that this release does not know counts as `private_key_jwt`, so that the
    /// client is not treated as a public one.
    pub fn method(&self) -> ClientAuthMethod {
        ClientAuthMethod::parse(&self.auth_method).unwrap_or(ClientAuthMethod::PrivateKeyJwt)
    }

    /// The grant types that the client may use.
    pub fn grant_types(&self) -> Vec<GrantType> {
        let mut grant_types = vec![GrantType::AuthorizationCode];
        if self.refreshes {
            grant_types.push(GrantType::RefreshToken);
        }
        grant_types
    }
}
