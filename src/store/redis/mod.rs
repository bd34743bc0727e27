//! Sessions, rate limits and revocations in Redis. Only this folder depends on fred, the Redis client.
//!
//! [`RedisStores`] is opened once. Its parts share one [`RedisConnection`].

mod address;
mod authorizations;
mod batch;
mod challenges;
mod connection;
pub mod embedded;
mod failure;
mod health;
pub mod key;
mod last_use;
mod one_time_tokens;
mod passkey_challenges;
mod rate_limits;
pub mod record;
mod redis_clock;
mod refresh_status;
mod replay_guard;
mod revocation_log;
mod script;
mod session_estimate;
mod session_mark;
mod sessions;
mod tls;
mod user_agent;
mod watchdog;

use std::sync::Arc;

pub use self::{
    authorizations::{Authorizations, Exchange, ExchangeOutcome, NewCode},
    challenges::{ChallengeStore, FoundChallenge},
    connection::{RedisConnection, RedisError},
    health::{Finding, RedisDescription, RedisHealth, Severity},
    last_use::LastUseOrigin,
    one_time_tokens::{FoundToken, OneTimeTokens, PresentedDigests, TokenGroup},
    passkey_challenges::{ChallengeBinding, PasskeyChallenges},
    rate_limits::{FactorRefund, RateLimiter, ThrottleBucket, ThrottleDecision},
    refresh_status::RefreshStatus,
    replay_guard::ReplayGuard,
    revocation_log::RevocationLog,
    sessions::{
        AccountSessions, CreateOutcome, FoundSession, NewSession, Presentation, ReplaceOutcome, Replacement,
        SessionAuthentications, SessionBasis, SessionStore, StepUp, StepUpOutcome,
    },
};
pub(crate) use rate_limits::FEW_FAILURES_RETENTION;

use crate::{
    config::{CacheSettings, RedisSettings},
    domain::{clock::Clock, secret::SecretText},
    metrics::RedisMetrics,
    runtime::Cores,
};

/// Every store in Redis. Clones share the connections.
#[derive(Clone)]
pub struct RedisStores {
    /// Sessions and refresh tokens.
    pub sessions: SessionStore,
    /// Rate limits and login throttling shared by all nodes.
    pub rate_limits: RateLimiter,
    /// The revocation log, which every node follows, and the session cache that it keeps up to date.
    pub revocation_log: Arc<RevocationLog>,
    /// Identifiers of credentials that are accepted once.
    pub replay_guard: ReplayGuard,
    /// Links and codes of mails.
    pub one_time_tokens: OneTimeTokens,
    /// Challenges of passkey ceremonies.
    pub passkey_challenges: PasskeyChallenges,
    /// Authorization requests and codes.
    pub authorizations: Authorizations,
    /// Challenges of sign-ins.
    pub challenges: ChallengeStore,
    /// Reachability and configuration of the server.
    pub health: RedisHealth,
    connection: Arc<RedisConnection>,
}

impl RedisStores {
    /// The name of the server in messages: `redis.url` or the embedded Redis, and the address, without the password.
    pub fn label(&self) -> String {
        self.connection.label.to_string()
    }

    /// Starts to connect, and retries in the background until it succeeds. While Redis is down, commands fail after at most
    /// `redis.command_timeout`. The connections are spread over the cores. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`RedisError::Setting`] if `redis.url` or a TLS file can't be used.
    pub fn connect(
        url: &SecretText,
        settings: &RedisSettings,
        cache: &CacheSettings,
        cores: &Cores,
    ) -> Result<Self, RedisError> {
        let connection = Arc::new(RedisConnection::open(url, settings, cores)?);
        let revocation_log = Arc::new(RevocationLog::new(Arc::clone(&connection), cache));
        Ok(Self {
            sessions: SessionStore::new(Arc::clone(&connection), Arc::clone(&revocation_log)),
            rate_limits: RateLimiter::new(Arc::clone(&connection)),
            replay_guard: ReplayGuard::new(Arc::clone(&connection)),
            one_time_tokens: OneTimeTokens::new(Arc::clone(&connection)),
            passkey_challenges: PasskeyChallenges::new(Arc::clone(&connection)),
            authorizations: Authorizations::new(Arc::clone(&connection), Arc::clone(&revocation_log)),
            challenges: ChallengeStore::new(Arc::clone(&connection)),
            health: RedisHealth::new(Arc::clone(&connection)),
            revocation_log,
            connection,
        })
    }

    /// Measures the clock of Redis and returns a clock that follows it, so that all nodes that share a Redis have the same time.
    /// `own` is the clock of this node. While Redis can't be reached, or denies `TIME`, the returned clock shows the time of `own`.
    ///
    /// Tests pass a `replacement` for the clock of Redis. Without one, a manual clock `own` is returned unchanged.
    pub async fn follow_clock(&self, own: &Clock, replacement: Option<Clock>) -> Clock {
        let clock = self.connection.clock.follow(own, replacement);
        if let Err(error) = self.connection.clock.measure(self.connection.client()).await {
            // not worth a warning: each synchronization of the revocation log measures the clock again
            tracing::debug!(
                %error,
                "measuring the clock of Redis failed: this node uses its own clock until a later measurement \
                 succeeds"
            );
        }
        clock
    }

    /// The metrics of all stores.
    pub fn metrics(&self) -> &RedisMetrics {
        &self.connection.metrics
    }

    /// Announces that this node stops, then closes the connections. Later commands fail.
    pub async fn close(&self) {
        self.revocation_log.close().await;
        self.connection.close().await;
    }
}
