//! Histories written by hand: the good ones are accepted, and every kind of bad one is refused.

use std::time::Duration;

use super::{
    check::violation,
    model::{Answer, Call, Op, Rules},
};
use Answer::{Done, Gone, Lives, Reused, Unknown};
use Call::{End, Login, Look, Refresh};

/// A grace window of ten seconds, as the defaults have it.
fn rules() -> Rules {
    Rules::new(Duration::from_secs(10), Duration::from_hours(1), Duration::from_hours(2))
}

/// The one token of a generation.
fn token(generation: u32) -> Answer {
    Answer::Token(generation, u64::from(generation))
}

/// Asked and answered at these milliseconds.
fn op(from: u64, to: u64, call: Call, answer: Answer) -> Op {
    Op { call, answer, span: (from * 1000, to * 1000) }
}

#[track_caller]
fn good(ops: &[Op]) {
    if let Some(violation) = violation(ops, &rules()) {
        panic!("{violation}");
    }
}

#[track_caller]
fn bad(ops: &[Op]) -> String {
    violation(ops, &rules()).expect("this can't have been")
}

const BEGINS: fn() -> Op = || op(0, 1, Login, token(0));

#[test]
fn a_life() {
    good(&[
        BEGINS(),
        op(2, 3, Refresh(0), token(1)),
        op(4, 5, Refresh(0), token(1)),
        op(6, 7, Look, Lives),
        op(8, 9, Refresh(1), token(2)),
        op(10, 11, End, Done),
        op(12, 13, End, Done),
        op(14, 15, Refresh(2), Gone),
        op(16, 17, Look, Gone),
    ]);
}

#[test]
fn at_once_in_any_order() {
    let racers = [op(2, 9, Refresh(0), token(2)), op(2, 8, Refresh(0), token(1)), op(3, 7, Refresh(1), token(2))];
    good(&[&[BEGINS()][..], &racers].concat());
    // one was told of the second successor before anyone had asked for it
    bad(&[BEGINS(), op(2, 4, Refresh(0), token(2)), op(2, 8, Refresh(0), token(1)), op(5, 7, Refresh(1), token(2))]);
    good(&[BEGINS(), op(2, 9, End, Done), op(3, 5, Refresh(0), token(1)), op(10, 11, Refresh(1), Gone)]);
}

#[test]
fn a_second_successor() {
    let said = bad(&[BEGINS(), op(2, 3, Refresh(0), token(1)), op(4, 5, Refresh(0), Answer::Token(1, 77))]);
    assert!(said.contains("second successor"), "{said}");
    // moved on twice for the same token
    bad(&[BEGINS(), op(2, 3, Refresh(0), token(1)), op(4, 5, Refresh(0), token(2))]);
    bad(&[BEGINS(), op(2, 3, Refresh(0), token(2))]);
}

#[test]
fn grace() {
    let moved = [BEGINS(), op(2, 3, Refresh(0), token(1))];
    good(&[&moved[..], &[op(9_000, 9_001, Refresh(0), token(1))]].concat());
    // signed out by accident
    bad(&[&moved[..], &[op(9_000, 9_001, Refresh(0), Reused)]].concat());
    // a stolen one that works for too long
    bad(&[&moved[..], &[op(12_000, 12_001, Refresh(0), token(1))]].concat());
    let reused = [&moved[..], &[op(12_000, 12_001, Refresh(0), Reused)]].concat();
    good(&reused);
    good(&[&reused[..], &[op(12_002, 12_003, Refresh(1), Gone)]].concat());
    // reuse that didn't end it
    bad(&[&reused[..], &[op(12_002, 12_003, Refresh(1), token(2))]].concat());
    // the current one is no reuse
    bad(&[&moved[..], &[op(12_000, 12_001, Refresh(1), Reused)]].concat());
}

#[test]
fn alive_after_its_end() {
    for ended in [op(2, 3, End, Done), op(2, 3, Look, Gone), op(2, 3, Refresh(0), Gone)] {
        bad(&[BEGINS(), ended.clone(), op(4, 5, Look, Lives)]);
        bad(&[BEGINS(), ended, op(4, 5, Refresh(0), token(1))]);
    }
}

