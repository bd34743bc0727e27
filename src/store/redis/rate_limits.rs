//! Rate limits that all nodes share, and who may try passwords. Each function is one round trip, atomic, on one key of its
//! own; none of the keys tells whom it is about.

use std::{sync::Arc, time::Duration};

use fred::types::Value;

use super::{
    RedisConnection, RedisError,
    script::{self, duration, millis, unexpected},
};
use crate::domain::{
    clock::Timestamp,
    limit::{Backoff, Quota},
};

/// When failures are forgotten that were too few to cost time. Short: whoever makes up identifiers fills Redis with these.
pub(crate) const FEW_FORGOTTEN: Duration = Duration::from_hours(1);

/// When more of them are.
const MANY_FORGOTTEN: Duration = Duration::from_hours(24);

/// The lane of those who aren't known.
const STRANGERS: &str = "s";

/// A lane: a device or an address, as an account knows it. Hashed; says nothing by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleBucket(String);

impl ThrottleBucket {
    /// The lane of a device that holds a token of this hash.
    pub fn device(hash: &str) -> Self {
        Self(format!("d{hash}"))
    }

    /// The lane of an address of this hash.
    pub fn address(hash: &str) -> Self {
        Self(format!("a{hash}"))
    }
}

/// What came of asking whether a password may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThrottleDecision {
    /// It may, and it counts as a failure in this lane until it is vouched for or withdrawn.
    Admitted(ThrottleBucket),
    /// Not before so much time.
    Wait(Duration),
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

    /// Takes a place of a quota; if there was none, says how long until there is one.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn take(&self, subject: &str, quota: Quota, now: Timestamp) -> Result<Option<Duration>, RedisError> {
        let keys = vec![self.connection.keys.limit(subject)];
        let arguments = vec![millis(now), Value::Integer(quota.interval_micros()), Value::Integer(quota.count.into())];
        let answer = script::run(&self.connection.scripts.limit, self.connection.client(), keys, arguments).await?;
        let wait = answer.as_u64().ok_or_else(|| unexpected("limit", &answer))?;
        Ok((wait > 0).then(|| Duration::from_micros(wait)))
    }

    /// Asks whether a password may be tried for an account, by somebody with this device and at this address.
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
            device.map_or("-", |lane| lane.0.as_str()).into(),
            address.0.as_str().into(),
            Value::Integer(backoff.free.into()),
            duration(backoff.first),
            duration(backoff.most),
            duration(FEW_FORGOTTEN),
            duration(MANY_FORGOTTEN.max(2 * backoff.most)),
            Value::Integer(backoff.free_where_known().into()),
        ];
        let keys = vec![self.connection.keys.lanes(account)];
        let answer =
            script::run(&self.connection.scripts.login_throttle, self.connection.client(), keys, arguments).await?;
        let parts = if let Value::Array(parts) = &answer { parts.as_slice() } else { &[] };
        match parts {
            [lane, wait] => match (lane.as_str(), wait.as_u64()) {
                (Some(lane), Some(0)) => Ok(ThrottleDecision::Admitted(ThrottleBucket(lane.to_string()))),
                (Some(_), Some(wait)) => Ok(ThrottleDecision::Wait(Duration::from_millis(wait))),
                _ => Err(unexpected("attempt", &answer)),
            },
            _ => Err(unexpected("attempt", &answer)),
        }
    }

    /// Remembers that the account's owner signed in with this device and at this address. `used` is the lane that the
    /// attempt was counted in, if it was one of this key's.
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
    ) -> Result<(), RedisError> {
        let arguments = vec![
            millis(now),
            device.0.as_str().into(),
            address.0.as_str().into(),
            duration(backoff.known_for),
            Value::Integer(backoff.max_known.into()),
            used.map_or("", |lane| lane.0.as_str()).into(),
        ];
        let keys = vec![self.connection.keys.lanes(account)];
        script::run(&self.connection.scripts.trust_device, self.connection.client(), keys, arguments).await.map(drop)
    }

    /// Takes an attempt back whose password was never checked.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn refund(&self, account: &str, used: &ThrottleBucket) -> Result<(), RedisError> {
        let keys = vec![self.connection.keys.lanes(account)];
        let arguments = vec![used.0.as_str().into()];
        script::run(&self.connection.scripts.refund, self.connection.client(), keys, arguments).await.map(drop)
    }
}

impl ThrottleBucket {
    /// Whether it is that of those who aren't known.
    pub fn is_of_strangers(&self) -> bool {
        self.0 == STRANGERS
    }
}
