//! What was revoked, as the feed tells it: sessions, and accounts up to a time. Bounded; each is forgotten when no token
//! that it could touch is accepted any longer.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{id::Id, token::Session};

/// Into how many parts they are dealt, each with a lock of its own, so that tidying up holds nobody for long.
const PARTS: usize = 64;

/// What was revoked.
#[derive(Debug)]
pub(crate) struct Revocations {
    sessions: Vec<RwLock<HashMap<Id, Told>>>,
    accounts: Vec<RwLock<HashMap<Id, Vec<Ended>>>>,
    count: AtomicUsize,
    most: usize,
}

/// When a revocation was told last, by [`crate::Clock::elapsed`] in milliseconds, and in which telling of the whole.
///
/// Not when it happened: so a machine whose clock is set to and fro forgets nothing too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) heard: i64,
    pub(crate) telling: u32,
}

/// The sessions of an account that began before a time, in seconds since the Unix epoch, but perhaps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) before: i64,
    pub(crate) except: Option<Id>,
    pub(crate) told: Told,
}

/// There are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Revocations {
    /// At most `most` at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            sessions: (0..PARTS).map(|_| RwLock::default()).collect(),
            accounts: (0..PARTS).map(|_| RwLock::default()).collect(),
            count: AtomicUsize::new(0),
            most,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether a session was revoked, by itself or with its account.
    pub(crate) fn revoked(&self, session: &Session) -> bool {
        read(&self.sessions, session.id, |sessions| sessions.contains_key(&session.id))
            || read(&self.accounts, session.account, |accounts| {
                accounts.get(&session.account).is_some_and(|ended| ended.iter().any(|ended| ended.includes(session)))
            })
    }

    /// A session was revoked.
    pub(crate) fn add_session(&self, id: Id, told: Told) -> Result<(), Full> {
        write(&self.sessions, id, |sessions| {
            if let Some(known) = sessions.get_mut(&id) {
                *known = told;
                return Ok(());
            }
            self.count_one()?;
            sessions.insert(id, told);
            Ok(())
        })
    }

    /// Sessions of an account were revoked.
    pub(crate) fn add_account(&self, account: Id, new: Ended) -> Result<(), Full> {
        write(&self.accounts, account, |accounts| {
            let known = accounts.entry(account).or_default();
            let added = match known.iter_mut().find(|known| (known.before, known.except) == (new.before, new.except)) {
                Some(known) => {
                    known.told = new.told;
                    Ok(())
                }
                None => self.count_one().map(|()| {
                    let before = known.len();
                    known.retain(|known| !new.covers(known));
                    self.count.fetch_sub(before - known.len(), Ordering::AcqRel);
                    known.push(new);
                }),
            };
            if known.is_empty() {
                accounts.remove(&account);
            }
            added
        })
    }

    /// Forgets what was told before `until` and not since.
    pub(crate) fn forget_heard_before(&self, until: i64) {
        self.keep(|told| told.heard >= until);
    }

    /// Forgets what was not told again since `telling` began.
    pub(crate) fn forget_untold(&self, telling: u32) {
        self.keep(|told| told.telling == telling);
    }

    fn keep(&self, keep: impl Fn(&Told) -> bool) {
        let mut gone = 0;
        for part in &self.sessions {
            let mut sessions = part.write().unwrap_or_else(PoisonError::into_inner);
            let before = sessions.len();
            sessions.retain(|_, told| keep(told));
            gone += before - sessions.len();
            give_back(&mut sessions);
        }
        for part in &self.accounts {
            let mut accounts = part.write().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|_, ended| {
                let before = ended.len();
                ended.retain(|ended| keep(&ended.told));
                gone += before - ended.len();
                !ended.is_empty()
            });
            give_back(&mut accounts);
        }
        self.count.fetch_sub(gone, Ordering::AcqRel);
    }

    fn count_one(&self) -> Result<(), Full> {
        let counted = self
            .count
            .try_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < self.most).then_some(count + 1));
        counted.map(|_| ()).map_err(|_| Full)
    }
}

impl Ended {
    fn includes(&self, session: &Session) -> bool {
        session.auth_time < self.before && self.except != Some(session.id)
    }

    /// Whether everything that `other` ended was ended by this one too.
    fn covers(&self, other: &Self) -> bool {
        let as_many = self.except.is_none() || self.except == other.except;
        as_many && self.before >= other.before
    }
}

