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

/// The token of a generation. The second number stands for the token's text: a second successor has another one.
fn token(generation: u32) -> Answer {
    Answer::Token(generation, u64::from(generation))
}

/// A call that was requested and answered at these milliseconds. `Refresh(n)` presents the token of generation n.
fn op(from_ms: u64, to_ms: u64, call: Call, answer: Answer) -> Op {
    let span = Interval { earliest: from_ms * 1000, latest: to_ms * 1000 }; // microseconds
    Op { call, answer, network: 0, span }
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
fn expect_violation(ops: &[Op]) -> String {
    violation(ops, &rules()).expect("the history is impossible")
}

/// The first call of most histories.
fn login() -> Op {
    op(0, 1, Login, token(0))
}

/// A history, continued with more calls.
fn continued(history: &[Op], more: &[Op]) -> Vec<Op> {
    [history, more].concat()
}

#[test]
fn checker_accepts_a_whole_session() {
    assert_accepted(&[
        login(),
        op(2, 3, Refresh(0), token(1)),
        op(4, 5, Refresh(0), token(1)),
        op(6, 7, Check, Live),
        op(8, 9, Refresh(1), token(2)),
        op(10, 11, End, Done),
        // a repeated end is answered like the first
        op(12, 13, End, Done),
        op(14, 15, Refresh(2), Gone),
        op(16, 17, Check, Gone),
    ]);
}

#[test]
fn checker_accepts_concurrent_calls_in_any_order() {
    let racers = [op(2, 9, Refresh(0), token(2)), op(2, 8, Refresh(0), token(1)), op(3, 7, Refresh(1), token(2))];
    assert_accepted(&continued(&[login()], &racers));
    // token 2 was returned before token 1, its predecessor, was presented
    expect_violation(&[
        login(),
        op(2, 4, Refresh(0), token(2)),
        op(2, 8, Refresh(0), token(1)),
        op(5, 7, Refresh(1), token(2)),
    ]);
    // a refresh may take effect before an end that was requested earlier
    assert_accepted(&[login(), op(2, 9, End, Done), op(3, 5, Refresh(0), token(1)), op(10, 11, Refresh(1), Gone)]);
}

#[test]
fn checker_finds_a_second_successor() {
    let violation =
        expect_violation(&[login(), op(2, 3, Refresh(0), token(1)), op(4, 5, Refresh(0), Answer::Token(1, 77))]);
    assert!(violation.contains("second successor"), "{violation}");
    // token 0 rotated the session twice, in two refreshes or in one
    expect_violation(&[login(), op(2, 3, Refresh(0), token(1)), op(4, 5, Refresh(0), token(2))]);
    expect_violation(&[login(), op(2, 3, Refresh(0), token(2))]);
}

#[test]
fn checker_enforces_the_grace_window_from_both_sides() {
    let rotated = [login(), op(2, 3, Refresh(0), token(1))];
    assert_accepted(&continued(&rotated, &[op(9_000, 9_001, Refresh(0), token(1))]));
    // a retry within grace must not end the session
    expect_violation(&continued(&rotated, &[op(9_000, 9_001, Refresh(0), Reused)]));
    // a stolen token must not be accepted after its grace window
    expect_violation(&continued(&rotated, &[op(12_000, 12_001, Refresh(0), token(1))]));
    let reused = continued(&rotated, &[op(12_000, 12_001, Refresh(0), Reused)]);
    assert_accepted(&reused);
    assert_accepted(&continued(&reused, &[op(12_002, 12_003, Refresh(1), Gone)]));
    // reuse must end the session
    expect_violation(&continued(&reused, &[op(12_002, 12_003, Refresh(1), token(2))]));
    // the current token, however old, is no reuse
    expect_violation(&continued(&rotated, &[op(12_000, 12_001, Refresh(1), Reused)]));
}

#[test]
fn checker_enforces_the_retry_window_from_both_sides() {
    // a minute in microseconds
    let rules = Rules { retry: 60_000_000, ..rules() };
    let is_violation = |ops: &[Op]| violation(ops, &rules).is_some();
    let at = |ms, call, answer| [op(ms, ms + 1, call, answer)];
    let rotated = [login(), op(2, 3, Refresh(0), token(1))];
    // token 1 was issued at 2 ms: the retry window of its predecessor, token 0, ends at 60 s
    assert!(!is_violation(&continued(&rotated, &at(55_000, Refresh(0), token(1)))));
    assert!(is_violation(&continued(&rotated, &at(55_000, Refresh(0), Reused))));
    assert!(is_violation(&continued(&rotated, &at(65_000, Refresh(0), token(1)))));
    assert!(!is_violation(&continued(&rotated, &at(65_000, Refresh(0), Reused))));
    // An older token may be repeated only if it was within its grace window when the current token was issued. The grace window of
    // token 0 ends at 10 s.
    for (current_issued_at, may_repeat) in [(5_000, true), (15_000, false)] {
        let rotated = continued(&rotated, &at(current_issued_at, Refresh(1), token(2)));
        let is_violation_at_30_s = |answer| is_violation(&continued(&rotated, &at(30_000, Refresh(0), answer)));
        assert_eq!(is_violation_at_30_s(token(2)), !may_repeat, "{current_issued_at}");
        assert_eq!(is_violation_at_30_s(Reused), may_repeat, "{current_issued_at}");
    }
}

/// A login, and rounds of 10 ms in which the owner refreshes and a thief in another network presents the same token after the owner.
fn shadowed(rounds: u64) -> Vec<Op> {
    let round = |i: u64| {
        let (start, generation) = (10 * i, u32::try_from(i).unwrap());
        let answer = token(generation + 1);
        let refresh = |at| op(at, at + 1, Refresh(generation), answer);
        [refresh(start + 2), from_other_network(refresh(start + 4))]
    };
    [login()].into_iter().chain((0..rounds).flat_map(round)).collect()
}

#[test]
fn checker_expects_a_session_with_two_holders_to_end_at_the_fourth_counted_repeat() {
    let shadowed_with_last = |rounds, last_answer| {
        let mut ops = shadowed(rounds);
        ops.last_mut().unwrap().answer = last_answer;
        ops
    };
    assert_accepted(&shadowed(3));
    assert_accepted(&shadowed_with_last(4, Reused));
    // the fourth counted repeat must not be answered
    expect_violation(&shadowed(4));
    // the third counted repeat must not end the session
    expect_violation(&shadowed_with_last(3, Reused));
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
    // The third repeat may not have been counted: the fourth is answered with a token. Or it was counted: the fourth is reuse.
    ops[6].answer = Unknown;
    assert_accepted(&ops);
    ops[8].answer = Reused;
    assert_accepted(&ops);
}

#[test]
fn checker_finds_a_session_alive_after_its_end() {
    for ended in [op(2, 3, End, Done), op(2, 3, Check, Gone), op(2, 3, Refresh(0), Gone)] {
        expect_violation(&[login(), ended.clone(), op(4, 5, Check, Live)]);
        expect_violation(&[login(), ended, op(4, 5, Refresh(0), token(1))]);
    }
}

#[test]
fn checker_finds_a_lost_acknowledged_call() {
    expect_violation(&[login(), op(2, 3, Check, Gone)]);
    expect_violation(&[login(), op(2, 3, Refresh(0), Gone)]);
    // Redis lost the second rotation: a repeat of token 0 is answered with token 1, or token 2 is refused
    let rotated = [login(), op(2, 3, Refresh(0), token(1)), op(4, 5, Refresh(1), token(2))];
    expect_violation(&continued(&rotated, &[op(6, 7, Refresh(0), token(1))]));
    expect_violation(&continued(&rotated, &[op(6, 7, Refresh(2), Gone)]));
}

#[test]
fn checker_accepts_both_outcomes_of_an_unanswered_call() {
    let unanswered = [login(), op(2, 3, Refresh(0), Unknown)];
    assert_accepted(&continued(&unanswered, &[op(4, 5, Refresh(0), token(1))]));
    assert_accepted(&continued(&unanswered, &[op(4, 5, Check, Live), op(6, 7, Refresh(0), token(1))]));
    // the grace window has ended only if the refresh was executed at once
    assert_accepted(&continued(&unanswered, &[op(12_000, 12_001, Refresh(0), Reused)]));
    assert_accepted(&continued(&unanswered, &[op(12_000, 12_001, Refresh(0), token(1))]));
    // A second execution is a violation.
    expect_violation(&continued(&unanswered, &[op(4, 5, Refresh(0), token(2))]));

    let ending = [login(), op(2, 3, End, Unknown)];
    assert_accepted(&continued(&ending, &[op(4, 5, Check, Gone)]));
    assert_accepted(&continued(&ending, &[op(4, 5, Check, Live), op(6, 7, Check, Live)]));
    assert_accepted(&continued(&ending, &[op(4, 5, Check, Live), op(6, 7, Check, Gone)]));
    expect_violation(&continued(&ending, &[op(4, 5, Check, Gone), op(6, 7, Check, Live)]));
}

#[test]
fn checker_accepts_either_order_of_login_and_end_of_all() {
    // an end of all sessions ends this one only if it takes effect after the login
    assert_accepted(&[op(0, 5, Login, token(0)), op(1, 4, End, Done), op(6, 7, Check, Live)]);
    assert_accepted(&[op(0, 5, Login, token(0)), op(1, 4, End, Done), op(6, 7, Check, Gone)]);
    expect_violation(&[op(0, 5, Login, token(0)), op(6, 7, End, Done), op(8, 9, Check, Live)]);
}

#[test]
fn checker_enforces_idle_and_absolute_timeouts() {
    let hour = 3_600_000; // milliseconds: the idle timeout
    let used = [login(), op(hour - 5000, hour - 4999, Refresh(0), token(1))];
    assert_accepted(&continued(&used, &[op(hour + 5000, hour + 5001, Refresh(1), token(2))]));
    assert_accepted(&[login(), op(hour + 5000, hour + 5001, Refresh(0), Gone)]);
    expect_violation(&[login(), op(hour + 5000, hour + 5001, Refresh(0), token(1))]);
    expect_violation(&[login(), op(hour + 5000, hour + 5001, Check, Live)]);
    expect_violation(&continued(&used, &[op(hour + 5000, hour + 5001, Refresh(1), Gone)]));
    // A refresh each half hour prevents the idle timeout. It does not extend the lifetime.
    let mut long = vec![login()];
    for generation in 0..3 {
        let at = u64::from(generation + 1) * hour / 2;
        long.push(op(at, at + 1, Refresh(generation), token(generation + 1)));
    }
    long.push(op(2 * hour + 5000, 2 * hour + 5001, Refresh(3), token(4)));
    expect_violation(&long);
}

/// The search stays fast with many unanswered calls and an answer that no order explains.
#[test]
fn checker_is_fast_with_many_unanswered_calls() {
    let mut ops = vec![login()];
    for generation in 0..200 {
        let start = 10 * u64::from(generation);
        let successor = token(generation + 1);
        let repeat_answer = if generation % 3 == 0 { Unknown } else { successor };
        ops.push(op(start + 2, start + 9, Refresh(generation), successor));
        ops.push(op(start + 2, start + 9, Refresh(generation), repeat_answer));
    }
    assert_accepted(&ops);
    // Nothing has ended the session. The last round ended at 2,000 ms.
    ops.push(op(3000, 3001, Refresh(200), Gone));
    expect_violation(&ops);
}
