//! Metrics of the header in which proxies report their clients.

use prometheus::{IntCounter, IntCounterVec};

/// `latchkey_forwarded_requests_total` of a request from a trusted proxy with the configured header.
pub const READ: &str = "read";
/// `latchkey_forwarded_requests_total` of a request from a local address that is not a trusted proxy's, with a proxy's header.
pub const UNTRUSTED_PEER: &str = "untrusted_peer";
/// `latchkey_forwarded_requests_total` of a request from a trusted proxy with the other header.
pub const OTHER_HEADER: &str = "other_header";
/// `latchkey_forwarded_requests_total` of a request from a trusted proxy without either header.
pub const ABSENT: &str = "absent";

/// The name of the metric, which `latchkey doctor` reads.
pub const FORWARDED_REQUESTS: &str = "latchkey_forwarded_requests_total";

/// How requests through proxies named their clients.
pub struct ForwardedMetrics {
    /// Counts [`READ`].
    pub read: IntCounter,
    /// Counts [`UNTRUSTED_PEER`].
    pub untrusted_peer: IntCounter,
    /// Counts [`OTHER_HEADER`].
    pub other_header: IntCounter,
    /// Counts [`ABSENT`].
    pub absent: IntCounter,
}

impl ForwardedMetrics {
    pub(super) fn new() -> (Self, IntCounterVec) {
        let help =
            "Requests from trusted proxies, and requests with a proxy's header from other local addresses, by result.";
        let all = super::counters(FORWARDED_REQUESTS, help, &["result"]);
        let [read, untrusted_peer, other_header, absent] =
            [READ, UNTRUSTED_PEER, OTHER_HEADER, ABSENT].map(|result| all.with_label_values(&[result]));
        (Self { read, untrusted_peer, other_header, absent }, all)
    }
}
