//! Model of the acknowledgement protocol, checked for I3: once a request that ends a session has been answered, no node
//! calls the session active.

mod checker;
mod rules;
mod scenario;
mod system;
mod transitions;

use self::{
    checker::{Model, Report, search, walk},
    rules::Rule,
    scenario::{
        Allow, Request, Scenario,
        Start::{self, Caching, Cold, ColdOrigin, Warm, WarmOrigin},
    },
    system::Action,
};

/// A sign-out on node 0. Its event requests acknowledgements.
const LOGOUT: Request = Request { node: 0, asks_in_event: true };
/// A refresh on node 0 with a superseded token, which ends the session. The node requests acknowledgements by `confirm` afterwards.
const REUSE: Request = Request { node: 0, asks_in_event: false };

/// None of the further events that [`Allow`] names.
const NOTHING: Allow =
    Allow { interleaved_sync: false, lookups: false, skew: false, other_event: false, reordering: false };
const SYNC: Allow = Allow { interleaved_sync: true, ..NOTHING };
const SKEW: Allow = Allow { skew: true, ..NOTHING };
const LOOKUPS: Allow = Allow { lookups: true, ..NOTHING };
const GAPS: Allow = Allow { other_event: true, reordering: true, ..NOTHING };
const EVERYTHING: Allow =
    Allow { interleaved_sync: true, lookups: true, skew: true, other_event: true, reordering: true };

/// A node that ends the session and uses no cache, and a node that caches the session.
const TWO_NODES: [Start; 2] = [WarmOrigin, Caching];

/// The maximum number of ticks, each a fifth of `cache.max_staleness` (S).
#[derive(Clone, Copy)]
struct Ticks(u8);

/// The maximum number of faults, such as a lost message.
#[derive(Clone, Copy)]
struct Faults(u8);

/// A scenario with all rules of the protocol.
fn scenario(nodes: &[Start], requests: &[Request], ticks: Ticks, faults: Faults, allow: Allow) -> Scenario {
    let (nodes, requests) = (nodes.to_vec(), requests.to_vec());
    Scenario { nodes, requests, ticks: ticks.0, faults: faults.0, allow, switched_off: None }
}

fn assert_no_violation(report: &Report<Action>, scenario: &Scenario) {
    assert!(report.violation.is_none(), "{:?} violates I3: {scenario:?}", report.violation);
}

#[test]
fn i3_holds_in_every_state_of_two_nodes() {
    for scenario in [
        scenario(&TWO_NODES, &[LOGOUT, LOGOUT], Ticks(1), Faults(0), NOTHING),
        scenario(&TWO_NODES, &[LOGOUT], Ticks(1), Faults(1), NOTHING),
        scenario(&TWO_NODES, &[REUSE], Ticks(0), Faults(1), GAPS),
        scenario(&[WarmOrigin, Warm], &[LOGOUT], Ticks(1), Faults(0), LOOKUPS),
        scenario(&[WarmOrigin, Cold], &[LOGOUT], Ticks(2), Faults(0), NOTHING),
        scenario(&[ColdOrigin, Caching], &[LOGOUT], Ticks(1), Faults(0), SYNC),
    ] {
        let max_states = 100_000; // more than any of the scenarios has
        let report = search(&scenario, max_states);
        assert_no_violation(&report, &scenario);
        assert!(report.complete, "only {} states were visited: {scenario:?}", report.states);
    }
}

/// Too many states are reachable until leases lapse, so the search visits the nearest ones only.
#[test]
fn i3_holds_in_the_nearest_states_of_two_nodes() {
    for (scenario, max_states) in [
        (scenario(&TWO_NODES, &[LOGOUT], Ticks(6), Faults(0), SKEW), 20_000),
        (scenario(&[ColdOrigin, Caching], &[REUSE], Ticks(6), Faults(1), NOTHING), 20_000),
    ] {
        let report = search(&scenario, max_states);
        assert_no_violation(&report, &scenario);
    }
}

#[test]
fn i3_holds_on_random_walks_of_two_and_three_nodes() {
    let requests = [LOGOUT, Request { node: 1, asks_in_event: false }, Request { node: 2, asks_in_event: true }];
    for (scenario, walks) in [
        (scenario(&TWO_NODES, &[LOGOUT, REUSE], Ticks(10), Faults(2), EVERYTHING), 300),
        (scenario(&[WarmOrigin, Cold], &[LOGOUT], Ticks(10), Faults(1), EVERYTHING), 300),
        (scenario(&[ColdOrigin, Caching], &[LOGOUT], Ticks(10), Faults(1), EVERYTHING), 300),
        (scenario(&[Warm, Caching, Caching], &requests, Ticks(12), Faults(3), EVERYTHING), 600),
        (scenario(&[Cold, Caching, Cold], &requests, Ticks(12), Faults(2), EVERYTHING), 600),
    ] {
        let (seed, steps) = (1, 120);
        let report = walk(&scenario, seed, walks, steps);
        assert_no_violation(&report, &scenario);
    }
}

