//! The model of a session that histories are checked against.
//!
//! The model follows from the documented invariants (one successor, reuse revokes, ended stays ended, two time limits, credential changes
//! end sessions, no acknowledged write is lost), not from the scripts. Times are microseconds since the
//! history began.

use std::{cmp::Ordering, time::Duration};

/// A second in microseconds.
const SECOND: u64 = 1_000_000;

/// The earliest and the latest possible time of an event, such as the execution of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    pub earliest: u64,
    pub latest: u64,
}

/// A call that concerns a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The login that creates the session.
    Login,
    /// A refresh with the token of this generation.
    Refresh(u32),
    /// Ends the session, or all sessions of its account.
    End,
    /// Checks whether the session is live, at an endpoint that always reads Redis.
    Check,
}

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A refresh token: its generation and a hash of its text.
    Token(u32, u64),
    /// The token was superseded and must not be repeated any more, so the session was revoked.
    Reused,
    /// The session does not exist, or has ended.
    Gone,
    /// The session is live.
    Live,
    /// The call to end the session succeeded. The session may have ended before.
    Done,
    /// No answer, or 503: the call was executed, will be executed, or never will be.
    Unknown,
}

/// A network with a user agent.
pub type Network = u8;

/// Stands for the network of a session that a password change has created. The session has the network of the session that it
/// replaces, which the model does not follow.
pub const UNKNOWN_NETWORK: Network = u8::MAX;

/// A call and its answer.
#[derive(Clone, Debug)]
pub struct Op {
    pub call: Call,
    pub answer: Answer,
    /// The network of a login or a refresh; 0 for other calls.
    pub network: Network,
    /// The times of the request and of the answer.
    pub span: Interval,
}

/// The times at which a session's generations followed each other, derived from all of its calls. They do not depend on the
/// order that the search tries, which keeps the number of states small.
#[derive(Debug)]
pub struct Times {
    created: Interval,
    /// When each generation was superseded, if it was: not before its token was first presented, and not after a later
    /// token was first returned.
    superseded: Vec<Interval>,
}

impl Times {
    pub fn of(ops: &[Op], rules: &Rules) -> Self {
        let mut times = Self { created: Interval { earliest: 0, latest: u64::MAX }, superseded: Vec::new() };
        for op in ops {
            match op.call {
                Call::Login => times.created = op.span,
                Call::Refresh(presented) => times.add_generations_up_to(presented),
                Call::End | Call::Check => {}
            }
        }
        // The earliest possible time: when the token of the generation was first presented.
        for op in ops {
            let Call::Refresh(presented) = op.call else { continue };
            let earliest = &mut times.superseded[presented as usize].earliest;
            *earliest = op.span.earliest.min(*earliest);
        }
        // The latest possible time: first from unanswered calls. The returned tokens below replace it, since a generation was superseded
        // before a token of any later generation was returned.
        for op in ops.iter().filter(|op| op.answer == Answer::Unknown) {
            let Call::Refresh(presented) = op.call else { continue };
            let latest = &mut times.superseded[presented as usize].latest;
            *latest = op.span.latest.saturating_add(rules.lateness).max(*latest);
        }
        // when a token of a later generation was first returned
        let mut first_returned = u64::MAX;
        for generation in (0..times.superseded.len()).rev() {
            let returns_successor =
                |op: &&Op| matches!(op.answer, Answer::Token(returned, _) if returned as usize == generation + 1);
            let successor_returned = ops.iter().filter(returns_successor).map(|op| op.span.latest).min();
            first_returned = first_returned.min(successor_returned.unwrap_or(u64::MAX));
            if first_returned < u64::MAX {
                times.superseded[generation].latest = first_returned;
            }
        }
        times
    }

    /// Adds the missing generations up to `generation` to `superseded`.
    fn add_generations_up_to(&mut self, generation: u32) {
        let length = generation as usize + 1;
        if self.superseded.len() < length {
            // an empty interval: not superseded as far as the model knows
            self.superseded.resize(length, Interval { earliest: u64::MAX, latest: 0 });
        }
    }

    /// When a generation began: at the login, or when the generation before was superseded.
    fn generation_began(&self, generation: u32) -> Interval {
        generation.checked_sub(1).map_or(self.created, |before| self.superseded[before as usize])
    }

    /// Returns whether a session with this current generation may be live at some moment of `at`.
    fn may_live(&self, generation: u32, at: Interval, rules: &Rules) -> bool {
        at.earliest < self.generation_began(generation).latest.saturating_add(rules.idle + rules.tolerance)
            && at.earliest < self.created.latest.saturating_add(rules.absolute + rules.tolerance)
    }

