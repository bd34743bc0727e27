//! The bytes of a session hash. The Lua scripts read and write the same bytes (`lua/lib.lua`).
//!
//! | field | value |
//! | --- | --- |
//! | session id, 16 bytes | the record, which every refresh reads and writes, at most 64 bytes |
//! | session id and a byte 1 to 3 | the details in parts of at most 64 bytes: the client grant if there is one; address, device and user agent of the sign-in |
//! | session id and the byte 4 | the last use (`last_use.rs`) |
//! | `r` | the account's roles as of its last sign-in, separated by spaces, and after a line feed its other claims as JSON, if the configuration asks for some; absent for none. Release 0.1 reads roles only |
//! | `f` | the fence: an epoch (u32) and a time (u48). Until that time, sign-ins that were checked against an older epoch are refused |
//! | `v` | the version of the account's claims (u32) and the time when it became current (u48; 0 if it came with a sign-in); absent for version 0 |
//! | `c` | for accounts with many sessions: an upper bound of their number (u16), and the number at which expired ones are searched (u16) |
//!
//! A record, all numbers big-endian, times in milliseconds since the Unix epoch:
//!
//! | bytes | field |
//! | --- | --- |
//! | 1 | version: 1, or 2 with a client grant |
//! | 1 | flags: bit 0, the refresh token travels in a cookie; bit 1, part 4 is the last use and not the end of the details; bit 2, set together with bit 0, the session is a browser's; bit 3, the last use has a step-up |
//! | 4 | generation |
//! | 6 | created at |
//! | 6 | last used at: the time when the previous generation was superseded |
//! | 6 | idle end |
//! | 6 | absolute end |
//! | 6 | kept until: the earliest time at which the key expires |
//! | 4 each, up to 7 | the history: runs of generations that were superseded within the grace window, newest run first. A run has the number of its generations (u16), and how many milliseconds before the last use its newest one was superseded (u16). An empty history stands for a single run of the previous generation |
//!
//! Release 0.1 reads version 1, keeps the flags and removes parts 1 to 4 with a session. It treats every session of version 1, even one
//! that this release wrote, as a first-party session that began with the password (`aal1`). Sessions with a client grant have version 2,
//! which 0.1 refuses: otherwise 0.1 would issue first-party tokens to the client.
//!
//! No value is longer than 64 bytes, so that Redis keeps the hash as one compact listpack (`hash-max-listpack-value`).

use std::{net::IpAddr, time::Duration};

use fred::bytes::Bytes;

use super::{last_use::LastUse, user_agent};
use crate::domain::{
    account::{ClaimsStamp, ClaimsVersion, Roles},
    additional_claims::AdditionalClaims,
    authentication::Authentication,
    clock::Timestamp,
    ids::{AccountId, SessionId},
    session::{ClientGrant, Generation, Grant, RepeatRule, Session, SessionOrigin, Transport},
};

/// The newest version of a record. Sessions with a client grant have it, all others have version 1.
pub const VERSION: u8 = 2;
/// The maximum number of parts of the details.
pub const DETAIL_PARTS: usize = 3;
/// The number of the part that is the last use.
const LAST_USE_PART: u8 = 4;
/// The maximum length of an encoded client grant. The rest of the details is for the origin.
pub const MAX_GRANT_BYTES: usize = 160;
/// The maximum length of a part of the details.
const PART_BYTES: usize = 64;
/// The length of an encoded time (u48).
const TIME_BYTES: usize = 6;
/// The flag of a session whose refresh token travels in a cookie.
const COOKIE: u8 = 1;
/// The flag of a browser's session. It is set together with [`COOKIE`], so that no endpoint that takes refresh tokens in bodies accepts
/// the session.
const BROWSER: u8 = 4;
/// The flag of a session whose part 4 is its last use.
pub const LAST_USE: u8 = 2;
/// The flag of a session whose user has authenticated again after the sign-in.
pub const STEP_UP: u8 = 8;
/// The maximum length of a device's name. A longer name is cut, so that the address and a part of the user agent fit beside it.
const DEVICE_BYTES: usize = 160;

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

