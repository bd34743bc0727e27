//! The bytes of a session hash. The Lua scripts read and write the same; `lua/lib.lua` is the other half of this page.
//!
//! | field | value |
//! | --- | --- |
//! | session id, 16 bytes | the record: what every refresh reads and writes, at most 64 bytes |
//! | session id and a byte 1 to 4 | the details, in parts of at most 64 bytes: where the session was started |
//! | `r` | the account's roles as of its last sign-in, separated by spaces; absent for none |
//! | `f` | the fence: an epoch (u32) and a time (u48). Until then sign-ins checked against an older epoch are refused |
//! | `c` | of an account with many sessions: how many it has at most (u16), and at how many those that are over are looked for (u16) |
//!
//! A record, all numbers big-endian, times in milliseconds since the Unix epoch:
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | flags: bit 0, the refresh token travels in a cookie |
//! | 4 | generation |
//! | 6 | created at |
//! | 6 | last used at: when the generation before was superseded |
//! | 6 | idle end |
//! | 6 | absolute end |
//! | 6 | until when the key is kept at least |
//! | 4 each, up to 7 | runs of generations superseded within the grace window, newest first: how many (u16), how many milliseconds before the last use (u16); none where that is just the last one |
//!
//! No value is longer than 64 bytes, so that Redis keeps the hash as one compact listpack (`hash-max-listpack-value`).

use std::{net::IpAddr, time::Duration};

use fred::bytes::Bytes;

use super::user_agent;
use crate::domain::{
    clock::Timestamp,
    ids::{AccountId, SessionId},
    session::{Generation, Origin, Session, Transport},
};

/// The version that this release writes.
pub const VERSION: u8 = 1;
/// The parts that details may have.
pub const DETAIL_PARTS: usize = 4;
const PART_BYTES: usize = 64;
const FIXED_BYTES: usize = 36;
const COOKIE: u8 = 1;
/// The most of a device's name that is kept.
const DEVICE_BYTES: usize = 200;

/// Bytes that aren't a record of a version this release knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer release; this one can't know what it means.
    #[error("a session record of version {0}, which a newer release wrote")]
    Version(u8),
    /// Not a record at all.
    #[error("a damaged session record of {0} bytes")]
    Damaged(usize),
}

/// The part of a session that changes when it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// See [`Session::generation`].
    pub generation: Generation,
    /// See [`Session::transport`].
    pub transport: Transport,
    /// See [`Session::created_at`].
    pub created_at: Timestamp,
    /// See [`Session::last_used_at`].
    pub last_used_at: Timestamp,
    /// See [`Session::idle_ends_at`].
    pub idle_ends_at: Timestamp,
    /// See [`Session::ends_at`].
    pub ends_at: Timestamp,
    /// Until when the key is kept at least.
    pub kept_until: Timestamp,
}

impl Record {
    /// The bytes of a session that was just created.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES);
        bytes.push(VERSION);
        bytes.push(if self.transport == Transport::Cookie { COOKIE } else { 0 });
        bytes.extend(self.generation.0.to_be_bytes());
        for time in [self.created_at, self.last_used_at, self.idle_ends_at, self.ends_at, self.kept_until] {
            bytes.extend(&time.as_millis().max(0).to_be_bytes()[2..]);
        }
        bytes
    }

    /// Reads a record of any version so far.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.first() {
            Some(&VERSION) if bytes.len() >= FIXED_BYTES => {}
            Some(&version) if version != VERSION => return Err(RecordError::Version(version)),
            _ => return Err(RecordError::Damaged(bytes.len())),
        }
        let time = |at: usize| {
            let mut wide = [0; 8];
            wide[2..].copy_from_slice(&bytes[at..at + 6]);
            Timestamp::from_millis(i64::from_be_bytes(wide))
        };
        Ok(Self {
            generation: Generation(u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]])),
            transport: if bytes[1] & COOKIE != 0 { Transport::Cookie } else { Transport::Bearer },
            created_at: time(6),
            last_used_at: time(12),
            idle_ends_at: time(18),
            ends_at: time(24),
            kept_until: time(30),
        })
    }

    fn into_session(self, account: AccountId, id: SessionId, origin: Origin) -> Session {
        Session {
            id,
            account,
            generation: self.generation,
            transport: self.transport,
            created_at: self.created_at,
            last_used_at: self.last_used_at,
            idle_ends_at: self.idle_ends_at,
            ends_at: self.ends_at,
            origin,
        }
    }
}

