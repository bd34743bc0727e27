//! The issuer's keys as they are known here: looked up by name, fetched anew when their time is over or an unknown one is
//! named, and retired when the feed says so.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use reqwest::Url;
use tokio::sync::{Mutex, Notify};

use crate::{
    clock::{Clock, millis},
    error::FetchError,
    http::{Http, failed},
    jwk::{self, Key},
};

/// How long keys are kept if the issuer doesn't say, and within which bounds what it says is followed.
const USUAL_AGE: Duration = Duration::from_mins(5);
const MIN_AGE: Duration = Duration::from_secs(10);
const MAX_AGE: Duration = Duration::from_hours(1);

/// How soon it is tried again when the keys couldn't be had.
const RETRY: Duration = Duration::from_secs(5);

/// More keys than that no issuer retires in a day.
const MAX_RETIRED: usize = 1024;

/// How long a retired key is remembered at least, in milliseconds; longer while the issuer still lists it.
const DAY: i64 = 86_400_000;

/// The keys.
#[derive(Debug)]
pub(crate) struct KeyStore {
    url: Url,
    /// How much time there is at least between two looks for an unknown key.
    interval: Duration,
    state: RwLock<State>,
    /// When they are to be fetched anew, by [`Clock::elapsed`], in milliseconds.
    due: AtomicI64,
    /// Held while they are fetched.
    last: Mutex<Last>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    keys: HashMap<String, Arc<Key>>,
    /// Keys taken out of use: not believed again, even where an old set of keys still lists them.
    retired: HashMap<String, Retired>,
}

#[derive(Debug)]
struct Retired {
    /// When, in milliseconds since the Unix epoch.
    at: i64,
    /// Whether the latest set of keys lists it nonetheless.
    listed: bool,
}

/// The last time that the keys were fetched.
#[derive(Debug, Default)]
struct Last {
    at: Option<Duration>,
    succeeded: bool,
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) enum Lookup {
    Known(Arc<Key>),
    Retired,
    Unknown,
}

