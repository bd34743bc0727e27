//! Which records must change so that another key signs, or one is no longer believed. Only plans: SQL carries them out.
//!
//! A new key is published some time before it signs, so that those who keep our JWK set know it by then. The key that
//! signed before it is believed until the last token that it can have signed has expired on every clock.

use std::time::Duration;

use super::key_ring::is_believed;
use crate::{
    config::{KeySettings, TokenSettings},
    domain::{clock::Timestamp, key::StoredKey},
};

/// When a new key begins to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// When it has been published for long enough to be known.
    WhenKnown,
    /// At once. For emergencies: until they look again, other nodes and services refuse what it signs.
    Now,
}

/// How long the steps of a rotation take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From being published to signing.
    pub publish_before: Duration,
    /// From being superseded to being believed no more: an access token's life, what clocks may differ by, and the time
    /// a node may take to notice that another key signs.
    pub overlap: Duration,
}

impl Timing {
    /// As it is configured.
    pub fn new(keys: &KeySettings, tokens: &TokenSettings) -> Self {
        Self { publish_before: keys.publish_before, overlap: tokens.access_ttl + tokens.leeway + keys.refresh_interval }
    }
}

/// What a rotation writes, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationPlan {
    /// The record to insert.
    pub new: StoredKey,
    /// The records to change.
    pub ends: Vec<End>,
}

/// A record's new [`StoredKey::verifies_until`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Which record.
    pub kid: String,
    /// Until when what it signed is believed.
    pub verifies_until: Timestamp,
}

/// Why a key can't be retired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    /// There is no such key.
    #[error("there is no signing key {0}: `latchkey keys list` shows them")]
    Unknown(String),
    /// Nothing could sign without it.
    #[error("no other key can sign in place of {0}: run `latchkey keys rotate --now` first")]
    OnlySigner(String),
}

/// Fits `new`, made by [`super::key_ring::seal_key`], in with the keys in `stored`. Where nothing signs at `now`, it
/// signs at once.
pub fn plan_rotation(
    stored: &[StoredKey],
    mut new: StoredKey,
    start: Start,
    timing: Timing,
    now: Timestamp,
) -> RotationPlan {
    let believed = || stored.iter().filter(|key| is_believed(key.verifies_until, now));
    new.signs_from = match start {
        Start::WhenKnown if believed().any(|key| key.signs_from <= now) => now + timing.publish_before,
        _ => now,
    };
    let superseded = new.signs_from + timing.overlap;
    let ends = believed()
        .map(|key| {
            // One that was to sign later than the new one never will. It would take over again.
            let until = if key.signs_from > new.signs_from { now } else { superseded };
            (key, until)
        })
        .filter(|(key, until)| key.verifies_until.is_none_or(|already| *until < already))
        .map(|(key, verifies_until)| End { kid: key.kid.clone(), verifies_until })
        .collect();
    RotationPlan { new, ends }
}