/// How a presented generation stands to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the current one.
    Current,
    /// It was superseded within the grace window.
    InGrace,
    /// It was superseded longer ago.
    Superseded,
}

/// How refreshing with a token of generation `presented` would find it, without doing it: the same that `rotate.lua`
/// decides.
///
/// # Errors
/// [`RecordError`]
pub fn standing(
    bytes: &[u8],
    presented: Generation,
    grace: Duration,
    now: Timestamp,
) -> Result<(Record, Standing), RecordError> {
    let record = Record::decode(bytes)?;
    if presented.0 == u32::MAX {
        return Ok((record, Standing::Superseded));
    }
    if presented >= record.generation {
        return Ok((record, Standing::Current));
    }
    let mut oldest = i64::from(record.generation.0);
    let usual = [0, 1, 0, 0];
    let history = if bytes.len() > FIXED_BYTES { &bytes[FIXED_BYTES..] } else { &usual };
    for run in history.as_chunks::<4>().0 {
        oldest -= i64::from(u16::from_be_bytes([run[0], run[1]]));
        if i64::from(presented.0) >= oldest {
            let age = Duration::from_millis(u16::from_be_bytes([run[2], run[3]]).into());
            let elapsed = now.as_millis() - (record.last_used_at - age).as_millis();
            let in_grace = elapsed < i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
            return Ok((record, if in_grace { Standing::InGrace } else { Standing::Superseded }));
        }
    }
    Ok((record, Standing::Superseded))
}

/// The details, as parts of at most 64 bytes: the address (its length and bytes), the device (its length and text), and
/// the user agent, shortened; cut where they would need more than four parts.
pub fn encode_details(origin: &Origin) -> Vec<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PART_BYTES);
    match origin.ip {
        None => bytes.push(0),
        Some(IpAddr::V4(ip)) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            bytes.push(16);
            bytes.extend(ip.octets());
        }
    }
    let device = origin.device.as_deref().unwrap_or_default();
    let device = &device[..device.floor_char_boundary(DEVICE_BYTES)];
    bytes.push(u8::try_from(device.len()).unwrap_or(0));
    bytes.extend(device.as_bytes());
    if let Some(agent) = &origin.user_agent {
        bytes.extend(user_agent::shorten(agent));
    }
    bytes.truncate(PART_BYTES * DETAIL_PARTS);
    bytes.chunks(PART_BYTES).map(<[u8]>::to_vec).collect()
}

/// Reads what [`encode_details`] wrote, its parts joined again. Damaged details are not worth refusing a session for:
/// what can't be read is left out.
pub fn decode_details(bytes: &[u8]) -> Origin {
    fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (&length, rest) = bytes.split_first()?;
        let (taken, rest) = rest.split_at_checked(usize::from(length))?;
        *bytes = rest;
        Some(taken)
    }
    let mut rest = bytes;
    let ip = take(&mut rest).and_then(|ip| match *ip {
        [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
        _ => <[u8; 16]>::try_from(ip).ok().map(IpAddr::from),
    });
    let device = take(&mut rest).filter(|device| !device.is_empty());
    Origin {
        ip,
        device: device.map(|device| String::from_utf8_lossy(device).into_owned()),
        user_agent: (!rest.is_empty()).then(|| user_agent::restore(rest)),
    }
}

/// The sessions in a hash, live or not, as `HGETALL` gives them. One that can't be read (a newer release wrote it) is left
/// out, and the log says so: it keeps nobody from the others.
pub fn decode_all(account: AccountId, fields: &[(Bytes, Bytes)]) -> Vec<Session> {
    let mut sessions = Vec::new();
    for (field, value) in fields {
        let Ok(id) = <[u8; 16]>::try_from(field.as_ref()) else { continue };
        let mut parts: Vec<_> = fields
            .iter()
            .filter(|(name, _)| name.len() == 17 && name[..16] == id)
            .map(|(name, part)| (name[16], part))
            .collect();
        parts.sort_by_key(|(number, _)| *number);
        let details: Vec<u8> = parts.into_iter().flat_map(|(_, part)| part.iter().copied()).collect();
        let id = SessionId::from_bytes(id);
        match Record::decode(value) {
            Ok(record) => sessions.push(record.into_session(account, id, decode_details(&details))),
            Err(error) => tracing::warn!(session = %id, %error, "a session is left out of the list"),
        }
    }
    sessions
}
