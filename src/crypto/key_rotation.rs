//! Plans for key rotation and retirement: which rows to insert and change. The SQL store carries the plans out.
//!
//! A new key is published before it signs, so that verifiers that cache the JWK set have fetched it by then. The superseded key stays
//! trusted until its last token has expired by every node's clock.

use std::time::Duration;

use super::key_ring::is_trusted;
use crate::{
    config::{KeySettings, TokenSettings},
    domain::{clock::Timestamp, key::StoredKey},
};

/// When a new key starts to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningStart {
    /// After `keys.publish_before`, when verifiers have fetched it.
    AfterPublication,
    /// At once, for emergencies. Other nodes and services refuse the tokens of the key until they fetch the key.
    Now,
}

/// The durations of a rotation.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From publication to the start of signing.
    pub publish_before: Duration,
    /// From the end of signing to the end of trust: the sum of the lifetime of an access token, the tolerated clock difference, and
    /// the time until every node has reloaded the keys.
    pub overlap: Duration,
}

impl Timing {
    /// The configured durations.
    pub fn new(keys: &KeySettings, tokens: &TokenSettings) -> Self {
        Self { publish_before: keys.publish_before, overlap: tokens.access_ttl + tokens.leeway + keys.refresh_interval }
    }
}

/// The changes of a rotation, to be written in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationPlan {
    /// The row to insert.
    pub new: StoredKey,
    /// The keys to which this rotation gives an end of trust, or an earlier one.
    pub ends: Vec<TrustEnd>,
}

/// A new end of trust in a key ([`StoredKey::verifies_until`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustEnd {
    /// The key's id.
    pub kid: String,
    /// The end of trust.
    pub verifies_until: Timestamp,
}

/// Why a key is not retired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    /// No key has this id.
    #[error("there is no signing key {0}: `latchkey keys list` shows them")]
    Unknown(String),
    /// No other key could sign.
    #[error("no other key can sign in place of {0}: run `latchkey keys rotate --now` first")]
    OnlySigner(String),
}

/// Schedules the key `new`, made by [`super::key_ring::seal_key`], among the stored keys. The new key signs at once if no other key
/// signs at `now`.
pub fn plan_rotation(
    stored: &[StoredKey],
    mut new: StoredKey,
    start: SigningStart,
    timing: Timing,
    now: Timestamp,
) -> RotationPlan {
    let trusted = || stored.iter().filter(|key| is_trusted(key.verifies_until, now));
    let another_signs = trusted().any(|key| key.signs_from <= now);
    new.signs_from = match start {
        SigningStart::AfterPublication if another_signs => now + timing.publish_before,
        SigningStart::AfterPublication | SigningStart::Now => now,
    };
    let superseded_until = new.signs_from + timing.overlap;
    let mut ends = Vec::new();
    for key in trusted() {
        // A key that starts to sign after the new key would supersede it. Trust in such a key ends now, so it never signs.
        let verifies_until = if key.signs_from > new.signs_from { now } else { superseded_until };
        // A rotation never prolongs the trust in a key.
        if key.verifies_until.is_none_or(|current_end| verifies_until < current_end) {
            ends.push(TrustEnd { kid: key.kid.clone(), verifies_until });
        }
    }
    RotationPlan { new, ends }
}

