//! Caches which account has the identifier that was typed at a login: the login throttle counts failures by account.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::domain::{bounded_map::BoundedMap, clock::Timestamp, ids::AccountId};

/// The maximum number of identifiers that are kept.
const MAX_ENTRIES: usize = 16_384;

/// How long an entry is used. For at most this long after an account is registered, renamed or deleted, failures count under the
/// former subject.
const TTL: Duration = Duration::from_secs(10);

/// The accounts of recently typed identifiers, by keyed digest. Repeated logins that the throttle refuses cost no database
/// query. Holds identifiers with and without an account alike, so that neither is faster.
#[derive(Debug)]
pub(crate) struct LoginSubjects {
    by_digest: Mutex<BoundedMap<String, CachedSubject>>,
}

#[derive(Clone, Copy, Debug)]
struct CachedSubject {
    subject: LoginSubject,
    looked_up_at: Timestamp,
}

/// The subject under which failures at an identifier are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginSubject {
    /// The account that has the identifier.
    Account(AccountId),
    /// The identifier itself: no account has it.
    Identifier,
}

impl Default for LoginSubjects {
    fn default() -> Self {
        Self { by_digest: Mutex::new(BoundedMap::new(MAX_ENTRIES)) }
    }
}

impl LoginSubjects {
    /// The subject of the identifier with this keyed digest, if it was looked up recently.
    pub(crate) fn get(&self, digest: &str, now: Timestamp) -> Option<LoginSubject> {
        let mut by_digest = self.by_digest.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = *by_digest.get(digest)?;
        (now.saturating_since(cached.looked_up_at) < TTL).then_some(cached.subject)
    }

    /// Keeps the result of a look-up.
    pub(crate) fn insert(&self, digest: &str, subject: LoginSubject, now: Timestamp) {
        let cached = CachedSubject { subject, looked_up_at: now };
        let mut by_digest = self.by_digest.lock().unwrap_or_else(PoisonError::into_inner);
        by_digest.insert(digest.to_owned(), cached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_subject_is_used_until_its_ttl_ends() {
        let subjects = LoginSubjects::default();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let account = LoginSubject::Account(AccountId::from_bytes([7; 16]));
        // The names stand for digests.
        assert_eq!(subjects.get("ada", now), None);
        subjects.insert("ada", account, now);
        subjects.insert("nobody", LoginSubject::Identifier, now);
        assert_eq!(subjects.get("ada", now), Some(account));
        assert_eq!(subjects.get("nobody", now), Some(LoginSubject::Identifier));
        assert_eq!(subjects.get("ada", now + (TTL - Duration::from_millis(1))), Some(account));
        assert_eq!(subjects.get("ada", now + TTL), None);
    }
}
