//! The parts of a running node, built once and shared by all use cases.

pub mod audit;
pub mod clients;
pub mod dynamic_clients;
pub mod error;
pub mod feed;
mod gauges;
pub mod keys;
mod local_limits;
pub(crate) mod login_subjects;
pub mod mailer;
pub mod readiness;

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use self::{
    audit::AuditLog, clients::ClientRegistry, error::StateError, feed::FeedSubscribers, gauges::Gauges,
    keys::SigningKeys, local_limits::LocalLimits, login_subjects::LoginSubjects, mailer::Mailer,
    readiness::ReadinessCache,
};
use crate::{
    config::{Config, Secrets},
    crypto::{
        browser_token::BrowserTokens,
        csrf::CsrfTokens,
        derive::{self, derive},
        one_time_token::TokenDigests,
        origin_tag::OriginTagger,
        passkeys::PasskeyCeremonies,
        pseudonymizer::Pseudonymizer,
        refresh_token::RefreshTokens,
        seal::Sealer,
        token_verifier::{TokenRules, TokenVerifier},
    },
    domain::{clock::Clock, entropy::Entropy},
    metrics::Metrics,
    pages::Pages,
    password::PasswordHasher,
    store::{redis::RedisStores, sql::Sql},
};

/// The parts of a running node. Use cases take `&AppState`.
pub struct AppState {
    /// The configuration, as it was loaded.
    pub config: Config,
    /// The source of time: Redis' clock, which all nodes follow.
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
    /// The clients: operator-registered and dynamic ones.
    pub clients: ClientRegistry,
    /// Security events on their way to the database.
    pub audit: AuditLog,
    /// Prepares and delivers mails.
    pub mailer: Mailer,
    /// Encrypts the secrets of second factors. Signing keys and mails share it.
    pub(crate) sealer: Arc<Sealer>,
    /// The pages for account owners; none if `pages.enabled` is off.
    pub pages: Option<Pages>,
    /// Creates and reads refresh tokens.
    pub refresh_tokens: RefreshTokens,
    /// Creates and reads the cookies of browsers' sessions.
    pub(crate) browser_tokens: BrowserTokens,
    /// Computes and checks the anti-forgery tokens of forms.
    pub(crate) csrf: CsrfTokens,
    /// Computes the digests of one-time tokens.
    pub(crate) token_digests: TokenDigests,
    /// The ceremonies (registrations and sign-ins) of passkeys; none if passkeys are switched off, or no domain is configured for them.
    pub(crate) passkeys: Option<PasskeyCeremonies>,
    /// Verifies access tokens.
    pub tokens: TokenVerifier,
    /// Computes digests of the origins of requests, which are their networks and user agents.
    pub(crate) origin_tags: OriginTagger,
    /// Hashes the subjects of rate limits.
    pub(crate) pseudonymizer: Pseudonymizer,
    /// The rate limits that this node counts by itself.
    pub(crate) local_limits: LocalLimits,
    /// Caches the accounts of typed identifiers for the login throttle, which counts failures by account.
    pub(crate) login_subjects: LoginSubjects,
    /// The subscribers of this node's revocation feed.
    pub(crate) feed_subscribers: FeedSubscribers,
    /// Tasks that continue after their request was answered.
    pub background: TaskTracker,
    /// Counters and histograms.
    pub metrics: Metrics,
    /// The last result of the readiness checks.
    pub(crate) readiness: ReadinessCache,
    /// Metrics that are read at the time of a scrape.
    pub(crate) gauges: Gauges,
}