/// The offset of the field with this index in [`WIDTHS`].
const fn offset(field: usize) -> usize {
    let (mut sum, mut i) = (0, 0);
    while i < field {
        sum += WIDTHS[i];
        i += 1;
    }
    sum
}

/// The layout as Lua constants, which precede every session script.
pub fn lua_constants() -> String {
    let codes: String =
        WIDTHS.iter().map(|width| if *width == 1 { "B".to_owned() } else { format!("I{width}") }).collect();
    format!("local VERSION, RECORD, RECORD_BYTES = {VERSION}, '>{codes}', {FIXED_BYTES}\n")
}

/// Bytes that are not a record of a supported version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A newer release wrote the record.
    #[error("a session record of version {0}, which a newer release wrote")]
    Version(u8),
    /// The bytes are too short for a record, or damaged.
    #[error("a damaged session record of {0} bytes")]
    Damaged(usize),
}

/// The part of a session that changes with use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whether the details begin with a client grant.
    pub has_grant: bool,
    /// Whether part 4 of the fields is the last use.
    pub has_last_use: bool,
    /// Whether the last use has a step-up.
    pub has_step_up: bool,
    /// The generation of the current refresh token.
    pub generation: Generation,
    /// How the refresh token is transported.
    pub transport: Transport,
    /// When the session began.
    pub created_at: Timestamp,
    /// The time of the last refresh, or of the creation.
    pub last_used_at: Timestamp,
    /// When the idle timeout ends the session unless it is refreshed before.
    pub idle_ends_at: Timestamp,
    /// When the session's absolute lifetime ends.
    pub ends_at: Timestamp,
    /// The earliest time at which the key expires.
    pub kept_until: Timestamp,
}

