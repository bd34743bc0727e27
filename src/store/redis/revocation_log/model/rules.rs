//! The rules of the protocol by which nodes propagate revocations. Each rule is necessary for I3 (revoked stays revoked): without
//! the rule, the model finds a violation.

/// A rule that the model can switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The node that ends a session waits until its peers have acknowledged the event.
    NodesWaitForPeers,
    /// The node that ends a session waits for a silent peer until the peer's lease on its cache has lapsed.
    NodesWaitOutLeases,
    /// A request that finds the session already ended also waits for the peers.
    RepeatsAreConfirmed,
    /// A peer acknowledges a `confirm` only once it has applied the bucket's events up to the position that the message names.
    ConfirmationsWaitForThePosition,
    /// A peer applies an event before acknowledging the event.
    EventsAreAppliedBeforeTheyAreAcknowledged,
    /// An event whose predecessor the node has not received does not advance the node's position in the bucket.
    GapsKeepThePosition,
    /// A synchronization applies the events that the node has missed before it extends the validity of the cache.
    MissingEntriesAreApplied,
    /// A session that was read from Redis before its end is not cached after it.
    LookupsOlderThanAnEndAreNotCached,
    /// The validity of a cache counts from the beginning of the synchronization, not from its end.
    LeasesCountFromTheBeginning,
    /// A node uses its cache for a tenth less time than its announced lease.
    LeasesHaveAMargin,
    /// A node stops using its cache before it announces a zero lease.
    CacheIsInvalidBeforeTheNodeLeaves,
    /// A heartbeat that Redis didn't publish doesn't extend the lease of its node.
    OnlyPublishedHeartbeatsExtend,
    /// A node sends heartbeats for a while, its probation, before it uses its cache.
    CacheWaitsForTheProbation,
    /// A long pause between heartbeats restarts the probation.
    PausesRestartTheProbation,
    /// A ping shows how the channel was when it was sent, not when it returned.
    PingsCountFromSending,
    /// A node whose channel broke doesn't trust its list of peers.
    NodesNoticeLostChannels,
}

impl Rule {
    /// All rules, in the order of the variants.
    pub(super) const ALL: [Self; 16] = [
        Self::NodesWaitForPeers,
        Self::NodesWaitOutLeases,
        Self::RepeatsAreConfirmed,
        Self::ConfirmationsWaitForThePosition,
        Self::EventsAreAppliedBeforeTheyAreAcknowledged,
        Self::GapsKeepThePosition,
        Self::MissingEntriesAreApplied,
        Self::LookupsOlderThanAnEndAreNotCached,
        Self::LeasesCountFromTheBeginning,
        Self::LeasesHaveAMargin,
        Self::CacheIsInvalidBeforeTheNodeLeaves,
        Self::OnlyPublishedHeartbeatsExtend,
        Self::CacheWaitsForTheProbation,
        Self::PausesRestartTheProbation,
        Self::PingsCountFromSending,
        Self::NodesNoticeLostChannels,
    ];
}