#[test]
fn violation_is_found_with_each_rule_switched_off() {
    let sync_skew = Allow { interleaved_sync: true, ..SKEW };
    let lookups_skew = Allow { lookups: true, ..SKEW };
    for rule in Rule::ALL {
        let scenario = match rule {
            Rule::NodesWaitForPeers | Rule::LeasesCountFromTheBeginning | Rule::CacheWaitsForTheProbation => {
                scenario(&TWO_NODES, &[LOGOUT], Ticks(9), Faults(0), sync_skew)
            }
            Rule::NodesWaitOutLeases | Rule::CacheIsInvalidBeforeTheNodeLeaves | Rule::PingsCountFromSending => {
                scenario(&TWO_NODES, &[LOGOUT], Ticks(6), Faults(0), SKEW)
            }
            Rule::RepeatsAreConfirmed => scenario(&TWO_NODES, &[LOGOUT, LOGOUT], Ticks(3), Faults(0), NOTHING),
            Rule::ConfirmationsWaitForThePosition | Rule::GapsKeepThePosition => {
                scenario(&TWO_NODES, &[REUSE], Ticks(2), Faults(0), GAPS)
            }
            Rule::EventsAreAppliedBeforeTheyAreAcknowledged => {
                scenario(&TWO_NODES, &[LOGOUT], Ticks(5), Faults(0), SYNC)
            }
            Rule::MissingEntriesAreApplied => scenario(&TWO_NODES, &[LOGOUT], Ticks(12), Faults(1), lookups_skew),
            Rule::LookupsOlderThanAnEndAreNotCached => {
                scenario(&[WarmOrigin, Warm], &[LOGOUT], Ticks(2), Faults(0), LOOKUPS)
            }
            Rule::PausesRestartTheProbation => scenario(&TWO_NODES, &[LOGOUT], Ticks(7), Faults(1), SYNC),
            Rule::NodesNoticeLostChannels => scenario(&TWO_NODES, &[LOGOUT], Ticks(6), Faults(1), NOTHING),
            // Violations are too rare on random walks: tests of their own follow.
            Rule::OnlyPublishedHeartbeatsExtend | Rule::LeasesHaveAMargin => continue,
        };
        let scenario = Scenario { switched_off: Some(rule), ..scenario };
        let (seed, walks, steps) = (1, 20_000, 60);
        assert!(walk(&scenario, seed, walks, steps).violation.is_some(), "no violation without {rule:?}");
    }
}

/// Carries out the actions that are possible, and skips the others. The last one must be possible. Returns whether I3 holds afterwards.
fn i3_holds_after(scenario: &Scenario, actions: &[Action]) -> bool {
    let mut state = scenario.initial();
    let mut is_possible = false;
    for action in actions {
        let mut possible = Vec::new();
        scenario.actions(&state, &mut possible);
        is_possible = possible.contains(action);
        if is_possible {
            scenario.step(&mut state, *action);
        }
    }
    assert!(is_possible, "the last action is not possible: {actions:?}");
    scenario.holds(&state)
}

#[test]
fn heartbeat_that_was_not_published_extends_no_cache() {
    use Action::{
        Deliver, RequestAnswer, RequestReceive, RequestRun, RequestSend, SyncApply, SyncAsk, SyncExtend,
        SyncPublishFails, Tick,
    };
    // The heartbeat of node 1 fails. Without the rule, node 1 extends its lease nevertheless.
    let failing = [Tick, Tick, SyncAsk(1), SyncApply(1), SyncPublishFails(1), SyncExtend(1)];
    let ending = [RequestSend(0), RequestRun(0), RequestReceive(0)];
    // The origin has received everything, and knows the lease of the heartbeat before the failed one.
    let answering = [Tick, SyncAsk(0), Deliver(0), Deliver(0), Tick, Tick, RequestAnswer(0)];
    let actions = [&failing[..], &ending, &answering].concat();
    let intact = scenario(&TWO_NODES, &[LOGOUT], Ticks(6), Faults(1), SYNC);
    assert!(i3_holds_after(&intact, &actions));
    let without_rule = Scenario { switched_off: Some(Rule::OnlyPublishedHeartbeatsExtend), ..intact };
    assert!(!i3_holds_after(&without_rule, &actions));
}

#[test]
fn lease_of_a_node_with_a_slow_clock_ends_in_time() {
    use Action::{RequestAnswer, RequestReceive, RequestRun, RequestSend, SlowTick, SyncAsk, Tick};
    // Node 1 begins a synchronization, and the session ends. The clock of node 1 falls behind. Node 0 answers after five ticks, which is S.
    let ending = [SyncAsk(1), RequestSend(0), RequestRun(0), RequestReceive(0)];
    let actions = [&ending[..], &[SlowTick(1), Tick, Tick, Tick, Tick, RequestAnswer(0)]].concat();
    let intact = scenario(&TWO_NODES, &[LOGOUT], Ticks(6), Faults(0), SKEW);
    assert!(i3_holds_after(&intact, &actions));
    let without_rule = Scenario { switched_off: Some(Rule::LeasesHaveAMargin), ..intact };
    assert!(!i3_holds_after(&without_rule, &actions));
}
