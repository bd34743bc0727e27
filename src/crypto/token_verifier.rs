//! Verification of access tokens (RFC 8725; RFC 9068, section 4), with a cache of verified signatures.
//!
//! No claim is used before the signature has been verified, with the one algorithm of the trusted key that `kid` names. The
//! signature of a cached token is verified once. The time and the trusted keys, which can change, are checked on every call. This
//! module does not check whether the session still exists.

use std::{fmt, sync::Arc, time::Duration};

use jsonwebtoken::errors::ErrorKind;
use latchkey_verify::jose::access_token::{HeaderError, MAX_TOKEN_BYTES, RawClaims, UnverifiedToken};

use super::{
    access_token::{AccessClaims, IssuedToken, TokenError, VerifiedToken},
    client_token::ClientClaims,
    digest_cache::DigestCache,
    id_token::{IdTokenHint, id_token_kid},
    key_ring::{KeyRing, SharedKeyRing},
    signing_key::PublicKey,
};
use crate::{
    domain::{account::ClaimsVersion, clock::Timestamp, entropy::Entropy},
    metrics::CacheMetrics,
};

/// The issuer and the audience to expect in tokens, and the tolerated clock difference.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// The required `iss`, compared as a string.
    pub issuer: String,
    /// The audience of this service. A session's token for other audiences only is an [`IssuedToken::App`].
    pub audience: String,
    /// The tolerated difference between the clocks of the nodes when `exp`, `nbf` and `iat` are checked.
    pub leeway: Duration,
}

/// Verifies the access tokens of one issuer.
pub struct TokenVerifier {
    rules: TokenRules,
    keys: Arc<SharedKeyRing>,
    /// `None` if caching is turned off.
    cache: Option<DigestCache<IssuedToken>>,
    metrics: CacheMetrics,
}

impl TokenVerifier {
    /// Verifies with the trusted keys of `keys`, and caches up to `capacity` tokens.
    pub fn new(rules: TokenRules, keys: Arc<SharedKeyRing>, capacity: usize, entropy: &Entropy) -> Self {
        let cache = (capacity > 0).then(|| DigestCache::new(capacity, entropy));
        Self { rules, keys, cache, metrics: CacheMetrics::new("tokens") }
    }

    /// Verifies a token at `now`, from the cache if possible. A client's own token (client credentials) may have any audience,
    /// because the client sends the token to other services, which introspect it.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<IssuedToken, TokenError> {
        let keys = self.keys.current();
        let cache_slot = self.cache.as_ref().map(|cache| (cache, cache.digest(&[token.as_bytes()])));
        if let Some(verified) = cache_slot.and_then(|(cache, digest)| cache.get(digest)) {
            self.metrics.hits.inc();
            self.check_key_and_times(&verified, &keys, now)?;
            return Ok((*verified).clone());
        }
        self.metrics.misses.inc();
        let verified = self.verify_except_times(token, &keys, now)?;
        self.check_key_and_times(&verified, &keys, now)?;
        if let Some((cache, digest)) = cache_slot {
            cache.insert(digest, Arc::new(verified.clone()));
        }
        Ok(verified)
    }

    /// Verifies everything but the times of a token, without the cache. A sign-out accepts an expired token.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify_ignoring_times(&self, token: &str, now: Timestamp) -> Result<IssuedToken, TokenError> {
        self.verify_except_times(token, &self.keys.current(), now)
    }

    /// Verifies an ID token of this issuer, expired or not, which a client presents as a hint about its user and session (OpenID Connect
    /// Core 1.0, section 3.1.2.1; RP-Initiated Logout 1.0, section 2). `None` if the text is not a valid ID token.
    pub fn verify_id_token_hint(&self, token: &str, now: Timestamp) -> Option<IdTokenHint> {
        let keys = self.keys.current();
        let key = keys.verification_key(&id_token_kid(token)?, now)?;
        let hint: IdTokenHint = key.key().decode(token).ok()?;
        (hint.iss == self.rules.issuer).then_some(hint)
    }

    /// Whether a token that was verified before is valid at `now`: its key is trusted, and `now` is within its lifetime.
    pub fn revalidate<C>(&self, token: &VerifiedToken<C>, now: Timestamp) -> bool {
        self.rules.check_key_and_times(token, &self.keys.current(), now).is_ok()
    }

    /// The metrics of the cache.
    pub fn metrics(&self) -> &CacheMetrics {
        &self.metrics
    }

    /// Checks the key and the times of a verified token.
    fn check_key_and_times(&self, verified: &IssuedToken, keys: &KeyRing, now: Timestamp) -> Result<(), TokenError> {
        match verified {
            IssuedToken::Session(token) | IssuedToken::App(token) => self.rules.check_key_and_times(token, keys, now),
            IssuedToken::Client(token) => self.rules.check_key_and_times(token, keys, now),
        }
    }

    /// Verifies everything but the times of a token.
    fn verify_except_times(&self, token: &str, keys: &KeyRing, now: Timestamp) -> Result<IssuedToken, TokenError> {
        let key = check_header(token, keys, now)?;
        let claims: RawClaims = key.key().decode(token).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => TokenError::BadSignature,
            ErrorKind::InvalidAlgorithm => TokenError::WrongAlgorithm,
            _ => TokenError::Malformed,
        })?;
        let kid = key.kid().to_owned();
        let not_before = claims.not_before();
        let is_clients_own = claims.sid.is_none() && claims.names_client_as_subject();
        Ok(if is_clients_own {
            let claims = self.rules.client_claims(claims)?;
            let expires_at = claims.exp;
            IssuedToken::Client(Arc::new(VerifiedToken { claims, kid, not_before, expires_at }))
        } else {
            let (claims, is_for_this_service) = self.rules.session_claims(claims)?;
            let expires_at = claims.exp;
            let token = Arc::new(VerifiedToken { claims, kid, not_before, expires_at });
            if is_for_this_service { IssuedToken::Session(token) } else { IssuedToken::App(token) }
        })
    }
}

