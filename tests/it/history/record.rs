//! What was asked and answered, by all users, in the order of one clock; and the verdict on it.

use std::{
    collections::HashMap,
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{
    check,
    model::{Answer, Call, Op, Rules, When},
};

/// What a call was about.
#[derive(Clone, Debug)]
pub enum About {
    Session(String),
    /// Every session of the account, but perhaps one.
    All {
        but: Option<String>,
    },
}

struct Entry {
    account: usize,
    about: About,
    op: Op,
}

/// A history that is being made.
pub struct Record {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
    faults: Mutex<Vec<(u64, String)>>,
    surprises: Mutex<Vec<String>>,
}

/// What there is to say about a history.
#[derive(Debug, Default)]
pub struct Verdict {
    pub sessions: usize,
    pub operations: usize,
    /// How many calls were never answered.
    pub unknown: usize,
    /// How many tokens were given, reuses found and sessions ended.
    pub tokens: usize,
    pub reuses: usize,
    pub ends: usize,
    /// How many faults struck.
    pub faults: usize,
    /// What can't have been, or must not be.
    pub violations: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, operations, unknown, tokens, reuses, ends, faults, violations } = self;
        write!(
            f,
            "{operations} calls about {sessions} sessions, {unknown} never answered; {tokens} tokens given, {reuses} \
             reuses found, {ends} ends acknowledged; {faults} faults came and went; {} violations",
            violations.len()
        )
    }
}

impl Record {
    pub fn new() -> Self {
        Self { began: Instant::now(), entries: Mutex::default(), faults: Mutex::default(), surprises: Mutex::default() }
    }

    /// Microseconds since it began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }

    pub fn note(&self, account: usize, about: About, call: Call, answer: Answer, span: When) {
        self.entries.lock().unwrap().push(Entry { account, about, op: Op { call, answer, span } });
    }

    /// A fault strikes, or passes.
    pub fn fault(&self, what: String) {
        self.faults.lock().unwrap().push((self.now(), what));
    }

    /// An answer that no model is needed for to see that it is wrong.
    pub fn surprise(&self, what: String) {
        self.surprises.lock().unwrap().push(format!("at {} µs: {what}", self.now()));
    }

    /// Checks every session by itself.
    pub fn verdict(&self, rules: &Rules) -> Verdict {
        let entries = self.entries.lock().unwrap();
        let mut sessions: HashMap<(usize, &str), Vec<Op>> = HashMap::new();
        for entry in &*entries {
            if let About::Session(id) = &entry.about {
                sessions.entry((entry.account, id)).or_default().push(entry.op.clone());
            }
        }
        for entry in &*entries {
            let About::All { but } = &entry.about else { continue };
            for ((account, id), ops) in &mut sessions {
                let concerned = *account == entry.account && but.as_deref() != Some(*id);
                // sessions that began later are not
                if concerned && ops[0].span.0 <= entry.op.span.1 {
                    ops.push(entry.op.clone());
                }
            }
        }
        let count = |matches: fn(&Op) -> bool| entries.iter().filter(|entry| matches(&entry.op)).count();
        let mut verdict = Verdict {
            sessions: sessions.len(),
            operations: entries.len(),
            unknown: count(|op| op.answer == Answer::Unknown),
            tokens: count(|op| matches!(op.answer, Answer::Token(..))),
            reuses: count(|op| op.answer == Answer::Reused),
            ends: count(|op| op.answer == Answer::Done),
            faults: self.faults.lock().unwrap().len(),
            violations: self.surprises.lock().unwrap().clone(),
        };
        for ((account, id), ops) in sessions {
            if let Some(violation) = check::violation(&ops, rules) {
                verdict.violations.push(format!("session {id} of user {account}: {violation}"));
            }
        }
        verdict
    }

    /// When which fault struck.
    pub fn faults(&self) -> String {
        let faults = self.faults.lock().unwrap();
        faults.iter().fold(String::new(), |text, (at, what)| text + &format!("  {at:>10} µs  {what}\n"))
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
