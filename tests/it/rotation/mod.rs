//! The rotation rule (I2): tests of its decisions and goals, and a search for the thief that evades detection longest.
//!
//! `make bench-rotation` runs the simulation more often and prints its results. `store::rotation_rule` compares `rotate.lua` with the rule.

pub(crate) mod simulation;

use simulation::{
    Detection,
    honest::Honest,
    policies::Policy,
    rule::{
        DEFAULTS,
        Decision::{self, Reused, Rotated, SecondHolder},
        Session, Settings,
    },
    thief::{Owner, Thief},
};

/// The seed of the simulations.
const SEED: u64 = 1;
/// Times are in milliseconds.
const SECOND: u64 = 1000;
const HOUR: u64 = 3_600_000;
/// A repeat is counted if its tag differs from that of the last rotation.
const UNCOUNTED: Decision = Decision::Repeated { counted: false };
const COUNTED: Decision = Decision::Repeated { counted: true };
/// Tags, which stand for a network with a user agent: the owner at home, the owner in another network, and a thief.
const HOME: u64 = 1;
const OTHER_NETWORK: u64 = 2;
const THIEF: u64 = 3;

/// The policy with this name in [`Policy::ALL`].
fn policy(name: &str) -> Policy {
    let (_, policy) = Policy::ALL.into_iter().find(|(known, _)| *known == name).unwrap();
    policy
}

/// Presents tokens to a new session, and returns the decisions. Each presentation is a generation, a tag and a time.
fn decisions(settings: &Settings, presentations: &[(u32, u64, u64)]) -> Vec<Decision> {
    let (generation, now) = (0, 0);
    let mut session = Session::begin(generation, HOME, now);
    presentations.iter().map(|(generation, tag, at)| session.present(*generation, *tag, *at, settings)).collect()
}

#[test]
fn repeats_from_the_same_network_are_never_counted() {
    // each of twenty tokens is presented twice, an hour apart
    let presentations: Vec<_> = (0..40).map(|i| (i / 2, HOME, u64::from(i) * HOUR)).collect();
    let expected: Vec<_> = (0..40).map(|i| if i % 2 == 0 { Rotated } else { UNCOUNTED }).collect();
    assert_eq!(decisions(&DEFAULTS, &presentations), expected);
}

#[test]
fn repeat_of_the_predecessor_is_allowed_within_the_retry_window_only() {
    let window = DEFAULTS.retry_window;
    assert_eq!(decisions(&DEFAULTS, &[(0, HOME, 0), (0, OTHER_NETWORK, window)]), [Rotated, COUNTED]);
    assert_eq!(decisions(&DEFAULTS, &[(0, HOME, 0), (0, HOME, window + 1)]), [Rotated, Reused]);
    // After a use of token 1, token 0 is no longer the predecessor.
    let used = [(0, HOME, 0), (1, HOME, HOUR), (0, HOME, HOUR + 1)];
    assert_eq!(decisions(&DEFAULTS, &used), [Rotated, Rotated, Reused]);
}

#[test]
fn repeat_of_a_token_of_the_last_burst_is_allowed_within_the_retry_window() {
    let burst = [(0, HOME, 0), (1, HOME, SECOND), (2, HOME, 2 * SECOND), (3, HOME, 11 * SECOND)];
    let repeat_later =
        |generation| decisions(&DEFAULTS, &[&burst[..], &[(generation, HOME, HOUR)]].concat())[burst.len()];
    // At the last rotation, the grace window (10 s) of generation 1 had just ended, and that of generation 2 was still open.
    assert_eq!(
        [repeat_later(0), repeat_later(1), repeat_later(2), repeat_later(3)],
        [Reused, Reused, UNCOUNTED, UNCOUNTED]
    );
}