impl TokenRules {
    /// Checks the key and the times of a token, which can become invalid after the signature was verified.
    fn check_key_and_times<C>(
        &self,
        token: &VerifiedToken<C>,
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<(), TokenError> {
        if keys.verification_key(&token.kid, now).is_none() {
            return Err(TokenError::UnknownKey);
        }
        if now >= timestamp(token.expires_at) + self.leeway {
            return Err(TokenError::Expired);
        }
        if timestamp(token.not_before) > now + self.leeway {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }

    /// The claims of a client's own token.
    fn client_claims(&self, raw: RawClaims) -> Result<ClientClaims, TokenError> {
        let missing = TokenError::MissingClaim;
        let iss = raw.iss.ok_or(missing("iss"))?;
        if iss != self.issuer {
            return Err(TokenError::WrongIssuer);
        }
        Ok(ClientClaims {
            iss,
            sub: raw.sub.ok_or(missing("sub"))?,
            aud: raw.aud.ok_or(missing("aud"))?.into_list(),
            client_id: raw.client_id.ok_or(missing("client_id"))?,
            iat: raw.iat.ok_or(missing("iat"))?,
            exp: raw.exp.ok_or(missing("exp"))?,
            jti: raw.jti.ok_or(missing("jti"))?,
            scope: raw.scope.unwrap_or_default(),
        })
    }

    /// The claims of a session's token, and whether the token is for this service. If so, its other audiences are dropped.
    fn session_claims(&self, raw: RawClaims) -> Result<(AccessClaims, bool), TokenError> {
        let missing = TokenError::MissingClaim;
        let iss = raw.iss.ok_or(missing("iss"))?;
        if iss != self.issuer {
            return Err(TokenError::WrongIssuer);
        }
        let aud = raw.aud.ok_or(missing("aud"))?;
        let is_for_this_service = aud.contains(&self.audience);
        let claims = AccessClaims {
            iss,
            sub: raw.sub.ok_or(missing("sub"))?.parse().map_err(|_| TokenError::Malformed)?,
            aud: if is_for_this_service { vec![self.audience.clone()] } else { aud.into_list() },
            client_id: raw.client_id.ok_or(missing("client_id"))?,
            iat: raw.iat.ok_or(missing("iat"))?,
            exp: raw.exp.ok_or(missing("exp"))?,
            jti: raw.jti.ok_or(missing("jti"))?,
            sid: raw.sid.ok_or(missing("sid"))?.parse().map_err(|_| TokenError::Malformed)?,
            auth_time: raw.auth_time.ok_or(missing("auth_time"))?,
            acr: raw.acr.ok_or(missing("acr"))?,
            amr: raw.amr.ok_or(missing("amr"))?,
            scope: raw.scope.ok_or(missing("scope"))?,
            roles: raw.roles.unwrap_or_default(),
            email_verified: raw.email_verified,
            app_metadata: raw.app_metadata,
            session_start: raw.session_start,
            claims_version: raw.claims_version.map(to_claims_version).transpose()?,
        };
        Ok((claims, is_for_this_service))
    }
}

impl From<HeaderError> for TokenError {
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

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("rules", &self.rules).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// Checks the size and the header of a token. Returns the trusted key that signed the token according to the header.
fn check_header<'a>(token: &str, keys: &'a KeyRing, now: Timestamp) -> Result<&'a PublicKey, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLong);
    }
    // A header exactly as this service writes it passes the checks below, and is not parsed.
    let written_by = token.split_once('.').and_then(|(header, _)| keys.verification_key_of_header(header, now));
    if let Some(key) = written_by {
        return Ok(key);
    }
    let UnverifiedToken { jws, kid } = UnverifiedToken::parse(token)?;
    let key = keys.verification_key(&kid, now).ok_or(TokenError::UnknownKey)?;
    if jws.header.alg == key.algorithm().as_str() { Ok(key) } else { Err(TokenError::WrongAlgorithm) }
}

