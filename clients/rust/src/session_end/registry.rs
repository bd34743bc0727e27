//! The registered sessions: [`Registry`].
//!
//! Indexes by session, account, signing key and expiry find the registrations that an event concerns. An event that concerns no
//! registration costs one lookup. Callbacks are called after the lock is released.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::EndCause;
use crate::{
    claims::Claims,
    clock::{Clock, millis},
    feed::Target,
    id::Id,
    revocations::shrink,
    token::Session,
};

/// The longest time between two sweeps.
const SWEEP_INTERVAL_MILLIS: i64 = 1000;

/// The function that a service registers for the end of a session.
pub(crate) type Callback = Box<dyn FnOnce(EndCause) + Send>;

/// The sessions for which a service holds a connection, a stream or a job.
#[derive(Debug)]
pub(crate) struct Registry {
    index: RwLock<Index>,
    /// The number of registrations.
    count: AtomicUsize,
    /// Notified when a registration may need an earlier sweep.
    changed: Notify,
    /// The tolerated clock skew.
    leeway_millis: i64,
    /// How long the feed may be lost before registrations end.
    end_after_silence_millis: i64,
}

/// The owner of registrations: a session, or a token without a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    Session(Id),
    /// A service client's own token, by the number of its registration.
    Token(u64),
}

/// Identifies a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegistrationKey {
    pub(crate) holder: Holder,
    number: u64,
}

/// The state of a registration that was just added or renewed.
#[derive(Debug)]
pub(crate) struct RegistrationState {
    /// The id of the key that signed the last known token.
    pub(crate) kid: Arc<str>,
    /// The session, as the added or renewed token describes it.
    pub(crate) session: Option<Session>,
    /// Whether a token of the session with newer claims was seen.
    pub(crate) outdated: bool,
    /// Whether the last known token has expired.
    pub(crate) expired: bool,
}

/// Why a registration was not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRenewed {
    /// The registration has ended.
    Gone,
    /// The token is of another session, or of another service client.
    OtherSession,
}

#[derive(Debug, Default)]
struct Index {
    next_number: u64,
    holders: HashMap<Holder, Registrations>,
    /// The sessions of each account.
    by_account: HashMap<Id, HashSet<Id>>,
    by_kid: HashMap<Arc<str>, HashSet<Holder>>,
    /// When the last known token of each holder expires, in seconds since the Unix epoch.
    expiries: BTreeSet<(i64, Holder)>,
}

/// The registrations of one holder, and its last known token: the one that expires last.
#[derive(Debug)]
struct Registrations {
    account: Option<Id>,
    client_id: String,
    exp: i64,
    kid: Arc<str>,
    /// The highest version of claims in a token of the session.
    claims_version: Option<u64>,
    /// The registrations by number.
    entries: HashMap<u64, Entry>,
}

struct Entry {
    /// The session as the registered or renewed token describes it.
    session: Option<Session>,
    /// When the token was registered or renewed, by [`Clock::elapsed`] in milliseconds.
    since: i64,
    outcome: Arc<OnceLock<EndCause>>,
    /// The lock only makes the entry `Sync`: it is never taken.
    callback: Mutex<Callback>,
}

impl Registry {
    pub(crate) fn new(leeway_millis: i64, end_after_silence: Duration) -> Self {
        Self {
            index: RwLock::default(),
            count: AtomicUsize::new(0),
            changed: Notify::new(),
            leeway_millis,
            end_after_silence_millis: millis(end_after_silence),
        }
    }

    /// The number of registrations.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Adds a registration.
    pub(crate) fn insert(
        &self,
        claims: &Claims,
        callback: Callback,
        outcome: Arc<OnceLock<EndCause>>,
        clock: &dyn Clock,
    ) -> (RegistrationKey, RegistrationState) {
        let session = Session::of(claims);
        let entry = Entry { session, since: millis(clock.elapsed()), outcome, callback: Mutex::new(callback) };
        let mut index = self.write();
        index.next_number += 1;
        let number = index.next_number;
        let holder = session.map_or(Holder::Token(number), |session| Holder::Session(session.id));
        let ended = index.record_token(holder, session, claims);
        if let Some(registrations) = index.holders.get_mut(&holder) {
            registrations.entries.insert(number, entry);
        }
        self.count.fetch_add(1, Ordering::AcqRel);
        let key = RegistrationKey { holder, number };
        let state = self.registration_state(&index, key, session, clock);
        self.finish(index, [(ended, EndCause::ClaimsChanged)]);
        self.changed.notify_one();
        (key, state)
    }

