//! Part 4 of a session's fields: the origin of its last rotation, its counted repeats (requests with a superseded token from another
//! network or user agent, see I2), and its authentication.
//!
//! A record with the flag [`LAST_USE`](super::record::LAST_USE) has this part. Without the flag, part 4 belongs to the details of a
//! session that release 0.1 created. All numbers are big-endian. An optional field requires those before it, except the parent, which
//! may be absent before a step-up:
//!
//! | bytes | field |
//! | --- | --- |
//! | 8 | tag of the network and user agent of the last rotation, or of the sign-in |
//! | 1, and 0, 4 or 16 | address of the last rotation, or of the sign-in: the length and the bytes |
//! | 4, optional | generation G of the counted repeats |
//! | 1, with G | counted repeats: bit n is set if a counted repeat presented a token older than generation G - n |
//! | 9, optional | authentication of the sign-in: methods (u16), level (u8), time (u48, ms); if absent, the password at the start of the session |
//! | 16, optional | parent: the browser's session that an app session is beneath |
//! | 9, optional | step-up: the last authentication after the sign-in, in the same form; the record has the flag [`STEP_UP`](super::record::STEP_UP) |
//!
//! Bytes after the step-up are ignored, so a newer release may append fields to a part that has all of these. In a part without a
//! parent, the step-up and 7 appended bytes would be read as a parent.
//!
//! A rotation from the same origin leaves the part unchanged.

use std::net::IpAddr;

use super::record::RecordError;
use crate::domain::{
    authentication::{Acr, Authentication, AuthenticationMethods},
    clock::Timestamp,
    ids::SessionId,
    session::{Generation, OriginTag},
};

/// The client of a request. A rotation stores it in the record of the session's last use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastUseOrigin {
    /// The tag of network and user agent.
    pub tag: OriginTag,
    /// The client's address.
    pub ip: Option<IpAddr>,
}

impl LastUseOrigin {
    /// Appends the encoded origin to `bytes`: the tag, the length of the address and the address.
    pub fn encode(&self, bytes: &mut impl Extend<u8>) {
        bytes.extend(self.tag.0);
        match self.ip.map(|ip| ip.to_canonical()) {
            None => bytes.extend([0]),
            Some(IpAddr::V4(ip)) => bytes.extend([4].into_iter().chain(ip.octets())),
            Some(IpAddr::V6(ip)) => bytes.extend([16].into_iter().chain(ip.octets())),
        }
    }
}

/// Encodes an authentication: methods (u16), level (u8), time (u48, ms).
pub(super) fn encode_authentication(authentication: Authentication) -> Vec<u8> {
    let Authentication { at, methods, acr } = authentication;
    let mut bytes = methods.bits().to_be_bytes().to_vec();
    bytes.push(acr.level());
    // The time is a u48: the upper 2 of the 8 bytes are 0.
    bytes.extend(&at.as_millis().max(0).to_be_bytes()[2..]);
    bytes
}

/// Decodes the authentication at the beginning of `bytes`. Returns the remaining bytes as well.
fn take_authentication(bytes: &[u8]) -> Option<(Authentication, &[u8])> {
    let (&[high, low, level, a, b, c, d, e, f], rest) = bytes.split_first_chunk::<9>()?;
    let authentication = Authentication {
        methods: AuthenticationMethods::from_bits(u16::from_be_bytes([high, low])),
        acr: Acr::from_level(level),
        at: Timestamp::from_millis(i64::from_be_bytes([0, 0, a, b, c, d, e, f])),
    };
    Some((authentication, rest))
}

/// The last use of a session: part 4 of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// The generation that bit 0 of `counted` stands for.
    pub counted_at: Generation,
    /// The counted repeats: bit n is set if a counted repeat presented a token older than generation `counted_at - n`.
    pub counted: u8,
    /// The origin of the last rotation, or of the sign-in.
    pub origin: LastUseOrigin,
    /// The authentication of the sign-in. `None` stands for the password at the start of the session.
    pub authentication: Option<Authentication>,
    /// The last authentication after the sign-in, if any.
    pub step_up: Option<Authentication>,
    /// The browser's session that an app session is beneath.
    pub parent: Option<SessionId>,
}

impl LastUse {
    /// The last use of a session that begins now.
    pub fn new(origin: LastUseOrigin, authentication: Option<Authentication>, parent: Option<SessionId>) -> Self {
        Self { counted_at: Generation(0), counted: 0, origin, authentication, step_up: None, parent }
    }

    /// Encodes the last use, in at most 64 bytes: all fields of the table above. `began` is the start of the session.
    pub fn encode(&self, began: Timestamp) -> Vec<u8> {
        // Enough for an IPv4 address, counted repeats and an authentication.
        let mut bytes = Vec::with_capacity(32);
        self.origin.encode(&mut bytes);
        // A parent and a step-up require the authentication before them, and an authentication requires the counted repeats.
        let needs_authentication = self.parent.is_some() || self.step_up.is_some();
        let default = needs_authentication.then(|| Authentication::by_password(began));
        let authentication = self.authentication.or(default);
        if self.counted != 0 || authentication.is_some() {
            bytes.extend(self.counted_at.0.to_be_bytes());
            bytes.push(self.counted);
        }
        if let Some(authentication) = authentication {
            bytes.extend(encode_authentication(authentication));
        }
        if let Some(parent) = self.parent {
            bytes.extend(parent.as_bytes());
        }
        if let Some(step_up) = self.step_up {
            bytes.extend(encode_authentication(step_up));
        }
        bytes
    }

