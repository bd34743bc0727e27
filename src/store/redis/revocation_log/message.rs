//! Messages that nodes publish, besides the revocations themselves (`event_entry.rs`).
//!
//! On the shared channel `CHANNEL`, to every node:
//!
//! - `here NODE MILLIS`: heartbeat. The node may use its cache for this many milliseconds; 0: the node doesn't use its cache.
//! - `confirm NODE NUMBER BUCKET POSITION`: a request to acknowledge NUMBER to NODE, after the events of BUCKET up to POSITION.
//!
//! On `CHANNEL:NODE`, to one node:
//!
//! - `NODE NUMBER…`: another node has applied the revocations, or the events that a `confirm` names, with these numbers.
//! - `ping MICROS`: a ping of the node to itself, with the time from the node's start until it sent the ping.
//!
//! A node of a release that doesn't know a message of the shared channel synchronizes at once and doesn't acknowledge. The sender
//! then waits as long as for a node that does not answer.

use std::time::Duration;

use super::{
    ack_state::{ConfirmRequest, NodeName},
    event_entry::Position,
};

/// The maximum lease that a peer is granted, whatever its message says. It exceeds the largest allowed `cache.max_staleness`.
const MAX_LEASE: Duration = Duration::from_mins(1);

/// A message on the shared channel that is not a revocation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broadcast {
    Heartbeat { node: NodeName, lease: Duration },
    Confirm(ConfirmRequest),
}

impl Broadcast {
    /// Parses a message. Returns `None` for any other message, such as a revocation.
    pub(super) fn parse(message: &str) -> Option<Self> {
        if let Some(heartbeat) = message.strip_prefix("here ") {
            let (node, lease) = heartbeat.split_once(' ')?;
            let lease = Duration::from_millis(lease.parse().ok()?).min(MAX_LEASE);
            return Some(Self::Heartbeat { node: node.into(), lease });
        }
        let mut words = message.strip_prefix("confirm ")?.split(' ');
        Some(Self::Confirm(ConfirmRequest {
            origin: words.next()?.into(),
            number: words.next()?.parse().ok()?,
            bucket: words.next()?.parse().ok()?,
            position: Position::parse(words.next()?)?,
        }))
    }
}

/// The message of a heartbeat of `node`.
pub(super) fn heartbeat(node: &str, lease: Duration) -> String {
    format!("here {node} {}", lease.as_millis())
}

/// A message that asks every node to acknowledge a number once it has applied a bucket's events up to a position.
pub(super) fn confirm(ConfirmRequest { origin, number, bucket, position }: &ConfirmRequest) -> String {
    format!("confirm {origin} {number} {bucket} {position}")
}

/// The channel of one node.
pub(super) fn own_channel(channel: &str, node: &str) -> String {
    format!("{channel}:{node}")
}

/// A message on a node's own channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Direct {
    /// `node` has applied the revocations, or the events that a `confirm` names, with these numbers.
    Acks { node: NodeName, numbers: Vec<u64> },
    /// The time from the start of this node until it sent the ping.
    Ping(Duration),
}

impl Direct {
    /// Parses a message. Returns `None` for any other message.
    pub(super) fn parse(message: &str) -> Option<Self> {
        let (first, rest) = message.split_once(' ')?;
        if first == "ping" {
            return Some(Self::Ping(Duration::from_micros(rest.parse().ok()?)));
        }
        let numbers = rest.split(' ').filter_map(|number| number.parse().ok()).collect();
        Some(Self::Acks { node: first.into(), numbers })
    }
}

/// The message of a ping, sent this long after the start of the node.
pub(super) fn ping(after_start: Duration) -> String {
    format!("ping {}", after_start.as_micros())
}

/// Parses the origin field of a revocation: the node that waits for acknowledgements, and that node's number of the revocation.
/// `None` if no node waits.
pub(super) fn parse_origin(field: &str) -> Option<(&str, u64)> {
    let (origin, number) = field.split_once(' ')?;
    Some((origin, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_messages_are_parsed_unchanged() {
        let lease = Duration::from_millis(1500);
        let written = heartbeat("one", lease);
        assert_eq!(written, "here one 1500");
        assert_eq!(Broadcast::parse(&written), Some(Broadcast::Heartbeat { node: "one".into(), lease }));
        let position = Position { millis: 7, number: 2 };
        let request = ConfirmRequest { origin: "one".into(), number: 5, bucket: 255, position };
        let written = confirm(&request);
        assert_eq!(written, "confirm one 5 255 7-2");
        assert_eq!(Broadcast::parse(&written), Some(Broadcast::Confirm(request)));
        let after_start = Duration::from_micros(77);
        assert_eq!(Direct::parse(&ping(after_start)), Some(Direct::Ping(after_start)));
        let acks = Direct::Acks { node: "two".into(), numbers: vec![1, 9] };
        assert_eq!(Direct::parse("two 1 9"), Some(acks));
        assert_eq!(parse_origin("one 5"), Some(("one", 5)));
    }

    #[test]
    fn malformed_messages_are_refused() {
        // the last message is a revocation
        for message in ["", "here", "here one", "here one x", "confirm one 5 255", "confirm one 5 255 x", "7-1\n\nx"] {
            assert_eq!(Broadcast::parse(message), None, "{message}");
        }
        for message in ["", "two", "ping x"] {
            assert_eq!(Direct::parse(message), None, "{message}");
        }
        for sender in ["", "one", "one x"] {
            assert_eq!(parse_origin(sender), None, "{sender}");
        }
        let granted = Broadcast::Heartbeat { node: "one".into(), lease: MAX_LEASE };
        assert_eq!(Broadcast::parse("here one 999999999"), Some(granted));
    }
}
