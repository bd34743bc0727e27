//! Records the calls and answers of all users with the times of one clock, and checks them.

use std::{
    collections::HashMap,
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{
    check,
    model::{Answer, Op, Rules},
};

/// The sessions that a call concerns.
#[derive(Clone, Debug)]
pub enum Affected {
    Session(String),
    /// All sessions of the account, or all except this one.
    All {
        except: Option<String>,
    },
}

struct Entry {
    /// The number of the user.
    account: usize,
    affected: Affected,
    op: Op,
}

/// The recorded history of all users.
pub struct Record {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
    /// The beginnings and ends of faults, each with its time in microseconds.
    faults: Mutex<Vec<(u64, String)>>,
    violations: Mutex<Vec<String>>,
}

/// The result of checking a history.
#[derive(Debug, Default)]
pub struct Verdict {
    pub sessions: usize,
    pub operations: usize,
    /// Number of calls without an answer, and of those answered with 503.
    pub unknown: usize,
    /// Number of refresh tokens returned, by logins and refreshes.
    pub tokens: usize,
    /// Number of refreshes answered with a detected reuse.
    pub reuses: usize,
    /// Number of acknowledged calls that end sessions.
    pub ends: usize,
    pub faults: usize,
    /// Answers that the model does not allow.
    pub violations: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, operations, unknown, tokens, reuses, ends, faults, violations } = self;
        write!(
            f,
            "{operations} calls about {sessions} sessions, {unknown} never answered; {tokens} tokens returned, {reuses} \
             reuses detected, {ends} ends acknowledged; {faults} faults; {} violations",
            violations.len()
        )
    }
}

impl Record {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            entries: Mutex::default(),
            faults: Mutex::default(),
            violations: Mutex::default(),
        }
    }

    /// Microseconds since the history began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }

    /// Records a call and its answer.
    pub fn record_call(&self, account: usize, affected: Affected, op: Op) {
        self.entries.lock().unwrap().push(Entry { account, affected, op });
    }

    /// Records the beginning or the end of a fault.
    pub fn record_fault(&self, what: String) {
        self.faults.lock().unwrap().push((self.now(), what));
    }

    /// Records an answer that is wrong regardless of the model.
    pub fn record_violation(&self, what: String) {
        self.violations.lock().unwrap().push(format!("at {} µs: {what}", self.now()));
    }

    /// Checks the history of each session.
    pub fn verdict(&self, rules: &Rules) -> Verdict {
        let entries = self.entries.lock().unwrap();
        // First the calls about one session, which name all sessions. Then the calls about all sessions of an account.
        let mut sessions: HashMap<(usize, &str), Vec<Op>> = HashMap::new();
        for entry in &*entries {
            if let Affected::Session(id) = &entry.affected {
                sessions.entry((entry.account, id)).or_default().push(entry.op.clone());
            }
        }
        for entry in &*entries {
            let Affected::All { except } = &entry.affected else { continue };
            for ((account, id), ops) in &mut sessions {
                let concerned = *account == entry.account && except.as_deref() != Some(*id);
                // The first call of a session created it. An end that was answered before this call did not end the session.
                let may_have_existed = ops[0].span.earliest <= entry.op.span.latest;
                if concerned && may_have_existed {
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
            // each fault is recorded when it begins and when it ends
            faults: self.faults.lock().unwrap().len() / 2,
            violations: self.violations.lock().unwrap().clone(),
        };
        for ((account, id), ops) in sessions {
            if let Some(violation) = check::violation(&ops, rules) {
                verdict.violations.push(format!("session {id} of user {account}: {violation}"));
            }
        }
        verdict
    }

    /// Lists the faults and their times.
    pub fn faults(&self) -> String {
        let faults = self.faults.lock().unwrap();
        let lines: Vec<String> = faults.iter().map(|(at, what)| format!("  {at:>10} µs  {what}\n")).collect();
        lines.concat()
    }

    /// The time since the history began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
