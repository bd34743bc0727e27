//! The configuration of a verifier: [`Builder`].

use std::{sync::Arc, time::Duration};

use crate::{
    cache::Cache,
    clock::{Clock, SystemClock, millis},
    error::{BuildError, FetchError},
    feed::{self, Feed},
    http::Http,
    key_store::KeyStore,
    metadata,
    secret::Credentials,
    session_end::registry::Registry,
    token::Rules,
    verifier::{RevocationCheck, Shared, Verifier},
};

/// The handling of tokens while the revocation feed is lost: before the first snapshot, after a silence longer than
/// [`Builder::max_staleness`], and while revocations are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFeedLost {
    /// Each token is introspected (RFC 7662). If the introspection fails, the token is refused with [`crate::VerifyError::Unavailable`].
    #[default]
    Introspect,
    /// All tokens are refused with [`crate::VerifyError::Unavailable`].
    Refuse,
}

/// The configuration of a [`Verifier`]; see [`Verifier::builder`].
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct Builder {
    issuer: String,
    audiences: Vec<String>,
    client: Option<Credentials>,
    /// Whether tokens are verified without revocations. If this is false, [`Self::build`] requires a client.
    without_revocations: bool,
    on_feed_lost: OnFeedLost,
    max_staleness: Duration,
    /// `None` stands for [`Self::max_staleness`].
    end_after_silence: Option<Duration>,
    max_revocations: usize,
    max_cached_tokens: usize,
    leeway: Duration,
    allow_service_clients: bool,
    key_cooldown: Duration,
    timeout: Duration,
    plain_http: bool,
    certificates: Vec<Vec<u8>>,
    clock: Arc<dyn Clock>,
}