impl KeyStore {
    /// Empty until [`KeyStore::fetch`] succeeds.
    pub(crate) fn new(url: Url, interval: Duration) -> Self {
        Self {
            url,
            interval,
            state: RwLock::default(),
            due: AtomicI64::new(0),
            last: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub(crate) fn look_up(&self, kid: &str) -> Lookup {
        let state = self.read();
        match state.keys.get(kid) {
            Some(key) => Lookup::Known(Arc::clone(key)),
            None if state.retired.contains_key(kid) => Lookup::Retired,
            None => Lookup::Unknown,
        }
    }

    /// How many keys are believed.
    pub(crate) fn len(&self) -> usize {
        self.read().keys.len()
    }

    /// Fetches the keys.
    pub(crate) async fn fetch(&self, http: &Http, clock: &dyn Clock) -> Result<(), FetchError> {
        let mut last = self.last.lock().await;
        self.fetch_now(http, clock, &mut last).await
    }

    /// Fetches the keys because `kid` is not among them; not again if that was done a moment ago. False if it couldn't be
    /// done, so that the key may exist nonetheless.
    pub(crate) async fn look_for(&self, kid: &str, http: &Http, clock: &dyn Clock) -> bool {
        let mut last = self.last.lock().await;
        if matches!(self.look_up(kid), Lookup::Known(_) | Lookup::Retired) {
            return true;
        }
        if last.at.is_some_and(|at| clock.elapsed().saturating_sub(at) < self.interval) {
            return last.succeeded;
        }
        self.fetch_now(http, clock, &mut last).await.is_ok()
    }

    async fn fetch_now(&self, http: &Http, clock: &dyn Clock, last: &mut Last) -> Result<(), FetchError> {
        // written first, since a caller that goes away cancels the rest
        *last = Last { at: Some(clock.elapsed()), succeeded: false };
        let fetched = async {
            let answer = http.get(&self.url).await?;
            let keys = jwk::read_set(&answer.body).ok_or_else(|| failed(&self.url, "it is no set of keys"))?;
            Ok((keys, answer.max_age))
        };
        let (age, outcome) = match fetched.await {
            Ok((keys, age)) => {
                self.install(keys);
                last.succeeded = true;
                (age.unwrap_or(USUAL_AGE).clamp(MIN_AGE, MAX_AGE), Ok(()))
            }
            Err(error) => (RETRY, Err(error)),
        };
        self.due.store(millis(clock.elapsed().saturating_add(age)), Ordering::Release);
        outcome
    }

    /// Puts a set of keys in the place of that before: what it doesn't list is not believed any more.
    fn install(&self, keys: Vec<Key>) {
        let mut state = self.write();
        let mut before = std::mem::take(&mut state.keys);
        state.retired.values_mut().for_each(|retired| retired.listed = false);
        for key in keys {
            if let Some(retired) = state.retired.get_mut(key.kid()) {
                retired.listed = true;
                continue;
            }
            let key = match before.remove(key.kid()) {
                Some(known) if known.is_same_as(&key) => known,
                Some(other) => {
                    other.disbelieve();
                    Arc::new(key)
                }
                None => Arc::new(key),
            };
            state.keys.insert(key.kid().to_owned(), key);
        }
        before.into_values().for_each(|gone| gone.disbelieve());
    }

    /// Takes a key out of use; `at` in milliseconds since the Unix epoch. False if there are too many to remember.
    #[must_use]
    pub(crate) fn retire(&self, kid: &str, at: i64) -> bool {
        let mut state = self.write();
        let believed = state.keys.remove(kid);
        if let Some(key) = &believed {
            key.disbelieve();
        }
        if let Some(known) = state.retired.get_mut(kid) {
            known.at = known.at.max(at);
            return true;
        }
        if state.retired.len() >= MAX_RETIRED {
            state.retired.retain(|_, retired| retired.listed || retired.at > at - DAY);
        }
        let room = state.retired.len() < MAX_RETIRED;
        if room {
            state.retired.insert(kid.to_owned(), Retired { at, listed: believed.is_some() });
        }
        room
    }

    /// Whether their time is over; then [`KeyStore::keep_fresh`] is told.
    pub(crate) fn remind(&self, elapsed: Duration) {
        if millis(elapsed) >= self.due.load(Ordering::Acquire) {
            self.wake.notify_one();
        }
    }

    /// Fetches the keys whenever their time is over, for ever. Those there are stay while the issuer can't be reached.
    pub(crate) async fn keep_fresh(&self, http: &Http, clock: &dyn Clock) {
        loop {
            let left = self.due.load(Ordering::Acquire).saturating_sub(millis(clock.elapsed()));
            let left = Duration::from_millis(left.max(0).unsigned_abs());
            let _ = tokio::time::timeout(left, self.wake.notified()).await;
            if millis(clock.elapsed()) >= self.due.load(Ordering::Acquire)
                && let Err(error) = self.fetch(http, clock).await
            {
                tracing::warn!(%error, "the issuer's keys can't be fetched; those known stay in use");
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use latchkey::{crypto::signing_key::SigningKey, domain::key::Algorithm};

    use super::*;

    fn store() -> KeyStore {
        KeyStore::new("https://auth.example.com/jwks".parse().unwrap(), Duration::from_secs(1))
    }

    fn key(signing: &SigningKey) -> Key {
        jwk::read_set(format!(r#"{{"keys":[{}]}}"#, signing.public_jwk()).as_bytes()).unwrap().pop().unwrap()
    }

    fn known(store: &KeyStore, signing: &SigningKey) -> Option<Arc<Key>> {
        match store.look_up(signing.kid()) {
            Lookup::Known(key) => Some(key),
            Lookup::Retired | Lookup::Unknown => None,
        }
    }

    #[test]
    fn what_is_not_listed_any_more_is_not_believed_and_what_is_stays_the_same() {
        let (store, one, other) =
            (store(), SigningKey::generate(Algorithm::Es256).unwrap(), SigningKey::generate(Algorithm::EdDsa).unwrap());
        store.install(vec![key(&one), key(&other)]);
        let (first, second) = (known(&store, &one).unwrap(), known(&store, &other).unwrap());
        store.install(vec![key(&other)]);
        assert!(!first.is_believed() && second.is_believed());
        assert!(known(&store, &one).is_none());
        assert!(Arc::ptr_eq(&second, &known(&store, &other).unwrap()));
        store.install(vec![]);
        assert!(!second.is_believed());
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn a_retired_key_stays_so_whatever_old_set_lists_it() {
        let (store, one) = (store(), SigningKey::generate(Algorithm::Es256).unwrap());
        store.install(vec![key(&one)]);
        let before = known(&store, &one).unwrap();
        assert!(store.retire(one.kid(), 7));
        assert!(!before.is_believed());
        store.install(vec![key(&one)]);
        assert!(matches!(store.look_up(one.kid()), Lookup::Retired));
    }

    #[test]
    fn another_key_under_the_same_name_does_not_stand_for_the_first() {
        let (store, one) = (store(), SigningKey::generate(Algorithm::Es256).unwrap());
        store.install(vec![key(&one)]);
        let before = known(&store, &one).unwrap();
        let other = SigningKey::generate(Algorithm::Es256).unwrap().public_jwk().to_owned();
        let mut other: serde_json::Value = serde_json::from_str(&other).unwrap();
        other["kid"] = one.kid().into();
        store.install(jwk::read_set(format!(r#"{{"keys":[{other}]}}"#).as_bytes()).unwrap());
        assert!(!before.is_believed());
        assert!(known(&store, &one).unwrap().is_believed());
    }

    #[test]
    fn there_is_a_bound_to_the_retired_ones() {
        let store = store();
        assert!((0..MAX_RETIRED).all(|number| store.retire(&number.to_string(), 0)));
        assert!(store.retire("0", 1));
        assert!(!store.retire("one more", DAY - 1));
        assert!(store.retire("one more", DAY));
        assert!(matches!(store.look_up("0"), Lookup::Retired) && matches!(store.look_up("1"), Lookup::Unknown));
    }
}