impl Record {
    /// Encodes the record of a new session, which has no history.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES);
        bytes.push(if self.has_grant { VERSION } else { 1 });
        let transport = match self.transport {
            Transport::Bearer => 0,
            Transport::Cookie => COOKIE,
            Transport::Browser => COOKIE | BROWSER,
        };
        let step_up = if self.has_step_up { STEP_UP } else { 0 };
        let last_use = if self.has_last_use { LAST_USE } else { 0 };
        bytes.push(transport | step_up | last_use);
        bytes.extend(self.generation.0.to_be_bytes());
        for time in [self.created_at, self.last_used_at, self.idle_ends_at, self.ends_at, self.kept_until] {
            // the low 6 of the 8 bytes: a time is a u48
            bytes.extend(&time.as_millis().max(0).to_be_bytes()[2..]);
        }
        bytes
    }

    /// Reads a record of any supported version.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let Some(&version) = bytes.first() else { return Err(RecordError::Damaged(0)) };
        if version > VERSION {
            return Err(RecordError::Version(version));
        }
        if version == 0 || bytes.len() < FIXED_BYTES {
            return Err(RecordError::Damaged(bytes.len()));
        }
        let time = |start: usize| decode_time(&bytes[start..start + TIME_BYTES]);
        Ok(Self {
            has_grant: version != 1,
            has_last_use: bytes[FLAGS] & LAST_USE != 0,
            has_step_up: bytes[FLAGS] & STEP_UP != 0,
            generation: Generation(u32::from_be_bytes([0, 1, 2, 3].map(|i| bytes[GENERATION + i]))),
            transport: match bytes[FLAGS] & (COOKIE | BROWSER) {
                // `BROWSER` has a meaning only together with `COOKIE`.
                0 | BROWSER => Transport::Bearer,
                COOKIE => Transport::Cookie,
                _ => Transport::Browser,
            },
            created_at: time(CREATED_AT),
            last_used_at: time(LAST_USED_AT),
            idle_ends_at: time(IDLE_ENDS_AT),
            ends_at: time(ENDS_AT),
            kept_until: time(KEPT_UNTIL),
        })
    }

    /// The grant of the session that the record, its last use and its client grant describe.
    pub fn into_grant(
        self,
        account: AccountId,
        session: SessionId,
        (roles, additional_claims, claims_version): (Roles, AdditionalClaims, ClaimsVersion),
        last_use: Option<&LastUse>,
        client: Option<Box<ClientGrant>>,
    ) -> Grant {
        Grant {
            account,
            session,
            generation: self.generation,
            created_at: self.created_at,
            authentication: self.authentication(last_use),
            step_up: last_use.and_then(|last_use| last_use.step_up),
            client,
            idle_ends_at: self.idle_ends_at,
            ends_at: self.ends_at,
            transport: self.transport,
            roles,
            additional_claims,
            claims_version,
        }
    }

    /// The authentication of the sign-in. If the last use has none, the session began with a password.
    pub fn authentication(&self, last_use: Option<&LastUse>) -> Authentication {
        last_use.and_then(|last_use| last_use.authentication).unwrap_or(Authentication::by_password(self.created_at))
    }

    fn into_session(
        self,
        account: AccountId,
        id: SessionId,
        last_use: Option<&LastUse>,
        client: Option<Box<ClientGrant>>,
        origin: SessionOrigin,
    ) -> Session {
        Session {
            last_used_ip: last_use.and_then(|last_use| last_use.origin.ip),
            counted_repeats: last_use.map_or(0, |last_use| last_use.counted_repeats(self.generation)),
            authentication: self.authentication(last_use),
            step_up: last_use.and_then(|last_use| last_use.step_up),
            client,
            parent: last_use.and_then(|last_use| last_use.parent),
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

/// Reads a time of [`TIME_BYTES`] bytes.
fn decode_time(bytes: &[u8]) -> Timestamp {
    let mut wide = [0; 8];
    wide[2..].copy_from_slice(bytes);
    Timestamp::from_millis(i64::from_be_bytes(wide))
}

/// The field of a session's last use.
pub fn last_use_field(session: SessionId) -> Bytes {
    let mut name = session.as_bytes().to_vec();
    name.push(LAST_USE_PART);
    name.into()
}

/// The field of the version of the account's claims.
pub const CLAIMS_VERSION_FIELD: &str = "v";

/// Reads the field [`CLAIMS_VERSION_FIELD`]: the version, and the time when it became current.
///
/// # Errors
/// [`RecordError`]
pub fn decode_claims_stamp(bytes: Option<&[u8]>) -> Result<ClaimsStamp, RecordError> {
    let Some(bytes) = bytes else { return Ok(ClaimsStamp::default()) };
    // A version (u32) and a time (u48).
    let Some((version, time)) = bytes.split_first_chunk::<4>() else { return Err(RecordError::Damaged(bytes.len())) };
    if time.len() != TIME_BYTES {
        return Err(RecordError::Damaged(bytes.len()));
    }
    let changed_at = decode_time(time);
    Ok(ClaimsStamp {
        version: ClaimsVersion(u32::from_be_bytes(*version)),
        // 0 if the version came with a sign-in
        changed_at: (changed_at.as_millis() > 0).then_some(changed_at),
    })
}

/// The relation of a presented generation to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationStatus {
    /// The presented generation is the current one.
    Current,
    /// The presented generation is superseded, and answered with the current one.
    Repeatable,
    /// The presented generation is superseded; presenting it ends the session.
    Refused,
}

/// Predicts, without a rotation, how `rotate.lua` would classify a token of generation `presented` if the client of the last rotation
/// presented it.
///
/// # Errors
/// [`RecordError`]
pub fn classify_generation(
    bytes: &[u8],
    presented: Generation,
    rule: &RepeatRule,
    now: Timestamp,
) -> Result<(Record, GenerationStatus), RecordError> {
    let record = Record::decode(bytes)?;
    // the last generation has no successor, so `rotate.lua` refuses it
    if presented.0 == u32::MAX {
        return Ok((record, GenerationStatus::Refused));
    }
    if presented >= record.generation {
        return Ok((record, GenerationStatus::Current));
    }
    // the oldest generation of the runs that were read so far
    let mut oldest = i64::from(record.generation.0);
    // An empty history stands for one run of one generation with the age 0.
    let single_run = [0, 1, 0, 0];
    let history = if bytes.len() > FIXED_BYTES { &bytes[FIXED_BYTES..] } else { &single_run };
    let (runs, _) = history.as_chunks::<4>();
    for run in runs {
        oldest -= i64::from(u16::from_be_bytes([run[0], run[1]]));
        if i64::from(presented.0) < oldest {
            continue;
        }
        let age = i64::from(u16::from_be_bytes([run[2], run[3]]));
        let elapsed = now.as_millis() - record.last_used_at.as_millis();
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let grace = millis(rule.grace);
        let retry = millis(rule.retry_window);
        let in_grace_window = grace > 0 && elapsed + age < grace;
        let in_retry_window = retry > 0 && elapsed <= retry;
        let is_repeatable = in_grace_window || in_retry_window;
        let status = if is_repeatable { GenerationStatus::Repeatable } else { GenerationStatus::Refused };
        return Ok((record, status));
    }
    Ok((record, GenerationStatus::Refused))
}

/// Encodes a client grant, which begins the details of a session of version 2: each text with its length (u8), the audiences
/// with their number (u8). Returns `None` if the grant is longer than [`MAX_GRANT_BYTES`].
pub fn encode_grant(grant: &ClientGrant) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PART_BYTES);
    let push_text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.push(u8::try_from(text.len()).ok()?);
        bytes.extend(text.as_bytes());
        Some(())
    };
    push_text(&mut bytes, &grant.client_id)?;
    push_text(&mut bytes, &grant.scope)?;
    bytes.push(u8::try_from(grant.audiences.len()).ok()?);
    for audience in &grant.audiences {
        push_text(&mut bytes, audience)?;
    }
    (bytes.len() <= MAX_GRANT_BYTES).then_some(bytes)
}

