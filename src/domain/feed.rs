//! The events of the revocation feed, and positions in it.

use std::{fmt, sync::Arc};

use super::{clock::Timestamp, event::Revocation};

/// An event of the feed.
#[derive(Clone, Debug)]
pub enum FeedEvent {
    /// All revocations that can still affect a valid token follow.
    Snapshot,
    /// The revocations since the subscriber's position follow.
    Resumed,
    /// Sessions or access tokens ended. May be repeated; a repetition has no effect.
    Revocation(Arc<Revocation>),
    /// The snapshot, or the missed revocations, are complete up to this position.
    Live(FeedPosition),
    /// Every revocation up to this position was sent.
    Heartbeat(FeedPosition),
    /// Revocations are missing, for this reason; a snapshot follows.
    Gap(&'static str),
}

/// The point in time, by Redis' clock, up to which a subscriber has received every revocation. Its text is opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedPosition(pub Timestamp);

impl FeedPosition {
    /// The point in time.
    pub fn time(self) -> Timestamp {
        self.0
    }

    /// Parses the text that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        // `1` is the version of the format. The number has only digits; `i64::from_str` would also accept a sign.
        let digits = text.strip_prefix("1-").filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
        digits.parse().ok().map(Timestamp::from_millis).map(Self)
    }
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1-{}", self.0.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_parses_its_own_format_only() {
        let position = FeedPosition(Timestamp::from_millis(1_790_000_000_000));
        assert_eq!(position.to_string(), "1-1790000000000");
        assert_eq!(FeedPosition::parse("1-1790000000000"), Some(position));
        for other in ["", "1-", "1--5", "1-+5", "2-5", "1-5 ", "1-0x5", "5", "1-99999999999999999999"] {
            assert_eq!(FeedPosition::parse(other), None, "{other}");
        }
    }
}
