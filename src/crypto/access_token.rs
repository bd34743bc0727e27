//! Access tokens: JWTs by the profile of RFC 9068, checked as RFC 8725 says.
//!
//! Nothing of a token is believed before its signature has been checked, and the signature is checked with the one
//! algorithm of the key that its `kid` names among our own. What else a header may hold about keys (`jwk`, `jku`, `x5c`,
//! `x5u`) is not looked at. The time is given by the caller.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    client_token::{Audience, ClientClaims},
    jws::{Jws, Malformed},
    key_ring::KeyRing,
    signing_key::{SigningKey, SigningKeyError},
    strict_json,
};
use crate::domain::{
    clock::Timestamp,
    ids::{AccountId, SessionId},
    key::Algorithm,
};

/// The longest token that is made or looked at, in bytes. Much beyond it, no HTTP server would take it in a header.
pub const MAX_BYTES: usize = 8 * 1024;

/// The `typ` of access tokens, and its long form (RFC 9068, section 4).
const TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];

/// Most claims need no more.
const USUAL_CLAIMS_BYTES: usize = 512;

/// What an access token says (RFC 9068, section 2.2). Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessClaims {
    /// Who issued it; compared as a string.
    pub iss: String,
    /// Whose it is.
    pub sub: AccountId,
    /// Whom it is for. Of a token that names several, the one that it was verified for.
    pub aud: String,
    /// The client it was issued to.
    pub client_id: String,
    /// When it was issued.
    pub iat: i64,
    /// From when on it is no longer valid.
    pub exp: i64,
    /// Its own id.
    pub jti: String,
    /// Its session (OpenID Connect Front-Channel Logout 1.0, section 3).
    pub sid: SessionId,
    /// When its owner signed in.
    pub auth_time: i64,
    /// How sure that sign-in was: the authentication context class.
    pub acr: String,
    /// By which methods (RFC 8176).
    pub amr: Vec<String>,
    /// What it may be used for, separated by spaces.
    pub scope: String,
    /// The account's roles; left out where it has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// A token that was found valid, and what its validity depends on: that of a session, unless other claims are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken<C = AccessClaims> {
    /// What it says.
    pub claims: C,
    /// The key that signed it.
    kid: String,
    /// From when on it is valid.
    not_before: i64,
    /// What services that ask about it are told, written once: it says nothing but what the token says.
    pub(crate) told: OnceLock<Bytes>,
}

impl<C> Deref for VerifiedToken<C> {
    type Target = C;
    fn deref(&self) -> &C {
        &self.claims
    }
}

/// A valid token of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// That of somebody's session.
    Session(Arc<VerifiedToken>),
    /// That of a service client itself. It may be meant for others than this service.
    Client(Arc<VerifiedToken<ClientClaims>>),
}

impl Verified {
    /// The key that signed it, from when on it is valid, and from when on no longer.
    fn bounds(&self) -> (&str, i64, i64) {
        match self {
            Self::Session(token) => (&token.kid, token.not_before, token.exp),
            Self::Client(token) => (&token.kid, token.not_before, token.exp),
        }
    }
}

/// An access token. Whoever has it may use it: it doesn't print.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// The token itself, to be handed to its holder.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The token itself, without a copy.
    pub fn into_exposed(self) -> String {
        self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[access token]")
    }
}

/// Why no token could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It would be longer than [`MAX_BYTES`], and refused by everyone: the account has too many roles.
    #[error("the access token would be longer than {MAX_BYTES} bytes: the account has too many roles")]
    TooLong,
    /// See [`SigningKeyError::Sign`].
    #[error(transparent)]
    Sign(#[from] SigningKeyError),
}

impl SigningKey {
    /// The token that says `claims`, signed.
    ///
    /// # Errors
    /// [`EncodeError`]
    pub fn encode(&self, claims: &AccessClaims) -> Result<AccessToken, EncodeError> {
        self.encode_json(claims)
    }

    /// The same for a service client's own token.
    ///
    /// # Errors
    /// [`EncodeError`]
    pub fn encode_client(&self, claims: &ClientClaims) -> Result<AccessToken, EncodeError> {
        self.encode_json(claims)
    }

