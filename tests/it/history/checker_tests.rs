//! Tests of the checker with handwritten histories: it accepts valid ones and finds every kind of violation.

use std::time::Duration;

use super::{
    check::violation,
    model::{Answer, Call, Interval, Op, Rules},
};
use Answer::{Done, Gone, Live, Reused, Unknown};
use Call::{Check, End, Login, Refresh};

/// Rules with the default grace window of ten seconds, no retry window, an idle timeout of one hour and a lifetime of two hours.
fn rules() -> Rules {
    Rules::new(Duration::from_secs(10), Duration::ZERO, Duration::from_hours(1), Duration::from_hours(2))
}

/// The one token of a generation.
fn token(generation: u32) -> Answer {
    Answer::Token(generation, u64::from(generation))
}

/// A call with the milliseconds of its request and its answer. `Refresh(n)` presents the token of generation n.
fn op(from: u64, to: u64, call: Call, answer: Answer) -> Op {
    Op { call, answer, network: 0, span: Interval { earliest: from * 1000, latest: to * 1000 } }
}

/// The call, from another network than all other calls.
fn from_other_network(op: Op) -> Op {
    Op { network: 1, ..op }
}

#[track_caller]
fn assert_accepted(ops: &[Op]) {
    if let Some(violation) = violation(ops, &rules()) {
        panic!("{violation}");
    }
}

#[track_caller]
fn violation_in(ops: &[Op]) -> String {
    violation(ops, &rules()).expect("the history is impossible")
}

const LOGIN: fn() -> Op = || op(0, 1, Login, token(0));

#[test]
fn checker_accepts_a_whole_session() {
    assert_accepted(&[
        LOGIN(),
        op(2, 3, Refresh(0), token(1)),
        op(4, 5, Refresh(0), token(1)),
        op(6, 7, Check, Live),
        op(8, 9, Refresh(1), token(2)),
        op(10, 11, End, Done),
        op(12, 13, End, Done),
        op(14, 15, Refresh(2), Gone),
        op(16, 17, Check, Gone),
    ]);
}

#[test]
fn checker_accepts_concurrent_calls_in_any_order() {
    let racers = [op(2, 9, Refresh(0), token(2)), op(2, 8, Refresh(0), token(1)), op(3, 7, Refresh(1), token(2))];
    assert_accepted(&[&[LOGIN()][..], &racers].concat());
    // the second successor was returned before it had been requested
    violation_in(&[
        LOGIN(),
        op(2, 4, Refresh(0), token(2)),
        op(2, 8, Refresh(0), token(1)),
        op(5, 7, Refresh(1), token(2)),
    ]);
    // a refresh may take effect before an end that was requested earlier
    assert_accepted(&[LOGIN(), op(2, 9, End, Done), op(3, 5, Refresh(0), token(1)), op(10, 11, Refresh(1), Gone)]);
}

#[test]
fn checker_finds_a_second_successor() {
    let violation =
        violation_in(&[LOGIN(), op(2, 3, Refresh(0), token(1)), op(4, 5, Refresh(0), Answer::Token(1, 77))]);
    assert!(violation.contains("second successor"), "{violation}");
    // one token rotated the session twice
    violation_in(&[LOGIN(), op(2, 3, Refresh(0), token(1)), op(4, 5, Refresh(0), token(2))]);
    violation_in(&[LOGIN(), op(2, 3, Refresh(0), token(2))]);
}

#[test]
fn checker_enforces_the_grace_window_from_both_sides() {
    let rotated = [LOGIN(), op(2, 3, Refresh(0), token(1))];
    assert_accepted(&[&rotated[..], &[op(9_000, 9_001, Refresh(0), token(1))]].concat());
    // a retry within grace must not end the session
    violation_in(&[&rotated[..], &[op(9_000, 9_001, Refresh(0), Reused)]].concat());
    // a stolen token must not be accepted after its grace window
    violation_in(&[&rotated[..], &[op(12_000, 12_001, Refresh(0), token(1))]].concat());
    let reused = [&rotated[..], &[op(12_000, 12_001, Refresh(0), Reused)]].concat();
    assert_accepted(&reused);
    assert_accepted(&[&reused[..], &[op(12_002, 12_003, Refresh(1), Gone)]].concat());
    // reuse must end the session
    violation_in(&[&reused[..], &[op(12_002, 12_003, Refresh(1), token(2))]].concat());
    // the current token is no reuse
    violation_in(&[&rotated[..], &[op(12_000, 12_001, Refresh(1), Reused)]].concat());
}

