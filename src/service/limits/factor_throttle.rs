//! Brute-force protection of second factors: wrong codes make further codes of the same kind and account wait.
//!
//! Wrong codes are counted in buckets: one for each device and network where the owner has shown a second factor before, and one for
//! all other callers. Adding a factor makes the account forget all recognized devices and networks: an attacker who already had
//! the password may have made their own recognized. So such an attacker can try only a few codes a day, from any number of
//! addresses, and does not delay the owner on a recognized device or network. docs/factors.md has the calculation.

use std::net::IpAddr;

use super::{Attempt, count_refusal};
use crate::{
    domain::{
        audit::{Actor, AuditEvent, Entry},
        factor::FactorKind,
        ids::AccountId,
        limit::{LimitExceeded, LimitPolicy, Quota},
    },
    service::error::ServiceError,
    state::AppState,
    store::redis::ThrottleBucket,
};

/// An admitted code. Counts as a wrong one until it is refunded.
#[derive(Debug)]
#[must_use]
pub struct FactorAttempt {
    subject: String,
    /// None if the throttle is off.
    bucket: Option<ThrottleBucket>,
}

impl FactorAttempt {
    /// Counts a code before it is checked. `attempt` says whether the account recognizes the device or the network.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub(in crate::service) async fn begin(
        state: &AppState,
        account: AccountId,
        kind: FactorKind,
        attempt: &Attempt,
        ip: Option<IpAddr>,
    ) -> Result<Self, ServiceError> {
        let subject = state.pseudonymizer.name(&[b"factor", account.as_bytes(), kind.as_str().as_bytes()]);
        let Some(backoff) = state.config.limits.factor_backoff else { return Ok(Self { subject, bucket: None }) };
        let bucket = attempt.recognized_bucket().cloned().unwrap_or_else(ThrottleBucket::unrecognized);
        let now = state.clock.now();
        match state.redis.rate_limits.admit_factor(&subject, &bucket, backoff, now).await? {
            None => Ok(Self { subject, bucket: Some(bucket) }),
            Some(retry_after) => {
                let policy = LimitPolicy::FactorAccount;
                let entry =
                    Entry::new(now, AuditEvent::RateLimit).refused("too_many").detail(policy.as_str()).account(account);
                state.audit.record(entry.by(Actor::Anyone).from(ip));
                let quota = Quota { count: backoff.free, window: backoff.retention() };
                Err(count_refusal(state, LimitExceeded { policy, quota, retry_after }))
            }
        }
    }

    /// Stops counting the attempt as a wrong code, because the code was right (`was_right` is true) or was not checked (false).
    pub(in crate::service) async fn refund(self, state: &AppState, was_right: bool) {
        let Some(bucket) = self.bucket else { return };
        if let Err(error) = state.redis.rate_limits.refund_factor(&self.subject, &bucket, was_right).await {
            tracing::debug!(%error, "an attempt at a second factor could not be refunded");
        }
    }
}