/// A map that has become much too large gives memory back.
fn give_back<V>(map: &mut HashMap<Id, V>) {
    if map.capacity() > 64 && map.capacity() / 4 > map.len() {
        map.shrink_to(map.len() * 2);
    }
}

fn read<V>(parts: &[RwLock<HashMap<Id, V>>], id: Id, look: impl FnOnce(&HashMap<Id, V>) -> bool) -> bool {
    parts.get(id.part(PARTS)).is_some_and(|part| look(&part.read().unwrap_or_else(PoisonError::into_inner)))
}

fn write<V>(
    parts: &[RwLock<HashMap<Id, V>>],
    id: Id,
    change: impl FnOnce(&mut HashMap<Id, V>) -> Result<(), Full>,
) -> Result<(), Full> {
    let part = parts.get(id.part(PARTS)).ok_or(Full)?;
    change(&mut part.write().unwrap_or_else(PoisonError::into_inner))
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

    fn told(heard: i64) -> Told {
        Told { heard, telling: 0 }
    }

    fn ended(before: i64, except: Option<u32>) -> Ended {
        Ended { before, except: except.map(id), told: told(0) }
    }

    #[test]
    fn a_session_is_revoked_by_itself() {
        let revocations = Revocations::new(10);
        revocations.add_session(id(1), told(0)).unwrap();
        revocations.add_session(id(1), told(5)).unwrap();
        assert_eq!(revocations.len(), 1);
        assert!(revocations.revoked(&session(9, 1, 0)));
        assert!(!revocations.revoked(&session(9, 2, 0)));
    }

    #[test]
    fn an_account_is_revoked_up_to_a_second_but_for_one_session() {
        let revocations = Revocations::new(10);
        revocations.add_account(id(9), ended(100, Some(1))).unwrap();
        for (auth_time, sid, revoked) in [(99, 2, true), (100, 2, false), (101, 2, false), (99, 1, false)] {
            assert_eq!(revocations.revoked(&session(9, sid, auth_time)), revoked, "{auth_time} {sid}");
        }
        assert!(!revocations.revoked(&session(8, 2, 0)));
        // another session changes the password: the first exception holds no more
        revocations.add_account(id(9), ended(200, Some(3))).unwrap();
        for (auth_time, sid, revoked) in
            [(99, 1, true), (99, 3, true), (150, 3, false), (199, 1, true), (200, 1, false)]
        {
            assert_eq!(revocations.revoked(&session(9, sid, auth_time)), revoked, "{auth_time} {sid}");
        }
        assert_eq!(revocations.len(), 2);
        // the account is disabled: this says it all
        revocations.add_account(id(9), ended(300, None)).unwrap();
        revocations.add_account(id(9), ended(300, None)).unwrap();
        assert_eq!(revocations.len(), 1);
        assert!(revocations.revoked(&session(9, 3, 299)));
    }

    #[test]
    fn what_is_over_or_not_told_again_is_forgotten() {
        let revocations = Revocations::new(1000);
        for number in 0..100 {
            let told = Told { heard: number.into(), telling: number % 2 };
            revocations.add_session(id(number), told).unwrap();
            revocations.add_account(id(number), Ended { told, ..ended(1, None) }).unwrap();
        }
        assert_eq!(revocations.len(), 200);
        revocations.forget_heard_before(50);
        assert_eq!(revocations.len(), 100);
        revocations.forget_untold(1);
        assert_eq!(revocations.len(), 50);
        let revoked = |number| revocations.revoked(&session(1000, number, 0));
        assert!(!revoked(49) && !revoked(50) && revoked(51));
        revocations.forget_heard_before(1000);
        assert_eq!(revocations.len(), 0);
        assert!(revocations.accounts.iter().all(|part| part.read().unwrap().is_empty()));
    }

    #[test]
    fn no_more_than_so_many_are_taken_and_none_is_dropped_for_another() {
        let revocations = Revocations::new(2);
        revocations.add_session(id(1), told(0)).unwrap();
        revocations.add_account(id(2), ended(1, None)).unwrap();
        assert_eq!(revocations.add_session(id(3), told(0)), Err(Full));
        assert_eq!(revocations.add_account(id(3), ended(1, None)), Err(Full));
        assert_eq!(revocations.add_session(id(1), told(1)), Ok(()));
        assert!(revocations.revoked(&session(9, 1, 0)) && revocations.revoked(&session(2, 9, 0)));
        assert_eq!(revocations.len(), 2);
        assert!(revocations.accounts.iter().all(|part| !part.read().unwrap().contains_key(&id(3))));
    }
}
