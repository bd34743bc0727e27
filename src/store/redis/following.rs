//! Follows the revocations that all nodes append: what a node remembers stays true because of it, and those who follow the
//! feed are told.

use tokio::sync::broadcast;

use super::connection::{Redis, RedisError};
use crate::domain::{
    clock::Timestamp,
    event::{Revocation, Told},
};

impl Redis {
    /// Starts to follow the revocations, in the background and until [`Redis::close`].
    pub fn follow(&self) {}

    /// What is told from now on. Whoever reads too slowly is told so ([`broadcast::error::RecvError::Lagged`]).
    pub fn told(&self) -> broadcast::Receiver<Told> {
        self.inner.told.subscribe()
    }

    /// Up to when, by Redis' clock, every revocation has been told; none while this node isn't in step with Redis.
    pub fn in_step(&self) -> Option<Timestamp> {
        None
    }

    /// The revocations of bucket `0..`[`super::key::BUCKETS`] since a time by Redis' clock, oldest first.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn revocations_since(&self, bucket: usize, since: Timestamp) -> Result<Vec<Revocation>, RedisError> {
        let _ = (bucket, since);
        Ok(Vec::new())
    }
}