    /// Decodes a last use. Ignores bytes after the step-up, which a newer release may append.
    ///
    /// # Errors
    /// [`RecordError::Damaged`]
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::read(bytes).ok_or(RecordError::Damaged(bytes.len()))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first_chunk::<8>()?;
        let (&length, rest) = rest.split_first()?;
        let (ip, rest) = rest.split_at_checked(length.into())?;
        let ip = match *ip {
            [] => None,
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(ip).ok()?)),
        };
        let mut last_use = Self::new(LastUseOrigin { tag: OriginTag(*tag), ip }, None, None);
        if rest.is_empty() {
            return Some(last_use);
        }
        let (&[a, b, c, d, counted], rest) = rest.split_first_chunk::<5>()?;
        last_use.counted_at = Generation(u32::from_be_bytes([a, b, c, d]));
        last_use.counted = counted;
        if rest.is_empty() {
            return Some(last_use);
        }
        let (authentication, mut rest) = take_authentication(rest)?;
        last_use.authentication = Some(authentication);
        // A step-up alone has 9 bytes, fewer than a parent.
        if let Some((parent, after)) = rest.split_first_chunk::<16>() {
            last_use.parent = Some(SessionId::from_bytes(*parent));
            rest = after;
        }
        if !rest.is_empty() {
            // Bytes after the step-up are fields that a newer release may have appended.
            let (step_up, _) = take_authentication(rest)?;
            last_use.step_up = Some(step_up);
        }
        Some(last_use)
    }

    /// How many of the eight generations up to `current` have a bit in `counted`.
    pub fn counted_repeats(&self, current: Generation) -> u8 {
        let generations_since = current.0.checked_sub(self.counted_at.0);
        // Eight or more generations later, all bits are lost.
        let counted_now = generations_since.and_then(|since| self.counted.checked_shl(since)).unwrap_or(0);
        u8::try_from(counted_now.count_ones()).unwrap_or(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::authentication::AuthenticationMethod;

    #[test]
    fn last_use_round_trips_within_64_bytes() {
        let began = Timestamp::from_millis(1_800_000_000_000);
        let strong = Authentication {
            at: began,
            methods: AuthenticationMethods::PASSWORD.with(AuthenticationMethod::OneTimePassword),
            acr: Acr::Aal2,
        };
        let by_password = Authentication::by_password(began);
        let parent = Some(SessionId::from_bytes([7; 16]));
        for ip in [None, Some("192.0.2.7"), Some("2001:db8::7")] {
            let origin = LastUseOrigin { tag: OriginTag([9; 8]), ip: ip.map(|ip| ip.parse().unwrap()) };
            for (authentication, parent) in [(None, None), (Some(strong), None), (Some(strong), parent), (None, parent)]
            {
                let step_up = Authentication { at: began + std::time::Duration::from_secs(9), ..strong };
                let stepped_up =
                    LastUse { counted: 5, step_up: Some(step_up), ..LastUse::new(origin, authentication, parent) };
                let bytes = stepped_up.encode(began);
                assert!(bytes.len() <= 64, "{} bytes", bytes.len());
                let read = LastUse::decode(&bytes).unwrap();
                assert_eq!((read.parent, read.step_up), (parent, Some(step_up)));
                assert_eq!(read.authentication, authentication.or(Some(by_password)));

                let without_step_up = LastUse { counted: 5, ..LastUse::new(origin, authentication, parent) };
                let bytes = without_step_up.encode(began);
                assert!(bytes.len() <= 64, "{} bytes", bytes.len());
                let read = LastUse::decode(&bytes).unwrap();
                assert_eq!((read.origin, read.counted, read.parent), (origin, 5, parent));
                // Without a step-up, only a parent requires an authentication before it.
                let default = parent.map(|_| by_password);
                assert_eq!(read.authentication, authentication.or(default));

                // Fewer bytes than the tag (8) and the length of the address (1).
                for length in 0..9 {
                    assert_eq!(LastUse::decode(&bytes[..length]), Err(RecordError::Damaged(length)));
                }
            }
        }
    }

    #[test]
    fn incomplete_step_up_is_damage_and_bytes_after_a_step_up_are_ignored() {
        let began = Timestamp::from_millis(1_800_000_000_000);
        let by_password = Authentication::by_password(began);
        for parent in [None, Some(SessionId::from_bytes([7; 16]))] {
            let mut last_use = LastUse::new(LastUseOrigin::default(), Some(by_password), parent);
            let without_step_up = last_use.encode(began);
            for count in 1..9 {
                let bytes = [without_step_up.clone(), vec![1; count]].concat();
                assert_eq!(LastUse::decode(&bytes), Err(RecordError::Damaged(bytes.len())), "{count}");
            }
            last_use.step_up = Some(by_password);
            // Without a parent, the step-up and 7 more bytes would be read as a parent.
            let counts = if parent.is_some() { 1..30 } else { 1..7 };
            for count in counts {
                let bytes = [last_use.encode(began), vec![1; count]].concat();
                assert_eq!(LastUse::decode(&bytes).as_ref(), Ok(&last_use), "{count}");
            }
        }
    }

    #[test]
    fn counted_repeats_leave_the_history_after_eight_generations() {
        // Bits 0, 1 and 3 at generation 0. Each later generation moves them up by one, and bits above bit 7 are lost.
        let last_use = LastUse { counted: 0b1011, ..LastUse::new(LastUseOrigin::default(), None, None) };
        let after = [0, 4, 5, 6, 7, 8, 100].map(|current| last_use.counted_repeats(Generation(current)));
        assert_eq!(after, [3, 3, 2, 2, 1, 0, 0]);
    }
}
