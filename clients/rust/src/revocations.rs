//! The revocations of the feed: sessions, and accounts up to a time. Bounded; a revocation is evicted when it can no longer
//! affect an unexpired token.

use std::{
    collections::HashMap,
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
    count: AtomicUsize,
    capacity: usize,
}

/// When a revocation was last received, by [`crate::Clock::elapsed`] in milliseconds, and during which snapshot.
///
/// The time of receipt counts, not that of the revocation: adjusting the machine's clock evicts nothing too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) received: i64,
    pub(crate) snapshot: u32,
}

/// Ends the sessions of an account that began before a time, in seconds since the Unix epoch, except perhaps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cutoff {
    pub(crate) before: i64,
    pub(crate) except: Option<Id>,
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
        read(&self.sessions, session.id, |sessions| sessions.contains_key(&session.id))
            || read(&self.accounts, session.account, |accounts| {
                accounts.get(&session.account).is_some_and(|cutoffs| cutoffs.iter().any(|cutoff| cutoff.ends(session)))
            })
    }

    /// Adds the revocation of a session.
    pub(crate) fn add_session(&self, id: Id, receipt: Receipt) -> Result<(), Full> {
        write(&self.sessions, id, |sessions| {
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
        write(&self.accounts, account, |accounts| {
            let cutoffs = accounts.entry(account).or_default();
            let same = |cutoff: &&mut Cutoff| (cutoff.before, cutoff.except) == (new.before, new.except);
            let added = match cutoffs.iter_mut().find(same) {
                Some(existing) => {
                    existing.receipt = new.receipt;
                    Ok(())
                }
                None => self.reserve().map(|()| {
                    let before = cutoffs.len();
                    cutoffs.retain(|cutoff| !new.covers(cutoff));
                    self.count.fetch_sub(before - cutoffs.len(), Ordering::AcqRel);
                    cutoffs.push(new);
                }),
            };
            if cutoffs.is_empty() {
                accounts.remove(&account);
            }
            added
        })
    }

    /// Evicts revocations that were last received before `until`.
    pub(crate) fn evict_received_before(&self, until: i64) {
        self.keep(|receipt| receipt.received >= until);
    }

    /// Evicts revocations that are neither in `snapshot` nor newer.
    pub(crate) fn retain_snapshot(&self, snapshot: u32) {
        self.keep(|receipt| receipt.snapshot == snapshot);
    }

    fn keep(&self, keep: impl Fn(&Receipt) -> bool) {
        let mut evicted = 0;
        for shard in &self.sessions {
            let mut sessions = shard.write().unwrap_or_else(PoisonError::into_inner);
            let before = sessions.len();
            sessions.retain(|_, receipt| keep(receipt));
            evicted += before - sessions.len();
            shrink(&mut sessions);
        }
        for shard in &self.accounts {
            let mut accounts = shard.write().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|_, cutoffs| {
                let before = cutoffs.len();
                cutoffs.retain(|cutoff| keep(&cutoff.receipt));
                evicted += before - cutoffs.len();
                !cutoffs.is_empty()
            });
            shrink(&mut accounts);
        }
        self.count.fetch_sub(evicted, Ordering::AcqRel);
    }

    fn reserve(&self) -> Result<(), Full> {
        let counted = self
            .count
            .try_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < self.capacity).then_some(count + 1));
        counted.map(|_| ()).map_err(|_| Full)
    }
}

impl Cutoff {
    fn ends(&self, session: &Session) -> bool {
        session.auth_time < self.before && self.except != Some(session.id)
    }

    /// Whether this cutoff ends every session that `other` ends.
    fn covers(&self, other: &Self) -> bool {
        let same_exception = self.except.is_none() || self.except == other.except;
        same_exception && self.before >= other.before
    }
}

/// Frees the memory of a map that is much larger than its content.
fn shrink<V>(map: &mut HashMap<Id, V>) {
    if map.capacity() > 64 && map.capacity() / 4 > map.len() {
        map.shrink_to(map.len() * 2);
    }
}

fn read<V>(shards: &[RwLock<HashMap<Id, V>>], id: Id, look: impl FnOnce(&HashMap<Id, V>) -> bool) -> bool {
    shards.get(id.shard(SHARDS)).is_some_and(|shard| look(&shard.read().unwrap_or_else(PoisonError::into_inner)))
}

fn write<V>(
    shards: &[RwLock<HashMap<Id, V>>],
    id: Id,
    change: impl FnOnce(&mut HashMap<Id, V>) -> Result<(), Full>,
) -> Result<(), Full> {
    let shard = shards.get(id.shard(SHARDS)).ok_or(Full)?;
    change(&mut shard.write().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> Id {
        Id::parse(&format!("00000000-0000-4000-8000-0000{number:08x}")).unwrap()
    }

    fn session(account: u32, id_: u32, auth_time: i64) -> Session {
        Session { id: id(id_), account: id(account), auth_time }
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
        assert_eq!(revocations.len(), 1);
        assert!(revocations.contains(&session(9, 1, 0)));
        assert!(!revocations.contains(&session(9, 2, 0)));
    }

    #[test]
    fn account_revocation_affects_earlier_sessions_except_one() {
        let revocations = Revocations::new(10);
        revocations.add_account(id(9), cutoff(100, Some(1))).unwrap();
        for (auth_time, sid, revoked) in [(99, 2, true), (100, 2, false), (101, 2, false), (99, 1, false)] {
            assert_eq!(revocations.contains(&session(9, sid, auth_time)), revoked, "{auth_time} {sid}");
        }
        assert!(!revocations.contains(&session(8, 2, 0)));
        // another session changes the password: the first exception no longer applies
        revocations.add_account(id(9), cutoff(200, Some(3))).unwrap();
        for (auth_time, sid, revoked) in
            [(99, 1, true), (99, 3, true), (150, 3, false), (199, 1, true), (200, 1, false)]
        {
            assert_eq!(revocations.contains(&session(9, sid, auth_time)), revoked, "{auth_time} {sid}");
        }
        assert_eq!(revocations.len(), 2);
        // the account is disabled: a cutoff without exception replaces the others
        revocations.add_account(id(9), cutoff(300, None)).unwrap();
        revocations.add_account(id(9), cutoff(300, None)).unwrap();
        assert_eq!(revocations.len(), 1);
        assert!(revocations.contains(&session(9, 3, 299)));
    }

    #[test]
    fn expired_and_superseded_revocations_are_evicted() {
        let revocations = Revocations::new(1000);
        for number in 0..100 {
            let receipt = Receipt { received: number.into(), snapshot: number % 2 };
            revocations.add_session(id(number), receipt).unwrap();
            revocations.add_account(id(number), Cutoff { receipt, ..cutoff(1, None) }).unwrap();
        }
        assert_eq!(revocations.len(), 200);
        revocations.evict_received_before(50);
        assert_eq!(revocations.len(), 100);
        revocations.retain_snapshot(1);
        assert_eq!(revocations.len(), 50);
        let revoked = |number| revocations.contains(&session(1000, number, 0));
        assert!(!revoked(49) && !revoked(50) && revoked(51));
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
        assert_eq!(revocations.add_session(id(1), receipt(1)), Ok(()));
        assert!(revocations.contains(&session(9, 1, 0)) && revocations.contains(&session(2, 9, 0)));
        assert_eq!(revocations.len(), 2);
        assert!(revocations.accounts.iter().all(|shard| !shard.read().unwrap().contains_key(&id(3))));
    }
}