    /// Replaces the token of a registration by a newer one of the same session.
    pub(crate) fn renew(
        &self,
        key: RegistrationKey,
        claims: &Claims,
        clock: &dyn Clock,
    ) -> Result<RegistrationState, NotRenewed> {
        let session = Session::of(claims);
        let mut index = self.write();
        let registrations = index.holders.get_mut(&key.holder).ok_or(NotRenewed::Gone)?;
        let is_same_holder = match (session, key.holder) {
            (Some(session), Holder::Session(id)) => session.id == id && registrations.account == Some(session.account),
            (None, Holder::Token(_)) => registrations.client_id == claims.client_id,
            _ => false,
        };
        let entry = registrations.entries.get_mut(&key.number).ok_or(NotRenewed::Gone)?;
        if !is_same_holder {
            return Err(NotRenewed::OtherSession);
        }
        entry.session = session;
        entry.since = millis(clock.elapsed());
        let ended = index.record_token(key.holder, session, claims);
        let state = self.registration_state(&index, key, session, clock);
        self.finish(index, [(ended, EndCause::ClaimsChanged)]);
        Ok(state)
    }

    /// Removes a registration without calling its callback.
    pub(crate) fn remove(&self, key: RegistrationKey) {
        // Drops the callback only after the lock is released: a callback may own other registrations, which then deregister.
        let removed = self.write().take(key.holder, |number, _| number == key.number);
        self.count.fetch_sub(removed.len(), Ordering::AcqRel);
    }

    /// Ends a registration.
    pub(crate) fn end(&self, key: RegistrationKey, cause: EndCause) {
        let mut index = self.write();
        let ended = index.take(key.holder, |number, _| number == key.number);
        self.finish(index, [(ended, cause)]);
    }

    /// Ends all registrations.
    pub(crate) fn end_all(&self, cause: EndCause) {
        let mut index = self.write();
        let ended = index.take_everywhere(|_| true);
        self.finish(index, [(ended, cause)]);
    }

    /// Records that a token of a session was accepted. The token becomes the session's last known token if it expires later than the
    /// former one. If it has newer claims, the session's registrations with older claims end.
    pub(crate) fn observe(&self, session: &Session, claims: &Claims) {
        if self.len() == 0 {
            return;
        }
        let holder = Holder::Session(session.id);
        let is_newer = self
            .read()
            .holders
            .get(&holder)
            .is_some_and(|known| claims.exp > known.exp || claims.claims_version > known.claims_version);
        if !is_newer {
            return;
        }
        let mut index = self.write();
        // The session's last registration may have been removed between the two locks.
        if !index.holders.contains_key(&holder) {
            return;
        }
        let ended = index.record_token(holder, Some(*session), claims);
        if index.holders.get(&holder).is_some_and(|known| known.entries.is_empty()) {
            index.forget(holder);
        }
        self.finish(index, [(ended, EndCause::ClaimsChanged)]);
    }

    /// Ends the registrations that an event of the feed concerns; `at_millis` is its time since the Unix epoch.
    pub(crate) fn on_event(&self, target: &Target, at_millis: i64) {
        if self.len() == 0 {
            return;
        }
        let mut index = self.write();
        let (ended, cause) = match target {
            Target::Session(id) => (index.take(Holder::Session(*id), |_, _| true), EndCause::SessionRevoked),
            Target::Account { account, before, except } => (
                index.take_of_account(*account, |session| session.is_cut_off(*before, *except)),
                EndCause::AccountRevoked,
            ),
            Target::Key(kid) => (index.take_of_kid(kid), EndCause::KeyRetired),
            Target::Claims { account, version } => {
                let at_seconds = at_millis.div_euclid(1000);
                let ended = index.take_of_account(*account, |session| session.precedes_claims(*version, at_seconds));
                (ended, EndCause::ClaimsChanged)
            }
        };
        self.finish(index, [(ended, cause)]);
    }