#[test]
fn four_consecutive_generations_with_a_counted_repeat_show_a_second_holder() {
    let rounds = |count: u32| -> Vec<_> {
        let round = |i: u32| [(i, HOME, u64::from(i) * HOUR), (i, THIEF, u64::from(i) * HOUR + 1)];
        (0..count).flat_map(round).collect()
    };
    let counted = [Rotated, COUNTED, Rotated, COUNTED, Rotated, COUNTED];
    assert_eq!(decisions(&DEFAULTS, &rounds(4)), [&counted[..], &[Rotated, SecondHolder]].concat());
    // A generation without a counted repeat restarts the count.
    let interrupted =
        [&rounds(3)[..], &[(3, HOME, 3 * HOUR), (4, HOME, 4 * HOUR), (4, OTHER_NETWORK, 5 * HOUR)]].concat();
    assert_eq!(decisions(&DEFAULTS, &interrupted), [&counted[..], &[Rotated, Rotated, COUNTED]].concat());
}

#[test]
fn counted_repeat_counts_every_generation_that_its_holder_lacked() {
    // The owner's two tabs rotate twice within the grace window, so the thief is two generations behind each time.
    let round = |i: u32| {
        let at = u64::from(i) * HOUR;
        [(2 * i, HOME, at), (2 * i + 1, HOME, at + SECOND), (2 * i, THIEF, at + 2 * SECOND)]
    };
    let presentations: Vec<_> = (0..2).flat_map(round).collect();
    assert_eq!(decisions(&DEFAULTS, &presentations), [Rotated, Rotated, COUNTED, Rotated, Rotated, SecondHolder]);
}

/// The decision about a counted repeat of generation 0, the only repeat of a session, after `behind` rotations. All rotations are within the
/// grace window, so generation 0 can be repeated.
fn single_counted_repeat(behind: u32) -> Decision {
    let burst = (0..behind).map(|generation| (generation, HOME, u64::from(generation)));
    let presentations: Vec<_> = burst.chain([(0, OTHER_NETWORK, 5 * SECOND)]).collect();
    decisions(&DEFAULTS, &presentations)[presentations.len() - 1]
}

#[test]
fn single_counted_repeat_up_to_seven_generations_behind_does_not_end_the_session() {
    for behind in 1..=7 {
        assert_eq!(single_counted_repeat(behind), COUNTED, "{behind} generations behind");
    }
}

/// A session has no mark for the generation of such a token.
#[test]
fn single_counted_repeat_eight_or_more_generations_behind_ends_the_session() {
    for behind in [8, 9, 100] {
        assert_eq!(single_counted_repeat(behind), SecondHolder, "{behind} generations behind");
    }
}

#[test]
fn second_use_without_grace_and_retry_window_is_reuse() {
    let strict = Settings { grace: 0, retry_window: 0, ..DEFAULTS };
    assert_eq!(decisions(&strict, &[(0, HOME, 0), (0, HOME, 0)]), [Rotated, Reused]);
}

#[test]
fn honest_holders_are_not_signed_out() {
    let latchkey = policy("Latchkey");
    let holders_with_a_goal = ["phone, 1 % lost", "phone, 5 % lost", "1 tab", "2 tabs", "script, three retries"];
    for (name, holder) in Honest::ALL.into_iter().filter(|(name, _)| holders_with_a_goal.contains(name)) {
        assert_eq!(holder.false_sign_outs(latchkey, 100_000, SEED), 0, "{name}");
        // Strict rotation signs the holder out after a lost response, so the simulation does lose responses.
        assert!(holder.false_sign_outs(policy("strict"), 10_000, SEED) > 50, "{name}");
    }
}

