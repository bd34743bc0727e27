//! The revocations of the feed: of single sessions, of all earlier sessions of an account, and of tokens with outdated
//! claims. Their number is bounded. A revocation is evicted when it can no longer affect an unexpired token.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{id::Id, token::Session};

/// The number of shards, each with its own lock, so that eviction blocks lookups only briefly.
const SHARDS: usize = 64;

/// A set of revocations.
#[derive(Debug)]
pub(crate) struct Revocations {
    sessions: Vec<RwLock<HashMap<Id, Receipt>>>,
    accounts: Vec<RwLock<HashMap<Id, Vec<Cutoff>>>>,
    claims: Vec<RwLock<HashMap<Id, ClaimsChange>>>,
    count: AtomicUsize,
    capacity: usize,
}

/// When a revocation was last received, and after the start of which snapshot.
///
/// Eviction uses the time of receipt and not that of the revocation, so that adjusting the machine's clock evicts nothing
/// too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// In milliseconds of [`crate::Clock::elapsed`].
    pub(crate) received: i64,
    /// The number of the feed's latest snapshot. A snapshot repeats all revocations that are still relevant.
    pub(crate) snapshot: u32,
}

/// Revokes the sessions of an account that began before a time, in seconds since the Unix epoch, except the session
/// `except`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cutoff {
    pub(crate) before: i64,
    pub(crate) except: Option<Id>,
    pub(crate) receipt: Receipt,
}

/// The latest change of an account's claims. Tokens that were issued before the change are outdated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimsChange {
    pub(crate) version: u64,
    /// When the claims reached the version, in seconds since the Unix epoch.
    pub(crate) at: i64,
    pub(crate) receipt: Receipt,
}

/// The set is at its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Revocations {
    /// Holds at most `capacity` revocations.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            sessions: (0..SHARDS).map(|_| RwLock::default()).collect(),
            accounts: (0..SHARDS).map(|_| RwLock::default()).collect(),
            claims: (0..SHARDS).map(|_| RwLock::default()).collect(),
            count: AtomicUsize::new(0),
            capacity,
        }
    }

    /// The number of revocations.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether a session is revoked, on its own or with its account.
    pub(crate) fn contains(&self, session: &Session) -> bool {
        self.contains_session(session.id) || self.contains_account_of(session)
    }

    /// Whether a session is revoked on its own.
    pub(crate) fn contains_session(&self, id: Id) -> bool {
        read_shard(&self.sessions, id, |sessions| sessions.contains_key(&id))
    }

    /// Whether a session is revoked with its account.
    pub(crate) fn contains_account_of(&self, session: &Session) -> bool {
        read_shard(&self.accounts, session.account, |accounts| {
            accounts.get(&session.account).is_some_and(|cutoffs| cutoffs.iter().any(|cutoff| cutoff.ends(session)))
        })
    }

    /// Whether the claims of the account have changed since the token of `session` was issued.
    pub(crate) fn outdates(&self, session: &Session) -> bool {
        read_shard(&self.claims, session.account, |claims| {
            claims.get(&session.account).is_some_and(|change| session.precedes_claims(change.version, change.at))
        })
    }

    /// Adds a change of an account's claims. An account has one entry: the highest version and time, in whatever order the
    /// changes are received.
    pub(crate) fn add_claims(&self, account: Id, new: ClaimsChange) -> Result<(), Full> {
        write_shard(&self.claims, account, |claims| {
            if let Some(change) = claims.get_mut(&account) {
                change.version = change.version.max(new.version);
                change.at = change.at.max(new.at);
                change.receipt = new.receipt;
                return Ok(());
            }
            self.reserve()?;
            claims.insert(account, new);
            Ok(())
        })
    }

    /// Adds the revocation of a session.
    pub(crate) fn add_session(&self, id: Id, receipt: Receipt) -> Result<(), Full> {
        write_shard(&self.sessions, id, |sessions| {
            if let Some(existing) = sessions.get_mut(&id) {
                *existing = receipt;
                return Ok(());
            }
            self.reserve()?;
            sessions.insert(id, receipt);
            Ok(())
        })
    }

    /// Adds the revocation of an account's sessions.
    pub(crate) fn add_account(&self, account: Id, new: Cutoff) -> Result<(), Full> {
        write_shard(&self.accounts, account, |accounts| {
            let cutoffs = accounts.entry(account).or_default();
            let same = cutoffs.iter_mut().find(|cutoff| cutoff.before == new.before && cutoff.except == new.except);
            if let Some(existing) = same {
                existing.receipt = new.receipt;
                return Ok(());
            }
            // The entry is reserved before superseded ones are removed, so that a full set loses none of its revocations.
            if let Err(full) = self.reserve() {
                // `or_default` may have added an empty list.
                if cutoffs.is_empty() {
                    accounts.remove(&account);
                }
                return Err(full);
            }
            let former_len = cutoffs.len();
            cutoffs.retain(|cutoff| !new.covers(cutoff));
            self.count.fetch_sub(former_len - cutoffs.len(), Ordering::AcqRel);
            cutoffs.push(new);
            Ok(())
        })
    }

    /// Evicts revocations that were last received before `time`, in milliseconds of [`crate::Clock::elapsed`].
    pub(crate) fn evict_received_before(&self, time: i64) {
        self.evict_unless(|receipt| receipt.received >= time);
    }

    /// Evicts revocations that were not received since the start of the snapshot with this number.
    pub(crate) fn retain_snapshot(&self, snapshot: u32) {
        self.evict_unless(|receipt| receipt.snapshot == snapshot);
    }

    /// Evicts the revocations for which `keep` returns false.
    fn evict_unless(&self, keep: impl Fn(&Receipt) -> bool) {
        let mut evicted = 0;
        for shard in &self.sessions {
            evicted += retain(shard, &keep);
        }
        for shard in &self.claims {
            evicted += retain(shard, |change: &ClaimsChange| keep(&change.receipt));
        }
        for shard in &self.accounts {
            let mut accounts = shard.write().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|_, cutoffs| {
                let former_len = cutoffs.len();
                cutoffs.retain(|cutoff| keep(&cutoff.receipt));
                evicted += former_len - cutoffs.len();
                !cutoffs.is_empty()
            });
            shrink(&mut accounts);
        }
        self.count.fetch_sub(evicted, Ordering::AcqRel);
    }

    /// Counts one more revocation, unless the set is full.
    fn reserve(&self) -> Result<(), Full> {
        let increment = |count: usize| (count < self.capacity).then_some(count + 1);
        let updated = self.count.try_update(Ordering::AcqRel, Ordering::Acquire, increment);
        if updated.is_ok() { Ok(()) } else { Err(Full) }
    }
}