    /// Ends registrations whose last known token has expired or was signed by an untrusted key, and those for which the feed
    /// has been lost for too long. `silence` is the time since the verifier last had every revocation that the feed had sent;
    /// `None` if the verifier follows no feed. Returns the time until the next sweep.
    pub(crate) fn sweep(
        &self,
        silence: Option<Duration>,
        is_trusted: impl Fn(&str) -> bool,
        clock: &dyn Clock,
    ) -> Duration {
        let elapsed_millis = millis(clock.elapsed());
        let unix_millis = clock.unix_millis();
        let mut next_in_millis = SWEEP_INTERVAL_MILLIS;
        let mut index = self.write();
        let mut expired = Vec::new();
        while let Some(&(exp, holder)) = index.expiries.first() {
            let remaining = self.deadline(exp).saturating_sub(unix_millis);
            if remaining > 0 {
                next_in_millis = next_in_millis.min(remaining);
                break;
            }
            expired.extend(index.take(holder, |_, _| true));
        }
        let untrusted_kids: Vec<_> = index.by_kid.keys().filter(|kid| !is_trusted(kid)).cloned().collect();
        let untrusted: Vec<_> = untrusted_kids.into_iter().flat_map(|kid| index.take_of_kid(&kid)).collect();
        let mut lost = Vec::new();
        if let Some(silence) = silence.map(millis) {
            let limit = self.end_after_silence_millis;
            if silence > limit {
                // A registration made or renewed during the silence has lacked the feed only since then.
                lost = index.take_everywhere(|entry| elapsed_millis.saturating_sub(entry.since) > limit);
            } else {
                // one millisecond more, because the silence must exceed the limit
                next_in_millis = next_in_millis.min(limit - silence + 1);
            }
        }
        let ended = [(expired, EndCause::TokenExpired), (untrusted, EndCause::KeyRetired), (lost, EndCause::FeedLost)];
        self.finish(index, ended);
        Duration::from_millis(next_in_millis.unsigned_abs())
    }

    /// Calls `sweep` whenever a registration may have ended; never returns. `sweep` returns the time until the next sweep. One
    /// task serves all registrations.
    pub(crate) async fn run_sweeper(&self, sweep: impl Fn() -> Duration) {
        loop {
            // A registration after the check still ends the wait: `notify_one` also wakes a later waiter.
            let changed = self.changed.notified();
            if self.len() == 0 {
                changed.await;
            } else {
                let _ = tokio::time::timeout(sweep(), changed).await;
            }
        }
    }

    fn registration_state(
        &self,
        index: &Index,
        key: RegistrationKey,
        session: Option<Session>,
        clock: &dyn Clock,
    ) -> RegistrationState {
        // the holder exists: its registration was just added or renewed
        let known = index.holders.get(&key.holder);
        let own_version = session.and_then(|session| session.claims_version);
        let newest_version = known.and_then(|known| known.claims_version);
        RegistrationState {
            kid: known.map_or_else(|| "".into(), |known| Arc::clone(&known.kid)),
            session,
            outdated: own_version.is_some() && own_version < newest_version,
            expired: known.is_none_or(|known| self.deadline(known.exp) <= clock.unix_millis()),
        }
    }

    /// When a token that expires at `exp` is refused, in milliseconds since the Unix epoch.
    fn deadline(&self, exp: i64) -> i64 {
        exp.saturating_mul(1000).saturating_add(self.leeway_millis)
    }

