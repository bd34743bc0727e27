//! Brute-force protection of second factors: wrong codes make further codes of the same kind and account wait.
//!
//! Wrong codes are counted in buckets: one for each device and network where the owner has shown a second factor before, and one for
//! all other callers. So an attacker who knows the password can try only a few codes a day, from any number of addresses. The attacker
//! does not delay the owner on a recognized device or network. docs/factors.md has the calculation.
//!
//! When a factor is added, the account forgets all recognized devices and networks, because an attacker who knew the password before
//! may have logged in from one of them.

use std::net::IpAddr;

use super::{LoginAttempt, count_refusal};
use crate::{
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        factor::FactorKind,
        ids::AccountId,
        limit::{LimitExceeded, LimitPolicy, Quota},
    },
    service::error::ServiceError,
    state::AppState,
    store::redis::{FactorRefund, ThrottleBucket},
};

/// An admitted attempt at a code. Counts as a wrong code until `succeed` or `refund`.
#[derive(Debug)]
#[must_use]
pub struct FactorAttempt {
    /// The pseudonym of the account and the kind of factor, under which Redis counts wrong codes.
    subject: String,
    /// The bucket that the attempt was counted in; `None` if the throttle is off.
    bucket: Option<ThrottleBucket>,
}

impl FactorAttempt {
    /// Counts an attempt before the code is checked. `login_attempt` says whether the account recognizes the device or the network.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub(in crate::service) async fn begin(
        state: &AppState,
        account: AccountId,
        kind: FactorKind,
        login_attempt: &LoginAttempt,
        ip: Option<IpAddr>,
    ) -> Result<Self, ServiceError> {
        let subject = state.pseudonymizer.pseudonym(&[b"factor", account.as_bytes(), kind.as_str().as_bytes()]);
        let Some(backoff) = state.config.limits.factor_backoff else { return Ok(Self { subject, bucket: None }) };
        let bucket = login_attempt.recognized_bucket().cloned().unwrap_or_else(ThrottleBucket::unrecognized);
        let now = state.clock.now();
        let delay = state.redis.rate_limits.admit_factor(&subject, &bucket, backoff, now).await?;
        // Without a delay, the attempt was admitted and counted.
        let Some(retry_after) = delay else { return Ok(Self { subject, bucket: Some(bucket) }) };
        let policy = LimitPolicy::FactorAccount;
        let entry = AuditEntry::new(now, AuditEvent::RateLimit)
            .refused("too_many")
            .detail(policy.as_str())
            .account(account)
            .actor(Actor::Anyone)
            .address(ip);
        state.audit.record(entry);
        let quota = Quota { count: backoff.failures_without_delay, window: backoff.retention() };
        Err(count_refusal(state, LimitExceeded { policy, quota, retry_after }))
    }

    /// Stops counting the attempt as a wrong code, because the code was right.
    pub(in crate::service) async fn succeed(self, state: &AppState) {
        self.uncount(state, FactorRefund::RightCode).await;
    }

    /// Stops counting the attempt as a wrong code, because the code was not checked or a store failed.
    pub(in crate::service) async fn refund(self, state: &AppState) {
        self.uncount(state, FactorRefund::NotChecked).await;
    }

    async fn uncount(self, state: &AppState, reason: FactorRefund) {
        let Some(bucket) = self.bucket else { return };
        if let Err(error) = state.redis.rate_limits.refund_factor(&self.subject, &bucket, reason).await {
            tracing::debug!(
                %error,
                "the count of wrong second-factor codes could not be corrected: this attempt counts as a wrong \
                 code, so a later one may be delayed"
            );
        }
    }
}
