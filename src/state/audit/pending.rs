//! Events that wait to be written down: so many, no more. Refusals that are alike wait as one.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::domain::{
    audit::{AuditEvent, Entry, Outcome, What},
    clock::Timestamp,
};

/// In which refusals are counted.
const MINUTE: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Pending {
    entries: VecDeque<Entry>,
    /// Where refusals are, counted from the first entry there ever was.
    alike: HashMap<What, u64>,
    taken: u64,
    most: usize,
    max_refusals: u64,
    /// Since when refusals are counted, and how many rows of them there were.
    minute: Option<(Timestamp, u64)>,
    lost: u64,
}

impl Pending {
    /// Room for `most` entries, and for so many rows of refusals a minute.
    pub(super) fn new(most: usize, max_refusals: u64) -> Self {
        Self { entries: VecDeque::new(), alike: HashMap::new(), taken: 0, most, max_refusals, minute: None, lost: 0 }
    }

    pub(super) fn add(&mut self, entry: Entry) {
        // reuse has ended a session, so there are no more of it than sessions
        let refused = entry.what.outcome == Outcome::Refused && entry.what.event != AuditEvent::RefreshReuse;
        if refused && let Some(earlier) = self.like(&entry.what) {
            earlier.count += entry.count;
            return;
        }
        if self.entries.len() >= self.most || refused && !self.may_refuse(entry.at) {
            self.lost += entry.count;
            return;
        }
        if refused {
            self.alike.insert(entry.what.clone(), self.taken + self.entries.len() as u64);
        }
        self.entries.push_back(entry);
    }

    /// Takes out up to `most` entries, oldest first, and, when they are the last, how many were lost.
    pub(super) fn take(&mut self, most: usize, now: Timestamp) -> Vec<Entry> {
        let count = most.min(self.entries.len());
        let mut taken: Vec<Entry> = self.entries.drain(..count).collect();
        self.taken += count as u64;
        for entry in &taken {
            self.alike.remove(&entry.what);
        }
        if self.entries.is_empty() && self.lost > 0 {
            taken.push(Entry::new(now, AuditEvent::Lost).count(std::mem::take(&mut self.lost)));
        }
        taken
    }

    /// How many events wait, or were lost.
    pub(super) fn events(&self) -> u64 {
        self.entries.iter().map(|entry| entry.count).sum::<u64>() + self.lost
    }

    fn like(&mut self, what: &What) -> Option<&mut Entry> {
        let at = self.alike.get(what)?.checked_sub(self.taken)?;
        self.entries.get_mut(usize::try_from(at).ok()?)
    }

    fn may_refuse(&mut self, now: Timestamp) -> bool {
        match &mut self.minute {
            Some((since, count)) if now.saturating_since(*since) < MINUTE => {
                *count += 1;
                *count <= self.max_refusals
            }
            minute => {
                *minute = Some((now, 1));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::AccountId;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn refusal(secs: i64, account: u8) -> Entry {
        let account = AccountId::from_bytes([account; 16]);
        Entry::new(at(secs), AuditEvent::SignIn).refused("wrong_password").account(account)
    }

    #[test]
    fn refusals_that_are_alike_are_one_row() {
        let mut pending = Pending::new(10, 10);
        for account in [1, 2, 1, 1] {
            pending.add(refusal(0, account));
        }
        let counts: Vec<_> = pending.take(10, at(1)).iter().map(|entry| entry.count).collect();
        assert_eq!(counts, [3, 1]);
        pending.add(refusal(1, 1));
        assert_eq!(pending.take(10, at(1))[0].count, 1);
    }

    #[test]
    fn rows_that_are_taken_in_parts_stay_apart() {
        let mut pending = Pending::new(10, 10);
        for account in [1, 2, 3] {
            pending.add(refusal(0, account));
        }
        assert_eq!(pending.take(2, at(1)).len(), 2);
        for account in [1, 3] {
            pending.add(refusal(1, account));
        }
        let counts: Vec<_> = pending.take(10, at(1)).iter().map(|entry| entry.count).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut pending = Pending::new(2, 10);
        for _ in 0..5 {
            pending.add(Entry::new(at(0), AuditEvent::SignIn));
        }
        let taken = pending.take(10, at(1));
        assert_eq!((taken.len(), taken[2].what.event, taken[2].count), (3, AuditEvent::Lost, 3));
        assert!(pending.take(10, at(1)).is_empty());
    }

    #[test]
    fn refusals_have_a_budget_by_the_minute_and_others_do_not() {
        let mut pending = Pending::new(100, 2);
        for account in 0..5 {
            pending.add(refusal(0, account));
        }
        pending.add(Entry::new(at(0), AuditEvent::SignIn));
        let taken = pending.take(100, at(1));
        assert_eq!((taken.len(), taken[3].count), (4, 3));
        pending.add(refusal(61, 9));
        assert_eq!(pending.take(100, at(62)).len(), 1);
    }
}