/// Ends the belief in a key at once: everything it signed is refused from `now` on. For a key that got into wrong hands.
/// A key that nobody believes any more stays as it is.
///
/// # Errors
/// [`RetireError`]
pub fn plan_retirement(stored: &[StoredKey], kid: &str, now: Timestamp) -> Result<End, RetireError> {
    let key = stored.iter().find(|key| key.kid == kid).ok_or_else(|| RetireError::Unknown(kid.to_owned()))?;
    if let Some(until) = key.verifies_until.filter(|&until| until <= now) {
        return Ok(End { kid: kid.to_owned(), verifies_until: until });
    }
    if !stored.iter().any(|other| other.kid != kid && other.verifies_until.is_none() && other.signs_from <= now) {
        return Err(RetireError::OnlySigner(kid.to_owned()));
    }
    Ok(End { kid: kid.to_owned(), verifies_until: now })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::key_ring::{
            KeyRing,
            testing::{at, ring, stored},
        },
        domain::key::Algorithm,
    };

    const TIMING: Timing = Timing { publish_before: Duration::from_secs(600), overlap: Duration::from_secs(400) };

    /// Carries a rotation out, as SQL would; gives the new key's id.
    fn rotate(keys: &mut Vec<StoredKey>, start: Start, now: i64) -> String {
        let plan = plan_rotation(keys, stored(Algorithm::Es256, now), start, TIMING, at(now));
        for end in plan.ends {
            apply(keys, end);
        }
        keys.push(plan.new);
        keys.last().unwrap().kid.clone()
    }

    fn apply(keys: &mut [StoredKey], end: End) {
        keys.iter_mut().find(|key| key.kid == end.kid).unwrap().verifies_until = Some(end.verifies_until);
    }

    fn signer(ring: &KeyRing, now: i64) -> String {
        ring.signer(at(now)).unwrap().kid().to_owned()
    }

    #[test]
    fn the_first_key_signs_at_once() {
        for start in [Start::WhenKnown, Start::Now] {
            let mut keys = Vec::new();
            let first = rotate(&mut keys, start, 0);
            assert_eq!((keys[0].created_at, keys[0].signs_from, keys[0].verifies_until), (at(0), at(0), None));
            assert_eq!(signer(&ring(&keys, at(0)), 0), first);
        }
    }

    #[test]
    fn the_next_key_is_published_before_it_signs_and_the_old_one_believed_after() {
        let mut keys = Vec::new();
        let old = rotate(&mut keys, Start::WhenKnown, 0);
        let new = rotate(&mut keys, Start::WhenKnown, 1000);
        let ring = ring(&keys, at(1000));
        assert!(ring.verification_key(&new, at(1000)).is_some());
        assert_eq!([1000, 1599, 1600, 9999].map(|now| signer(&ring, now)), [&old, &old, &new, &new].map(Clone::clone));
        // What the old key signed in the last moment lives 400 s more.
        assert!(ring.verification_key(&old, at(1999)).is_some());
        assert!(ring.verification_key(&old, at(2000)).is_none());
    }

    #[test]
    fn a_token_is_believed_for_its_life_whatever_rotations_come() {
        use Start::{Now, WhenKnown};
        let schedules: [&[(i64, Start)]; 5] = [
            &[(100, WhenKnown), (200, WhenKnown), (300, WhenKnown)],
            &[(100, WhenKnown), (200, Now), (900, WhenKnown)],
            &[(100, Now), (100, Now), (101, WhenKnown)],
            &[(100, WhenKnown), (699, Now), (700, Now)],
            &[(100, WhenKnown), (700, WhenKnown), (1301, WhenKnown), (1302, Now)],
        ];
        for schedule in schedules {
            let mut keys = Vec::new();
            rotate(&mut keys, Now, 0);
            let mut signed = Vec::new();
            for now in 0..3000 {
                for &(_, start) in schedule.iter().filter(|(at, _)| *at == now) {
                    rotate(&mut keys, start, now);
                }
                let ring = ring_of_records(&keys);
                signed.push((ring(now), now));
                for (kid, when) in &signed {
                    let key = keys.iter().find(|key| key.kid == *kid).unwrap();
                    if now < when + 400 {
                        assert!(is_believed(key.verifies_until, at(now)), "{schedule:?}: {when}, {now}");
                    }
                }
                signed.retain(|(_, when)| now < when + 400);
            }
            assert_eq!(keys.iter().filter(|key| key.verifies_until.is_none()).count(), 1);
        }
    }

    /// [`KeyRing::signer`]'s rule, without opening keys a thousand times.
    fn ring_of_records(keys: &[StoredKey]) -> impl Fn(i64) -> String {
        move |now| {
            let believed = keys.iter().filter(|key| is_believed(key.verifies_until, at(now)));
            let begun = believed.filter(|key| key.signs_from <= at(now));
            begun.max_by_key(|key| (key.signs_from, key.verifies_until.is_none())).unwrap().kid.clone()
        }
    }

    #[test]
    fn in_an_emergency_a_key_signs_at_once_and_one_in_waiting_never_does() {
        let mut keys = Vec::new();
        let old = rotate(&mut keys, Start::WhenKnown, 0);
        let waiting = rotate(&mut keys, Start::WhenKnown, 1000);
        let new = rotate(&mut keys, Start::Now, 1100);
        let ring = ring(&keys, at(1100));
        assert_eq!([1100, 1600, 9999].map(|now| signer(&ring, now)), [&new, &new, &new].map(Clone::clone));
        assert!(ring.verification_key(&waiting, at(1100)).is_none());
        assert!(ring.verification_key(&old, at(1499)).is_some());
        assert!(ring.verification_key(&old, at(1500)).is_none());
    }

    #[test]
    fn of_two_keys_made_in_the_same_moment_the_later_signs() {
        for _ in 0..8 {
            let mut keys = Vec::new();
            rotate(&mut keys, Start::Now, 0);
            let new = rotate(&mut keys, Start::Now, 0);
            assert_eq!(signer(&ring(&keys, at(0)), 0), new);
        }
    }

    #[test]
    fn a_retired_key_is_refused_at_once() {
        let mut keys = Vec::new();
        let stolen = rotate(&mut keys, Start::WhenKnown, 0);
        let new = rotate(&mut keys, Start::Now, 1000);
        let end = plan_retirement(&keys, &stolen, at(1001)).unwrap();
        apply(&mut keys, end);
        let ring = ring(&keys, at(1001));
        assert!(ring.verification_key(&stolen, at(1001)).is_none());
        assert_eq!(signer(&ring, 1001), new);
        let again = plan_retirement(&keys, &stolen, at(2000)).unwrap();
        assert_eq!(again, End { kid: stolen, verifies_until: at(1001) });
    }

    #[test]
    fn the_only_key_that_can_sign_is_not_retired() {
        let mut keys = Vec::new();
        let first = rotate(&mut keys, Start::WhenKnown, 0);
        assert_eq!(plan_retirement(&keys, &first, at(1)), Err(RetireError::OnlySigner(first.clone())));
        // The next one doesn't sign yet, and the first won't for long.
        let next = rotate(&mut keys, Start::WhenKnown, 1000);
        assert_eq!(plan_retirement(&keys, &first, at(1001)), Err(RetireError::OnlySigner(first.clone())));
        assert_eq!(plan_retirement(&keys, &next, at(1001)), Err(RetireError::OnlySigner(next.clone())));
        // It signs now.
        assert!(plan_retirement(&keys, &first, at(1600)).is_ok());
        assert_eq!(plan_retirement(&keys, &next, at(1600)), Err(RetireError::OnlySigner(next)));
        assert_eq!(plan_retirement(&keys, "?", at(1600)), Err(RetireError::Unknown("?".to_owned())));
    }
}
