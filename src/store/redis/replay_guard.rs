//! What may be presented once only.

use std::time::Duration;

use fred::{
    interfaces::KeysInterface,
    types::{Expiration, SetOptions},
};

use super::{Redis, RedisError};

impl Redis {
    /// Remembers a client's assertion for `ttl`; says whether it is the first time. One round trip, atomic.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn first_use(&self, client: &str, jti: &str, ttl: Duration) -> Result<bool, RedisError> {
        let key = self.inner.keys.assertion(client, jti);
        let ttl = Expiration::PX(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1));
        let pool = self.client();
        let answer: Option<String> = pool.set(key, 1, Some(ttl), Some(SetOptions::NX), false).await?;
        Ok(answer.is_some())
    }
}