impl AppState {
    /// Waits at most `timeout` for tasks that continue after their request was answered. Call it when the node no longer serves
    /// requests.
    pub async fn finish_background(&self, timeout: Duration) {
        self.background.close();
        if tokio::time::timeout(timeout, self.background.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.background.len(),
                "stopping: background tasks of answered requests did not end in time and are abandoned; users who just asked for a \
                 link or code by mail may not get one and must ask again"
            );
        }
    }

    /// Assembles the state of a node: loads the clients and the signing keys, generates the first signing key if there is none, and
    /// starts the audit log.
    ///
    /// # Errors
    /// [`StateError`], for example if the database can't be read, if it holds keys that are sealed under none of the configured secrets,
    /// or if a template can't be used.
    pub async fn new(
        config: Config,
        clock: Clock,
        entropy: Entropy,
        passwords: PasswordHasher,
        sql: Sql,
        redis: RedisStores,
    ) -> Result<Self, StateError> {
        let replacement = None; // only tests replace the clock of Redis
        let clock = redis.follow_clock(&clock, replacement).await;
        let refresh_keys = DerivedKeys::derive(&config.secrets, derive::REFRESH_TOKEN_MAC);
        let refresh_tokens = RefreshTokens::new(&refresh_keys.current, refresh_keys.previous());
        let browser_keys = DerivedKeys::derive(&config.secrets, derive::BROWSER_SESSION_MAC);
        let browser_tokens = BrowserTokens::new(&browser_keys.current, browser_keys.previous());
        let csrf_keys = DerivedKeys::derive(&config.secrets, derive::CSRF);
        let csrf = CsrfTokens::new(&csrf_keys.current, csrf_keys.previous());
        let digest_keys = DerivedKeys::derive(&config.secrets, derive::ONE_TIME_TOKENS);
        let token_digests = TokenDigests::new(&digest_keys.current, digest_keys.previous());
        let sealer = Arc::new(Sealer::new(&config.secrets));
        let keys = SigningKeys::load(config.keys.algorithm, &clock, &entropy, &sql, Arc::clone(&sealer)).await?;
        // Not under previous secrets: with a new secret, all limits count from zero.
        let pseudonymizer = Pseudonymizer::new(&derive(&config.secrets.current, derive::LIMITS));
        let origin_tags = OriginTagger::new(&config.secrets);
        let feed_subscribers =
            FeedSubscribers::new(config.feed.max_subscribers, config.feed.max_subscribers_per_client);
        let clients = ClientRegistry::load(&config.dynamic_clients, &config.secrets, &sql, &clock).await?;
        let rules = TokenRules {
            issuer: config.issuer.clone(),
            audience: config.token.audience.clone(),
            leeway: config.token.leeway,
        };
        let tokens = TokenVerifier::new(rules, keys.shared(), config.cache.max_tokens, &entropy);
        let passkeys =
            config.passkeys.relying_party.as_ref().map(|relying_party| {
                PasskeyCeremonies::new(relying_party, &config.passkeys, &config.mail.product_name)
            });
        // how exactly audit entries state IP addresses: set before the audit log copies `sql`
        let sql = sql.with_address_precision(config.audit.addresses);
        let audit = AuditLog::start(&config.audit, clock.clone(), entropy.clone(), &sql);
        let mailer = Mailer::new(&config.mail, &config.issuer, clock.clone(), entropy.clone(), Arc::clone(&sealer))?;
        let pages = config.pages.enabled.then(|| Pages::load(&config)).transpose()?;
        let metrics = Metrics::new(redis.metrics());
        mailer.metrics.collectors().into_iter().for_each(|collector| metrics.register_boxed(collector));
        metrics.register_boxed(tokens.metrics().collector());
        metrics.register(passwords.waited().clone());
        metrics.register(audit.lost().clone());
        metrics.register(clients.document_fetches().clone());
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
            mailer,
            sealer,
            pages,
            refresh_tokens,
            browser_tokens,
            csrf,
            token_digests,
            passkeys,
            tokens,
            origin_tags,
            pseudonymizer,
            local_limits: LocalLimits::default(),
            readiness: ReadinessCache::default(),
            login_subjects: LoginSubjects::default(),
            feed_subscribers,
            background: TaskTracker::new(),
            gauges: Gauges::new(&metrics),
            metrics,
        })
    }
}

/// The keys of one purpose, derived from the current and the previous secrets.
struct DerivedKeys {
    current: Zeroizing<[u8; 32]>,
    previous: Vec<Zeroizing<[u8; 32]>>,
}

impl DerivedKeys {
    fn derive(secrets: &Secrets, purpose: &'static str) -> Self {
        let previous = secrets.previous.iter().map(|secret| derive(secret, purpose)).collect();
        Self { current: derive(&secrets.current, purpose), previous }
    }

    fn previous(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.previous.iter().map(|key| &**key)
    }
}