impl Cutoff {
    fn ends(&self, session: &Session) -> bool {
        session.is_cut_off(self.before, self.except)
    }

    /// Whether this cutoff ends every session that `other` ends.
    fn covers(&self, other: &Self) -> bool {
        let spares_no_other_session = self.except.is_none() || self.except == other.except;
        spares_no_other_session && self.before >= other.before
    }
}

/// Removes the values for which `keep` returns false, and returns their number.
fn retain<V>(shard: &RwLock<HashMap<Id, V>>, keep: impl Fn(&V) -> bool) -> usize {
    let mut map = shard.write().unwrap_or_else(PoisonError::into_inner);
    let former_len = map.len();
    map.retain(|_, value| keep(value));
    let evicted = former_len - map.len();
    shrink(&mut map);
    evicted
}

/// Shrinks a map to twice its content if it has room for more than 64 entries and for more than four times its content.
pub(crate) fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 64 && map.capacity() / 4 > map.len() {
        map.shrink_to(map.len() * 2);
    }
}

/// Passes the shard of `id` to `look`, and returns the result.
fn read_shard<V>(shards: &[RwLock<HashMap<Id, V>>], id: Id, look: impl FnOnce(&HashMap<Id, V>) -> bool) -> bool {
    shards.get(id.shard(SHARDS)).is_some_and(|shard| look(&shard.read().unwrap_or_else(PoisonError::into_inner)))
}