    /// Returns whether a session with this current generation may have expired at some moment of `at`.
    fn may_have_expired(&self, generation: u32, at: Interval, rules: &Rules) -> bool {
        let idle = self.generation_began(generation).earliest.saturating_add(rules.idle);
        let absolute = self.created.earliest.saturating_add(rules.absolute);
        // one second more, because tokens expire at whole seconds
        at.latest.saturating_add(rules.tolerance + SECOND) >= idle.min(absolute)
    }

    /// Whether a repeat of a superseded generation at some moment of `at` may be answered with the `current` token, and whether it must:
    /// within grace, or within the retry window if the generation was within grace when the current one began.
    fn repeat(&self, generation: u32, current: u32, at: Interval, rules: &Rules) -> (bool, bool) {
        let began = self.generation_began(current);
        let (may_be_in_grace, must_be_in_grace) = self.grace(generation, at, rules);
        let (may_have_been_in_grace, must_have_been_in_grace) = self.grace(generation, began, rules);
        let (min_age, max_age) = (at.earliest.saturating_sub(began.latest), at.latest.saturating_sub(began.earliest));
        let may_retry = min_age <= rules.retry.saturating_add(rules.tolerance);
        let must_retry = max_age.saturating_add(rules.tolerance) <= rules.retry;
        // the predecessor was superseded at the moment when the current generation began
        let is_predecessor = generation + 1 == current;
        let may_repeat = may_be_in_grace || may_retry && (may_have_been_in_grace || is_predecessor);
        let must_repeat = must_be_in_grace || must_retry && (must_have_been_in_grace || is_predecessor);
        (may_repeat, must_repeat)
    }

    /// Whether a generation may be within its grace window at some moment of `at`, and whether it must.
    fn grace(&self, generation: u32, at: Interval, rules: &Rules) -> (bool, bool) {
        let began = self.superseded[generation as usize];
        let (min_age, max_age) = (at.earliest.saturating_sub(began.latest), at.latest.saturating_sub(began.earliest));
        // the grace window of a session that is refreshed very often is up to a sixth longer, because rotate.lua then merges
        // superseded generations
        let longest = rules.grace + rules.grace / 6 + rules.tolerance;
        (min_age < longest, max_age.saturating_add(rules.tolerance) < rules.grace)
    }
}

/// The configuration of the service under test, with durations in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The grace window.
    pub grace: u64,
    /// The retry window.
    pub retry: u64,
    /// The number of consecutive generations with a counted repeat that ends a session.
    pub counted_repeats_limit: u32,
    /// The idle timeout.
    pub idle: u64,
    /// The absolute timeout.
    pub absolute: u64,
    /// Allowed clock skew, including the rounding of times in tokens.
    pub tolerance: u64,
    /// How long after its timeout an unanswered call may still be executed.
    pub lateness: u64,
}

impl Rules {
    pub fn new(grace: Duration, retry: Duration, idle: Duration, absolute: Duration) -> Self {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap();
        Self {
            grace: micros(grace),
            retry: micros(retry),
            counted_repeats_limit: 4, // the default
            idle: micros(idle),
            absolute: micros(absolute),
            tolerance: micros(Duration::from_millis(50)),
            lateness: micros(Duration::from_secs(30)),
        }
    }
}

/// The state of a session. A `Live` session may nevertheless have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The session has not been created yet.
    Before,
    Live(Live),
    /// The session has been ended.
    Ended,
}

/// The state of a live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Live {
    /// The current generation.
    generation: u32,
    /// The network of the login or of the last rotation.
    network: Network,
    /// Bit `n` is set if the client of a counted repeat lacked the `n`-th generation before the current one.
    counted: u8,
}

impl Live {
    /// The state after a refresh with the current token.
    fn after_rotation(self, network: Network) -> Self {
        Self { generation: self.generation + 1, network, counted: self.counted << 1 }
    }

    /// The state after a counted repeat of a superseded generation. `None` if the repeat reveals a second holder.
    fn after_counted_repeat(self, presented: u32, rules: &Rules) -> Option<Self> {
        // a number whose lowest `bits` bits are set, all of them for 8 or more
        let lowest_set = |bits: u32| u8::try_from((1_u32 << bits.min(8)) - 1).unwrap();
        let lacked = self.generation - presented;
        let counted = self.counted | lowest_set(lacked);
        // A second holder is revealed if these last generations are all counted. One of them is the presented generation: this repeat does
        // not count it, so an earlier repeat must have.
        let run = lowest_set(rules.counted_repeats_limit.max(lacked + 1));
        let reveals_second_holder = counted & run == run;
        (!reveals_second_holder).then_some(Self { counted, ..self })
    }