/// Plans the end of trust in a compromised key: its tokens are refused from `now` on. A key that is no longer trusted stays
/// unchanged.
///
/// # Errors
/// [`RetireError`]
pub fn plan_retirement(stored: &[StoredKey], kid: &str, now: Timestamp) -> Result<TrustEnd, RetireError> {
    let key = stored.iter().find(|key| key.kid == kid).ok_or_else(|| RetireError::Unknown(kid.to_owned()))?;
    if let Some(verifies_until) = key.verifies_until
        && verifies_until <= now
    {
        return Ok(TrustEnd { kid: kid.to_owned(), verifies_until });
    }
    let mut others = stored.iter().filter(|other| other.kid != kid);
    // A superseded key, which has an end of trust, must not sign again: trust in it could end before its new tokens expire.
    let another_signs = others.any(|other| other.verifies_until.is_none() && other.signs_from <= now);
    if !another_signs {
        return Err(RetireError::OnlySigner(kid.to_owned()));
    }
    Ok(TrustEnd { kid: kid.to_owned(), verifies_until: now })
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

    /// Carries out a rotation at second `now`, as the SQL store does. Returns the new key's id.
    fn rotate(keys: &mut Vec<StoredKey>, start: SigningStart, now: i64) -> String {
        let plan = plan_rotation(keys, stored(Algorithm::Es256, now), start, TIMING, at(now));
        for end in plan.ends {
            apply(keys, end);
        }
        keys.push(plan.new);
        keys.last().unwrap().kid.clone()
    }

    fn apply(keys: &mut [StoredKey], end: TrustEnd) {
        let key = keys.iter_mut().find(|key| key.kid == end.kid).unwrap();
        key.verifies_until = Some(end.verifies_until);
    }

    /// The id of the key that signs at second `now`.
    fn signer(ring: &KeyRing, now: i64) -> String {
        ring.signer(at(now)).unwrap().kid().to_owned()
    }

    #[test]
    fn first_key_signs_at_once() {
        for start in [SigningStart::AfterPublication, SigningStart::Now] {
            let mut keys = Vec::new();
            let first = rotate(&mut keys, start, 0);
            assert_eq!(keys[0].created_at, at(0));
            assert_eq!(keys[0].signs_from, at(0));
            assert_eq!(keys[0].verifies_until, None);
            assert_eq!(signer(&ring(&keys, at(0)), 0), first);
        }
    }

    #[test]
    fn rotation_publishes_new_key_first_and_trusts_old_key_afterwards() {
        let mut keys = Vec::new();
        let old = rotate(&mut keys, SigningStart::AfterPublication, 0);
        let new = rotate(&mut keys, SigningStart::AfterPublication, 1000);
        let ring = ring(&keys, at(1000));
        assert!(ring.verification_key(&new, at(1000)).is_some());
        for (now, expected) in [(1000, &old), (1599, &old), (1600, &new), (9999, &new)] {
            assert_eq!(signer(&ring, now), *expected, "at {now}");
        }
        // The old key stays trusted for the overlap of 400 s after the new key starts to sign at 1600.
        assert!(ring.verification_key(&old, at(1999)).is_some());
        assert!(ring.verification_key(&old, at(2000)).is_none());
    }

    #[test]
    fn token_is_accepted_for_its_lifetime_across_rotations() {
        use SigningStart::{AfterPublication, Now};
        // The longest time for which a node can accept a token: the overlap of `TIMING`.
        const ACCEPTED_SECONDS: i64 = 400;
        // The times of the rotations, in seconds after the first key. With `AfterPublication`, a key signs 600 s after its rotation.
        // So 699, 700 and 1301 are around the starts of scheduled keys, at 700 and 1300.
        let schedules: [&[(i64, SigningStart)]; 5] = [
            &[(100, AfterPublication), (200, AfterPublication), (300, AfterPublication)],
            &[(100, AfterPublication), (200, Now), (900, AfterPublication)],
            &[(100, Now), (100, Now), (101, AfterPublication)],
            &[(100, AfterPublication), (699, Now), (700, Now)],
            &[(100, AfterPublication), (700, AfterPublication), (1301, AfterPublication), (1302, Now)],
        ];
        for schedule in schedules {
            let mut keys = Vec::new();
            rotate(&mut keys, Now, 0);
            // A token is signed in each second. This list holds the unexpired ones: the id of the key, and the time of signing.
            let mut signed = Vec::new();
            for now in 0..3000 {
                for &(_, start) in schedule.iter().filter(|(at, _)| *at == now) {
                    rotate(&mut keys, start, now);
                }
                signed.push((signer_of_rows(&keys, now), now));
                signed.retain(|(_, signed_at)| now < signed_at + ACCEPTED_SECONDS);
                for (kid, signed_at) in &signed {
                    let key = keys.iter().find(|key| key.kid == *kid).unwrap();
                    let accepted = is_trusted(key.verifies_until, at(now));
                    assert!(accepted, "{schedule:?}: signed at {signed_at}, refused at {now}");
                }
            }
            let without_end = keys.iter().filter(|key| key.verifies_until.is_none()).count();
            assert_eq!(without_end, 1, "{schedule:?}: every key but the last has been superseded");
        }
    }

    /// The id of the key that signs at `now`, by the rule of [`KeyRing::signer`]. Decrypts no key, for speed.
    fn signer_of_rows(keys: &[StoredKey], now: i64) -> String {
        let trusted = keys.iter().filter(|key| is_trusted(key.verifies_until, at(now)));
        let candidates = trusted.filter(|key| key.signs_from <= at(now));
        candidates.max_by_key(|key| (key.signs_from, key.verifies_until.is_none())).unwrap().kid.clone()
    }

    #[test]
    fn emergency_key_signs_at_once_and_scheduled_key_never() {
        let mut keys = Vec::new();
        let old = rotate(&mut keys, SigningStart::AfterPublication, 0);
        let scheduled = rotate(&mut keys, SigningStart::AfterPublication, 1000);
        let new = rotate(&mut keys, SigningStart::Now, 1100);
        let ring = ring(&keys, at(1100));
        // Without the new key, the scheduled one would sign from 1600.
        for now in [1100, 1600, 9999] {
            assert_eq!(signer(&ring, now), new, "at {now}");
        }
        assert!(ring.verification_key(&scheduled, at(1100)).is_none());
        // The old key stays trusted for the overlap of 400 s after the new key starts to sign at 1100.
        assert!(ring.verification_key(&old, at(1499)).is_some());
        assert!(ring.verification_key(&old, at(1500)).is_none());
    }

    #[test]
    fn later_of_two_keys_of_same_time_signs() {
        // The ids of the keys are random: in some of eight pairs, the later key has the smaller id.
        for _ in 0..8 {
            let mut keys = Vec::new();
            rotate(&mut keys, SigningStart::Now, 0);
            let new = rotate(&mut keys, SigningStart::Now, 0);
            assert_eq!(signer(&ring(&keys, at(0)), 0), new);
        }
    }

    #[test]
    fn retired_key_is_refused_at_once() {
        let mut keys = Vec::new();
        let stolen = rotate(&mut keys, SigningStart::AfterPublication, 0);
        let new = rotate(&mut keys, SigningStart::Now, 1000);
        let end = plan_retirement(&keys, &stolen, at(1001)).unwrap();
        apply(&mut keys, end);
        let ring = ring(&keys, at(1001));
        assert!(ring.verification_key(&stolen, at(1001)).is_none());
        assert_eq!(signer(&ring, 1001), new);
        // A second retirement does not change the end of trust.
        let repeated = plan_retirement(&keys, &stolen, at(2000)).unwrap();
        assert_eq!(repeated, TrustEnd { kid: stolen, verifies_until: at(1001) });
    }

    #[test]
    fn only_signing_key_is_not_retired() {
        let mut keys = Vec::new();
        let first = rotate(&mut keys, SigningStart::AfterPublication, 0);
        assert_eq!(plan_retirement(&keys, &first, at(1)), Err(RetireError::OnlySigner(first.clone())));
        // The next key does not sign yet.
        let next = rotate(&mut keys, SigningStart::AfterPublication, 1000);
        assert_eq!(plan_retirement(&keys, &first, at(1001)), Err(RetireError::OnlySigner(first.clone())));
        assert_eq!(plan_retirement(&keys, &next, at(1001)), Err(RetireError::OnlySigner(next.clone())));
        // The next key signs from 1600. The first one, which it has superseded, cannot sign in its place.
        assert!(plan_retirement(&keys, &first, at(1600)).is_ok());
        assert_eq!(plan_retirement(&keys, &next, at(1600)), Err(RetireError::OnlySigner(next)));
        assert_eq!(plan_retirement(&keys, "unknown", at(1600)), Err(RetireError::Unknown("unknown".to_owned())));
    }
}
