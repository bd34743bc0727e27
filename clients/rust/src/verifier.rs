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
    clock::{Clock, millis},
    error::{Invalid, VerifyError},
    feed::Feed,
    http::Http,
    jose::access_token::MAX_TOKEN_BYTES,
    key_store::{KeyStore, Lookup},
    secret::form_encoded,
    session_end::{
        EndCause, Registration, SessionWatch,
        registry::{RegistrationState, Registry},
    },
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
    pub(crate) registry: Arc<Registry>,
}

/// The feed, and what to do while the feed is lost. A verifier that was built with `without_revocations` has no check.
#[derive(Debug)]
pub(crate) struct RevocationCheck {
    pub(crate) feed: Feed,
    pub(crate) on_lost: OnFeedLost,
    /// The introspection endpoint, if the issuer's metadata has one.
    pub(crate) introspection: Option<Url>,
    /// The service client's credentials, for introspections.
    pub(crate) authorization: HeaderValue,
}

/// The state of a verifier, for health checks and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether the revocations are up to date, so that tokens are verified locally. Otherwise [`OnFeedLost`] applies. Always
    /// true after [`Builder::without_revocations`].
    pub live: bool,
    /// The time since the last event of the feed. `None` before the first snapshot, while revocations are missing, and after
    /// [`Builder::without_revocations`].
    pub silent_for: Option<Duration>,
    /// The number of connections to the feed so far.
    pub connections: u64,
    /// Why the feed is interrupted, if it is.
    pub last_error: Option<String>,
    /// The number of revocations and changes of claims in memory.
    pub revocations: usize,
    /// The number of sessions that are registered with [`Verifier::on_end`] and have not ended.
    pub registrations: usize,
    /// The number of trusted keys.
    pub keys: usize,
}

/// The result of local verification for a token with a valid signature and valid claims.
enum Decision {
    Valid(Arc<Signed>),
    /// The token is valid but the revocations are stale: introspect it.
    Introspect(Arc<Signed>),
}

