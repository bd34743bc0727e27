//! The bytes of a session hash. The Lua scripts read and write the same bytes (`lua/lib.lua`).
//!
//! | field | value |
//! | --- | --- |
//! | session id, 16 bytes | the record, which every refresh reads and writes, at most 64 bytes |
//! | session id and a byte 1 to 4 | the details in parts of at most 64 bytes: address, device and user agent of the sign-in |
//! | `r` | the account's roles as of its last sign-in, separated by spaces; absent for none |
//! | `f` | the fence: an epoch (u32) and a time (u48). Until then sign-ins checked against an older epoch are refused |
//! | `v` | the version of the account's claims (u32) and the time when it became current (u48; 0 if it came with a sign-in); absent for version 0 |
//! | `c` | for accounts with many sessions: an upper bound of their number (u16), and the number at which expired ones are searched (u16) |
//!
//! A record, all numbers big-endian, times in milliseconds since the Unix epoch:
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | flags: bit 0, the refresh token travels in a cookie |
//! | 4 | generation |
//! | 6 | created at |
//! | 6 | last used at: the time when the previous generation was superseded |
//! | 6 | idle end |
//! | 6 | absolute end |
//! | 6 | kept until: the earliest time when the key expires |
//! | 4 each, up to 7 | runs of generations superseded within the grace window, newest first: their number (u16), and milliseconds before the last use (u16); empty for a single run of the previous generation |
//!
//! No value is longer than 64 bytes, so that Redis keeps the hash as one compact listpack (`hash-max-listpack-value`).

use std::{net::IpAddr, time::Duration};

use fred::bytes::Bytes;

use super::user_agent;
use crate::domain::{
    account::{ClaimsStamp, ClaimsVersion, Roles},
    authentication::Authentication,
    clock::Timestamp,
    ids::{AccountId, SessionId},
    session::{Generation, Grant, Origin, Session, Transport},
};

/// The record version that this release writes.
pub const VERSION: u8 = 1;
/// The maximum number of parts of the details.
pub const DETAIL_PARTS: usize = 4;
const PART_BYTES: usize = 64;
const COOKIE: u8 = 1;
/// The longest device name that is kept.
const DEVICE_BYTES: usize = 200;

/// The widths of a record's fields, in order: version, flags, generation, created at, last used at, idle end, absolute end,
/// kept until. The only definition of the layout: the scripts get it from [`lua_constants`].
const WIDTHS: [usize; 8] = [1, 1, 4, 6, 6, 6, 6, 6];
const FLAGS: usize = offset(1);
const GENERATION: usize = offset(2);
const CREATED_AT: usize = offset(3);
const LAST_USED_AT: usize = offset(4);
const IDLE_ENDS_AT: usize = offset(5);
const ENDS_AT: usize = offset(6);
const KEPT_UNTIL: usize = offset(7);
/// The length of a record without history.
const FIXED_BYTES: usize = offset(WIDTHS.len());

/// The offset of a field.
const fn offset(field: usize) -> usize {
    let (mut sum, mut i) = (0, 0);
    while i < field {
        sum += WIDTHS[i];
        i += 1;
    }
    sum
}

/// The layout as Lua constants, which stand before every session script.
pub fn lua_constants() -> String {
    let codes: String =
        WIDTHS.iter().map(|width| if *width == 1 { "B".to_owned() } else { format!("I{width}") }).collect();
    format!("local VERSION, RECORD, RECORD_BYTES = {VERSION}, '>{codes}', {FIXED_BYTES}\n")
}

/// Bytes that are no record of a supported version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer release.
    #[error("a session record of version {0}, which a newer release wrote")]
    Version(u8),
    /// Too short for a record.
    #[error("a damaged session record of {0} bytes")]
    Damaged(usize),
}

/// The part of a session that changes with use.
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
    /// The earliest time when the key expires.
    pub kept_until: Timestamp,
}

impl Record {
    /// The bytes of a new session.
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

    /// Reads a record of any supported version.
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
            generation: Generation(u32::from_be_bytes([0, 1, 2, 3].map(|i| bytes[GENERATION + i]))),
            transport: if bytes[FLAGS] & COOKIE != 0 { Transport::Cookie } else { Transport::Bearer },
            created_at: time(CREATED_AT),
            last_used_at: time(LAST_USED_AT),
            idle_ends_at: time(IDLE_ENDS_AT),
            ends_at: time(ENDS_AT),
            kept_until: time(KEPT_UNTIL),
        })
    }

    /// The grant of the session that the record describes.
    pub fn into_grant(
        self,
        account: AccountId,
        session: SessionId,
        roles: Roles,
        claims_version: ClaimsVersion,
    ) -> Grant {
        Grant {
            account,
            session,
            generation: self.generation,
            created_at: self.created_at,
            authentication: Authentication::by_password(self.created_at),
            client: None,
            idle_ends_at: self.idle_ends_at,
            ends_at: self.ends_at,
            transport: self.transport,
            roles,
            claims_version,
        }
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

/// The field of the version of the account's claims.
pub const CLAIMS_FIELD: &str = "v";

/// Reads the field [`CLAIMS_FIELD`].
///
/// # Errors
/// [`RecordError`]
pub fn decode_claims(bytes: Option<&[u8]>) -> Result<ClaimsStamp, RecordError> {
    let Some(bytes) = bytes else { return Ok(ClaimsStamp::default()) };
    let [a, b, c, d, time @ ..] = bytes else { return Err(RecordError::Damaged(bytes.len())) };
    let time: [u8; 6] = time.try_into().map_err(|_| RecordError::Damaged(bytes.len()))?;
    let mut wide = [0; 8];
    wide[2..].copy_from_slice(&time);
    let changed_at = Timestamp::from_millis(i64::from_be_bytes(wide));
    Ok(ClaimsStamp {
        version: ClaimsVersion(u32::from_be_bytes([*a, *b, *c, *d])),
        changed_at: (changed_at.as_millis() > 0).then_some(changed_at),
    })
}

/// The relation of a presented generation to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The current generation.
    Current,
    /// Superseded within the grace window.
    InGrace,
    /// Superseded longer ago.
    Superseded,
}

/// Predicts how `rotate.lua` would classify a token of generation `presented`, without rotating.
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
    let single_run = [0, 1, 0, 0];
    let history = if bytes.len() > FIXED_BYTES { &bytes[FIXED_BYTES..] } else { &single_run };
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

/// Reads the joined parts of [`encode_details`]. Omits damaged parts: they are no reason to refuse a session.
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

/// Decodes the sessions of a hash, expired ones included, from `HGETALL`. Omits and logs a session that can't be read, such
/// as one of a newer release.
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
            Err(error) => tracing::warn!(session = %id, %error, "session record unreadable: omitted from the list"),
        }
    }
    sessions
}
