//! The parts of a running service, built once and shared by everything that works with them.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::{
    config::Config,
    crypto::{
        access_token::{TokenError, Verified, VerifiedToken, Verifier},
        derive::{self, derive},
        key_ring::{KeyRing, SharedKeyRing},
        pseudonymizer::Pseudonymizer,
        refresh_token::RefreshTokens,
        seal::Sealer,
        verified_tokens::VerifiedTokens,
    },
    domain::{
        clock::{Clock, Timestamp},
        entropy::Entropy,
    },
    metrics::Metrics,
    password::PasswordHasher,
    service::{
        audit::Audit, clients::Clients, error::ServiceError, feed::Feed, keys, limits::LocalLimits, metrics::Gauges,
    },
    store::{redis::Redis, sql::Sql},
};

/// The parts. Flows take `&AppState`.
pub struct AppState {
    /// As it was loaded.
    pub config: Config,
    /// Where the time comes from.
    pub clock: Clock,
    /// Where randomness comes from.
    pub entropy: Entropy,
    /// Accounts and signing keys.
    pub sql: Sql,
    /// Sessions.
    pub redis: Redis,
    /// Hashes passwords, on threads of its own.
    pub passwords: PasswordHasher,
    /// The signing keys in use.
    pub keys: SharedKeyRing,
    /// When a key that wasn't known was last looked for in the database.
    pub(crate) last_key_reload: Mutex<Option<Timestamp>>,
    /// The service clients.
    pub clients: Clients,
    /// Security events.
    pub audit: Audit,
    /// Encrypts signing keys at rest.
    pub sealer: Sealer,
    /// Makes and reads refresh tokens.
    pub refresh_tokens: RefreshTokens,
    /// Access tokens that were verified lately.
    pub verified_tokens: VerifiedTokens<Verified>,
    /// Hashes whom rate limits are about.
    pub(crate) subjects: Pseudonymizer,
    /// The rate limits that this node counts for itself.
    pub(crate) limits: LocalLimits,
    /// What those who follow the revocations share.
    pub(crate) feed: Feed,
    /// What is counted and measured.
    pub metrics: Metrics,
    /// What of it is only looked at when somebody asks.
    pub(crate) gauges: Gauges,
}

impl AppState {
    /// Puts the parts together and loads the signing keys, making the first one if there is none.
    ///
    /// # Errors
    /// [`ServiceError`] if the database can't be read, or holds keys that the configured secrets don't open.
    pub async fn new(
        config: Config,
        clock: Clock,
        entropy: Entropy,
        passwords: PasswordHasher,
        sql: Sql,
        redis: Redis,
    ) -> Result<Self, ServiceError> {
        let sealer = Sealer::new(&config.secrets);
        let mac_key = |secret| derive(secret, derive::REFRESH_TOKEN_MAC);
        let previous: Vec<_> = config.secrets.previous.iter().map(mac_key).collect();
        let refresh_tokens = RefreshTokens::new(&mac_key(&config.secrets.current), previous.iter().map(|key| &**key));
        let keys = SharedKeyRing::new(keys::load(&config, &clock, &entropy, &sql, &sealer).await?);
        let last_key_reload = Mutex::new(None);
        let subjects = Pseudonymizer::new(&derive(&config.secrets.current, derive::LIMITS));
        let feed = Feed::new(config.feed.max_subscribers);
        let clients = Clients::load(&sql).await?;
        let verified_tokens = VerifiedTokens::new(config.cache.max_tokens, &entropy);
        let sql = sql.keeping_addresses(config.audit.addresses);
        let audit = Audit::start(&config.audit, clock.clone(), entropy.clone(), &sql);
        let metrics = Metrics::new(redis.metrics());
        metrics.register_boxed(verified_tokens.metrics().collector());
        metrics.register(passwords.waited().clone());
        Ok(Self {
            config,
            clock,
            entropy,
            sql,
            redis,
            passwords,
            keys,
            last_key_reload,
            clients,
            audit,
            sealer,
            refresh_tokens,
            verified_tokens,
            subjects,
            limits: LocalLimits::default(),
            feed,
            gauges: Gauges::new(&metrics),
            metrics,
        })
    }

    /// What a session's access token says, if this service issued it, for itself, and it is valid now. Whether its session still
    /// lives isn't asked.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify_access_token(&self, token: &str) -> Result<Arc<VerifiedToken>, TokenError> {
        match self.verify_issued_token(token)? {
            Verified::Session(verified) => Ok(verified),
            Verified::Client(_) => Err(TokenError::NoSession),
        }
    }

    /// The same for tokens of either kind. One of a service client itself may be meant for others.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify_issued_token(&self, token: &str) -> Result<Verified, TokenError> {
        let keys = self.keys.current();
        let verifier = self.verifier(&keys);
        let now = self.clock.now();
        let verified = self.verified_tokens.get_or_verify(token, || verifier.verify(token, now))?;
        verifier.check_again(&verified, now)?;
        Ok((*verified).clone())
    }

    /// Whether a session's access token that was valid is so still. Whether its session lives isn't asked.
    pub(crate) fn is_still_valid(&self, token: &Arc<VerifiedToken>, now: Timestamp) -> bool {
        self.verifier(&self.keys.current()).check_again(&Verified::Session(Arc::clone(token)), now).is_ok()
    }

    fn verifier<'a>(&'a self, keys: &'a KeyRing) -> Verifier<'a> {
        Verifier {
            keys,
            issuer: &self.config.issuer,
            audience: &self.config.token.audience,
            leeway: self.config.token.leeway,
        }
    }
}