    fn encode_json(&self, claims: &impl Serialize) -> Result<AccessToken, EncodeError> {
        let mut json = Vec::with_capacity(USUAL_CLAIMS_BYTES);
        serde_json::to_writer(&mut json, claims).expect("texts, numbers and lists are always JSON");
        let header = self.encoded_header();
        let mut token = String::with_capacity(header.len() + json.len() / 3 * 4 + 4 + self.encoded_signature_len() + 2);
        token.push_str(header);
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(&json, &mut token);
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
        if token.len() > MAX_BYTES { Err(EncodeError::TooLong) } else { Ok(AccessToken(token)) }
    }

    fn encoded_signature_len(&self) -> usize {
        match self.algorithm() {
            Algorithm::Es256 | Algorithm::EdDsa => 86,
            Algorithm::Rs256 | Algorithm::Ps256 => 342,
        }
    }
}

/// Why a token isn't valid here. For the log: a client is told no more than that (RFC 6750, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`MAX_BYTES`].
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Not three parts of base64url, or a header or claims that aren't JSON, name a member twice or have it of a wrong
    /// type.
    #[error("it is not a well-formed signed JWT")]
    Malformed,
    /// It has a `crit` header, and no extension is understood here (RFC 7515, section 4.1.11).
    #[error("its header asks for an extension that is not understood")]
    CriticalHeader,
    /// Its `typ` isn't an access token's.
    #[error("it is not an access token (typ at+jwt)")]
    WrongType,
    /// It has no `kid`, or one of no key that is believed now. Perhaps another node made the key a moment ago.
    #[error("it names no key that is known and believed now")]
    UnknownKey,
    /// Its `alg` isn't its key's, `none` and everything unheard-of included.
    #[error("its algorithm is not its key's")]
    WrongAlgorithm,
    /// Its signature isn't its key's.
    #[error("its signature is wrong")]
    BadSignature,
    /// A claim that RFC 9068 or this service requires isn't there.
    #[error("it has no {0} claim")]
    MissingClaim(&'static str),
    /// Issued by someone else.
    #[error("it was issued by someone else")]
    WrongIssuer,
    /// Meant for someone else.
    #[error("it is meant for someone else")]
    WrongAudience,
    /// A service client's own, where one of a session is wanted.
    #[error("it is a service client's own and stands for no account")]
    NoSession,
    /// Its `exp` has come.
    #[error("it has expired")]
    Expired,
    /// Its `nbf` hasn't come yet, or it was issued in the future.
    #[error("it is not valid yet")]
    NotYetValid,
}

/// Verifies access tokens of one issuer for one audience.
#[derive(Clone, Copy, Debug)]
pub struct Verifier<'a> {
    /// The keys that are believed.
    pub keys: &'a KeyRing,
    /// What `iss` must be, to the letter.
    pub issuer: &'a str,
    /// What `aud` must be or hold.
    pub audience: &'a str,
    /// How far the issuer's clock may differ from ours when `exp`, `nbf` and `iat` are checked.
    pub leeway: Duration,
}