    /// The states after a repeat that was answered with the current token: first the state if the repeat was not counted, then the
    /// state if it was counted. The first is `None` if the repeat must be counted. The second is `None` if the repeat must not be
    /// counted, or if counting it reveals a second holder.
    fn after_repeat(self, presented: u32, network: Network, rules: &Rules) -> [Option<Self>; 2] {
        let must_not_be_counted = self.network == network;
        // an unknown network may be the same or another one
        let may_be_uncounted = must_not_be_counted || self.network == UNKNOWN_NETWORK;
        let uncounted = may_be_uncounted.then_some(self);
        let counted = if must_not_be_counted { None } else { self.after_counted_repeat(presented, rules) };
        [uncounted, counted]
    }
}

/// The possible states after a call: none, one or two.
type Next = [Option<State>; 2];

const IMPOSSIBLE: Next = [None, None];

fn only(state: State) -> Next {
    [Some(state), None]
}

fn only_if(possible: bool, state: State) -> Next {
    if possible { only(state) } else { IMPOSSIBLE }
}

impl State {
    /// The states after a call that was executed at the time `latest` or before; none if the answer is impossible in this state.
    pub fn after(self, op: &Op, latest: u64, times: &Times, rules: &Rules) -> impl Iterator<Item = Self> {
        self.next(op, latest, times, rules).into_iter().flatten()
    }

    fn next(self, op: &Op, latest: u64, times: &Times, rules: &Rules) -> Next {
        let lateness = if op.answer == Answer::Unknown { rules.lateness } else { 0 };
        let last_execution = op.span.latest.saturating_add(lateness);
        // the times at which the node may have read its clock
        let at = Interval { earliest: op.span.earliest, latest: last_execution.min(latest) };
        match (self, op.call, op.answer) {
            (Self::Before, Call::Login, Answer::Token(0, _)) => {
                only(Self::Live(Live { generation: 0, network: op.network, counted: 0 }))
            }
            // all sessions of the account were ended before this one was created
            (Self::Before, Call::End, Answer::Done | Answer::Unknown) => only(Self::Before),
            (Self::Before, ..) | (_, Call::Login, _) => IMPOSSIBLE,

            (Self::Live(_), Call::End, Answer::Done | Answer::Unknown) => only(Self::Ended),
            (Self::Live(live), Call::Check, Answer::Live) => only_if(times.may_live(live.generation, at, rules), self),
            (Self::Live(live), _, Answer::Gone) => only_if(times.may_have_expired(live.generation, at, rules), self),
            (Self::Live(live), Call::Refresh(presented), _) => live.refreshed(presented, op, at, times, rules),

            (Self::Ended, Call::Refresh(_) | Call::Check | Call::End, Answer::Gone) => only(Self::Ended),
            (Self::Ended, Call::End, Answer::Done) => only(Self::Ended),
            (_, _, Answer::Unknown) => only(self),
            _ => IMPOSSIBLE,
        }
    }
}

impl Live {
    /// The states after a refresh with the token of the generation `presented`.
    fn refreshed(self, presented: u32, op: &Op, at: Interval, times: &Times, rules: &Rules) -> Next {
        let current = self.generation;
        let may_live = times.may_live(current, at, rules);
        match presented.cmp(&current) {
            // a token of a later generation than the session's: its rotation was acknowledged and lost
            Ordering::Greater => IMPOSSIBLE,
            Ordering::Equal => {
                let rotated = State::Live(self.after_rotation(op.network));
                match op.answer {
                    Answer::Token(given, _) => only_if(given == current + 1 && may_live, rotated),
                    Answer::Unknown => only(rotated),
                    _ => IMPOSSIBLE,
                }
            }
            Ordering::Less => {
                let (may_be_repeated, must_be_repeated) = times.repeat(presented, current, at, rules);
                let [uncounted, counted] = self.after_repeat(presented, op.network, rules);
                let may_be_second_holder = self.network != op.network && counted.is_none();
                let may_be_reuse = !must_be_repeated || may_be_second_holder;
                match op.answer {
                    Answer::Token(given, _) if given == current && may_live && may_be_repeated => {
                        [uncounted, counted].map(|live| live.map(State::Live))
                    }
                    Answer::Reused => only_if(may_be_reuse, State::Ended),
                    // an uncounted repeat leaves the state as if it had not been executed
                    Answer::Unknown => [may_be_reuse.then_some(State::Ended), counted.map(State::Live)],
                    _ => IMPOSSIBLE,
                }
            }
        }
    }
}