fn to_claims_version(number: u64) -> Result<ClaimsVersion, TokenError> {
    u32::try_from(number).map(ClaimsVersion).map_err(|_| TokenError::Malformed)
}

/// Converts a `NumericDate` to a point in time. Saturates.
fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;
    use crate::{
        crypto::key_ring::testing::{at, ring, stored},
        domain::{
            ids::{AccountId, SessionId},
            key::{Algorithm, StoredKey},
        },
    };

    const LEEWAY: Duration = Duration::from_secs(5);

    /// A verifier that trusts this key, of a service with this audience.
    fn verifier(key: &StoredKey, audience: &str) -> TokenVerifier {
        let rules = TokenRules { issuer: "https://as".to_owned(), audience: audience.to_owned(), leeway: LEEWAY };
        let keys = Arc::new(SharedKeyRing::new(ring(std::slice::from_ref(key), at(0))));
        TokenVerifier::new(rules, keys, 1000, &Entropy::system())
    }

    fn claims() -> AccessClaims {
        AccessClaims {
            iss: "https://as".to_owned(),
            sub: AccountId::from_bytes([1; 16]),
            aud: vec!["api".to_owned()],
            client_id: "latchkey".to_owned(),
            iat: 100,
            exp: 400,
            jti: "1".to_owned(),
            sid: SessionId::from_bytes([2; 16]),
            auth_time: 100,
            acr: "aal1".to_owned(),
            amr: vec!["pwd".to_owned()],
            scope: "account".to_owned(),
            roles: Vec::new(),
            email_verified: None,
            app_metadata: None,
            session_start: Some(90),
            claims_version: Some(ClaimsVersion(7)),
        }
    }

    fn signed(verifier: &TokenVerifier, claims: &AccessClaims) -> String {
        verifier.keys.current().signer(at(0)).unwrap().encode(claims).unwrap().into_exposed()
    }

    /// A token that is valid from second 100 to second 400.
    fn token(verifier: &TokenVerifier) -> String {
        signed(verifier, &claims())
    }

    #[test]
    fn token_of_release_0_1_is_accepted_with_auth_time_as_session_start() {
        let verifier = verifier(&stored(Algorithm::Es256, 0), "api");
        let verify = |claims: &AccessClaims| {
            let token = verifier.verify(&signed(&verifier, claims), at(100)).unwrap();
            token.into_session().unwrap()
        };
        let token = verify(&claims());
        assert_eq!(token.claims.session_start(), 90);
        assert_eq!(token.claims_version, Some(ClaimsVersion(7)));
        let claims_of_0_1 = AccessClaims { session_start: None, claims_version: None, ..claims() };
        let token = verify(&claims_of_0_1);
        assert_eq!(token.claims, claims_of_0_1);
        assert_eq!(token.claims.session_start(), 100, "the auth_time");
    }

    #[test]
    fn token_for_several_audiences_is_accepted_with_the_one_of_this_service() {
        let verifier = verifier(&stored(Algorithm::Es256, 0), "api");
        let several = AccessClaims { aud: vec!["shop".to_owned(), "api".to_owned()], ..claims() };
        let token = verifier.verify(&signed(&verifier, &several), at(100)).unwrap().into_session().unwrap();
        assert_eq!(token.aud, ["api"]);
    }

    #[test]
    fn valid_token_is_verified_once_and_invalid_token_every_time() {
        let verifier = verifier(&stored(Algorithm::Es256, 0), "api");
        let token = token(&verifier);
        for _ in 0..3 {
            assert!(verifier.verify(&token, at(100)).is_ok());
        }
        let metrics = verifier.metrics();
        assert_eq!(metrics.misses.get(), 1);
        assert_eq!(metrics.hits.get(), 2);
        let without_first_character = &token[1..];
        for _ in 0..3 {
            assert_eq!(verifier.verify(without_first_character, at(100)), Err(TokenError::Malformed));
        }
        assert_eq!(metrics.misses.get(), 1 + 3);
        assert_eq!(metrics.hits.get(), 2);
    }

    #[test]
    fn header_is_recognized_as_written_or_parsed() {
        for algorithm in Algorithm::ALL {
            let verifier = verifier(&stored(algorithm, 0), "api");
            let token = token(&verifier);
            let keys = verifier.keys.current();
            let (header, rest) = token.split_once('.').unwrap();
            let key = keys.verification_key_of_header(header, at(100));
            assert!(key.is_some_and(|key| key.algorithm() == algorithm), "{algorithm}");
            assert!(check_header(&token, &keys, at(100)).is_ok(), "{algorithm}");
            // the same header with a space
            let json = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
            let spaced = BASE64_URL_SAFE_NO_PAD.encode(json.replace(':', ": "));
            assert!(keys.verification_key_of_header(&spaced, at(100)).is_none(), "{algorithm}");
            let spaced = format!("{spaced}.{rest}");
            assert!(check_header(&spaced, &keys, at(100)).is_ok(), "{algorithm}");
            assert_eq!(verifier.verify(&spaced, at(100)), Err(TokenError::BadSignature), "{algorithm}");
            for malformed in [header.to_owned(), format!("{header}."), format!("{header}.e30"), format!("{token}.e30")]
            {
                assert_eq!(verifier.verify(&malformed, at(100)), Err(TokenError::Malformed), "{malformed}");
            }
        }
    }

    #[test]
    fn cached_token_is_refused_outside_its_lifetime() {
        let verifier = verifier(&stored(Algorithm::Es256, 0), "api");
        let token = token(&verifier);
        let session = verifier.verify(&token, at(100)).unwrap().into_session().unwrap();
        // The lifetime is 100 to 400, extended by LEEWAY on both sides.
        let cases = [(94, Some(TokenError::NotYetValid)), (95, None), (404, None), (405, Some(TokenError::Expired))];
        for (now, error) in cases {
            assert_eq!(verifier.verify(&token, at(now)).err(), error, "at {now}");
            assert_eq!(verifier.revalidate(&session, at(now)), error.is_none(), "at {now}");
            assert!(verifier.verify_ignoring_times(&token, at(now)).is_ok(), "at {now}");
        }
    }

    #[test]
    fn cached_token_of_retired_key_is_refused() {
        let key = stored(Algorithm::EdDsa, 0);
        let verifier = verifier(&key, "api");
        let token = token(&verifier);
        let session = verifier.verify(&token, at(100)).unwrap().into_session().unwrap();
        let retired = StoredKey { verifies_until: Some(at(200)), ..key };
        verifier.keys.replace(ring(&[retired], at(100)));
        assert!(verifier.revalidate(&session, at(199)));
        assert!(!verifier.revalidate(&session, at(200)));
        assert_eq!(verifier.verify(&token, at(200)), Err(TokenError::UnknownKey));
    }

    #[test]
    fn token_for_other_audience_is_refused() {
        let verifier = verifier(&stored(Algorithm::Es256, 0), "other");
        let token = verifier.verify(&token(&verifier), at(100)).unwrap();
        assert!(matches!(&token, IssuedToken::App(token) if token.aud == ["api"]));
        assert_eq!(token.into_session(), Err(TokenError::WrongAudience));
    }
}