#[test]
fn thieves_that_strict_rotation_detects_are_detected_within_four_refreshes_of_the_owner() {
    for (name, thief) in Thief::DETECTABLE {
        for owner in [Owner::Desk, Owner::Moving, Owner::Tabs] {
            let thefts = 200;
            let detection = |policy| Detection::of(thief, owner, policy, thefts, SEED);
            assert!(detection(policy("strict")).percentile_99_9.is_some_and(|refreshes| refreshes <= 2), "{name}");
            let latchkey = detection(policy("Latchkey"));
            assert!(
                latchkey.percentile_99_9.is_some_and(|refreshes| refreshes <= 4),
                "{name}, {owner:?}: {latchkey:?}"
            );
        }
    }
    for (name, thief) in Thief::UNDETECTABLE {
        let thefts = 50;
        let detection = Detection::of(thief, Owner::Desk, policy("Latchkey"), thefts, SEED);
        assert_eq!(detection.never, thefts, "{name}");
    }
}

/// A session that its owner shares with a thief, for [`longest_theft`].
#[derive(Clone)]
struct SharedSession {
    session: Session,
    /// The generation of the owner's newest token.
    owner_generation: u32,
    /// The generation of the thief's newest token.
    thief_generation: u32,
    now: u64,
}

impl SharedSession {
    /// The owner presents its newest token. Returns whether the session is still live.
    fn owner_presents(&mut self) -> bool {
        let decision = self.session.present(self.owner_generation, HOME, self.now, &DEFAULTS);
        self.owner_generation = self.session.generation;
        !matches!(decision, Reused | SecondHolder)
    }

    /// The thief presents its newest token `times` times. Returns whether the session is still live.
    fn thief_presents(&mut self, times: u32) -> bool {
        (0..times).all(|_| {
            let decision = self.session.present(self.thief_generation, THIEF, self.now, &DEFAULTS);
            self.thief_generation = self.session.generation;
            !matches!(decision, Reused | SecondHolder)
        })
    }
}

/// Searches for the thief that keeps access longest. Returns the number of the owner's refreshes between the first and the last answer to
/// that thief. Before and after each refresh, a thief presents its newest token zero to three times. At each refresh, the owner rotates
/// `owner_rotates` times within the grace window. `refreshes` counts the owner's refreshes so far, and the search ends after
/// `max_refreshes`. `first_answer` is the value of `refreshes` at the first answer to the thief, if it has had one.
fn longest_theft(
    shared: &SharedSession,
    owner_rotates: u32,
    first_answer: Option<u32>,
    refreshes: u32,
    max_refreshes: u32,
) -> u32 {
    let mut longest = 0;
    for (before, after) in (0..4).flat_map(|before| (0..4).map(move |after| (before, after))) {
        let mut next = shared.clone();
        let mut first_answer = first_answer;
        // a typical time between two refreshes, longer than the grace window
        next.now += 5 * 60 * SECOND;
        if !next.thief_presents(before) {
            continue;
        }
        if before > 0 {
            longest = longest.max(refreshes - *first_answer.get_or_insert(refreshes));
        }
        next.now += SECOND;
        let owner_continues = (0..owner_rotates).all(|_| {
            next.now += SECOND;
            next.owner_presents()
        });
        next.now += SECOND;
        if !owner_continues || !next.thief_presents(after) {
            continue;
        }
        let refreshes = refreshes + 1;
        if after > 0 {
            longest = longest.max(refreshes - *first_answer.get_or_insert(refreshes));
        }
        if refreshes <= max_refreshes {
            longest = longest.max(longest_theft(&next, owner_rotates, first_answer, refreshes, max_refreshes));
        }
    }
    longest
}

#[test]
fn every_thief_in_another_network_loses_access_before_the_fourth_refresh_of_the_owner() {
    for owner_rotates in 1..=3 {
        let session = Session::begin(0, HOME, 0);
        let shared = SharedSession { session, owner_generation: 0, thief_generation: 0, now: 0 };
        let (first_answer, refreshes, max_refreshes) = (None, 0, 6);
        let longest = longest_theft(&shared, owner_rotates, first_answer, refreshes, max_refreshes);
        // At least 1: the search does find thieves that keep access for a while.
        assert!((1..4).contains(&longest), "{longest} refreshes, {owner_rotates} rotations each");
    }
}
