//! The verifier itself: [`Verifier`].

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

/// Checks access tokens in memory. Cheap to clone; all clones share what they know. What it does in the background ends
/// with the last of them.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<Running>);

/// The parts, and the tasks that work with them.
#[derive(Debug)]
struct Running {
    parts: Arc<Parts>,
    tasks: Vec<AbortHandle>,
}

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) rules: Rules,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) http: Http,
    pub(crate) keys: KeyStore,
    pub(crate) cache: Cache,
    pub(crate) following: Option<Following>,
}

/// What a verifier that sees revocations has beside.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) feed: Feed,
    pub(crate) on_lost: OnFeedLost,
    pub(crate) introspection: Option<Url>,
    pub(crate) authorization: HeaderValue,
}

/// How a verifier is doing, for health checks and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether tokens are answered from memory. While they aren't, the policy for a lost feed holds. Always true of a
    /// verifier without revocations.
    pub in_step: bool,
    /// How long the feed has been silent. `None` before it was complete for the first time, while it isn't complete, and
    /// without revocations.
    pub silent_for: Option<Duration>,
    /// How often the feed was connected to.
    pub connections: u64,
    /// Why the feed is away, if it is.
    pub trouble: Option<String>,
    /// Revocations in memory.
    pub revocations: usize,
    /// Keys that are believed.
    pub keys: usize,
}

/// What is found out about a token in memory.
enum Verdict {
    Good(Arc<Claims>),
    /// Everything is good but that revocations can't be known now.
    Ask(Arc<Claims>),
}

/// Why there is no verdict.
enum Trouble {
    Refused(VerifyError),
    /// Its key isn't known.
    UnknownKey(String),
}

impl From<Invalid> for Trouble {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(invalid.into())
    }
}

impl Verifier {
    /// Begins to make a verifier of the tokens of an issuer: Latchkey's `issuer`, to the letter.
    pub fn builder(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }

    /// Starts the tasks.
    pub(crate) fn start(parts: Parts) -> Self {
        let parts = Arc::new(parts);
        let mut tasks = Vec::new();
        let fresh = Arc::clone(&parts);
        let fresh = tokio::spawn(async move { fresh.keys.run_refresher(&fresh.http, &*fresh.clock).await });
        tasks.push(fresh.abort_handle());
        if parts.following.is_some() {
            let parts = Arc::clone(&parts);
            let following = tokio::spawn(async move {
                if let Some(following) = &parts.following {
                    following.feed.follow(&parts.http, &parts.keys, &*parts.clock).await;
                }
            });
            tasks.push(following.abort_handle());
        }
        Self(Arc::new(Running { parts, tasks }))
    }

