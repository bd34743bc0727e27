//! Audit entries that wait to be written to the database, within bounds.
//!
//! Identical refusals wait as one entry with a count. The number of rows per minute about refusals is limited by budgets, so that
//! a flood can't fill the disk. Refusals that name no account or client have one budget for each kind of event. Refusals that name
//! an account or a client have a budget for each kind of event and each account or client. A flood of anonymous refusals therefore
//! never hides password guessing at an account.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    mem,
    time::Duration,
};

use crate::domain::{
    audit::{AuditEntry, AuditEvent, EventFacts, Outcome},
    client::ClientId,
    clock::Timestamp,
    ids::AccountId,
};

/// The period of the budgets.
const PERIOD: Duration = Duration::from_mins(1);

/// The maximum number of budgets of accounts and clients in a period. Refusals of further accounts and clients are lost.
const MAX_SUBJECTS: usize = 10_000;

/// For each kind of event, all accounts and clients together have a budget of this many times [`Bounds::refusals`]. The first row of
/// each account or client does not count.
const SUBJECTS_FACTOR: u64 = 10;

/// The limits of [`Pending`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The maximum number of waiting entries (`audit.queue`).
    pub(super) queue: usize,
    /// The maximum number of rows a minute about refusals that name no account or client, for each kind of event
    /// (`audit.max_refusals`).
    pub(super) refusals: u64,
    /// The maximum number of rows a minute about refusals of one account or client, for each kind of event
    /// (`audit.max_refusals_per_account`).
    pub(super) refusals_per_subject: u64,
}

/// The entries that wait, oldest first.
#[derive(Debug)]
pub(super) struct Pending {
    entries: VecDeque<AuditEntry>,
    /// The positions of the waiting refusals. The first entry ever added had the position 0.
    refusals: HashMap<EventFacts, u64>,
    /// The number of entries taken so far: the position of the first waiting entry.
    taken: u64,
    /// The number of events that were taken and are not written yet.
    unwritten: u64,
    bounds: Bounds,
    budgets: Budgets,
    /// Events that were dropped and not reported yet.
    lost: HashMap<AuditEvent, u64>,
}

impl Pending {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            entries: VecDeque::new(),
            refusals: HashMap::new(),
            taken: 0,
            unwritten: 0,
            bounds,
            budgets: Budgets::default(),
            lost: HashMap::new(),
        }
    }

    /// Adds an entry. Returns the number of events lost: zero, or the entry's count if there is no room for it.
    pub(super) fn add(&mut self, entry: AuditEntry) -> u64 {
        // Refusals are merged and limited. Reuse of a refresh token is not: it ends its session, so it can't recur. A counted repeat of a
        // refresh token is, although it is answered: it may recur like a refusal.
        let is_refusal = match entry.facts.event {
            AuditEvent::RefreshReuse => false,
            AuditEvent::RefreshRepeat => true,
            _ => entry.facts.outcome == Outcome::Refused,
        };
        if is_refusal && let Some(earlier) = self.find_identical(&entry.facts) {
            earlier.count += entry.count;
            return 0;
        }
        let queue_is_full = self.entries.len() >= self.bounds.queue;
        // in this order: an entry that the queue refuses spends no row of a budget
        let has_room = !queue_is_full && (!is_refusal || self.budgets.spend_row(&entry, self.bounds));
        if !has_room {
            *self.lost.entry(entry.facts.event).or_default() += entry.count;
            return entry.count;
        }
        if is_refusal {
            self.refusals.insert(entry.facts.clone(), self.taken + self.entries.len() as u64);
        }
        self.entries.push_back(entry);
        0
    }

    /// Removes and returns up to `max` entries, oldest first. If none remain, also returns an entry with the number of lost events of each
    /// kind, in addition to `max`.
    pub(super) fn take(&mut self, max: usize, now: Timestamp) -> Vec<AuditEntry> {
        let count = max.min(self.entries.len());
        let mut taken: Vec<AuditEntry> = self.entries.drain(..count).collect();
        self.taken += count as u64;
        for entry in &taken {
            self.refusals.remove(&entry.facts);
        }
        if self.entries.is_empty() {
            for (event, count) in mem::take(&mut self.lost) {
                taken.push(AuditEntry::new(now, AuditEvent::Lost).detail(event.as_str()).count(count));
            }
        }
        self.unwritten += taken.iter().map(|entry| entry.count).sum::<u64>();
        taken
    }

    /// Records that all taken entries are written.
    pub(super) const fn mark_written(&mut self) {
        self.unwritten = 0;
    }

    /// The number of events that wait, that were taken and are not written, or that were lost and not reported yet.
    pub(super) fn events(&self) -> u64 {
        let waiting: u64 = self.entries.iter().map(|entry| entry.count).sum();
        self.unwritten + waiting + self.lost.values().sum::<u64>()
    }

    /// The waiting refusal with the same facts.
    fn find_identical(&mut self, facts: &EventFacts) -> Option<&mut AuditEntry> {
        let index = self.refusals.get(facts)?.checked_sub(self.taken)?;
        self.entries.get_mut(usize::try_from(index).ok()?)
    }
}

