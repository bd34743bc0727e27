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

/// When a session's generations followed each other, as far as all of its calls together show. It doesn't depend on the
/// order that is being tried, so that there are few states to be told apart.
#[derive(Debug)]
pub struct Times {
    created: When,
    /// When each generation was superseded, if it was: not before its token was first presented, and not after somebody
    /// was given a later one.
    superseded: Vec<When>,
}

impl Times {
    pub fn of(ops: &[Op], rules: &Rules) -> Self {
        let mut times = Self { created: (0, u64::MAX), superseded: Vec::new() };
        for op in ops {
            match (op.call, op.answer) {
                (Call::Login, _) => times.created = op.span,
                (Call::Refresh(presented), _) => times.superseded(presented).0 = u64::MAX,
                _ => {}
            }
        }
        for op in ops {
            let Call::Refresh(presented) = op.call else { continue };
            let first = &mut times.superseded[presented as usize].0;
            *first = op.span.0.min(*first);
        }
        // the latest that is possible: first if nobody ever knew, then by what somebody knew
        for op in ops.iter().filter(|op| op.answer == Answer::Unknown) {
            let Call::Refresh(presented) = op.call else { continue };
            let last = &mut times.superseded[presented as usize].1;
            *last = op.span.1.saturating_add(rules.lateness).max(*last);
        }
        let mut known = u64::MAX;
        for generation in (0..times.superseded.len()).rev() {
            let given = |op: &&Op| matches!(op.answer, Answer::Token(given, _) if given as usize == generation + 1);
            let first = ops.iter().filter(given).map(|op| op.span.1).min();
            known = known.min(first.unwrap_or(u64::MAX));
            let last = &mut times.superseded[generation].1;
            *last = if known < u64::MAX { known } else { *last };
        }
        times
    }

    fn superseded(&mut self, generation: u32) -> &mut When {
        let generation = generation as usize;
        if self.superseded.len() <= generation {
            self.superseded.resize(generation + 1, (u64::MAX, 0));
        }
        &mut self.superseded[generation]
    }

    /// When the current generation began.
    fn used(&self, generation: u32) -> When {
        generation.checked_sub(1).map_or(self.created, |before| self.superseded[before as usize])
    }

    fn may_live(&self, generation: u32, at: When, rules: &Rules) -> bool {
        at.0 < self.used(generation).1.saturating_add(rules.idle + rules.tolerance)
            && at.0 < self.created.1.saturating_add(rules.absolute + rules.tolerance)
    }

    fn may_be_over(&self, generation: u32, at: When, rules: &Rules) -> bool {
        let idle = self.used(generation).0.saturating_add(rules.idle);
        // a second: tokens tell their end in whole ones
        at.1.saturating_add(rules.tolerance + 1_000_000) >= idle.min(self.created.0.saturating_add(rules.absolute))
    }

    /// Whether a generation may, and whether it must, be within its grace.
    fn grace(&self, generation: u32, at: When, rules: &Rules) -> (bool, bool) {
        let since = self.superseded[generation as usize];
        let (least, most) = (at.0.saturating_sub(since.1), at.1.saturating_sub(since.0));
        // of a session that is refreshed very often, a sixth longer
        let longest = rules.grace + rules.grace / 6 + rules.tolerance;
        (least < longest, most.saturating_add(rules.tolerance) < rules.grace)
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

/// A session. One that hasn't been ended may be over by the clock all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Before,
    /// Of this generation.
    Live(u32),
    Over,
}

impl State {
    /// What a session may be after an operation that was carried out by then; none where it can't have been so.
    pub fn after(self, op: &Op, by: u64, times: &Times, rules: &Rules) -> Option<Self> {
        let late = if op.answer == Answer::Unknown { rules.lateness } else { 0 };
        // when the node that served it may have read its clock
        let at = (op.span.0, op.span.1.saturating_add(late).min(by));
        match (self, op.call, op.answer) {
            (Self::Before, Call::Login, Answer::Token(0, _)) => Some(Self::Live(0)),
            // all sessions of the account were ended, and this one came later
            (Self::Before, Call::End, Answer::Done | Answer::Unknown) => Some(Self::Before),
            (Self::Before, ..) | (_, Call::Login, _) => None,

            (Self::Live(_), Call::End, Answer::Done | Answer::Unknown) => Some(Self::Over),
            (Self::Live(current), Call::Look, Answer::Lives) => times.may_live(current, at, rules).then_some(self),
            (Self::Live(current), _, Answer::Gone) => times.may_be_over(current, at, rules).then_some(self),
            (Self::Live(current), Call::Refresh(presented), answer) => {
                Self::refreshed(current, presented, answer, at, times, rules)
            }

            (Self::Over, Call::Refresh(_) | Call::Look | Call::End, Answer::Gone) => Some(Self::Over),
            (Self::Over, Call::End, Answer::Done) => Some(Self::Over),
            (_, _, Answer::Unknown) => Some(self),
            _ => None,
        }
    }

    fn refreshed(current: u32, presented: u32, answer: Answer, at: When, times: &Times, rules: &Rules) -> Option<Self> {
        // a token of a generation that the session hasn't reached: it was acknowledged, and lost
        let superseded = presented.checked_add(1).filter(|next| *next <= current + 1)? <= current;
        let may_live = times.may_live(current, at, rules);
        let (may_be_repeated, must_be_repeated) =
            if superseded { times.grace(presented, at, rules) } else { (false, false) };
        match answer {
            Answer::Token(given, _) if superseded => {
                (given == current && may_live && may_be_repeated).then_some(Self::Live(current))
            }
            Answer::Token(given, _) => (given == current + 1 && may_live).then_some(Self::Live(given)),
            Answer::Reused => (superseded && !must_be_repeated).then_some(Self::Over),
            Answer::Unknown if !superseded => Some(Self::Live(current + 1)),
            Answer::Unknown => Some(if must_be_repeated { Self::Live(current) } else { Self::Over }),
            _ => None,
        }
    }
}
