//! How a verifier is made: [`Builder`].

use std::{sync::Arc, time::Duration};

use crate::{
    cache::Cache,
    clock::{Clock, SystemClock, millis},
    error::{BuildError, FetchError},
    feed::Feed,
    http::Http,
    key_store::KeyStore,
    metadata,
    secret::Credentials,
    token::Rules,
    verifier::{Following, Parts, Verifier},
};

/// What is done with a token while the feed is lost: before it was complete for the first time, when it has been silent for
/// longer than [`Builder::max_staleness`], and when it has a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFeedLost {
    /// The issuer is asked about each token (RFC 7662); if it doesn't answer either, the token is refused with
    /// [`crate::VerifyError::Unavailable`].
    #[default]
    Introspect,
    /// Every token is refused with [`crate::VerifyError::Unavailable`].
    Refuse,
}

/// Settings of a [`Verifier`]; begin with [`Verifier::builder`].
#[derive(Debug)]
#[must_use = "a verifier comes of `build`"]
pub struct Builder {
    issuer: String,
    audiences: Vec<String>,
    client: Option<Credentials>,
    without_revocations: bool,
    on_feed_lost: OnFeedLost,
    max_staleness: Duration,
    max_revocations: usize,
    max_cached_tokens: usize,
    leeway: Duration,
    clients_own: bool,
    key_interval: Duration,
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
            max_revocations: 1_000_000,
            max_cached_tokens: 20_000,
            leeway: Duration::from_secs(5),
            clients_own: true,
            key_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            plain_http: false,
            certificates: Vec::new(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// For whom tokens must be meant: the service's own name as Latchkey's `token.audience` or its client's audiences have
    /// it. Called again, any of them will do.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// As which service client the feed is followed, with what `latchkey client add` printed.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client = Some(Credentials::new(id.into(), secret.into()));
        self
    }

    /// Makes a verifier that sees no revocation: it needs no client, and **accepts the tokens of those who have signed out
    /// until they expire**.
    pub fn without_revocations(mut self) -> Self {
        self.without_revocations = true;
        self
    }

    /// What is done while the feed is lost. [`OnFeedLost::Introspect`] unless said otherwise.
    pub fn on_feed_lost(mut self, policy: OnFeedLost) -> Self {
        self.on_feed_lost = policy;
        self
    }

    /// For how long tokens are answered from memory though the feed is silent: how late a sign-out may be seen at worst.
    /// 5 seconds unless said otherwise; the feed is heard every second.
    pub fn max_staleness(mut self, longest: Duration) -> Self {
        self.max_staleness = longest;
        self
    }

    /// How many revocations are remembered at most, at some 50 bytes each. With more of them the feed counts as lost.
    /// A million unless said otherwise.
    pub fn max_revocations(mut self, most: usize) -> Self {
        self.max_revocations = most;
        self
    }

    /// How many tokens are remembered at most whose signatures were found good, at some 1000 bytes each; 0 for none.
    /// 20,000 unless said otherwise.
    pub fn max_cached_tokens(mut self, most: usize) -> Self {
        self.max_cached_tokens = most;
        self
    }

    /// How far this machine's clock may differ from the issuer's. 5 seconds unless said otherwise, a minute at most.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Refuses tokens that services got for themselves (`client_credentials`), behind which no person stands.
    pub fn refuse_clients_own(mut self) -> Self {
        self.clients_own = false;
        self
    }

    /// How much time lies at least between two looks for an unknown key: tokens that name keys which don't exist can't
    /// make the verifier ask more often. One second unless said otherwise.
    pub fn key_interval(mut self, interval: Duration) -> Self {
        self.key_interval = interval;
        self
    }

    /// How long a call to the issuer may take: for metadata, keys and introspection. 2 seconds unless said otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls the issuer without TLS though it isn't on this machine. **Whoever is on the way can read the client's secret
    /// and put keys of his own in the place of the issuer's.**
    pub fn allow_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// A certificate, in PEM, that is believed beside the system's when the issuer is called.
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.push(pem.into());
        self
    }

    /// Where the time comes from; for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Fetches the issuer's metadata and keys and begins to follow the feed. Must be called inside a tokio runtime.
    ///
    /// Doesn't wait for the feed; [`Verifier::ready`] does.
    ///
    /// # Errors
    /// [`BuildError`]
    pub async fn build(self) -> Result<Verifier, BuildError> {
        let http = Http::new(self.plain_http, self.timeout, &self.certificates)?;
        let issuer = http.address(&self.issuer).filter(|url| url.query().is_none() && url.fragment().is_none());
        let issuer = issuer.filter(|_| !self.issuer.ends_with('/'));
        let issuer = issuer.ok_or_else(|| BuildError::Issuer(self.issuer.clone()))?;
        if self.audiences.is_empty() {
            return Err(BuildError::NoAudience);
        }
        if self.client.is_some() == self.without_revocations {
            return Err(BuildError::Client);
        }
        if self.leeway > Duration::from_mins(1) {
            return Err(BuildError::Setting("the leeway is longer than a minute"));
        }
        let metadata = metadata::fetch(&http, &self.issuer, &issuer).await?;
        let leeway = millis(self.leeway);
        let following = match &self.client {
            Some(client) => {
                let authorization =
                    client.authorization().ok_or(BuildError::Setting("the client's id or secret can't be sent"))?;
                let no_feed = || FetchError {
                    url: self.issuer.clone(),
                    reason: "its metadata name no latchkey_revocations_endpoint".to_owned(),
                };
                Some(Following {
                    feed: Feed::new(
                        metadata.revocations.ok_or_else(no_feed)?,
                        authorization.clone(),
                        self.max_staleness,
                        leeway,
                        self.max_revocations,
                    ),
                    on_lost: self.on_feed_lost,
                    introspection: metadata.introspection,
                    authorization,
                })
            }
            None => None,
        };
        let keys = KeyStore::new(metadata.jwks, self.key_interval);
        keys.fetch(&http, &*self.clock).await?;
        let rules = Rules { issuer: self.issuer, audiences: self.audiences, leeway, clients_own: self.clients_own };
        let cache = Cache::new(self.max_cached_tokens);
        Ok(Verifier::start(Parts { rules, clock: self.clock, http, keys, cache, following }))
    }
}