/// The numbers of rows about refusals in the current period, which began at `since`.
#[derive(Debug, Default)]
struct Budgets {
    since: Option<Timestamp>,
    /// Rows that name no account or client.
    anonymous: HashMap<AuditEvent, u64>,
    /// Rows of each account and client.
    subjects: HashMap<(AuditEvent, Subject), u64>,
    /// Rows of all accounts and clients together, without the first row of each.
    repeated: HashMap<AuditEvent, u64>,
}

/// An account or a client that a refusal names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Account(AccountId),
    Client(ClientId),
}

impl Budgets {
    /// Counts a row for a refusal. Returns false if a budget is exhausted.
    fn spend_row(&mut self, entry: &AuditEntry, bounds: Bounds) -> bool {
        if self.since.is_none_or(|since| entry.at.saturating_since(since) >= PERIOD) {
            *self = Self { since: Some(entry.at), ..Self::default() };
        }
        let EventFacts { event, account, client, .. } = &entry.facts;
        let account = account.map(Subject::Account);
        let Some(subject) = account.or_else(|| client.clone().map(Subject::Client)) else {
            return increment_within(self.anonymous.entry(*event).or_default(), bounds.refusals);
        };
        let is_full = self.subjects.len() >= MAX_SUBJECTS;
        match self.subjects.entry((*event, subject)) {
            Entry::Vacant(_) if is_full => false,
            // the first row of an account or client counts towards no shared budget
            Entry::Vacant(slot) => {
                slot.insert(1);
                true
            }
            Entry::Occupied(mut rows) => {
                increment_within(rows.get_mut(), bounds.refusals_per_subject)
                    && increment_within(self.repeated.entry(*event).or_default(), bounds.refusals * SUBJECTS_FACTOR)
            }
        }
    }
}