    /// What `token` says, if it is valid now.
    ///
    /// Answers from memory, without waiting, unless the token's key is unknown (then the issuer's keys are fetched, at
    /// most once in a while) or the feed is lost and the policy is to ask the issuer.
    ///
    /// # Errors
    /// [`VerifyError`]
    pub async fn verify(&self, token: &str) -> Result<Arc<Claims>, VerifyError> {
        let parts = &*self.0.parts;
        let verdict = match parts.judge(token) {
            Err(Trouble::UnknownKey(kid)) => {
                if !parts.keys.refetch_on_miss(&kid, &parts.http, &*parts.clock).await {
                    return Err(VerifyError::Unavailable("its key is not known, and the issuer can't be asked"));
                }
                parts.judge(token)
            }
            verdict => verdict,
        };
        match verdict {
            Ok(Verdict::Good(claims)) => Ok(claims),
            Ok(Verdict::Ask(claims)) => parts.ask(token).await.map(|()| claims),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// The same, never waiting and never asking: where [`Verifier::verify`] would ask the issuer, this answers
    /// [`VerifyError::Unavailable`].
    ///
    /// # Errors
    /// [`VerifyError`]
    pub fn verify_in_memory(&self, token: &str) -> Result<Arc<Claims>, VerifyError> {
        match self.0.parts.judge(token) {
            Ok(Verdict::Good(claims)) => Ok(claims),
            Ok(Verdict::Ask(_)) => Err(VerifyError::Unavailable("the feed is lost")),
            Err(Trouble::UnknownKey(_)) => Err(VerifyError::Unavailable("its key is not known")),
            Err(Trouble::Refused(error)) => Err(error),
        }
    }

    /// Waits until all revocations are known, as is the case some milliseconds after the verifier was made if all is well.
    /// Until then the policy for a lost feed holds. Returns at once without revocations.
    pub async fn ready(&self) {
        if let Some(following) = &self.0.parts.following {
            following.feed.stepped(&*self.0.parts.clock).await;
        }
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        let parts = &*self.0.parts;
        let (elapsed, unix) = (parts.clock.elapsed(), parts.clock.unix_millis());
        let feed = parts.following.as_ref().map(|following| &following.feed);
        Status {
            in_step: feed.is_none_or(|feed| feed.in_step(elapsed, unix)),
            silent_for: feed.and_then(|feed| feed.silent_for(elapsed, unix)),
            connections: feed.map_or(0, Feed::connections),
            trouble: feed.and_then(Feed::trouble),
            revocations: feed.map_or(0, |feed| feed.revocations.len()),
            keys: parts.keys.len(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl From<Trouble> for VerifyError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(error) => error,
            Trouble::UnknownKey(_) => Invalid::UnknownKey.into(),
        }
    }
}

impl Parts {
    /// Judges a token by what is known here.
    fn judge(&self, token: &str) -> Result<Verdict, Trouble> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Invalid::TooLong.into());
        }
        let (elapsed, unix) = (self.clock.elapsed(), self.clock.unix_millis());
        self.keys.refresh_if_expired(elapsed);
        let signed = self.signed(token, unix)?;
        let Some(following) = &self.following else { return Ok(Verdict::Good(Arc::clone(&signed.claims))) };
        // Asked before it is looked whether the feed is complete: what is told in between is not missed.
        let in_step = following.feed.in_step(elapsed, unix);
        if signed.session.is_some_and(|session| following.feed.revocations.revoked(&session)) {
            return Err(Trouble::Refused(VerifyError::Revoked));
        }
        let claims = Arc::clone(&signed.claims);
        match following.on_lost {
            _ if in_step => Ok(Verdict::Good(claims)),
            OnFeedLost::Introspect => Ok(Verdict::Ask(claims)),
            OnFeedLost::Refuse => Err(Trouble::Refused(VerifyError::Unavailable("the feed is lost"))),
        }
    }

    /// The token, if its signature, its claims and its time are good: as found out before or now.
    fn signed(&self, token: &str, unix: i64) -> Result<Arc<Signed>, Trouble> {
        let hash = Cache::hash(token);
        if let Some(signed) = self.cache.get(&hash)
            && signed.key.is_trusted()
        {
            self.rules.check_time(&signed, unix)?;
            return Ok(signed);
        }
        let signed = self.rules.check(token, unix, |kid| match self.keys.look_up(kid) {
            Lookup::Found(key) => Ok(key),
            Lookup::Retired => Err(Trouble::Refused(VerifyError::Revoked)),
            Lookup::Unknown => Err(Trouble::UnknownKey(kid.to_owned())),
        })?;
        let signed = Arc::new(signed);
        self.cache.insert(hash, Arc::clone(&signed));
        Ok(signed)
    }

    /// Asks the issuer whether a token that is otherwise good is active (RFC 7662).
    async fn ask(&self, token: &str) -> Result<(), VerifyError> {
        #[derive(Deserialize)]
        struct Introspection {
            active: bool,
        }

        let following = self.following.as_ref();
        let asked = following.and_then(|following| following.introspection.as_ref().map(|url| (following, url)));
        let Some((following, url)) = asked else { return Err(VerifyError::Unavailable("the feed is lost")) };
        let form = format!("token={}&token_type_hint=access_token", *form_encoded(token));
        let request = self.http.post(url).header(AUTHORIZATION, following.authorization.clone());
        let request = request.header(ACCEPT, "application/json");
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let (status, _, body) = self.http.call(request).await.map_err(|reason| {
            tracing::warn!(%reason, "the feed is lost, and the issuer can't be asked");
            VerifyError::Unavailable("the feed is lost, and the issuer can't be asked")
        })?;
        if status != StatusCode::OK {
            tracing::warn!(%status, "the feed is lost, and the issuer doesn't say whether a token is active");
            return Err(VerifyError::Unavailable("the feed is lost, and the issuer doesn't say"));
        }
        match serde_json::from_slice(&body) {
            Ok(Introspection { active: true }) => Ok(()),
            Ok(Introspection { active: false }) => Err(VerifyError::Revoked),
            Err(_) => Err(VerifyError::Unavailable("the feed is lost, and the issuer's answer makes no sense")),
        }
    }
}
