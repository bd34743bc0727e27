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
    /// Set when [`follow`](Self::follow) first returns a clock with the offset.
    clocks: OnceLock<Clocks>,
    /// How far the clock of Redis is ahead of the node's own.
    offset: ClockOffset,
}

#[derive(Debug)]
struct Clocks {
    /// The node's own clock.
    own: Clock,
    /// The clock that replaces the Redis server's, for tests.
    replacement: Option<Clock>,
}

impl RedisClock {
    /// Returns a clock that shows `own` plus the measured offset to the clock of Redis. Later measurements correct the offset.
    ///
    /// For tests: `replacement` takes the place of the Redis server's clock. Without it, a manual clock is
    /// returned unchanged.
    pub(super) fn follow(&self, own: &Clock, replacement: Option<Clock>) -> Clock {
        if !own.is_system() && replacement.is_none() {
            return own.clone();
        }
        let clocks = self.clocks.get_or_init(|| Clocks { own: own.clone(), replacement });
        clocks.own.with_offset(self.offset.clone())
    }

    /// Returns the time of the Redis server. Also corrects the offset, once [`follow`](Self::follow) has set the clocks.
    pub(super) async fn measure(&self, client: &Client) -> Result<Timestamp, FredError> {
        let Some(Clocks { own, replacement }) = self.clocks.get() else { return server_time(client).await };
        let sent_at = own.now();
        let server_now = server_time(client).await?;
        let redis_time = replacement.as_ref().map_or(server_now, Clock::now);
        self.offset.correct(sent_at, redis_time, own.now());
        Ok(server_now)
    }
}

/// Asks the Redis server for its time.
pub(super) async fn server_time(client: &Client) -> Result<Timestamp, FredError> {
    let (is_blocking, arguments) = (false, Vec::<String>::new());
    // In a cluster, any server may answer.
    let command = CustomCommand::new_static("TIME", ClusterHash::Random, is_blocking);
    let (seconds, micros): (i64, i64) = client.custom(command, arguments).await?;
    Ok(Timestamp::from_millis(seconds * 1000 + micros / 1000))
}