impl Builder {
    pub(crate) fn new(issuer: String) -> Self {
        Self {
            issuer,
            audiences: Vec::new(),
            client: None,
            without_revocations: false,
            on_feed_lost: OnFeedLost::default(),
            max_staleness: Duration::from_secs(5),
            end_after_silence: None,
            max_revocations: 1_000_000,
            max_cached_tokens: 20_000,
            leeway: Duration::from_secs(5),
            allow_service_clients: true,
            key_cooldown: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            plain_http: false,
            certificates: Vec::new(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Adds an accepted audience: a token's `aud` must contain at least one accepted audience. Latchkey's default is
    /// `latchkey` (`token.audience`).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Sets the id and the secret of the service client that follows the feed, as `latchkey client add` printed them.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client = Some(Credentials::new(id.into(), secret.into()));
        self
    }

    /// Verifies tokens without revocations, in place of [`Builder::client`]. **Tokens of ended sessions are accepted until they
    /// expire.**
    pub fn without_revocations(mut self) -> Self {
        self.without_revocations = true;
        self
    }

    /// Sets what happens while the feed is lost. Default: [`OnFeedLost::Introspect`].
    pub fn on_feed_lost(mut self, policy: OnFeedLost) -> Self {
        self.on_feed_lost = policy;
        self
    }

    /// Sets how long the revocations in memory count as up to date after an event of the feed, and so the longest delay of a
    /// revocation. Default: 5 seconds. The feed sends a heartbeat, which is an event, every second.
    pub fn max_staleness(mut self, max_staleness: Duration) -> Self {
        self.max_staleness = max_staleness;
        self
    }

    /// Sets how long the feed may be silent before the sessions that are registered with [`Verifier::on_end`] end with
    /// [`crate::EndCause::FeedLost`]: the longest delay of a revocation for an open connection. Default, and minimum:
    /// [`Builder::max_staleness`]. A longer time keeps connections open while Latchkey is unreachable.
    pub fn end_after_silence(mut self, silence: Duration) -> Self {
        self.end_after_silence = Some(silence);
        self
    }

    /// Sets the maximum number of revocations and changes of claims in memory, about 50 bytes each. With more, the feed
    /// counts as lost. Default: a million.
    pub fn max_revocations(mut self, max_revocations: usize) -> Self {
        self.max_revocations = max_revocations;
        self
    }

    /// Sets the maximum number of verified tokens in the cache, about 1000 bytes each; 0 turns the cache off. Default:
    /// 20,000.
    pub fn max_cached_tokens(mut self, max_cached_tokens: usize) -> Self {
        self.max_cached_tokens = max_cached_tokens;
        self
    }

    /// Sets the tolerated clock skew. Default: 5 seconds. At most a minute.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Refuses tokens that service clients obtained for themselves (`client_credentials`). Default: the
    /// verifier accepts them, and the middlewares refuse them.
    pub fn refuse_service_clients(mut self) -> Self {
        self.allow_service_clients = false;
        self
    }

    /// Sets the minimum time between two key refreshes that unknown `kid`s trigger, so that forged tokens cannot cause more
    /// requests. Default: 1 second.
    pub fn key_cooldown(mut self, cooldown: Duration) -> Self {
        self.key_cooldown = cooldown;
        self
    }

    /// Sets the timeout of metadata, key and introspection requests. Default: 2 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Allows an issuer without TLS on another machine. **An attacker on the network path can read the client's secret and
    /// replace the issuer's keys.**
    pub fn allow_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Adds a root certificate (PEM) for requests to the issuer. The system's root certificates stay accepted.
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.push(pem.into());
        self
    }

    /// Sets the source of time, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Fetches the issuer's metadata and keys and starts to follow the feed. Requires a tokio runtime.
    ///
    /// Does not wait for the feed; [`Verifier::wait_live`] does.
    ///
    /// # Errors
    /// [`BuildError`]
    pub async fn build(self) -> Result<Verifier, BuildError> {
        let http = Http::new(self.plain_http, self.timeout, &self.certificates)?;
        let issuer_url = http.parse_url(&self.issuer).ok_or_else(|| BuildError::Issuer(self.issuer.clone()))?;
        if issuer_url.query().is_some() || issuer_url.fragment().is_some() || self.issuer.ends_with('/') {
            return Err(BuildError::Issuer(self.issuer));
        }
        if self.audiences.is_empty() {
            return Err(BuildError::NoAudience);
        }
        // Exactly one of the two must be set: a missing client must not turn revocations off.
        if self.client.is_some() == self.without_revocations {
            return Err(BuildError::Client);
        }
        if self.leeway > Duration::from_mins(1) {
            return Err(BuildError::Setting("the leeway is longer than a minute"));
        }
        let metadata = metadata::fetch(&http, &self.issuer, &issuer_url).await?;
        let leeway = millis(self.leeway);
        // The minimum is also the default.
        let end_after_silence = self.end_after_silence.unwrap_or_default().max(self.max_staleness);
        let registry = Arc::new(Registry::new(leeway, end_after_silence));
        let revocation_check = match &self.client {
            Some(client) => {
                let authorization = client
                    .authorization()
                    .ok_or(BuildError::Setting("the client's id or secret is not a valid header value"))?;
                let revocations_url = metadata.revocations.ok_or_else(|| FetchError {
                    url: self.issuer.clone(),
                    reason: "the metadata has no latchkey_revocations_endpoint".to_owned(),
                })?;
                let settings = feed::Settings {
                    url: revocations_url,
                    client_id: client.id().to_owned(),
                    authorization: authorization.clone(),
                    max_staleness: self.max_staleness,
                    leeway,
                    max_revocations: self.max_revocations,
                };
                Some(RevocationCheck {
                    feed: Feed::new(settings, Arc::clone(&registry), &*self.clock),
                    on_lost: self.on_feed_lost,
                    introspection: metadata.introspection,
                    authorization,
                })
            }
            None => None,
        };
        let keys = KeyStore::new(metadata.jwks, self.key_cooldown);
        keys.fetch(&http, &*self.clock).await?;
        let rules = Rules {
            issuer: self.issuer,
            audiences: self.audiences,
            leeway,
            allow_service_clients: self.allow_service_clients,
        };
        let cache = Cache::new(self.max_cached_tokens);
        Ok(Verifier::start(Shared { rules, clock: self.clock, http, keys, cache, revocation_check, registry }))
    }
}
