//! The verifier: [`Verifier`].

use std::{sync::Arc, time::Duration};

use reqwest::{
    StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use tokio::task::AbortHandle;

use crate::{
    builder::{Builder, OnFeedLost},
    cache::Cache,
    claims::Claims,
    clock::Clock,
    error::{Invalid, VerifyError},
    feed::Feed,
    http::Http,
    jose::access_token::MAX_TOKEN_BYTES,
    key_store::{KeyStore, Lookup},
    secret::form_encoded,
    token::{Rules, Signed},
};

/// Verifies access tokens locally. Clones are cheap and share their state. The background tasks end with the last clone.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<Running>);

/// The shared state and the background tasks.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

/// The state that verification and the background tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) rules: Rules,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) http: Http,
    pub(crate) keys: KeyStore,
    pub(crate) cache: Cache,
    pub(crate) revocation_check: Option<RevocationCheck>,
}

/// The feed, and what replaces it while it is lost. Absent in a verifier without revocations.
#[derive(Debug)]
pub(crate) struct RevocationCheck {
    pub(crate) feed: Feed,
    pub(crate) on_lost: OnFeedLost,
    pub(crate) introspection: Option<Url>,
    pub(crate) authorization: HeaderValue,
}

/// The state of a verifier, for health checks and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether the revocations are up to date, so that tokens are verified locally. Otherwise [`OnFeedLost`] applies. Always
    /// true without revocations.
    pub live: bool,
    /// The time since the last event of the feed. `None` before the first snapshot, while revocations are missing, and
    /// without revocations.
    pub silent_for: Option<Duration>,
    /// The number of connections to the feed so far.
    pub connections: u64,
    /// Why the feed is interrupted, if it is.
    pub last_error: Option<String>,
    /// The number of revocations in memory.
    pub revocations: usize,
    /// The number of trusted keys.
    pub keys: usize,
}

/// The outcome of local verification.
enum Decision {
    Valid(Arc<Claims>),
    /// The token is valid but the revocations are stale: introspect it.
    Introspect(Arc<Claims>),
}

/// Why local verification has no outcome.
enum Rejection {
    Error(VerifyError),
    UnknownKey(String),
}

impl From<Invalid> for Rejection {
    fn from(invalid: Invalid) -> Self {
        Self::Error(invalid.into())
    }
}

impl Verifier {
    /// Starts the configuration of a verifier. `issuer` must equal Latchkey's `issuer` exactly.
    pub fn builder(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }

    /// Starts the background tasks.
    pub(crate) fn start(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let mut tasks = Vec::new();
        let refresher = Arc::clone(&shared);
        let refresher =
            tokio::spawn(async move { refresher.keys.run_refresher(&refresher.http, &*refresher.clock).await });
        tasks.push(refresher.abort_handle());
        if shared.revocation_check.is_some() {
            let shared = Arc::clone(&shared);
            let follower = tokio::spawn(async move {
                if let Some(check) = &shared.revocation_check {
                    check.feed.run(&shared.http, &shared.keys, &*shared.clock).await;
                }
            });
            tasks.push(follower.abort_handle());
        }
        Self(Arc::new(Running { shared, tasks }))
    }

    /// Verifies a token and returns its claims.
    ///
    /// Answers from memory without waiting, with two exceptions: an unknown key triggers a refresh of the issuer's keys (rate
    /// limited by [`Builder::key_cooldown`]), and a lost feed triggers an introspection if [`OnFeedLost::Introspect`] is
    /// configured.
    ///
    /// # Errors
    /// [`VerifyError`]
    pub async fn verify(&self, token: &str) -> Result<Arc<Claims>, VerifyError> {
        let shared = &*self.0.shared;
        let decision = match shared.decide(token) {
            Err(Rejection::UnknownKey(kid)) => {
                if !shared.keys.refetch_on_miss(&kid, &shared.http, &*shared.clock).await {
                    return Err(VerifyError::Unavailable("the issuer's keys cannot be fetched"));
                }
                shared.decide(token)
            }
            decision => decision,
        };
        match decision {
            Ok(Decision::Valid(claims)) => Ok(claims),
            Ok(Decision::Introspect(claims)) => shared.introspect(token).await.map(|()| claims),
            Err(rejection) => Err(rejection.into()),
        }
    }

    /// Verifies a token without any request to the issuer. Returns [`VerifyError::Unavailable`] where [`Verifier::verify`]
    /// would send one.
    ///
    /// # Errors
    /// [`VerifyError`]
    pub fn verify_locally(&self, token: &str) -> Result<Arc<Claims>, VerifyError> {
        match self.0.shared.decide(token) {
            Ok(Decision::Valid(claims)) => Ok(claims),
            Ok(Decision::Introspect(_)) => Err(VerifyError::Unavailable("the revocation feed is lost")),
            Err(Rejection::UnknownKey(_)) => Err(VerifyError::Unavailable("the token's key is not in memory")),
            Err(Rejection::Error(error)) => Err(error),
        }
    }

