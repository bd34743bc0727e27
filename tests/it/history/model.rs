//! What a session may do, in as few words as possible: the model that histories are checked against.
//!
//! It is written from the promises (one successor, reuse ends, ended stays ended, two clocks, credentials end sessions,
//! nothing acknowledged is lost), not from the scripts. Times are microseconds since the history began.

use std::time::Duration;

/// When something was done, as far as is known: not before the first, not after the second.
pub type When = (u64, u64);

/// What was asked about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The sign-in that began it.
    Login,
    /// Its refresh token of this generation was presented.
    Refresh(u32),
    /// It shall end, or all sessions of its account shall.
    End,
    /// Does it live? Asked where Redis is always looked at.
    Look,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A refresh token: its generation, and what tells it from other tokens of the same generation.
    Token(u32, u64),
    /// It was superseded too long ago, and the session has been ended for that.
    Reused,
    /// There is no such session, or no longer.
    Gone,
    /// It lives.
    Lives,
    /// It has been ended.
    Done,
    /// Nothing, or that the service is unavailable: it may have been done, or be done yet, or never.
    Unknown,
}

/// A call and its answer.
#[derive(Clone, Debug)]
pub struct Op {
    pub call: Call,
    pub answer: Answer,
    /// When it was asked, and when the answer was there.
    pub span: When,
}

impl Op {
    /// When the node that served it may have read its clock, if it was carried out by `by`.
    fn clock(&self, by: u64, rules: &Rules) -> When {
        let late = if self.answer == Answer::Unknown { rules.lateness } else { 0 };
        (self.span.0, self.span.1.saturating_add(late).min(by))
    }
}

/// What the service under test is configured with.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub grace: u64,
    pub idle: u64,
    pub absolute: u64,
    /// How far apart clocks may be, and how coarse times in tokens are.
    pub tolerance: u64,
    /// How long after its caller has given up something may still be carried out.
    pub lateness: u64,
}

impl Rules {
    pub fn new(grace: Duration, idle: Duration, absolute: Duration) -> Self {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap();
        Self {
            grace: micros(grace),
            idle: micros(idle),
            absolute: micros(absolute),
            tolerance: 50_000,
            lateness: 30_000_000,
        }
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Before,
    Live(Life),
    Over,
}

/// A session that hasn't been ended. By the clock it may be over all the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Life {
    created: When,
    used: When,
    /// When each generation was superseded, the current one not being among them.
    superseded: Vec<When>,
}

impl Life {
    fn generation(&self) -> u32 {
        u32::try_from(self.superseded.len()).unwrap()
    }

    fn may_live_at(&self, at: When, rules: &Rules) -> bool {
        at.0 < self.used.1.saturating_add(rules.idle + rules.tolerance)
            && at.0 < self.created.1.saturating_add(rules.absolute + rules.tolerance)
    }

    fn may_be_over_at(&self, at: When, rules: &Rules) -> bool {
        // a second: tokens tell their end in whole ones
        let end = (self.used.0 + rules.idle).min(self.created.0 + rules.absolute);
        at.1.saturating_add(rules.tolerance + 1_000_000) >= end
    }

    fn rotated(&self, at: When) -> Self {
        // what is carried out late isn't dated before what was carried out meanwhile
        let at = (at.0, at.1.max(self.used.1));
        let mut next = self.clone();
        next.superseded.push(at);
        next.used = at;
        next
    }

    /// Whether a generation may, and whether it must, be within its grace.
    fn grace_of(&self, generation: u32, at: When, rules: &Rules) -> (bool, bool) {
        let since = self.superseded[generation as usize];
        let (least, most) = (at.0.saturating_sub(since.1), at.1.saturating_sub(since.0));
        // of a session that is refreshed very often, a sixth longer
        let longest = rules.grace + rules.grace / 6 + rules.tolerance;
        (least < longest, most.saturating_add(rules.tolerance) < rules.grace)
    }
}

impl State {
    /// What a session may be after an operation that was carried out by then; none where it can't have been so.
    pub fn after(&self, op: &Op, by: u64, rules: &Rules) -> Option<Self> {
        let at = op.clock(by, rules);
        match (self, op.call, op.answer) {
            (Self::Before, Call::Login, Answer::Token(0, _)) => {
                Some(Self::Live(Life { created: at, used: at, superseded: Vec::new() }))
            }
            // all sessions of the account were ended, and this one came later
            (Self::Before, Call::End, Answer::Done | Answer::Unknown) => Some(Self::Before),
            (Self::Before, ..) | (_, Call::Login, _) => None,

            (Self::Live(life), Call::Refresh(presented), answer) => life.refreshed(presented, answer, at, rules),
            (Self::Live(_), Call::End, Answer::Done | Answer::Unknown) => Some(Self::Over),
            (Self::Live(life), Call::Look, Answer::Lives) => life.may_live_at(at, rules).then(|| self.clone()),
            (Self::Live(life), Call::End | Call::Look, Answer::Gone) => {
                life.may_be_over_at(at, rules).then(|| self.clone())
            }

            (Self::Over, Call::Refresh(_) | Call::Look, Answer::Gone) => Some(Self::Over),
            (Self::Over, Call::End, Answer::Done | Answer::Gone) => Some(Self::Over),
            (_, _, Answer::Unknown) => Some(self.clone()),
            _ => None,
        }
    }
}

impl Life {
    fn refreshed(&self, presented: u32, answer: Answer, at: When, rules: &Rules) -> Option<State> {
        let same = || State::Live(self.clone());
        let current = self.generation();
        let next = || State::Live(self.rotated(at));
        match answer {
            Answer::Gone => self.may_be_over_at(at, rules).then(same),
            // a token of a generation that the session hasn't reached: it was acknowledged, and lost
            _ if presented > current => None,
            Answer::Unknown if presented == current => Some(next()),
            Answer::Unknown => {
                let must_be_repeated = self.grace_of(presented, at, rules).1;
                Some(if must_be_repeated { same() } else { State::Over })
            }
            Answer::Token(given, _) if presented == current => {
                (given == current + 1 && self.may_live_at(at, rules)).then(next)
            }
            Answer::Token(given, _) => {
                let repeated = given == current && self.may_live_at(at, rules);
                (repeated && self.grace_of(presented, at, rules).0).then(same)
            }
            Answer::Reused if presented < current => (!self.grace_of(presented, at, rules).1).then_some(State::Over),
            _ => None,
        }
    }
}
