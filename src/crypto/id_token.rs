//! ID tokens (OpenID Connect Core 1.0, section 2). They are signed with the keys of the access tokens. In the header, the `typ` of ID
//! tokens is `JWT` and that of access tokens is `at+jwt`, so that neither is accepted in place of the other.

use std::fmt;

use latchkey_verify::jose::jws::Jws;
use serde::{Deserialize, Serialize};

use super::{
    authorization_code::{left_half_sha256, left_half_sha512},
    signing_key::{SigningKey, SigningKeyError},
};
use crate::domain::{
    ids::{AccountId, SessionId},
    key::Algorithm,
};

/// The `typ` of ID tokens.
pub(super) const TOKEN_TYPE: &str = "JWT";

/// The longest ID token that is accepted as a hint, in bytes.
const MAX_HINT_BYTES: usize = 8192;

/// The claims of an ID token. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdClaims {
    /// The issuer.
    pub iss: String,
    /// The account.
    pub sub: AccountId,
    /// The client.
    pub aud: String,
    /// The time of issue.
    pub iat: i64,
    /// The time from which the token is no longer valid.
    pub exp: i64,
    /// When the user last authenticated.
    pub auth_time: i64,
    /// The authentication context class of that authentication.
    pub acr: String,
    /// The methods of that authentication (RFC 8176).
    pub amr: Vec<String>,
    /// The session of the client's tokens.
    pub sid: SessionId,
    /// The parameter `nonce` of the authorization request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The left half of the hash of the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_hash: Option<String>,
    /// The claims about the user that the granted scopes reveal.
    #[serde(flatten)]
    pub user: UserClaims,
}

/// The claims about the user (OpenID Connect Core 1.0, section 5.1) that the granted scopes reveal (section 5.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UserClaims {
    /// Scope `profile`: the display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Scope `profile`: the username; without one, the part of the e-mail address before the `@`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// Scope `profile`: a BCP 47 language tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Scope `profile`: an IANA time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zoneinfo: Option<String>,
    /// Scope `profile`: when the account last changed, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<i64>,
    /// Scope `email`: the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Scope `email`: whether the address is verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
}

/// An encoded ID token. `Debug` omits it.
#[derive(Clone, PartialEq, Eq)]
pub struct IdToken(String);

impl IdToken {
    /// The text, for the client.
    pub fn into_exposed(self) -> String {
        self.0
    }
}

impl fmt::Debug for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[ID token]")
    }
}

/// The claims of an ID token that a client presents as a hint about its user and session (`id_token_hint`). `exp` is not read: an
/// expired ID token is still a valid hint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IdTokenHint {
    /// The issuer. The verifier refuses a hint of another issuer.
    pub(super) iss: String,
    /// The account.
    pub sub: AccountId,
    /// The client.
    pub aud: String,
    /// The session of the client's tokens.
    pub sid: SessionId,
    /// The time of issue, in seconds since the Unix epoch.
    pub iat: i64,
}

impl SigningKey {
    /// Encodes and signs an ID token.
    ///
    /// # Errors
    /// [`SigningKeyError::Sign`] if signing fails.
    pub fn encode_id_token(&self, claims: &IdClaims) -> Result<IdToken, SigningKeyError> {
        self.encode_as_id_token(claims).map(IdToken)
    }

    /// The claim `at_hash` for an access token, with the hash function of this key's algorithm (SHA-512 for Ed25519).
    pub fn at_hash(&self, access_token: &str) -> String {
        match self.algorithm() {
            Algorithm::EdDsa => left_half_sha512(access_token),
            Algorithm::Es256 | Algorithm::Rs256 | Algorithm::Ps256 => left_half_sha256(access_token),
        }
    }
}

/// The key id in the header of an ID token that is not verified yet; `None` if the text is not an ID token or is too long for a hint.
/// The header's `alg` is not read: the key determines the algorithm.
pub(super) fn id_token_kid(token: &str) -> Option<String> {
    if token.len() > MAX_HINT_BYTES {
        return None;
    }
    let header = Jws::parse(token)?.header;
    let is_id_token = header.typ.as_deref() == Some(TOKEN_TYPE) && !header.crit;
    header.kid.filter(|_| is_id_token)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn key_id_is_read_only_from_the_strict_header_of_an_id_token() {
        // The payload `e30` is `{}`. The signature is not verified here.
        let kid = |header: &str| id_token_kid(&format!("{}.e30.AAAA", BASE64_URL_SAFE_NO_PAD.encode(header)));
        assert_eq!(kid(r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#).as_deref(), Some("k"));
        for header in [
            r#"{"alg":"ES256","typ":"at+jwt","kid":"k"}"#,
            r#"{"alg":"ES256","typ":"JWT"}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"j","kid":"k"}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"k","a":1,"a":1}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"k","crit":null}"#,
            r#"["ES256","JWT","k",false]"#,
        ] {
            assert_eq!(kid(header), None, "{header}");
        }
    }
}
