//! Access tokens: their claims, and their encoding as signed JWTs by the profile of RFC 9068.
//! [`super::token_verifier`] verifies them.

use std::{fmt, ops::Deref, sync::Arc};

use latchkey_verify::jose::access_token::MAX_TOKEN_BYTES;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    client_token::{ClientClaims, one_or_several},
    signing_key::{SigningKey, SigningKeyError},
};
use crate::domain::{
    account::{ClaimsStamp, ClaimsVersion},
    ids::{AccountId, SessionId},
};

/// The claims of a session's access token (RFC 9068, section 2.2). Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessClaims {
    /// The issuer. Verifiers compare it as a string.
    pub iss: String,
    /// The account.
    pub sub: AccountId,
    /// The audiences. In a verified token that contains `token.audience`, this audience only.
    #[serde(serialize_with = "one_or_several")]
    pub aud: Vec<String>,
    /// The client that the token was issued to.
    pub client_id: String,
    /// The time of issue.
    pub iat: i64,
    /// The time from which the token is no longer valid.
    pub exp: i64,
    /// The token's id.
    pub jti: String,
    /// The session (OpenID Connect Front-Channel Logout 1.0, section 3).
    pub sid: SessionId,
    /// When the user last authenticated.
    pub auth_time: i64,
    /// The authentication context class of that authentication.
    pub acr: String,
    /// The methods of that authentication (RFC 8176).
    pub amr: Vec<String>,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// The account's roles; omitted if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Whether the account's address is verified; omitted unless `token.email_verified` is `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
    /// The members of the account's metadata that `token.app_metadata` lists; omitted if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_metadata: Option<Box<Map<String, Value>>>,
    /// When the session began: account-wide revocations end the sessions that began before a time. Tokens of release 0.1 lack
    /// this claim; see [`AccessClaims::session_start`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_start: Option<i64>,
    /// The version of the account's claims. Tokens of release 0.1 lack this claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims_version: Option<ClaimsVersion>,
}

impl AccessClaims {
    /// Whether the account's claims have changed since the token was issued, so that the token is refused (invariant I16).
    pub fn are_outdated_by(&self, current: &ClaimsStamp) -> bool {
        current.outdates(self.claims_version, self.iat)
    }

    /// When the session began. Tokens of release 0.1 state this time in `auth_time`.
    pub fn session_start(&self) -> i64 {
        self.session_start.unwrap_or(self.auth_time)
    }
}

/// A verified token, with the key and the times on which its validity depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken<C = AccessClaims> {
    /// The claims.
    pub claims: C,
    /// The id of the key that signed the token.
    pub(super) kid: String,
    /// The later of `iat` and `nbf`, in seconds since the Unix epoch.
    pub(super) not_before: i64,
    /// The claim `exp`.
    pub(super) expires_at: i64,
}

impl<C> Deref for VerifiedToken<C> {
    type Target = C;
    fn deref(&self) -> &C {
        &self.claims
    }
}

/// A verified token that this service issued, to a session or to a service client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuedToken {
    /// The token of a session for `token.audience`.
    Session(Arc<VerifiedToken>),
    /// The token of an app's session for other audiences than `token.audience`: the issuer, for `/oauth2/userinfo`, or resources
    /// (RFC 8707). This service's own API does not accept it.
    App(Arc<VerifiedToken>),
    /// A service client's own token. Its audience may be another service.
    Client(Arc<VerifiedToken<ClientClaims>>),
}

impl IssuedToken {
    /// Returns the token if it belongs to a session and is for this service.
    ///
    /// # Errors
    /// [`TokenError::NoSession`] for a service client's token, [`TokenError::WrongAudience`] for a token for other audiences.
    pub fn into_session(self) -> Result<Arc<VerifiedToken>, TokenError> {
        match self {
            Self::Session(token) => Ok(token),
            Self::App(_) => Err(TokenError::WrongAudience),
            Self::Client(_) => Err(TokenError::NoSession),
        }
    }
}

/// An encoded access token. `Debug` omits it: anyone who has a bearer token can use it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// The text of the token, to be sent to its holder.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Converts the token to its text, without a copy.
    pub fn into_exposed(self) -> String {
        self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[access token]")
    }
}

/// Why a token can't be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The token would be longer than [`MAX_TOKEN_BYTES`], which every verifier refuses. A service client's own token has scopes and
    /// audiences, but no roles and no metadata.
    #[error(
        "the access token would be longer than {MAX_TOKEN_BYTES} bytes: its scopes, audiences, roles or members of app_metadata are too long"
    )]
    TooLong,
    /// The key failed to sign.
    #[error(transparent)]
    Sign(#[from] SigningKeyError),
}

impl SigningKey {
    /// Encodes and signs the access token of a session.
    ///
    /// # Errors
    /// [`EncodeError`]
    pub fn encode(&self, claims: &AccessClaims) -> Result<AccessToken, EncodeError> {
        check_length(self.encode_as_access_token(claims)?)
    }

    /// Encodes and signs a service client's own access token.
    ///
    /// # Errors
    /// [`EncodeError`]
    pub fn encode_client(&self, claims: &ClientClaims) -> Result<AccessToken, EncodeError> {
        check_length(self.encode_as_access_token(claims)?)
    }
}

fn check_length(token: String) -> Result<AccessToken, EncodeError> {
    if token.len() > MAX_TOKEN_BYTES { Err(EncodeError::TooLong) } else { Ok(AccessToken(token)) }
}

/// Why an access token is refused. For the log only: responses do not contain the reason (RFC 6750, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is longer than [`MAX_TOKEN_BYTES`].
    #[error("it is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// The token is not a JWS in compact form, or its JSON is ambiguous or has a member of a wrong type.
    #[error("it is not a well-formed signed JWT")]
    Malformed,
    /// The header has a `crit` member. No extension is supported (RFC 7515, section 4.1.11).
    #[error("its header requires an extension that is not supported")]
    CriticalHeader,
    /// `typ` is not `at+jwt`.
    #[error("it is not an access token (typ at+jwt)")]
    WrongType,
    /// `kid` is missing or names no trusted key, for example a key that another node has just created and this node has not yet read.
    #[error("it names no trusted key")]
    UnknownKey,
    /// `alg` is not the algorithm of the key, for example `none`.
    #[error("its algorithm is not the algorithm of its key")]
    WrongAlgorithm,
    /// The key does not verify the signature.
    #[error("its signature is wrong")]
    BadSignature,
    /// A claim that RFC 9068 or this service requires is missing.
    #[error("it has no {0} claim")]
    MissingClaim(&'static str),
    /// `iss` is another issuer.
    #[error("its issuer is another service")]
    WrongIssuer,
    /// `aud` names other services.
    #[error("its audience is another service")]
    WrongAudience,
    /// The token is a service client's own, and a session's is required.
    #[error("it is a service client's own and belongs to no account")]
    NoSession,
    /// `exp` is in the past.
    #[error("it has expired")]
    Expired,
    /// `nbf` or `iat` is in the future.
    #[error("it is not valid yet")]
    NotYetValid,
}
