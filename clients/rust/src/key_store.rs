//! A cache of the issuer's public keys. Keys are refetched when they expire or a token names an unknown key, and retired
//! when the revocation feed says so.

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
    http::{Http, fetch_error},
    jwk::{self, Key},
};

/// How long keys are cached if the issuer sends no `max-age`, and the bounds for its `max-age`.
const DEFAULT_AGE: Duration = Duration::from_mins(5);
const MIN_AGE: Duration = Duration::from_secs(10);
const MAX_AGE: Duration = Duration::from_hours(1);

/// The pause after a failed fetch.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The maximum number of retired keys that are remembered.
const MAX_RETIRED: usize = 1024;

/// The minimum time for which a retired key is remembered. A key is not forgotten while the issuer still publishes it.
const RETIRED_TTL_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// The cached keys of one issuer.
#[derive(Debug)]
pub(crate) struct KeyStore {
    url: Url,
    /// The minimum time between two fetches because of an unknown key.
    miss_interval: Duration,
    state: RwLock<State>,
    /// When the keys expire, or a failed fetch is retried, by [`Clock::elapsed`], in milliseconds.
    expires_at: AtomicI64,
    /// Locked during a fetch.
    last_fetch: Mutex<LastFetch>,
    /// Wakes [`KeyStore::run_refresher`].
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    keys: HashMap<String, Arc<Key>>,
    /// Retired keys. They stay untrusted even if an old JWK set still lists them.
    retired: HashMap<String, Retired>,
}

#[derive(Debug)]
struct Retired {
    /// The time of the retirement, in milliseconds since the Unix epoch.
    at: i64,
    /// Whether the latest JWK set still lists the key.
    listed: bool,
}

/// The outcome of the latest fetch.
#[derive(Debug, Default)]
struct LastFetch {
    /// When the fetch began, by [`Clock::elapsed`].
    at: Option<Duration>,
    succeeded: bool,
}

/// The result of a key lookup.
#[derive(Debug)]
pub(crate) enum Lookup {
    Found(Arc<Key>),
    Retired,
    Unknown,
}

