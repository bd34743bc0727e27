//! Rate limits and login throttling shared by all nodes. Each function is one atomic round trip on one key. The keys hold
//! hashed subjects only.

use std::{sync::Arc, time::Duration};

use fred::{interfaces::HashesInterface, types::Value};

use super::{
    RedisConnection, RedisError,
    script::{self, duration_millis, millis, unexpected},
};
use crate::domain::{
    clock::Timestamp,
    limit::{Backoff, FactorBackoff, Quota},
};

/// How long Redis keeps failures that are too few for a wait. It is short, since guesses of names that do not exist create many keys.
pub(crate) const FEW_FAILURES_RETENTION: Duration = Duration::from_hours(1);

/// How long Redis keeps failures that cause waits, or twice the longest wait if that is longer.
const MANY_FAILURES_RETENTION: Duration = Duration::from_hours(24);

/// The bucket of unrecognized devices and addresses, as `login_throttle.lua` names it.
const UNRECOGNIZED: &str = "s";

/// A bucket of a throttle counts the failures of a device or an address (as a hash), or of all unrecognized ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleBucket(String);

impl ThrottleBucket {
    /// The bucket of unrecognized devices and addresses.
    pub fn unrecognized() -> Self {
        Self(UNRECOGNIZED.to_owned())
    }

    /// The bucket of the device whose token has this hash.
    pub fn device(hash: &str) -> Self {
        Self(format!("d{hash}"))
    }

    /// The bucket of the address that has this hash.
    pub fn address(hash: &str) -> Self {
        Self(format!("a{hash}"))
    }

    /// The name of the bucket, which is its field in the Redis hash of the throttle.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the bucket of unrecognized devices and addresses.
    pub fn is_unrecognized(&self) -> bool {
        self.0 == UNRECOGNIZED
    }
}

/// Whether a password may be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThrottleDecision {
    /// The password may be checked. The attempt counts as a failure in this bucket until the device is trusted or the attempt is
    /// refunded.
    Admitted(ThrottleBucket),
    /// The password may be checked after this duration.
    Wait(Duration),
}

/// Why an attempt at a second factor's code is refunded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorRefund {
    /// The code was right.
    RightCode,
    /// The code was not checked.
    NotChecked,
}

/// Rate limits and login throttling. Clones share the connections.
#[derive(Clone)]
pub struct RateLimiter {
    connection: Arc<RedisConnection>,
}

impl RateLimiter {
    pub(super) fn new(connection: Arc<RedisConnection>) -> Self {
        Self { connection }
    }

