//! Access tokens, checked as RFC 8725 and RFC 9068, section 4, say.
//!
//! Nothing of a token is believed before its signature has been checked, and the signature is checked with the one
//! algorithm of the key that its `kid` names among the issuer's. What else a header may hold about keys (`jwk`, `jku`,
//! `x5c`, `x5u`) is not looked at.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::{claims::Claims, error::Invalid, id::Id, jwk::Key, strict_json};

/// The longest token that is looked at, in bytes. Much beyond it, no HTTP server would take it in a header.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The `typ` of access tokens, and its long form (RFC 9068, section 4).
const TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];

/// What tokens must say.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// What `iss` must be, to the letter.
    pub(crate) issuer: String,
    /// One of them must be in `aud`.
    pub(crate) audiences: Vec<String>,
    /// How far the issuer's clock may differ from ours, in milliseconds.
    pub(crate) leeway: i64,
    /// Whether tokens that clients got for themselves are accepted.
    pub(crate) clients_own: bool,
}

/// A token whose signature and claims are good, and what its validity depends on from now on.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) claims: Arc<Claims>,
    pub(crate) key: Arc<Key>,
    pub(crate) session: Option<Session>,
    /// In seconds since the Unix epoch.
    not_before: i64,
}

/// The session that a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: Id,
    pub(crate) account: Id,
    /// When its owner signed in, in seconds since the Unix epoch.
    pub(crate) auth_time: i64,
}

impl Rules {
    /// What `token` says, if `key_of` knows its key and everything about it is as it must be at `now`, in milliseconds
    /// since the Unix epoch. Whether it was revoked isn't asked here.
    pub(crate) fn check<E: From<Invalid>>(
        &self,
        token: &str,
        now: i64,
        key_of: impl FnOnce(&str) -> Result<Arc<Key>, E>,
    ) -> Result<Signed, E> {
        let (kid, unchecked) = Unchecked::read(token)?;
        let key = key_of(&kid)?;
        Ok(self.check_with(&unchecked, now, key)?)
    }

    fn check_with(&self, token: &Unchecked<'_>, now: i64, key: Arc<Key>) -> Result<Signed, Invalid> {
        if token.algorithm != key.algorithm().as_str() {
            return Err(Invalid::WrongAlgorithm);
        }
        if !key.verify(token.message.as_bytes(), &decode(token.signature)?) {
            return Err(Invalid::BadSignature);
        }
        let claims: RawClaims = strict_json::from_slice(&decode(token.claims)?).ok_or(Invalid::Malformed)?;
        let not_before = claims.iat.into_iter().chain(claims.nbf).max().unwrap_or(i64::MAX);
        let (claims, session) = claims.check(self)?;
        let signed = Signed { claims: Arc::new(claims), key, session, not_before };
        self.check_time(&signed, now)?;
        Ok(signed)
    }

    /// Whether the time of a token that was found good, now or before, has come and not passed at `now`.
    pub(crate) fn check_time(&self, signed: &Signed, now: i64) -> Result<(), Invalid> {
        if now >= millis(signed.claims.exp).saturating_add(self.leeway) {
            return Err(Invalid::Expired);
        }
        if millis(signed.not_before) > now.saturating_add(self.leeway) {
            return Err(Invalid::NotYetValid);
        }
        Ok(())
    }
}

/// A token's parts, and of its header what its signature is checked with.
struct Unchecked<'a> {
    message: &'a str,
    claims: &'a str,
    signature: &'a str,
    algorithm: String,
}

impl<'a> Unchecked<'a> {
    /// Takes a token apart, up to the name of its key.
    fn read(token: &'a str) -> Result<(String, Self), Invalid> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Invalid::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Invalid::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Invalid::Malformed)?;
        if claims.contains('.') {
            return Err(Invalid::Malformed);
        }
        let header: Header = strict_json::from_slice(&decode(header)?).ok_or(Invalid::Malformed)?;
        if header.crit {
            return Err(Invalid::CriticalHeader);
        }
        if !header.typ.is_some_and(|typ| TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known))) {
            return Err(Invalid::WrongType);
        }
        let kid = header.kid.ok_or(Invalid::UnknownKey)?;
        Ok((kid, Self { message, claims, signature, algorithm: header.alg }))
    }
}

/// The members of a header that are looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    /// Whether it is there, whatever it holds.
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
}

/// The claims as they came, each of the right type if it is there.
#[derive(Deserialize)]
struct RawClaims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    client_id: Option<String>,
    iat: Option<i64>,
    exp: Option<i64>,
    nbf: Option<i64>,
    jti: Option<String>,
    sid: Option<String>,
    auth_time: Option<i64>,
    acr: Option<String>,
    amr: Option<Vec<String>>,
    scope: Option<String>,
    roles: Option<Vec<String>>,
}

/// One audience or several (RFC 7519, section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl RawClaims {
    fn check(self, rules: &Rules) -> Result<(Claims, Option<Session>), Invalid> {
        let missing = Invalid::MissingClaim;
        let iss = self.iss.ok_or(missing("iss"))?;
        if iss != rules.issuer {
            return Err(Invalid::WrongIssuer);
        }
        let aud = match self.aud.ok_or(missing("aud"))? {
            Audience::One(one) => vec![one],
            Audience::Several(several) => several,
        };
        if !aud.iter().any(|one| rules.audiences.contains(one)) {
            return Err(Invalid::WrongAudience);
        }
        let (sub, client_id) = (self.sub.ok_or(missing("sub"))?, self.client_id.ok_or(missing("client_id"))?);
        let session = match (&self.sid, self.auth_time) {
            (Some(sid), Some(auth_time)) => {
                let (id, account) = (Id::parse(sid), Id::parse(&sub));
                let (id, account) = id.zip(account).ok_or(Invalid::Malformed)?;
                Some(Session { id, account, auth_time })
            }
            (Some(_), None) => return Err(missing("auth_time")),
            // RFC 9068, section 2.2: where no person is involved, `sub` is the client
            (None, None) if sub == client_id && !rules.clients_own => return Err(Invalid::ClientsOwn),
            (None, None) if sub == client_id => None,
            (None, _) => return Err(missing("sid")),
        };
        let claims = Claims {
            iss,
            sub,
            aud,
            client_id,
            iat: self.iat.ok_or(missing("iat"))?,
            exp: self.exp.ok_or(missing("exp"))?,
            jti: self.jti.ok_or(missing("jti"))?,
            sid: self.sid,
            auth_time: self.auth_time,
            acr: self.acr,
            amr: self.amr.unwrap_or_default(),
            scope: self.scope.unwrap_or_default(),
            roles: self.roles.unwrap_or_default(),
        };
        Ok((claims, session))
    }
}

/// A `NumericDate` in milliseconds; one beyond all times is the last or the first.
fn millis(seconds: i64) -> i64 {
    seconds.saturating_mul(1000)
}

/// Base64url without padding, strictly: one text for each sequence of bytes (RFC 7515, section 2).
fn decode(part: &str) -> Result<Vec<u8>, Invalid> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Malformed)
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