/// Passes the shard of `id` to `change`, and returns the result.
fn write_shard<V>(
    shards: &[RwLock<HashMap<Id, V>>],
    id: Id,
    change: impl FnOnce(&mut HashMap<Id, V>) -> Result<(), Full>,
) -> Result<(), Full> {
    // `Id::shard` returns less than `SHARDS`, so the shard exists, and `Full` is not returned here.
    let shard = shards.get(id.shard(SHARDS)).ok_or(Full)?;
    change(&mut shard.write().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> Id {
        Id::parse(&format!("00000000-0000-4000-8000-0000{number:08x}")).unwrap()
    }

    /// A session of an account, with the id `number`, which began at `began`.
    fn session(account: u32, number: u32, began: i64) -> Session {
        Session { id: id(number), account: id(account), began, claims_version: None, issued: began }
    }

    fn receipt(received: i64) -> Receipt {
        Receipt { received, snapshot: 0 }
    }

    fn cutoff(before: i64, except: Option<u32>) -> Cutoff {
        Cutoff { before, except: except.map(id), receipt: receipt(0) }
    }

    #[test]
    fn session_revocation_affects_that_session_only() {
        let revocations = Revocations::new(10);
        revocations.add_session(id(1), receipt(0)).unwrap();
        revocations.add_session(id(1), receipt(5)).unwrap();
        assert_eq!(revocations.len(), 1, "a repeated revocation is counted once");
        assert!(revocations.contains(&session(9, 1, 0)));
        assert!(!revocations.contains(&session(9, 2, 0)));
    }

    #[test]
    fn account_revocation_affects_earlier_sessions_except_one() {
        let revocations = Revocations::new(10);
        revocations.add_account(id(9), cutoff(100, Some(1))).unwrap();
        for (began, number, revoked) in [(99, 2, true), (100, 2, false), (101, 2, false), (99, 1, false)] {
            assert_eq!(revocations.contains(&session(9, number, began)), revoked, "{began} {number}");
        }
        assert!(!revocations.contains(&session(8, 2, 0)), "another account");
        // another session changes the password: the first exception no longer applies
        revocations.add_account(id(9), cutoff(200, Some(3))).unwrap();
        for (began, number, revoked) in [(99, 1, true), (99, 3, true), (150, 3, false), (199, 1, true), (200, 1, false)]
        {
            assert_eq!(revocations.contains(&session(9, number, began)), revoked, "{began} {number}");
        }
        assert_eq!(revocations.len(), 2, "their exceptions differ, so neither cutoff covers the other");
        // the account is disabled: a cutoff without exception replaces the others
        revocations.add_account(id(9), cutoff(300, None)).unwrap();
        revocations.add_account(id(9), cutoff(300, None)).unwrap();
        assert_eq!(revocations.len(), 1, "a repeated cutoff is counted once");
        assert!(revocations.contains(&session(9, 3, 299)));
    }

    #[test]
    fn claims_change_outdates_tokens_with_a_lower_version_or_without_one() {
        let revocations = Revocations::new(10);
        let change = |version, at| ClaimsChange { version, at, receipt: receipt(0) };
        revocations.add_claims(id(9), change(3, 100)).unwrap();
        // an earlier change that is received late has no effect
        revocations.add_claims(id(9), change(2, 90)).unwrap();
        assert_eq!(revocations.len(), 1);
        let token = |account, claims_version, issued| Session { claims_version, issued, ..session(account, 1, 0) };
        for (version, issued, outdated) in
            [(Some(2), 200, true), (Some(3), 0, false), (Some(4), 0, false), (None, 100, true), (None, 101, false)]
        {
            assert_eq!(revocations.outdates(&token(9, version, issued)), outdated, "{version:?} {issued}");
        }
        assert!(!revocations.outdates(&token(8, None, 0)), "another account");
        assert!(!revocations.contains(&token(9, Some(1), 0)), "a change of claims ends no session");
        revocations.evict_received_before(1);
        assert_eq!(revocations.len(), 0);
        assert!(!revocations.outdates(&token(9, Some(1), 0)));
    }

    #[test]
    fn revocations_are_evicted_by_time_of_receipt_and_by_snapshot() {
        let revocations = Revocations::new(1000);
        for number in 0..100 {
            let receipt = Receipt { received: number.into(), snapshot: number % 2 };
            revocations.add_session(id(number), receipt).unwrap();
            revocations.add_account(id(number), Cutoff { receipt, ..cutoff(1, None) }).unwrap();
        }
        assert_eq!(revocations.len(), 200);
        revocations.evict_received_before(50);
        assert_eq!(revocations.len(), 100);
        // the odd numbers from 51 to 99 remain
        revocations.retain_snapshot(1);
        assert_eq!(revocations.len(), 50);
        // account 1000 has no revocation of its own
        let revoked = |number| revocations.contains(&session(1000, number, 0));
        assert!(!revoked(49), "evicted by its time of receipt");
        assert!(!revoked(50), "evicted with snapshot 0");
        assert!(revoked(51));
        revocations.evict_received_before(1000);
        assert_eq!(revocations.len(), 0);
        assert!(revocations.accounts.iter().all(|shard| shard.read().unwrap().is_empty()));
    }

    #[test]
    fn full_set_rejects_new_revocations_and_evicts_none() {
        let revocations = Revocations::new(2);
        revocations.add_session(id(1), receipt(0)).unwrap();
        revocations.add_account(id(2), cutoff(1, None)).unwrap();
        assert_eq!(revocations.add_session(id(3), receipt(0)), Err(Full));
        assert_eq!(revocations.add_account(id(3), cutoff(1, None)), Err(Full));
        let change = ClaimsChange { version: 1, at: 0, receipt: receipt(0) };
        assert_eq!(revocations.add_claims(id(2), change), Err(Full));
        assert_eq!(revocations.add_session(id(1), receipt(1)), Ok(()), "a repeated revocation needs no space");
        assert!(revocations.contains(&session(9, 1, 0)) && revocations.contains(&session(2, 9, 0)));
        assert_eq!(revocations.len(), 2);
        assert!(revocations.accounts.iter().all(|shard| !shard.read().unwrap().contains_key(&id(3))));
    }
}