    /// Counts a request against a quota. If the quota is exhausted, returns the time until the next request is allowed. `subject` is a
    /// keyed hash.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn count_request(
        &self,
        subject: &str,
        quota: Quota,
        now: Timestamp,
    ) -> Result<Option<Duration>, RedisError> {
        let keys = vec![self.connection.keys.limit(subject)];
        let arguments = vec![millis(now), Value::Integer(quota.interval_micros()), Value::Integer(quota.count.into())];
        let answer = script::run(&self.connection.scripts.limit, &self.connection, keys, arguments).await?;
        let wait = answer.as_u64().ok_or_else(|| unexpected("limit", &answer))?;
        Ok((wait > 0).then(|| Duration::from_micros(wait)))
    }

    /// Admits or delays a password check for an account, from this device and address. `account` is a keyed hash of the account's
    /// id, or of the typed identifier if no account has it.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn admit(
        &self,
        account: &str,
        device: Option<&ThrottleBucket>,
        address: &ThrottleBucket,
        backoff: Backoff,
        now: Timestamp,
    ) -> Result<ThrottleDecision, RedisError> {
        let arguments = vec![
            millis(now),
            // `-` for a request without a device: no bucket has this name
            device.map_or("-", |bucket| bucket.0.as_str()).into(),
            address.0.as_str().into(),
            Value::Integer(backoff.failures_without_delay.into()),
            duration_millis(backoff.first_delay),
            duration_millis(backoff.max_delay),
            duration_millis(FEW_FAILURES_RETENTION),
            duration_millis(MANY_FAILURES_RETENTION.max(2 * backoff.max_delay)),
            Value::Integer(backoff.failures_without_delay_if_trusted().into()),
        ];
        let keys = vec![self.connection.keys.login_throttle(account)];
        let answer = script::run(&self.connection.scripts.login_throttle, &self.connection, keys, arguments).await?;
        let parts = if let Value::Array(parts) = &answer { parts.as_slice() } else { &[] };
        let [bucket, wait] = parts else { return Err(unexpected("login_throttle", &answer)) };
        match (bucket.as_str(), wait.as_u64()) {
            (Some(bucket), Some(0)) => Ok(ThrottleDecision::Admitted(ThrottleBucket(bucket.to_string()))),
            (Some(_), Some(wait)) => Ok(ThrottleDecision::Wait(Duration::from_millis(wait))),
            _ => Err(unexpected("login_throttle", &answer)),
        }
    }

    /// The bucket of this device, or else of this address, if the account recognizes it. Counts nothing.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn recognize(
        &self,
        account: &str,
        device: Option<&ThrottleBucket>,
        address: &ThrottleBucket,
        now: Timestamp,
    ) -> Result<Option<ThrottleBucket>, RedisError> {
        let buckets: Vec<&ThrottleBucket> = device.into_iter().chain([address]).collect();
        let fields: Vec<&str> = buckets.iter().map(|bucket| bucket.0.as_str()).collect();
        let key = self.connection.keys.login_throttle(account);
        let found: Result<Vec<Option<String>>, _> = self.connection.client_for_request()?.hmget(key, fields).await;
        let found = found.inspect_err(|error| self.connection.reconnect_if_demoted(error))?;
        for (bucket, state) in buckets.into_iter().zip(found) {
            // the last number of a bucket is the time until which it is trusted (`login_throttle.lua`)
            let last_number = state.as_deref().and_then(|state| state.rsplit(' ').next());
            let trusted_until = last_number.and_then(|number| number.parse().ok()).map(Timestamp::from_millis);
            if trusted_until.is_some_and(|until| now < until) {
                return Ok(Some(bucket.clone()));
            }
        }
        Ok(None)
    }

    /// Records that the account's owner signed in with this device and from this address. `used` is the bucket in which the
    /// attempt was counted, if it belongs to this account. Returns the number of devices and addresses that the account recognized
    /// before.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn trust_device(
        &self,
        account: &str,
        device: &ThrottleBucket,
        address: &ThrottleBucket,
        used: Option<&ThrottleBucket>,
        backoff: Backoff,
        now: Timestamp,
    ) -> Result<u64, RedisError> {
        let arguments = vec![
            millis(now),
            device.0.as_str().into(),
            address.0.as_str().into(),
            duration_millis(backoff.trust_ttl),
            Value::Integer(backoff.max_trusted.into()),
            used.map_or("", |bucket| bucket.0.as_str()).into(),
        ];
        let keys = vec![self.connection.keys.login_throttle(account)];
        let answer = script::run(&self.connection.scripts.trust_device, &self.connection, keys, arguments).await?;
        answer.as_u64().ok_or_else(|| unexpected("trust_device", &answer))
    }

    /// Forgets the devices and addresses that an account recognizes. The failures of unrecognized devices and addresses stay, so that no
    /// change of the account gives an attacker further attempts.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn forget_devices(&self, account: &str) -> Result<(), RedisError> {
        let keys = vec![self.connection.keys.login_throttle(account)];
        script::run(&self.connection.scripts.forget_devices, &self.connection, keys, Vec::new()).await.map(drop)
    }

    /// Admits or delays the check of a second factor's code. If the check is delayed, returns how long. If it is admitted, the attempt
    /// counts as a failure in the bucket until it is refunded. `factor` is a keyed hash of account and kind.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn admit_factor(
        &self,
        factor: &str,
        bucket: &ThrottleBucket,
        backoff: FactorBackoff,
        now: Timestamp,
    ) -> Result<Option<Duration>, RedisError> {
        let keys = vec![self.connection.keys.factor_throttle(factor)];
        let arguments = vec![
            millis(now),
            bucket.0.as_str().into(),
            Value::Integer(backoff.failures_without_delay.into()),
            duration_millis(backoff.first_delay),
            duration_millis(backoff.max_delay),
            duration_millis(backoff.retention()),
        ];
        let answer = script::run(&self.connection.scripts.factor_throttle, &self.connection, keys, arguments).await?;
        let wait = answer.as_u64().ok_or_else(|| unexpected("factor_throttle", &answer))?;
        Ok((wait > 0).then(|| Duration::from_millis(wait)))
    }

    /// Refunds an admitted attempt at a second factor's code.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn refund_factor(
        &self,
        factor: &str,
        bucket: &ThrottleBucket,
        refund: FactorRefund,
    ) -> Result<(), RedisError> {
        let keys = vec![self.connection.keys.factor_throttle(factor)];
        let code_was_right = match refund {
            FactorRefund::RightCode => "1",
            FactorRefund::NotChecked => "0",
        };
        let arguments = vec![bucket.0.as_str().into(), code_was_right.into()];
        script::run(&self.connection.scripts.factor_refund, &self.connection, keys, arguments).await.map(drop)
    }

    /// Refunds a login attempt whose password was not checked, or was right.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn refund(&self, account: &str, used: &ThrottleBucket) -> Result<(), RedisError> {
        let keys = vec![self.connection.keys.login_throttle(account)];
        let arguments = vec![used.0.as_str().into()];
        script::run(&self.connection.scripts.refund, &self.connection, keys, arguments).await.map(drop)
    }
}
