//! Metrics of the header in which proxies report their clients' addresses.

use prometheus::{IntCounter, IntCounterVec};

/// Result of a request from a trusted proxy that sent the header of `http.forwarded_header`.
pub const READ: &str = "read";
/// Result of a request that has a proxy's header, but comes from a loopback, private or link-local address outside
/// `http.trusted_proxies`.
pub const UNTRUSTED_PEER: &str = "untrusted_peer";
/// Result of a request from a trusted proxy that sent only the other of `Forwarded` and `X-Forwarded-For`.
pub const OTHER_HEADER: &str = "other_header";
/// Result of a request from a trusted proxy that sent neither header.
pub const ABSENT: &str = "absent";

/// The name of the metric, which `latchkey doctor` reads.
pub const FORWARDED_REQUESTS: &str = "latchkey_forwarded_requests_total";

/// Counts requests through proxies by result: whether and how the proxy reported its client's address.
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
    /// Creates the counters. Also returns the collector to register.
    pub(super) fn new() -> (Self, IntCounterVec) {
        let help = "Requests from trusted proxies, and requests with a proxy's header from other loopback, private and link-local \
                    addresses, by result.";
        let by_result = super::counters(FORWARDED_REQUESTS, help, &["result"]);
        let [read, untrusted_peer, other_header, absent] =
            [READ, UNTRUSTED_PEER, OTHER_HEADER, ABSENT].map(|result| by_result.with_label_values(&[result]));
        (Self { read, untrusted_peer, other_header, absent }, by_result)
    }
}