#[test]
fn checker_enforces_the_retry_window_from_both_sides() {
    // a minute in microseconds
    let rules = Rules { retry: 60_000_000, ..rules() };
    let found = |ops: &[Op]| violation(ops, &rules).is_some();
    let then = |from, call, answer| vec![op(from, from + 1, call, answer)];
    let rotated = [LOGIN(), op(2, 3, Refresh(0), token(1))];
    // the predecessor of the current token
    assert!(!found(&[&rotated[..], &then(55_000, Refresh(0), token(1))].concat()));
    assert!(found(&[&rotated[..], &then(55_000, Refresh(0), Reused)].concat()));
    assert!(found(&[&rotated[..], &then(65_000, Refresh(0), token(1))].concat()));
    assert!(!found(&[&rotated[..], &then(65_000, Refresh(0), Reused)].concat()));
    // An older token may be repeated only if it was within its grace window when the current token was issued.
    for (current_issued_at, may_repeat) in [(5_000, true), (15_000, false)] {
        let rotated = [&rotated[..], &then(current_issued_at, Refresh(1), token(2))].concat();
        let found_at_30_s = |answer| found(&[&rotated[..], &then(30_000, Refresh(0), answer)].concat());
        assert_eq!(found_at_30_s(token(2)), !may_repeat, "{current_issued_at}");
        assert_eq!(found_at_30_s(Reused), may_repeat, "{current_issued_at}");
    }
}

/// Rounds in which the owner refreshes and a thief in another network presents the same token after the owner.
fn shadowed(rounds: u64) -> Vec<Op> {
    let round = |i: u64| {
        let (at, generation) = (10 * i, u32::try_from(i).unwrap());
        let answer = token(generation + 1);
        let refresh = |at| op(at, at + 1, Refresh(generation), answer);
        [refresh(at + 2), from_other_network(refresh(at + 4))]
    };
    [LOGIN()].into_iter().chain((0..rounds).flat_map(round)).collect()
}

#[test]
fn checker_expects_a_session_with_two_holders_to_end_at_the_fourth_counted_repeat() {
    let with_last = |rounds, answer| {
        let mut ops = shadowed(rounds);
        ops.last_mut().unwrap().answer = answer;
        ops
    };
    assert_accepted(&shadowed(3));
    assert_accepted(&with_last(4, Reused));
    // the fourth counted repeat must not be answered
    violation_in(&shadowed(4));
    // the third counted repeat must not end the session
    violation_in(&with_last(3, Reused));
    // repeats from the same network are not counted
    let same_network: Vec<Op> = shadowed(8).into_iter().map(|op| Op { network: 0, ..op }).collect();
    assert_accepted(&same_network);
    // a generation without a counted repeat interrupts the sequence
    let mut interrupted = shadowed(3);
    interrupted.push(op(32, 33, Refresh(3), token(4)));
    interrupted.push(op(34, 35, Refresh(4), token(5)));
    interrupted.push(from_other_network(op(36, 37, Refresh(4), token(5))));
    assert_accepted(&interrupted);
}

#[test]
fn checker_accepts_both_outcomes_of_an_unanswered_counted_repeat() {
    let mut ops = shadowed(4);
    // The history is the login, and then two calls in each round: call 6 is the repeat of the third round, call 8 that of the fourth.
    // The third repeat may have been counted, or not.
    ops[6].answer = Unknown;
    assert_accepted(&ops);
    ops[8].answer = Reused;
    assert_accepted(&ops);
}

#[test]
fn checker_finds_a_session_alive_after_its_end() {
    for ended in [op(2, 3, End, Done), op(2, 3, Check, Gone), op(2, 3, Refresh(0), Gone)] {
        violation_in(&[LOGIN(), ended.clone(), op(4, 5, Check, Live)]);
        violation_in(&[LOGIN(), ended, op(4, 5, Refresh(0), token(1))]);
    }
}