/// Why local verification did not accept a token.
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
        let for_keys = Arc::clone(&shared);
        let key_task = tokio::spawn(async move { for_keys.keys.run_refresher(&for_keys.http, &*for_keys.clock).await });
        let for_feed = Arc::clone(&shared);
        // Ends at once if the verifier follows no feed.
        let feed_task = tokio::spawn(async move {
            if let Some(check) = &for_feed.revocation_check {
                check.feed.run(&for_feed.http, &for_feed.keys, &*for_feed.clock).await;
            }
        });
        let for_sweeps = Arc::clone(&shared);
        let sweep_task = tokio::spawn(async move { for_sweeps.run_sweeper().await });
        let tasks = vec![key_task.abort_handle(), feed_task.abort_handle(), sweep_task.abort_handle()];
        Self(Arc::new(Running { shared, tasks }))
    }

    /// A verifier without background tasks: a test processes the events and sweeps.
    #[cfg(test)]
    pub(crate) fn without_tasks(shared: Shared) -> Self {
        Self(Arc::new(Running { shared: Arc::new(shared), tasks: Vec::new() }))
    }

    /// The shared state.
    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
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
        let signed = self.0.shared.verify(token).await?;
        Ok(self.0.shared.accept(&signed))
    }

    /// Verifies a token without any request to the issuer. Returns [`VerifyError::Unavailable`] where [`Verifier::verify`]
    /// would send one.
    ///
    /// # Errors
    /// [`VerifyError`]
    pub fn verify_locally(&self, token: &str) -> Result<Arc<Claims>, VerifyError> {
        match self.0.shared.decide(token) {
            Ok(Decision::Valid(signed)) => Ok(self.0.shared.accept(&signed)),
            Ok(Decision::Introspect(_)) => Err(VerifyError::Unavailable("the revocation feed is lost")),
            Err(Rejection::UnknownKey(_)) => Err(VerifyError::Unavailable("the token's key is not in memory")),
            Err(Rejection::Error(error)) => Err(error),
        }
    }

    /// Whether the user authenticated at most `max_age` ago, with the tolerated clock skew (`max_age` of RFC 9470). False for a
    /// service client's own token.
    pub fn authenticated_within(&self, claims: &Claims, max_age: Duration) -> bool {
        let shared = &self.0.shared;
        let now_seconds = shared.clock.unix_millis().div_euclid(1000);
        let limit_seconds = millis(max_age).saturating_add(shared.rules.leeway) / 1000;
        claims.auth_time.is_some_and(|auth_time| now_seconds.saturating_sub(auth_time) <= limit_seconds)
    }

    /// Registers a session for which the service holds a connection, a stream or a long job. `callback` is called once, with
    /// the [`EndCause`], when the session ends. If the session has already ended, `callback` is called before `on_end` returns.
    ///
    /// `claims` are those that [`Verifier::verify`] returned. When their token expires, the registration continues if the
    /// verifier has accepted a newer token of the session, from any request or from [`Registration::renew`]. Dropping the
    /// registration deregisters the session.
    ///
    /// The callback must not block: it may run on the task that follows the feed. A registration takes memory until it is
    /// dropped. [`Verifier::watch`] does the same for `async` code.
    ///
    /// ```no_run
    /// # fn hold(verifier: &latchkey_verify::Verifier, claims: &latchkey_verify::Claims) {
    /// let (close, closed) = std::sync::mpsc::channel();
    /// let registration = verifier.on_end(claims, move |cause| drop(close.send(cause)));
    /// // … hold the connection until `closed` receives a cause
    /// drop(registration);
    /// # drop(closed);
    /// # }
    /// ```
    pub fn on_end(&self, claims: &Claims, callback: impl FnOnce(EndCause) + Send + 'static) -> Registration {
        Registration::new(Arc::clone(&self.0.shared), claims, Box::new(callback))
    }

    /// Registers a session as [`Verifier::on_end`] does, for `async` code.
    ///
    /// ```no_run
    /// # async fn hold(verifier: &latchkey_verify::Verifier, token: &str) -> Result<(), latchkey_verify::VerifyError> {
    /// let claims = verifier.verify(token).await?;
    /// let mut session = verifier.watch(&claims);
    /// let job = async { /* a long job for this user */ };
    /// match session.run(job).await {
    ///     Ok(()) => println!("done"),
    ///     Err(cause) => println!("stopped: {cause}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, claims: &Claims) -> SessionWatch {
        SessionWatch::new(Arc::clone(&self.0.shared), claims)
    }

    /// Waits at most `timeout` until the revocations are up to date, and returns whether they are. Right after the verifier was
    /// built, this takes milliseconds. After [`Builder::without_revocations`], returns true at once.
    pub async fn wait_live(&self, timeout: Duration) -> bool {
        let shared = &*self.0.shared;
        let Some(check) = &shared.revocation_check else { return true };
        tokio::time::timeout(timeout, check.feed.wait_current(&*shared.clock)).await.is_ok()
    }

    /// The current state, for health checks and metrics.
    pub fn status(&self) -> Status {
        let shared = &*self.0.shared;
        let elapsed = shared.clock.elapsed();
        let unix_millis = shared.clock.unix_millis();
        let feed = shared.revocation_check.as_ref().map(|check| &check.feed);
        Status {
            live: feed.is_none_or(|feed| feed.is_current(elapsed, unix_millis)),
            silent_for: feed.and_then(|feed| feed.silent_for(elapsed, unix_millis)),
            connections: feed.map_or(0, Feed::connections),
            last_error: feed.and_then(Feed::last_error),
            revocations: feed.map_or(0, |feed| feed.revocations.len()),
            registrations: shared.registry.len(),
            keys: shared.keys.len(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        // Without the feed's task, no end would reach the registrations.
        self.shared.registry.end_all(EndCause::FeedLost);
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
    /// Verifies a token, with requests to the issuer where they are needed.
    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<Signed>, VerifyError> {
        let decision = match self.decide(token) {
            Err(Rejection::UnknownKey(kid)) => {
                if !self.keys.refetch_on_miss(&kid, &self.http, &*self.clock).await {
                    return Err(VerifyError::Unavailable("the issuer's keys cannot be fetched"));
                }
                self.decide(token)
            }
            decision => decision,
        };
        match decision {
            Ok(Decision::Valid(signed)) => Ok(signed),
            Ok(Decision::Introspect(signed)) => self.introspect(token).await.map(|()| signed),
            Err(rejection) => Err(rejection.into()),
        }
    }

    /// Reports an accepted token to the registrations of its session, and returns the token's claims.
    fn accept(&self, signed: &Signed) -> Arc<Claims> {
        if let Some(session) = &signed.session {
            self.registry.observe(session, &signed.claims);
        }
        Arc::clone(&signed.claims)
    }

    /// Why a session that was just registered or renewed has already ended, if it has.
    pub(crate) fn cause_of_end(&self, state: &RegistrationState) -> Option<EndCause> {
        if !self.is_trusted(&state.kid) {
            return Some(EndCause::KeyRetired);
        }
        let revocations = self.revocation_check.as_ref().map(|check| &check.feed.revocations);
        if let Some((session, revocations)) = state.session.zip(revocations) {
            if revocations.contains_session(session.id) {
                return Some(EndCause::SessionRevoked);
            }
            if revocations.contains_account_of(&session) {
                return Some(EndCause::AccountRevoked);
            }
            if revocations.outdates(&session) {
                return Some(EndCause::ClaimsChanged);
            }
        }
        if state.outdated {
            return Some(EndCause::ClaimsChanged);
        }
        state.expired.then_some(EndCause::TokenExpired)
    }

    fn is_trusted(&self, kid: &str) -> bool {
        matches!(self.keys.look_up(kid), Lookup::Found(_))
    }

    /// Calls [`Shared::sweep`] repeatedly; never returns.
    async fn run_sweeper(&self) {
        self.registry.run_sweeper(|| self.sweep()).await;
    }

    /// Ends the registrations whose end no event of the feed reports: the token has expired, its key is no longer trusted, or the
    /// feed has been silent for too long. Returns the time until the next sweep.
    pub(crate) fn sweep(&self) -> Duration {
        let feed = self.revocation_check.as_ref().map(|check| &check.feed);
        let silence = feed.map(|feed| feed.since_synced(self.clock.elapsed(), self.clock.unix_millis()));
        self.registry.sweep(silence, |kid| self.is_trusted(kid), &*self.clock)
    }

    /// Verifies a token with the local state only, without requests to the issuer.
    fn decide(&self, token: &str) -> Result<Decision, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Invalid::TooLong.into());
        }
        let elapsed = self.clock.elapsed();
        let unix_millis = self.clock.unix_millis();
        self.keys.refresh_if_expired(elapsed);
        let signed = self.verify_signature(token, unix_millis)?;
        let Some(check) = &self.revocation_check else { return Ok(Decision::Valid(signed)) };
        // Read before the revocations. In the other order, a missed revocation could arrive between the two reads and make the
        // feed current again: the token would be accepted although it is revoked.
        let feed_is_current = check.feed.is_current(elapsed, unix_millis);
        if signed.session.is_some_and(|session| check.feed.revocations.contains(&session)) {
            return Err(Rejection::Error(VerifyError::Revoked));
        }
        if signed.session.is_some_and(|session| check.feed.revocations.outdates(&session)) {
            return Err(Rejection::Error(VerifyError::ClaimsChanged));
        }
        if feed_is_current {
            return Ok(Decision::Valid(signed));
        }
        match check.on_lost {
            OnFeedLost::Introspect => Ok(Decision::Introspect(signed)),
            OnFeedLost::Refuse => Err(Rejection::Error(VerifyError::Unavailable("the revocation feed is lost"))),
        }
    }

    /// Verifies signature, claims and times, or finds the token in the cache and checks the times.
    fn verify_signature(&self, token: &str, unix_millis: i64) -> Result<Arc<Signed>, Rejection> {
        let hash = Cache::hash(token);
        // The key of a cached token may have been retired meanwhile. The lookup below then finds the reason.
        if let Some(signed) = self.cache.get(&hash)
            && signed.key.is_trusted()
        {
            self.rules.check_time(&signed, unix_millis)?;
            return Ok(signed);
        }
        let signed = self.rules.check(token, unix_millis, |kid| match self.keys.look_up(kid) {
            Lookup::Found(key) => Ok(key),
            Lookup::Retired => Err(Rejection::Error(VerifyError::Revoked)),
            Lookup::Unknown => Err(Rejection::UnknownKey(kid.to_owned())),
        })?;
        let signed = Arc::new(signed);
        self.cache.insert(hash, Arc::clone(&signed));
        Ok(signed)
    }

    /// Asks the issuer whether a token is active (RFC 7662). Called only while the feed is lost.
    async fn introspect(&self, token: &str) -> Result<(), VerifyError> {
        #[derive(Deserialize)]
        struct Introspection {
            active: bool,
        }

        let Some(RevocationCheck { introspection: Some(url), authorization, .. }) = &self.revocation_check else {
            return Err(VerifyError::Unavailable("the revocation feed is lost"));
        };
        let form = format!("token={}&token_type_hint=access_token", *form_encoded(token));
        let request = self.http.post(url);
        let request = request.header(AUTHORIZATION, authorization.clone()).header(ACCEPT, "application/json");
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let failed = VerifyError::Unavailable("the revocation feed is lost and introspection failed");
        let (status, _headers, body) = self.http.call(request).await.map_err(|reason| {
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