/// Reads the client grant at the beginning of the details. Returns the remaining bytes as well.
///
/// # Errors
/// [`RecordError::Damaged`]. A session with an unreadable grant must not get the tokens of the first-party client.
pub fn decode_grant(details: &[u8]) -> Result<(Box<ClientGrant>, &[u8]), RecordError> {
    fn take_text(bytes: &mut &[u8]) -> Option<String> {
        take_prefixed(bytes).and_then(|text| String::from_utf8(text.to_vec()).ok())
    }
    let mut rest = details;
    let mut read = || {
        let client_id = take_text(&mut rest)?;
        let scope = take_text(&mut rest)?;
        let (&audience_count, after) = rest.split_first()?;
        rest = after;
        let audiences = (0..audience_count).map(|_| take_text(&mut rest)).collect::<Option<Vec<_>>>()?;
        Some(Box::new(ClientGrant { client_id, scope, audiences }))
    };
    let grant = read().ok_or(RecordError::Damaged(details.len()))?;
    Ok((grant, rest))
}

/// Takes bytes that follow their length (u8) from the beginning of `bytes`.
fn take_prefixed<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&length, rest) = bytes.split_first()?;
    let (taken, rest) = rest.split_at_checked(usize::from(length))?;
    *bytes = rest;
    Some(taken)
}

