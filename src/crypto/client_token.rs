//! Access tokens of the `client_credentials` grant: the profile of RFC 9068, without a session or a user.

use serde::{Serialize, Serializer};

/// The claims of a service client's own access token (RFC 9068, section 2.2). Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientClaims {
    /// The issuer: the setting `issuer`. Verifiers compare it as a string, without normalizing the URL.
    pub iss: String,
    /// The client identifier in place of an account, since no user takes part.
    pub sub: String,
    /// The audiences.
    #[serde(serialize_with = "one_or_several")]
    pub aud: Vec<String>,
    /// The client identifier again: the profile requires this claim.
    pub client_id: String,
    /// The time of issue.
    pub iat: i64,
    /// The time from which the token is no longer valid.
    pub exp: i64,
    /// The token's id.
    pub jti: String,
    /// The scopes, separated by spaces; omitted if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
}

/// Serializes one audience as a string and several as an array (RFC 7519, section 4.1.3).
pub(super) fn one_or_several<S: Serializer>(audiences: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match audiences {
        [single] => single.serialize(serializer),
        several => several.serialize(serializer),
    }
}
