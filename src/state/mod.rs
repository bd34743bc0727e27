//! The parts of a running node, built once and shared by all use cases.

pub mod audit;
pub mod clients;
pub mod error;
pub mod feed;
mod gauges;
pub mod keys;
mod local_limits;

use std::sync::Arc;

use self::{
    audit::AuditLog, clients::ClientRegistry, error::StateError, feed::FeedSubscribers, gauges::Gauges,
    keys::SigningKeys, local_limits::LocalLimits,
};
use crate::{
    config::Config,
    crypto::{
        access_token::{TokenError, Verified, VerifiedToken, Verifier},
        derive::{self, derive},
        key_ring::KeyRing,
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
    store::{redis::RedisStores, sql::Sql},
};

/// The parts of a running node. Use cases take `&AppState`.
pub struct AppState {
    /// The configuration, as it was loaded.
    pub config: Config,
    /// The source of time.
    pub clock: Clock,
    /// The source of randomness.
    pub entropy: Entropy,
    /// Accounts, signing keys, service clients and the audit log.
    pub sql: Sql,
    /// Sessions, shared rate limits and the revocation log.
    pub redis: RedisStores,
    /// The threads that hash passwords.
    pub passwords: PasswordHasher,
    /// The signing keys in use.
    pub keys: SigningKeys,
    /// The service clients.
    pub clients: ClientRegistry,
    /// Security events on their way to the database.
    pub audit: AuditLog,
    /// Creates and reads refresh tokens.
    pub refresh_tokens: RefreshTokens,
    /// Cache of verified access tokens.
    pub verified_tokens: VerifiedTokens<Verified>,
    /// Hashes the subjects of rate limits.
    pub(crate) pseudonymizer: Pseudonymizer,
    /// The rate limits that this node counts by itself.
    pub(crate) local_limits: LocalLimits,
    /// The subscribers of this node's revocation feed.
    pub(crate) feed_subscribers: FeedSubscribers,
    /// Counters and histograms.
    pub metrics: Metrics,
    /// Metrics that are read at the time of a scrape.
    pub(crate) gauges: Gauges,
}

impl AppState {
    /// Assembles the state of a node: loads the signing keys (and generates the first) and the service clients, and starts
    /// the audit log.
    ///
    /// # Errors
    /// [`StateError`] if the database can't be read, or holds keys that are sealed under none of the configured secrets.
    pub async fn new(
        config: Config,
        clock: Clock,
        entropy: Entropy,
        passwords: PasswordHasher,
        sql: Sql,
        redis: RedisStores,
    ) -> Result<Self, StateError> {
        let mac_key = |secret| derive(secret, derive::REFRESH_TOKEN_MAC);
        let previous: Vec<_> = config.secrets.previous.iter().map(mac_key).collect();
        let refresh_tokens = RefreshTokens::new(&mac_key(&config.secrets.current), previous.iter().map(|key| &**key));
        let sealer = Sealer::new(&config.secrets);
        let keys = SigningKeys::load(config.keys.algorithm, &clock, &entropy, &sql, sealer).await?;
        let pseudonymizer = Pseudonymizer::new(&derive(&config.secrets.current, derive::LIMITS));
        let feed_subscribers = FeedSubscribers::new(config.feed.max_subscribers);
        let clients = ClientRegistry::load(&sql, &clock).await?;
        let verified_tokens = VerifiedTokens::new(config.cache.max_tokens, &entropy);
        let sql = sql.keeping_addresses(config.audit.addresses);
        let audit = AuditLog::start(&config.audit, clock.clone(), entropy.clone(), &sql);
        let metrics = Metrics::new(redis.metrics());
        metrics.register_boxed(verified_tokens.metrics().collector());
        metrics.register(passwords.waited().clone());
        sql.metrics().collectors().into_iter().for_each(|collector| metrics.register_boxed(collector));
        Ok(Self {
            config,
            clock,
            entropy,
            sql,
            redis,
            passwords,
            keys,
            clients,
            audit,
            refresh_tokens,
            verified_tokens,
            pseudonymizer,
            local_limits: LocalLimits::default(),
            feed_subscribers,
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