/// Encodes the details as parts of at most 64 bytes: the encoded client grant if there is one, the address (its length and bytes), the
/// device (its length and text), and the shortened user agent. Cuts details that would need more than three parts.
pub fn encode_details(grant: Option<Vec<u8>>, origin: &SessionOrigin) -> Vec<Vec<u8>> {
    let mut bytes = grant.unwrap_or_else(|| Vec::with_capacity(PART_BYTES));
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
    // the device's length takes one byte
    let room = (PART_BYTES * DETAIL_PARTS).saturating_sub(bytes.len() + 1);
    let device = &device[..device.floor_char_boundary(DEVICE_BYTES.min(room))];
    // always fits: the device has at most `DEVICE_BYTES` bytes
    bytes.push(u8::try_from(device.len()).unwrap_or(0));
    bytes.extend(device.as_bytes());
    if let Some(agent) = &origin.user_agent {
        bytes.extend(user_agent::shorten(agent));
    }
    bytes.truncate(PART_BYTES * DETAIL_PARTS);
    bytes.chunks(PART_BYTES).map(<[u8]>::to_vec).collect()
}

/// Decodes the joined parts of [`encode_details`] after the client grant. Omits damaged fields: they are no reason to refuse a session.
pub fn decode_details(bytes: &[u8]) -> SessionOrigin {
    let mut rest = bytes;
    let ip = take_prefixed(&mut rest).and_then(|ip| match *ip {
        [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
        _ => <[u8; 16]>::try_from(ip).ok().map(IpAddr::from),
    });
    let device = take_prefixed(&mut rest).filter(|device| !device.is_empty());
    SessionOrigin {
        ip,
        device: device.map(|device| String::from_utf8_lossy(device).into_owned()),
        user_agent: (!rest.is_empty()).then(|| user_agent::restore(rest)),
    }
}

/// Decodes all sessions of a hash, expired ones included, from the answer to `HGETALL`. Omits and logs a session that can't be read,
/// such as one of a newer release.
pub fn decode_all(account: AccountId, fields: &[(Bytes, Bytes)]) -> Vec<Session> {
    let mut sessions = Vec::new();
    for (field, value) in fields {
        let Ok(id) = <[u8; 16]>::try_from(field.as_ref()) else { continue };
        // the name of a part is the session id and the number of the part
        let mut parts: Vec<_> = fields
            .iter()
            .filter(|(name, _)| name.len() == 17 && name[..16] == id)
            .map(|(name, part)| (name[16], part))
            .collect();
        parts.sort_by_key(|(number, _)| *number);
        let id = SessionId::from_bytes(id);
        match decode_session(account, id, value, parts) {
            Ok(session) => sessions.push(session),
            Err(error) => {
                tracing::warn!(
                    %account,
                    session = %id,
                    %error,
                    "a session record can't be read, so lists of sessions omit it. If a newer release has written it, upgrade this node; if it \
                     is damaged, end the account's sessions (`latchkey session revoke ACCOUNT --all`)"
                )
            }
        }
    }
    sessions
}

/// Decodes a session from its record and its parts, which are sorted by their numbers.
///
/// # Errors
/// [`RecordError`]
pub fn decode_session(
    account: AccountId,
    id: SessionId,
    record: &[u8],
    mut parts: Vec<(u8, &Bytes)>,
) -> Result<Session, RecordError> {
    let record = Record::decode(record)?;
    // the last use is the last part, if there is one
    let last_use = parts.pop_if(|(number, _)| record.has_last_use && *number == LAST_USE_PART);
    let last_use = last_use.map(|(_, part)| LastUse::decode(part)).transpose()?;
    let details: Vec<u8> = parts.into_iter().flat_map(|(_, part)| part.iter().copied()).collect();
    let (client, origin) = if record.has_grant {
        let (client, rest) = decode_grant(&details)?;
        (Some(client), decode_details(rest))
    } else {
        (None, decode_details(&details))
    };
    Ok(record.into_session(account, id, last_use.as_ref(), client, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_of_version_0_is_damaged_and_of_later_version_is_from_newer_release() {
        for version in [0, VERSION + 1, 255] {
            let expected = if version == 0 { RecordError::Damaged(FIXED_BYTES) } else { RecordError::Version(version) };
            assert_eq!(Record::decode(&[version; FIXED_BYTES]), Err(expected));
        }
    }
}