    /// Sets the outcomes of the registrations that were removed from the index, unlocks the index, and calls the callbacks.
    ///
    /// The outcomes are set under the lock, so that a registration that is no longer in the index always has its outcome.
    fn finish<const N: usize>(&self, index: RwLockWriteGuard<'_, Index>, ended: [(Vec<Entry>, EndCause); N]) {
        for (entries, cause) in &ended {
            for entry in entries {
                // never fails: an entry of the index has no outcome yet
                let _ = entry.outcome.set(*cause);
            }
        }
        drop(index);
        for (entries, cause) in ended {
            self.count.fetch_sub(entries.len(), Ordering::AcqRel);
            for entry in entries {
                let callback = entry.callback.into_inner().unwrap_or_else(PoisonError::into_inner);
                if catch_unwind(AssertUnwindSafe(|| callback(cause))).is_err() {
                    tracing::error!(%cause, "a callback of on_end panicked");
                }
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of registrations and of entries of all indexes, and the capacity of the hash maps.
    #[cfg(test)]
    pub(crate) fn footprint(&self) -> (usize, usize) {
        let index = self.read();
        let entries =
            index.holders.len() + index.by_account.len() + index.by_kid.len() + index.expiries.len() + self.len();
        (entries, index.holders.capacity() + index.by_account.capacity() + index.by_kid.capacity())
    }
}

impl Index {
    /// Records a token, and adds its holder if it is new. Removes and returns the holder's registrations with older claims. If
    /// the holder then has no registration, the caller must add one or remove the holder.
    fn record_token(&mut self, holder: Holder, session: Option<Session>, claims: &Claims) -> Vec<Entry> {
        let Some(known) = self.holders.get_mut(&holder) else {
            self.add_holder(holder, session, claims);
            return Vec::new();
        };
        if claims.exp > known.exp {
            self.expiries.remove(&(known.exp, holder));
            self.expiries.insert((claims.exp, holder));
            known.exp = claims.exp;
            if known.kid != claims.kid {
                remove_from(&mut self.by_kid, &known.kid, &holder);
                self.by_kid.entry(Arc::clone(&claims.kid)).or_default().insert(holder);
                known.kid = Arc::clone(&claims.kid);
            }
        }
        if claims.claims_version <= known.claims_version {
            return Vec::new();
        }
        known.claims_version = claims.claims_version;
        let has_older_claims = |entry: &Entry| {
            let version = entry.session.and_then(|session| session.claims_version);
            version.is_some() && version < claims.claims_version
        };
        known.entries.extract_if(|_, entry| has_older_claims(entry)).map(|(_, entry)| entry).collect()
    }

    fn add_holder(&mut self, holder: Holder, session: Option<Session>, claims: &Claims) {
        if let Some(session) = session {
            self.by_account.entry(session.account).or_default().insert(session.id);
        }
        self.by_kid.entry(Arc::clone(&claims.kid)).or_default().insert(holder);
        self.expiries.insert((claims.exp, holder));
        let registrations = Registrations {
            account: session.map(|session| session.account),
            client_id: claims.client_id.clone(),
            exp: claims.exp,
            kid: Arc::clone(&claims.kid),
            claims_version: claims.claims_version,
            entries: HashMap::new(),
        };
        self.holders.insert(holder, registrations);
    }

    /// Removes and returns the registrations of a holder for which `ends` returns true. Removes the holder with its last registration.
    fn take(&mut self, holder: Holder, mut ends: impl FnMut(u64, &Entry) -> bool) -> Vec<Entry> {
        let Some(known) = self.holders.get_mut(&holder) else { return Vec::new() };
        let taken = known.entries.extract_if(|number, entry| ends(*number, entry)).map(|(_, entry)| entry).collect();
        if known.entries.is_empty() {
            self.forget(holder);
        } else {
            shrink(&mut known.entries);
        }
        taken
    }

    fn take_of_account(&mut self, account: Id, ends: impl Fn(&Session) -> bool) -> Vec<Entry> {
        let sessions = self.by_account.get(&account).cloned().unwrap_or_default();
        let ends = |_: u64, entry: &Entry| entry.session.is_some_and(|session| ends(&session));
        sessions.into_iter().flat_map(|id| self.take(Holder::Session(id), ends)).collect()
    }

    fn take_of_kid(&mut self, kid: &str) -> Vec<Entry> {
        let holders = self.by_kid.get(kid).cloned().unwrap_or_default();
        holders.into_iter().flat_map(|holder| self.take(holder, |_, _| true)).collect()
    }

    fn take_everywhere(&mut self, ends: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let holders: Vec<_> = self.holders.keys().copied().collect();
        holders.into_iter().flat_map(|holder| self.take(holder, |_, entry| ends(entry))).collect()
    }

    /// Removes a holder that has no registration left.
    fn forget(&mut self, holder: Holder) {
        let Some(known) = self.holders.remove(&holder) else { return };
        shrink(&mut self.holders);
        if let (Holder::Session(id), Some(account)) = (holder, known.account) {
            remove_from(&mut self.by_account, &account, &id);
        }
        remove_from(&mut self.by_kid, &known.kid, &holder);
        self.expiries.remove(&(known.exp, holder));
    }
}

/// Removes a value from the set of a key, and the key with its last value.
fn remove_from<K, V>(map: &mut HashMap<K, HashSet<V>>, key: &K, value: &V)
where
    K: Eq + std::hash::Hash,
    V: Eq + std::hash::Hash,
{
    let Some(set) = map.get_mut(key) else { return };
    set.remove(value);
    // The set shrinks by the rule of `shrink`, which takes maps only.
    if set.is_empty() {
        map.remove(key);
        shrink(map);
    } else if set.capacity() > 64 && set.capacity() / 4 > set.len() {
        set.shrink_to(set.len() * 2);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("session", &self.session).field("since", &self.since).finish_non_exhaustive()
    }
}
