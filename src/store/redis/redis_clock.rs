//! The clock of Redis, which all nodes follow: a node adds the measured offset to its own clock. So the times of sessions, tokens and
//! events are consistent although the clocks of the nodes differ.

use std::sync::OnceLock;

use fred::{
    clients::Client,
    error::Error as FredError,
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand},
};

use crate::domain::clock::{Clock, ClockOffset, Timestamp};

/// The clock of Redis, as far as this node has measured it.
#[derive(Debug, Default)]
pub(super) struct RedisClock {
    /// The node's own clock, and the clock that replaces the Redis server's, if any (for tests).
    clocks: OnceLock<(Clock, Option<Clock>)>,
    offset: ClockOffset,
}

impl RedisClock {
    /// Returns a clock that shows `own` plus the measured offset to the clock of Redis. Later measurements correct the offset.
    ///
    /// For tests: `replacement` takes the place of the Redis server's clock. A manual clock `own` is returned unchanged if there is
    /// no replacement.
    pub(super) fn follow(&self, own: &Clock, replacement: Option<Clock>) -> Clock {
        if !own.is_system() && replacement.is_none() {
            return own.clone();
        }
        let (own, _) = self.clocks.get_or_init(|| (own.clone(), replacement));
        own.with_offset(self.offset.clone())
    }

    /// Reads the time of the Redis server, and corrects the offset. Returns the server's time.
    pub(super) async fn measure(&self, client: &Client) -> Result<Timestamp, FredError> {
        let clocks = self.clocks.get();
        let before = clocks.map(|(own, _)| own.now());
        let time = server_time(client).await?;
        if let (Some((own, replacement)), Some(before)) = (clocks, before) {
            let redis_time = replacement.as_ref().map_or(time, Clock::now);
            self.offset.measure(before, redis_time, own.now());
        }
        Ok(time)
    }
}

/// The time of the server's clock.
pub(super) async fn server_time(client: &Client) -> Result<Timestamp, FredError> {
    let is_blocking = false;
    let command = CustomCommand::new_static("TIME", ClusterHash::Random, is_blocking);
    let (seconds, micros): (i64, i64) = client.custom(command, Vec::<String>::new()).await?;
    Ok(Timestamp::from_millis(seconds * 1000 + micros / 1000))
}
