//! The durations of the revocation log's protocol (docs/architecture.md), all derived from `cache.max_staleness`.

use std::time::Duration;

/// Derives every duration from `cache.max_staleness` (S). All nodes of a deployment must use the same value.
///
/// The tenth of S between [`Timing::cache_validity`] and [`Timing::announced_lease`], and between
/// [`Timing::max_channel_lag`] and [`Timing::probation`], is the margin for clocks that run at different rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Timing {
    max_staleness: Duration,
}

impl Timing {
    pub(super) const fn new(max_staleness: Duration) -> Self {
        Self { max_staleness }
    }

    /// The lease that a heartbeat announces, S: other nodes wait at most this long for a silent node.
    pub(super) const fn announced_lease(self) -> Duration {
        self.max_staleness
    }

    /// How long the cache may be used after the start of a synchronization, 0.9 S.
    pub(super) fn cache_validity(self) -> Duration {
        self.max_staleness / 10 * 9
    }

    /// The maximum age of the newest returned ping, 0.4 S. While it is not exceeded, the node has received everything that was
    /// published more than 0.4 S ago.
    pub(super) fn max_channel_lag(self) -> Duration {
        self.max_staleness / 10 * 4
    }

    /// How long a node sends heartbeats before it uses its cache, 0.5 S. By then every node that trusts its list of peers has
    /// received one of the heartbeats.
    pub(super) fn probation(self) -> Duration {
        self.max_staleness / 10 * 5
    }

    /// The longest pause between two heartbeats that doesn't restart the probation, 0.5 S. The lease of the first heartbeat, S, outlasts
    /// the pause and the 0.4 S that the second heartbeat may take to arrive.
    pub(super) fn max_heartbeat_gap(self) -> Duration {
        self.max_staleness / 10 * 5
    }

    /// How often a node synchronizes and sends a heartbeat, 0.2 S.
    pub(super) fn sync_interval(self) -> Duration {
        self.max_staleness / 5
    }
}
