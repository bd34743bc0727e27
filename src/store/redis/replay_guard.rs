//! Identifiers of credentials that are accepted once, such as the `jti` of client assertions.

use std::{sync::Arc, time::Duration};

use fred::{
    interfaces::KeysInterface,
    types::{Expiration, SetOptions},
};

use super::{RedisConnection, RedisError};

/// Records the identifiers of credentials that are accepted once. Clones share the connections.
#[derive(Clone)]
pub struct ReplayGuard {
    connection: Arc<RedisConnection>,
}

impl ReplayGuard {
    pub(super) fn new(connection: Arc<RedisConnection>) -> Self {
        Self { connection }
    }

    /// Records a client's assertion for `ttl`, in one atomic round trip. Returns false if it is recorded already.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn record_first_use(&self, client_id: &str, jti: &str, ttl: Duration) -> Result<bool, RedisError> {
        let key = self.connection.keys.assertion(client_id, jti);
        // Redis refuses a TTL of zero.
        let ttl = Expiration::PX(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1));
        let redis = self.connection.client_for_request()?;
        let (unused_value, return_former_value) = (1, false);
        let result = Box::pin(redis.set(key, unused_value, Some(ttl), Some(SetOptions::NX), return_former_value)).await;
        let answer: Option<String> = result.inspect_err(|error| self.connection.reconnect_if_demoted(error))?;
        // With NX, Redis answers `OK` if the key did not exist, and nil if it did.
        Ok(answer.is_some())
    }
}