#[test]
fn checker_finds_a_lost_acknowledged_call() {
    violation_in(&[LOGIN(), op(2, 3, Check, Gone)]);
    violation_in(&[LOGIN(), op(2, 3, Refresh(0), Gone)]);
    // Redis lost the second rotation: its token is rotated again, or refused
    let rotated = [LOGIN(), op(2, 3, Refresh(0), token(1)), op(4, 5, Refresh(1), token(2))];
    violation_in(&[&rotated[..], &[op(6, 7, Refresh(0), token(1))]].concat());
    violation_in(&[&rotated[..], &[op(6, 7, Refresh(2), Gone)]].concat());
}

#[test]
fn checker_accepts_both_outcomes_of_an_unanswered_call() {
    let unanswered = [LOGIN(), op(2, 3, Refresh(0), Unknown)];
    assert_accepted(&[&unanswered[..], &[op(4, 5, Refresh(0), token(1))]].concat());
    assert_accepted(&[&unanswered[..], &[op(4, 5, Check, Live), op(6, 7, Refresh(0), token(1))]].concat());
    // the call was executed, perhaps late
    assert_accepted(&[&unanswered[..], &[op(12_000, 12_001, Refresh(0), Reused)]].concat());
    assert_accepted(&[&unanswered[..], &[op(12_000, 12_001, Refresh(0), token(1))]].concat());
    // A second execution is a violation.
    violation_in(&[&unanswered[..], &[op(4, 5, Refresh(0), token(2))]].concat());

    let ending = [LOGIN(), op(2, 3, End, Unknown)];
    assert_accepted(&[&ending[..], &[op(4, 5, Check, Gone)]].concat());
    assert_accepted(&[&ending[..], &[op(4, 5, Check, Live), op(6, 7, Check, Live)]].concat());
    assert_accepted(&[&ending[..], &[op(4, 5, Check, Live), op(6, 7, Check, Gone)]].concat());
    violation_in(&[&ending[..], &[op(4, 5, Check, Gone), op(6, 7, Check, Live)]].concat());
}

#[test]
fn checker_accepts_either_order_of_login_and_end_of_all() {
    assert_accepted(&[op(0, 5, Login, token(0)), op(1, 4, End, Done), op(6, 7, Check, Live)]);
    assert_accepted(&[op(0, 5, Login, token(0)), op(1, 4, End, Done), op(6, 7, Check, Gone)]);
    violation_in(&[op(0, 5, Login, token(0)), op(6, 7, End, Done), op(8, 9, Check, Live)]);
}

#[test]
fn checker_enforces_idle_and_absolute_timeouts() {
    let hour = 3_600_000; // milliseconds
    let used = [LOGIN(), op(hour - 5000, hour - 4999, Refresh(0), token(1))];
    assert_accepted(&[&used[..], &[op(hour + 5000, hour + 5001, Refresh(1), token(2))]].concat());
    assert_accepted(&[LOGIN(), op(hour + 5000, hour + 5001, Refresh(0), Gone)]);
    violation_in(&[LOGIN(), op(hour + 5000, hour + 5001, Refresh(0), token(1))]);
    violation_in(&[LOGIN(), op(hour + 5000, hour + 5001, Check, Live)]);
    violation_in(&[&used[..], &[op(hour + 5000, hour + 5001, Refresh(1), Gone)]].concat());
    // A refresh each half hour prevents the idle timeout. It does not extend the lifetime.
    let refreshes = (1..4).map(|i| op(i * hour / 2, i * hour / 2 + 1, Refresh(i as u32 - 1), token(i as u32)));
    let mut long: Vec<Op> = [LOGIN()].into_iter().chain(refreshes).collect();
    long.push(op(2 * hour + 5000, 2 * hour + 5001, Refresh(3), token(4)));
    violation_in(&long);
}

/// The search stays fast with many unanswered calls and an answer that no order explains.
#[test]
fn checker_is_fast_with_many_unanswered_calls() {
    let mut ops = vec![LOGIN()];
    for i in 0..200 {
        let at = 10 * u64::from(i);
        ops.push(op(at + 2, at + 9, Refresh(i), token(i + 1)));
        ops.push(op(at + 2, at + 9, Refresh(i), if i % 3 == 0 { Unknown } else { token(i + 1) }));
    }
    assert_accepted(&ops);
    // Nothing has ended the session.
    ops.push(op(3000, 3001, Refresh(200), Gone));
    violation_in(&ops);
}