/// Increments `used`. Returns whether it is within `budget`.
fn increment_within(used: &mut u64, budget: u64) -> bool {
    *used += 1;
    *used <= budget
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { queue: 1000, refusals: 2, refusals_per_subject: 3 };

    /// Takes all waiting entries.
    const ALL: usize = usize::MAX;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    /// A refused sign-in of this account.
    fn refusal(secs: i64, account: u8) -> AuditEntry {
        let account = AccountId::from_bytes([account; 16]);
        AuditEntry::new(at(secs), AuditEvent::SignIn).refused("wrong_password").account(account)
    }

    /// A refusal that names no account, from the address `192.0.2.host`.
    fn anonymous_refusal(secs: i64, event: AuditEvent, host: u8) -> AuditEntry {
        AuditEntry::new(at(secs), event).refused("unknown").address(Some([192, 0, 2, host].into()))
    }

    #[test]
    fn identical_refusals_are_one_row_with_a_count() {
        let mut pending = Pending::new(BOUNDS);
        for account in [1, 2, 1, 1] {
            pending.add(refusal(0, account));
        }
        let counts: Vec<_> = pending.take(ALL, at(1)).iter().map(|entry| entry.count).collect();
        assert_eq!(counts, [3, 1]);
        pending.add(refusal(1, 1));
        let taken = pending.take(ALL, at(1));
        assert_eq!(taken[0].count, 1, "the count starts again");
    }

    #[test]
    fn events_of_a_taken_batch_count_until_it_is_written() {
        let mut pending = Pending::new(Bounds { queue: 2, ..BOUNDS });
        for _ in 0..3 {
            pending.add(AuditEntry::new(at(0), AuditEvent::SignIn));
        }
        assert_eq!(pending.events(), 3, "2 that wait and 1 that was lost");
        let taken = pending.take(1, at(1));
        assert_eq!(taken.len(), 1);
        assert_eq!(pending.events(), 3, "taken events count until they are written");
        pending.mark_written();
        assert_eq!(pending.events(), 2);
        // also takes the row about the lost event
        pending.take(ALL, at(1));
        assert_eq!(pending.events(), 2);
        pending.mark_written();
        assert_eq!(pending.events(), 0);
    }

    #[test]
    fn refusals_identical_to_a_taken_row_start_a_new_row() {
        let mut pending = Pending::new(BOUNDS);
        for account in [1, 2, 3] {
            pending.add(refusal(0, account));
        }
        // the rows of the accounts 1 and 2
        let taken = pending.take(2, at(1));
        assert_eq!(taken.len(), 2);
        for account in [1, 3] {
            pending.add(refusal(1, account));
        }
        let counts: Vec<_> = pending.take(ALL, at(1)).iter().map(|entry| entry.count).collect();
        assert_eq!(counts, [2, 1], "the waiting row of account 3, and a new row of account 1");
    }

    #[test]
    fn events_beyond_the_queue_are_counted_as_lost_by_kind() {
        let mut pending = Pending::new(Bounds { queue: 2, ..BOUNDS });
        let mut lost = 0;
        for _ in 0..5 {
            lost += pending.add(AuditEntry::new(at(0), AuditEvent::SignIn));
        }
        assert_eq!(lost, 3);
        // 2 sign-ins, and a row about the lost ones
        let taken = pending.take(ALL, at(1));
        assert_eq!(taken.len(), 3);
        assert_eq!((taken[2].facts.event, taken[2].count), (AuditEvent::Lost, 3));
        assert_eq!(taken[2].facts.detail.as_deref(), Some("sign_in"));
        let rest = pending.take(ALL, at(1));
        assert!(rest.is_empty(), "{rest:?}");
    }

    #[test]
    fn refusals_without_a_subject_have_a_budget_for_each_kind_of_event() {
        let mut pending = Pending::new(BOUNDS);
        for host in 0..5 {
            pending.add(anonymous_refusal(0, AuditEvent::ClientAuthentication, host));
        }
        let lost = pending.add(anonymous_refusal(0, AuditEvent::SignIn, 1));
        assert_eq!(lost, 0, "sign-ins have a budget of their own");
        let lost = pending.add(AuditEntry::new(at(0), AuditEvent::SignIn));
        assert_eq!(lost, 0, "a successful sign-in needs no budget");
        let taken = pending.take(ALL, at(1));
        assert_eq!(taken.len(), 5, "2 of 5 refusals, 2 sign-ins, and a row for 3 lost refusals");
        assert_eq!(taken[4].count, 3);
        let lost = pending.add(anonymous_refusal(61, AuditEvent::ClientAuthentication, 9));
        assert_eq!(lost, 0, "a minute later");
    }

    #[test]
    fn refusals_of_an_account_are_recorded_during_floods_of_other_refusals() {
        let mut pending = Pending::new(BOUNDS);
        for host in 0..200 {
            pending.add(anonymous_refusal(0, AuditEvent::SignIn, host));
        }
        for round in 0..100 {
            pending.add(refusal(0, 1).address(Some([192, 0, 2, round].into())));
        }
        // Uses up the budget that all accounts share for the rows after their first: 10 times `refusals`, so 20 rows.
        for account in 3..=200 {
            for round in 0..3 {
                pending.add(refusal(0, account).address(Some([192, 0, 2, round].into())));
            }
        }
        let lost = pending.add(refusal(0, 2));
        assert_eq!(lost, 0);
        let rows_of = |taken: &[AuditEntry], account: u8| {
            let account = Some(AccountId::from_bytes([account; 16]));
            taken.iter().filter(|entry| entry.facts.account == account).count()
        };
        let taken = pending.take(ALL, at(1));
        assert_eq!(rows_of(&taken, 1), 3, "refusals_per_subject");
        assert_eq!(rows_of(&taken, 2), 1, "the first row");
    }
}