#[test]
fn acknowledged_and_lost() {
    bad(&[BEGINS(), op(2, 3, Look, Gone)]);
    bad(&[BEGINS(), op(2, 3, Refresh(0), Gone)]);
    // the second rotation was forgotten: the token it gave is taken for one that moves the session on, or for none
    let moved = [BEGINS(), op(2, 3, Refresh(0), token(1)), op(4, 5, Refresh(1), token(2))];
    bad(&[&moved[..], &[op(6, 7, Refresh(0), token(1))]].concat());
    bad(&[&moved[..], &[op(6, 7, Refresh(2), Gone)]].concat());
}

#[test]
fn unknown_is_either() {
    let unanswered = [BEGINS(), op(2, 3, Refresh(0), Unknown)];
    good(&[&unanswered[..], &[op(4, 5, Refresh(0), token(1))]].concat());
    good(&[&unanswered[..], &[op(4, 5, Look, Lives), op(6, 7, Refresh(0), token(1))]].concat());
    // it was carried out, and perhaps late
    good(&[&unanswered[..], &[op(12_000, 12_001, Refresh(0), Reused)]].concat());
    good(&[&unanswered[..], &[op(12_000, 12_001, Refresh(0), token(1))]].concat());
    // but once
    bad(&[&unanswered[..], &[op(4, 5, Refresh(0), token(2))]].concat());

    let ending = [BEGINS(), op(2, 3, End, Unknown)];
    good(&[&ending[..], &[op(4, 5, Look, Gone)]].concat());
    good(&[&ending[..], &[op(4, 5, Look, Lives), op(6, 7, Look, Lives)]].concat());
    good(&[&ending[..], &[op(4, 5, Look, Lives), op(6, 7, Look, Gone)]].concat());
    bad(&[&ending[..], &[op(4, 5, Look, Gone), op(6, 7, Look, Lives)]].concat());
}

#[test]
fn all_were_ended_before_it_began_or_after() {
    good(&[op(0, 5, Login, token(0)), op(1, 4, End, Done), op(6, 7, Look, Lives)]);
    good(&[op(0, 5, Login, token(0)), op(1, 4, End, Done), op(6, 7, Look, Gone)]);
    bad(&[op(0, 5, Login, token(0)), op(6, 7, End, Done), op(8, 9, Look, Lives)]);
}

#[test]
fn two_clocks() {
    let hour = 3_600_000;
    let used = [BEGINS(), op(hour - 5000, hour - 4999, Refresh(0), token(1))];
    good(&[&used[..], &[op(hour + 5000, hour + 5001, Refresh(1), token(2))]].concat());
    good(&[BEGINS(), op(hour + 5000, hour + 5001, Refresh(0), Gone)]);
    bad(&[BEGINS(), op(hour + 5000, hour + 5001, Refresh(0), token(1))]);
    bad(&[BEGINS(), op(hour + 5000, hour + 5001, Look, Lives)]);
    bad(&[&used[..], &[op(hour + 5000, hour + 5001, Refresh(1), Gone)]].concat());
    let long = (1..5).map(|i| op(i * hour / 2, i * hour / 2 + 1, Refresh(i as u32 - 1), token(i as u32)));
    let mut long: Vec<Op> = [BEGINS()].into_iter().chain(long.take(3)).collect();
    long.push(op(2 * hour + 5000, 2 * hour + 5001, Refresh(3), token(4)));
    bad(&long);
}

/// What is checked quickly must stay so: many never answered, and an answer that nothing explains.
#[test]
fn many_unknowns_are_no_riddle() {
    let mut ops = vec![BEGINS()];
    for i in 0..200 {
        let at = 10 * u64::from(i);
        ops.push(op(at + 2, at + 9, Refresh(i), token(i + 1)));
        ops.push(op(at + 2, at + 9, Refresh(i), if i % 3 == 0 { Unknown } else { token(i + 1) }));
    }
    good(&ops);
    ops.push(op(3000, 3001, Refresh(200), Gone));
    bad(&ops);
}
