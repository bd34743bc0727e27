//! Verification of access tokens (RFC 8725; RFC 9068, section 4).
//!
//! No claim is used before the signature has been verified: with the issuer's key that `kid` names, and with the only
//! algorithm of this key.

use std::sync::Arc;

use crate::{
    claims::Claims,
    error::Invalid,
    id::Id,
    jose::{
        access_token::{HeaderError, RawClaims, UnverifiedToken},
        strict_json,
    },
    jwk::Key,
};

/// The claims that a token must have to be accepted.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The required `iss`, compared as a string.
    pub(crate) issuer: String,
    /// One of these must be in `aud`.
    pub(crate) audiences: Vec<String>,
    /// The tolerated difference between the issuer's clock and the verifier's, in milliseconds.
    pub(crate) leeway: i64,
    /// Whether tokens of the `client_credentials` grant are accepted.
    pub(crate) allow_service_clients: bool,
}

/// A token with a valid signature and valid claims, with the key and the times on which its validity depends.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) claims: Arc<Claims>,
    pub(crate) key: Arc<Key>,
    pub(crate) session: Option<Session>,
    /// The later of `nbf` and `iat`, in seconds since the Unix epoch.
    not_before: i64,
}

/// The session of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: Id,
    pub(crate) account: Id,
    /// When the session began, in seconds since the Unix epoch: `session_start`. Tokens of Latchkey 0.1 lack it, but their
    /// `auth_time` is this time.
    pub(crate) began: i64,
    /// The version of the account's claims in the token; absent in tokens of Latchkey 0.1.
    pub(crate) claims_version: Option<u64>,
    /// When the token was issued, in seconds since the Unix epoch.
    pub(crate) issued: i64,
}

impl Session {
    /// The session of a token; `None` if the token has none, as a service client's, or if an id is not a UUID.
    pub(crate) fn of(claims: &Claims) -> Option<Self> {
        Some(Self {
            id: Id::parse(claims.sid.as_deref()?)?,
            account: Id::parse(&claims.sub)?,
            began: claims.session_start.or(claims.auth_time)?,
            claims_version: claims.claims_version,
            issued: claims.iat,
        })
    }

    /// Whether an account-wide revocation ends this session: it ends the account's sessions that began before `before`, in
    /// seconds since the Unix epoch, except the session `except`.
    pub(crate) fn is_cut_off(&self, before: i64, except: Option<Id>) -> bool {
        self.began < before && except != Some(self.id)
    }

    /// Whether the token was issued before the claims of its account reached `version` at the time `at`, in seconds since the
    /// Unix epoch. The time decides only for a token without a version.
    pub(crate) fn precedes_claims(&self, version: u64, at: i64) -> bool {
        match self.claims_version {
            Some(own_version) => own_version < version,
            None => self.issued <= at,
        }
    }
}

impl Rules {
    /// Verifies the signature, the claims and the times of `token` at `now`, in milliseconds since the Unix epoch.
    /// `find_key` returns the issuer's key with an id. Revocations are not checked here.
    pub(crate) fn check<E: From<Invalid>>(
        &self,
        token: &str,
        now: i64,
        find_key: impl FnOnce(&str) -> Result<Arc<Key>, E>,
    ) -> Result<Signed, E> {
        let unverified = UnverifiedToken::parse(token).map_err(Invalid::from)?;
        let key = find_key(&unverified.kid)?;
        Ok(self.check_with(&unverified, now, key)?)
    }

    fn check_with(&self, token: &UnverifiedToken<'_>, now: i64, key: Arc<Key>) -> Result<Signed, Invalid> {
        let jws = &token.jws;
        if jws.header.alg != key.algorithm().as_str() {
            return Err(Invalid::WrongAlgorithm);
        }
        let signature = jws.signature().ok_or(Invalid::Malformed)?;
        if !key.verify(jws.message.as_bytes(), &signature) {
            return Err(Invalid::BadSignature);
        }
        let payload = jws.payload().ok_or(Invalid::Malformed)?;
        let raw: RawClaims = strict_json::from_slice(&payload).ok_or(Invalid::Malformed)?;
        let not_before = raw.not_before();
        let (claims, session) = self.check_claims(raw, key.kid())?;
        let signed = Signed { claims: Arc::new(claims), key, session, not_before };
        self.check_time(&signed, now)?;
        Ok(signed)
    }

    /// Checks `exp`, `nbf` and `iat` of a verified token at `now`, in milliseconds since the Unix epoch.
    pub(crate) fn check_time(&self, signed: &Signed, now: i64) -> Result<(), Invalid> {
        if now >= millis(signed.claims.exp).saturating_add(self.leeway) {
            return Err(Invalid::Expired);
        }
        if millis(signed.not_before) > now.saturating_add(self.leeway) {
            return Err(Invalid::NotYetValid);
        }
        Ok(())
    }

    fn check_claims(&self, raw: RawClaims, kid: &str) -> Result<(Claims, Option<Session>), Invalid> {
        let missing = Invalid::MissingClaim;
        let is_service_client = raw.names_client_as_subject();
        let iss = raw.iss.ok_or(missing("iss"))?;
        if iss != self.issuer {
            return Err(Invalid::WrongIssuer);
        }
        let aud = raw.aud.ok_or(missing("aud"))?.into_list();
        if !aud.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(Invalid::WrongAudience);
        }
        let claims = Claims {
            iss,
            sub: raw.sub.ok_or(missing("sub"))?,
            aud,
            client_id: raw.client_id.ok_or(missing("client_id"))?,
            iat: raw.iat.ok_or(missing("iat"))?,
            exp: raw.exp.ok_or(missing("exp"))?,
            jti: raw.jti.ok_or(missing("jti"))?,
            sid: raw.sid,
            auth_time: raw.auth_time,
            acr: raw.acr,
            amr: raw.amr.unwrap_or_default(),
            scope: raw.scope.unwrap_or_default(),
            roles: raw.roles.unwrap_or_default(),
            session_start: raw.session_start,
            claims_version: raw.claims_version,
            kid: kid.into(),
        };
        if claims.sid.is_some() {
            if claims.auth_time.is_none() {
                return Err(missing("auth_time"));
            }
            // malformed if an id is not a UUID
            let session = Session::of(&claims).ok_or(Invalid::Malformed)?;
            return Ok((claims, Some(session)));
        }
        // only a service client's own token has neither `sid` nor `auth_time`
        if !is_service_client || claims.auth_time.is_some() {
            return Err(missing("sid"));
        }
        if !self.allow_service_clients {
            return Err(Invalid::ServiceClient);
        }
        Ok((claims, None))
    }
}

impl From<HeaderError> for Invalid {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::TooLong => Self::TooLong,
            HeaderError::Malformed => Self::Malformed,
            HeaderError::CriticalHeader => Self::CriticalHeader,
            HeaderError::WrongType => Self::WrongType,
            HeaderError::NoKeyId => Self::UnknownKey,
        }
    }
}

/// A `NumericDate` in milliseconds, saturating.
fn millis(seconds: i64) -> i64 {
    seconds.saturating_mul(1000)
}