impl From<Malformed> for TokenError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Verifier<'_> {
    /// What `token` says, if it is valid at `now`. Whether its session still lives isn't asked here; whom a service client's
    /// own token is for is left to those who take it, since other services ask about theirs.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::TooLong);
        }
        let jws = Jws::parse(token)?;
        if jws.header.crit {
            return Err(TokenError::CriticalHeader);
        }
        if !jws.header.typ.is_some_and(|typ| TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known))) {
            return Err(TokenError::WrongType);
        }
        let kid = jws.header.kid.ok_or(TokenError::UnknownKey)?;
        let key = self.keys.verification_key(&kid, now).ok_or(TokenError::UnknownKey)?;
        if jws.header.alg != key.algorithm().as_str() {
            return Err(TokenError::WrongAlgorithm);
        }
        key.verify(jws.message.as_bytes(), &jws.signature).map_err(|_| TokenError::BadSignature)?;

        let claims: Claims = strict_json::from_slice(&jws.payload).ok_or(TokenError::Malformed)?;
        let not_before = claims.iat.into_iter().chain(claims.nbf).max().unwrap_or(i64::MAX);
        let verified = if claims.is_of_a_client() {
            Verified::Client(Arc::new(VerifiedToken {
                claims: claims.check_client(self)?,
                kid,
                not_before,
                told: OnceLock::new(),
            }))
        } else {
            Verified::Session(Arc::new(VerifiedToken {
                claims: claims.check(self)?,
                kid,
                not_before,
                told: OnceLock::new(),
            }))
        };
        self.check_again(&verified, now)?;
        Ok(verified)
    }

    /// Whether a token that was found valid before still is: its key may have been retired since, and time goes on.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`], [`TokenError::Expired`], [`TokenError::NotYetValid`]
    pub fn check_again(&self, verified: &Verified, now: Timestamp) -> Result<(), TokenError> {
        let (kid, not_before, exp) = verified.bounds();
        if self.keys.verification_key(kid, now).is_none() {
            return Err(TokenError::UnknownKey);
        }
        if now >= time(exp) + self.leeway {
            return Err(TokenError::Expired);
        }
        if time(not_before) > now + self.leeway {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

/// The claims as they came, each of the right type if it is there.
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    client_id: Option<String>,
    iat: Option<i64>,
    exp: Option<i64>,
    nbf: Option<i64>,
    jti: Option<String>,
    sid: Option<SessionId>,
    auth_time: Option<i64>,
    acr: Option<String>,
    amr: Option<Vec<String>>,
    scope: Option<String>,
    roles: Option<Vec<String>>,
}

impl Claims {
    /// Whether it is a service client's own: it names itself and no session.
    fn is_of_a_client(&self) -> bool {
        self.sid.is_none() && self.sub.is_some() && self.sub == self.client_id
    }

    fn check_client(self, verifier: &Verifier<'_>) -> Result<ClientClaims, TokenError> {
        let missing = TokenError::MissingClaim;
        let iss = self.iss.ok_or(missing("iss"))?;
        if iss != verifier.issuer {
            return Err(TokenError::WrongIssuer);
        }
        Ok(ClientClaims {
            iss,
            sub: self.sub.ok_or(missing("sub"))?,
            aud: self.aud.ok_or(missing("aud"))?.into_list(),
            client_id: self.client_id.ok_or(missing("client_id"))?,
            iat: self.iat.ok_or(missing("iat"))?,
            exp: self.exp.ok_or(missing("exp"))?,
            jti: self.jti.ok_or(missing("jti"))?,
            scope: self.scope.unwrap_or_default(),
        })
    }

    fn check(self, verifier: &Verifier<'_>) -> Result<AccessClaims, TokenError> {
        let missing = TokenError::MissingClaim;
        let iss = self.iss.ok_or(missing("iss"))?;
        if iss != verifier.issuer {
            return Err(TokenError::WrongIssuer);
        }
        if !self.aud.ok_or(missing("aud"))?.contains(verifier.audience) {
            return Err(TokenError::WrongAudience);
        }
        let (iat, exp) = (self.iat.ok_or(missing("iat"))?, self.exp.ok_or(missing("exp"))?);
        Ok(AccessClaims {
            iss,
            sub: self.sub.ok_or(missing("sub"))?.parse().map_err(|_| TokenError::Malformed)?,
            aud: verifier.audience.to_owned(),
            client_id: self.client_id.ok_or(missing("client_id"))?,
            iat,
            exp,
            jti: self.jti.ok_or(missing("jti"))?,
            sid: self.sid.ok_or(missing("sid"))?,
            auth_time: self.auth_time.ok_or(missing("auth_time"))?,
            acr: self.acr.ok_or(missing("acr"))?,
            amr: self.amr.ok_or(missing("amr"))?,
            scope: self.scope.ok_or(missing("scope"))?,
            roles: self.roles.unwrap_or_default(),
        })
    }
}

/// A `NumericDate` as a point in time; one beyond all times is the last or the first.
fn time(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}