    /// Waits at most `timeout` until the revocations are up to date; returns whether they are. That takes milliseconds after
    /// the verifier was built. True at once without revocations.
    pub async fn wait_live(&self, timeout: Duration) -> bool {
        let shared = &*self.0.shared;
        let Some(check) = &shared.revocation_check else { return true };
        tokio::time::timeout(timeout, check.feed.wait_current(&*shared.clock)).await.is_ok()
    }

    /// The current state.
    pub fn status(&self) -> Status {
        let shared = &*self.0.shared;
        let (elapsed, unix) = (shared.clock.elapsed(), shared.clock.unix_millis());
        let feed = shared.revocation_check.as_ref().map(|check| &check.feed);
        Status {
            live: feed.is_none_or(|feed| feed.is_current(elapsed, unix)),
            silent_for: feed.and_then(|feed| feed.silent_for(elapsed, unix)),
            connections: feed.map_or(0, Feed::connections),
            last_error: feed.and_then(Feed::last_error),
            revocations: feed.map_or(0, |feed| feed.revocations.len()),
            keys: shared.keys.len(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl From<Rejection> for VerifyError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Error(error) => error,
            Rejection::UnknownKey(_) => Invalid::UnknownKey.into(),
        }
    }
}

impl Shared {
    /// Verifies a token with the local state only.
    fn decide(&self, token: &str) -> Result<Decision, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Invalid::TooLong.into());
        }
        let (elapsed, unix) = (self.clock.elapsed(), self.clock.unix_millis());
        self.keys.refresh_if_expired(elapsed);
        let signed = self.verify_signature(token, unix)?;
        let Some(check) = &self.revocation_check else { return Ok(Decision::Valid(Arc::clone(&signed.claims))) };
        // Read before the revocations: one that arrives in between is not missed.
        let current = check.feed.is_current(elapsed, unix);
        if signed.session.is_some_and(|session| check.feed.revocations.contains(&session)) {
            return Err(Rejection::Error(VerifyError::Revoked));
        }
        let claims = Arc::clone(&signed.claims);
        match check.on_lost {
            _ if current => Ok(Decision::Valid(claims)),
            OnFeedLost::Introspect => Ok(Decision::Introspect(claims)),
            OnFeedLost::Refuse => Err(Rejection::Error(VerifyError::Unavailable("the revocation feed is lost"))),
        }
    }

    /// Verifies signature, claims and times, or finds the token in the cache and checks the times.
    fn verify_signature(&self, token: &str, unix: i64) -> Result<Arc<Signed>, Rejection> {
        let hash = Cache::hash(token);
        if let Some(signed) = self.cache.get(&hash)
            && signed.key.is_trusted()
        {
            self.rules.check_time(&signed, unix)?;
            return Ok(signed);
        }
        let signed = self.rules.check(token, unix, |kid| match self.keys.look_up(kid) {
            Lookup::Found(key) => Ok(key),
            Lookup::Retired => Err(Rejection::Error(VerifyError::Revoked)),
            Lookup::Unknown => Err(Rejection::UnknownKey(kid.to_owned())),
        })?;
        let signed = Arc::new(signed);
        self.cache.insert(hash, Arc::clone(&signed));
        Ok(signed)
    }

    /// Asks the issuer whether a token is active (RFC 7662).
    async fn introspect(&self, token: &str) -> Result<(), VerifyError> {
        #[derive(Deserialize)]
        struct Introspection {
            active: bool,
        }

        let check = self.revocation_check.as_ref();
        let endpoint = check.and_then(|check| check.introspection.as_ref().map(|url| (check, url)));
        let Some((check, url)) = endpoint else { return Err(VerifyError::Unavailable("the revocation feed is lost")) };
        let form = format!("token={}&token_type_hint=access_token", *form_encoded(token));
        let request = self.http.post(url).header(AUTHORIZATION, check.authorization.clone());
        let request = request.header(ACCEPT, "application/json");
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let failed = VerifyError::Unavailable("the revocation feed is lost and introspection failed");
        let (status, _, body) = self.http.call(request).await.map_err(|reason| {
            tracing::warn!(%reason, "the revocation feed is lost and introspection failed");
            failed.clone()
        })?;
        if status != StatusCode::OK {
            tracing::warn!(%status, "the revocation feed is lost and introspection failed");
            return Err(failed);
        }
        match serde_json::from_slice(&body) {
            Ok(Introspection { active: true }) => Ok(()),
            Ok(Introspection { active: false }) => Err(VerifyError::Revoked),
            Err(_) => Err(VerifyError::Unavailable("the introspection response is invalid")),
        }
    }
}