impl KeyStore {
    /// Creates a store without keys; [`KeyStore::fetch`] fills it.
    pub(crate) fn new(url: Url, miss_interval: Duration) -> Self {
        Self {
            url,
            miss_interval,
            state: RwLock::default(),
            expires_at: AtomicI64::new(0),
            last_fetch: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub(crate) fn look_up(&self, kid: &str) -> Lookup {
        let state = self.read();
        match state.keys.get(kid) {
            Some(key) => Lookup::Found(Arc::clone(key)),
            None if state.retired.contains_key(kid) => Lookup::Retired,
            None => Lookup::Unknown,
        }
    }

    /// The number of trusted keys.
    pub(crate) fn len(&self) -> usize {
        self.read().keys.len()
    }

    /// Fetches the keys.
    pub(crate) async fn fetch(&self, http: &Http, clock: &dyn Clock) -> Result<(), FetchError> {
        let mut last_fetch = self.last_fetch.lock().await;
        self.fetch_now(http, clock, &mut last_fetch).await
    }

    /// Refetches the keys because `kid` is not among them, at most once per `miss_interval`. Returns false if the
    /// latest fetch failed: the issuer may have the key nevertheless.
    pub(crate) async fn refetch_on_miss(&self, kid: &str, http: &Http, clock: &dyn Clock) -> bool {
        let mut last_fetch = self.last_fetch.lock().await;
        // Another caller may have fetched the key while this one waited for the lock.
        if matches!(self.look_up(kid), Lookup::Found(_) | Lookup::Retired) {
            return true;
        }
        if last_fetch.at.is_some_and(|at| clock.elapsed().saturating_sub(at) < self.miss_interval) {
            return last_fetch.succeeded;
        }
        self.fetch_now(http, clock, &mut last_fetch).await.is_ok()
    }

    async fn fetch_now(&self, http: &Http, clock: &dyn Clock, last_fetch: &mut LastFetch) -> Result<(), FetchError> {
        // Set before the fetch: if the caller is dropped, the rest of this function does not run.
        *last_fetch = LastFetch { at: Some(clock.elapsed()), succeeded: false };
        let fetch = async {
            let answer = http.get(&self.url).await?;
            let keys = jwk::parse_jwk_set(&answer.body)
                .ok_or_else(|| fetch_error(&self.url, "the response is not a JWK set"))?;
            Ok((keys, answer.max_age))
        };
        let (next_fetch_in, outcome) = match fetch.await {
            Ok((keys, max_age)) => {
                self.replace(keys);
                last_fetch.succeeded = true;
                (max_age.unwrap_or(DEFAULT_AGE).clamp(MIN_AGE, MAX_AGE), Ok(()))
            }
            Err(error) => (RETRY_INTERVAL, Err(error)),
        };
        self.expires_at.store(millis(clock.elapsed().saturating_add(next_fetch_in)), Ordering::Release);
        outcome
    }

    /// Replaces the key set. Keys that the new set doesn't list are no longer trusted.
    pub(crate) fn replace(&self, keys: Vec<Key>) {
        let mut state = self.write();
        let mut former = std::mem::take(&mut state.keys);
        state.retired.values_mut().for_each(|retired| retired.listed = false);
        for key in keys {
            if let Some(retired) = state.retired.get_mut(key.kid()) {
                retired.listed = true;
                continue;
            }
            let key = match former.remove(key.kid()) {
                // The same object stays, because cached tokens refer to it.
                Some(current) if current.is_same_as(&key) => current,
                Some(other) => {
                    other.distrust();
                    Arc::new(key)
                }
                None => Arc::new(key),
            };
            state.keys.insert(key.kid().to_owned(), key);
        }
        former.into_values().for_each(|key| key.distrust());
    }

    /// Retires a key; `at` in milliseconds since the Unix epoch. Returns false if there is no room to remember it: the next
    /// JWK set that lists the key would then restore it.
    #[must_use]
    pub(crate) fn retire(&self, kid: &str, at: i64) -> bool {
        let mut state = self.write();
        let trusted = state.keys.remove(kid);
        if let Some(key) = &trusted {
            key.distrust();
        }
        if let Some(retired) = state.retired.get_mut(kid) {
            retired.at = retired.at.max(at);
            return true;
        }
        if state.retired.len() >= MAX_RETIRED {
            state.retired.retain(|_, retired| retired.listed || retired.at > at - RETIRED_TTL_MILLIS);
        }
        let has_room = state.retired.len() < MAX_RETIRED;
        if has_room {
            state.retired.insert(kid.to_owned(), Retired { at, listed: trusted.is_some() });
        }
        has_room
    }

    /// Wakes [`KeyStore::run_refresher`] if the keys have expired. The refresher's timer runs in real time, not by the [`Clock`] of a test.
    pub(crate) fn refresh_if_expired(&self, elapsed: Duration) {
        if millis(elapsed) >= self.expires_at.load(Ordering::Acquire) {
            self.wake.notify_one();
        }
    }

    /// Refetches the keys whenever they expire; never returns. While the issuer can't be reached, the cached keys stay in
    /// use.
    pub(crate) async fn run_refresher(&self, http: &Http, clock: &dyn Clock) {
        loop {
            let left_millis = self.expires_at.load(Ordering::Acquire).saturating_sub(millis(clock.elapsed()));
            let left = Duration::from_millis(left_millis.max(0).unsigned_abs());
            // the check below decides, after a wake-up as well as after the timeout
            let _ = tokio::time::timeout(left, self.wake.notified()).await;
            if millis(clock.elapsed()) >= self.expires_at.load(Ordering::Acquire)
                && let Err(error) = self.fetch(http, clock).await
            {
                tracing::warn!(%error, "can't fetch the issuer's keys: the cached keys stay in use");
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
        let miss_interval = Duration::from_secs(1);
        KeyStore::new("https://auth.example.com/jwks".parse().unwrap(), miss_interval)
    }

    fn key(signing: &SigningKey) -> Key {
        jwk::parse_jwk_set(format!(r#"{{"keys":[{}]}}"#, signing.public_jwk()).as_bytes()).unwrap().pop().unwrap()
    }

    fn find(store: &KeyStore, signing: &SigningKey) -> Option<Arc<Key>> {
        match store.look_up(signing.kid()) {
            Lookup::Found(key) => Some(key),
            Lookup::Retired | Lookup::Unknown => None,
        }
    }

    #[test]
    fn key_missing_from_new_set_is_no_longer_trusted() {
        let store = store();
        let removed = SigningKey::generate(Algorithm::Es256).unwrap();
        let kept = SigningKey::generate(Algorithm::EdDsa).unwrap();
        store.replace(vec![key(&removed), key(&kept)]);
        let (removed_key, kept_key) = (find(&store, &removed).unwrap(), find(&store, &kept).unwrap());
        store.replace(vec![key(&kept)]);
        assert!(!removed_key.is_trusted());
        assert!(kept_key.is_trusted());
        assert!(find(&store, &removed).is_none());
        assert!(Arc::ptr_eq(&kept_key, &find(&store, &kept).unwrap()), "the same object");
        store.replace(vec![]);
        assert!(!kept_key.is_trusted());
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn retired_key_in_old_set_stays_retired() {
        let (store, one) = (store(), SigningKey::generate(Algorithm::Es256).unwrap());
        store.replace(vec![key(&one)]);
        let before = find(&store, &one).unwrap();
        let retired_at = 7;
        assert!(store.retire(one.kid(), retired_at));
        assert!(!before.is_trusted());
        store.replace(vec![key(&one)]);
        assert!(matches!(store.look_up(one.kid()), Lookup::Retired));
    }

    #[test]
    fn different_key_with_same_id_replaces_the_first() {
        let (store, one) = (store(), SigningKey::generate(Algorithm::Es256).unwrap());
        store.replace(vec![key(&one)]);
        let before = find(&store, &one).unwrap();
        let other = SigningKey::generate(Algorithm::Es256).unwrap();
        let mut other: serde_json::Value = serde_json::from_str(other.public_jwk()).unwrap();
        other["kid"] = one.kid().into();
        store.replace(jwk::parse_jwk_set(format!(r#"{{"keys":[{other}]}}"#).as_bytes()).unwrap());
        assert!(!before.is_trusted());
        assert!(find(&store, &one).unwrap().is_trusted());
    }

    #[test]
    fn retired_keys_are_bounded() {
        let store = store();
        for kid in 0..MAX_RETIRED {
            let has_room = store.retire(&kid.to_string(), 0);
            assert!(has_room, "{kid}");
        }
        // A second retirement of the key "0" renews its time: 1 instead of 0.
        assert!(store.retire("0", 1));
        // From RETIRED_TTL_MILLIS on, the store may forget the keys that were retired at the time 0.
        assert!(!store.retire("one more", RETIRED_TTL_MILLIS - 1));
        assert!(store.retire("one more", RETIRED_TTL_MILLIS));
        assert!(matches!(store.look_up("0"), Lookup::Retired));
        assert!(matches!(store.look_up("1"), Lookup::Unknown));
    }
}
