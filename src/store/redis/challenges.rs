//! Challenges: sign-ins that wait for a further step. Each has a key. Its value has these fields, with big-endian numbers and times
//! in milliseconds since the Unix epoch:
//!
//! | bytes | field |
//! | --- | --- |
//! | 1 | version of this format: 1 |
//! | 1 | purpose |
//! | 16 | account |
//! | 4 | epoch |
//! | 4 | version of the factors |
//! | 2 | methods of the authentication |
//! | 1 | level of the authentication |
//! | 6 | time of the authentication |
//! | 1 | transport |
//! | 16 | digest of the device token, or zeros |
//! | 6 | expires at |
//! | the rest | the name of the device, in UTF-8 |

use std::sync::Arc;

use fred::{
    bytes::Bytes,
    interfaces::KeysInterface,
    types::{Expiration, Value},
};

use super::{
    RedisConnection, RedisError,
    script::{self, unexpected},
};
use crate::domain::{
    account::Epoch,
    authentication::{Acr, Authentication, AuthenticationMethods},
    challenge::{ChallengePurpose, PendingSignIn},
    clock::Timestamp,
    factor::FactorsVersion,
    ids::AccountId,
    session::Transport,
};

const VERSION: u8 = 1;
/// The length of all fields but the name of the device.
const FIXED_BYTES: usize = 58;

/// A challenge that was found. Its stored value is kept, to consume the challenge and to store it again.
#[derive(Clone, Debug)]
pub struct FoundChallenge {
    /// The pending sign-in.
    pub pending: PendingSignIn,
    value: Bytes,
}

/// Challenges. Clones share the connections.
#[derive(Clone)]
pub struct ChallengeStore {
    connection: Arc<RedisConnection>,
}

impl ChallengeStore {
    pub(super) fn new(connection: Arc<RedisConnection>) -> Self {
        Self { connection }
    }

    /// Stores a challenge until it expires, under the name of its token (`ChallengeToken::name`).
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn put(&self, name: &str, pending: &PendingSignIn, now: Timestamp) -> Result<(), RedisError> {
        self.set(name, pending, encode(pending).into(), now).await
    }

    /// Restores a challenge that [`ChallengeStore::take`] has consumed.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn restore(&self, name: &str, found: &FoundChallenge, now: Timestamp) -> Result<(), RedisError> {
        self.set(name, &found.pending, found.value.clone(), now).await
    }

    async fn set(&self, name: &str, pending: &PendingSignIn, value: Bytes, now: Timestamp) -> Result<(), RedisError> {
        let ttl = i64::try_from(pending.expires_at.saturating_since(now).as_millis()).unwrap_or(i64::MAX);
        // Redis refuses a key that expires at once.
        if ttl == 0 {
            return Ok(());
        }
        let key = self.connection.keys.challenge(pending.account, name);
        let (condition, returns_former_value) = (None, false);
        let client = self.connection.client_for_request()?;
        let result = client.set(key, value, Some(Expiration::PX(ttl)), condition, returns_former_value).await;
        result.inspect_err(|error| self.connection.reconnect_if_demoted(error)).map_err(RedisError::from)
    }

    /// Finds a live challenge without consuming it.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn find(
        &self,
        account: AccountId,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<FoundChallenge>, RedisError> {
        let key = self.connection.keys.challenge(account, name);
        let result = self.connection.client_for_request()?.get(key).await;
        let value: Option<Bytes> = result.inspect_err(|error| self.connection.reconnect_if_demoted(error))?;
        let Some(value) = value else { return Ok(None) };
        let Some(pending) = decode(&value) else { return Ok(None) };
        let is_live = pending.account == account && now < pending.expires_at;
        Ok(is_live.then_some(FoundChallenge { pending, value }))
    }

    /// Consumes a challenge if its value is unchanged. Returns true to exactly one of several concurrent callers (I11: single use).
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn take(&self, name: &str, found: &FoundChallenge) -> Result<bool, RedisError> {
        let keys = vec![self.connection.keys.challenge(found.pending.account, name)];
        let arguments = vec![Value::Bytes(found.value.clone())];
        let answer = script::run(&self.connection.scripts.take_challenge, &self.connection, keys, arguments).await?;
        answer.as_bool().ok_or_else(|| unexpected("take_challenge", &answer))
    }
}

fn encode(pending: &PendingSignIn) -> Vec<u8> {
    const USUAL_NAME_BYTES: usize = 64;
    let mut bytes = Vec::with_capacity(FIXED_BYTES + USUAL_NAME_BYTES);
    // The first two of the eight bytes are zero, and are not stored.
    let eight_bytes = |time: Timestamp| time.as_millis().max(0).to_be_bytes();
    bytes.extend([VERSION, pending.purpose.byte()]);
    bytes.extend(pending.account.as_bytes());
    bytes.extend(pending.epoch.0.to_be_bytes());
    bytes.extend(pending.factors_version.0.to_be_bytes());
    bytes.extend(pending.proved.methods.bits().to_be_bytes());
    bytes.push(pending.proved.acr.level());
    bytes.extend(&eight_bytes(pending.proved.at)[2..]);
    bytes.push(match pending.transport {
        Transport::Bearer => 0,
        Transport::Cookie => 1,
        Transport::Browser => 2,
    });
    bytes.extend(pending.device.unwrap_or_default());
    bytes.extend(&eight_bytes(pending.expires_at)[2..]);
    bytes.extend(pending.device_name.iter().flat_map(|name| name.bytes()));
    bytes
}

/// Decodes a value. Returns `None` for a damaged value, and for one of a newer release.
fn decode(bytes: &[u8]) -> Option<PendingSignIn> {
    let (fixed, name) = bytes.split_first_chunk::<FIXED_BYTES>()?;
    let u32_at = |offset: usize| Some(u32::from_be_bytes(fixed[offset..offset + 4].try_into().ok()?));
    let time_at = |offset: usize| {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&fixed[offset..offset + 6]);
        Timestamp::from_millis(i64::from_be_bytes(millis))
    };
    if fixed[0] != VERSION {
        return None;
    }
    // The module's documentation has the order of the fields, from which the offsets follow.
    let device: [u8; 16] = fixed[36..52].try_into().ok()?;
    Some(PendingSignIn {
        purpose: ChallengePurpose::from_byte(fixed[1])?,
        account: AccountId::from_bytes(fixed[2..18].try_into().ok()?),
        epoch: Epoch(u32_at(18)?),
        factors_version: FactorsVersion(u32_at(22)?),
        proved: Authentication {
            methods: AuthenticationMethods::from_bits(u16::from_be_bytes([fixed[26], fixed[27]])),
            acr: Acr::from_level(fixed[28]),
            at: time_at(29),
        },
        transport: match fixed[35] {
            0 => Transport::Bearer,
            1 => Transport::Cookie,
            2 => Transport::Browser,
            _ => return None,
        },
        device: Some(device).filter(|device| *device != [0; 16]),
        device_name: Some(String::from_utf8(name.to_vec()).ok()?).filter(|name| !name.is_empty()),
        expires_at: time_at(52),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_challenge_is_decoded_unchanged_and_short_or_newer_value_is_refused() {
        let at = Timestamp::from_millis(1_800_000_000_123);
        let plain = PendingSignIn {
            purpose: ChallengePurpose::SecondFactor,
            account: AccountId::from_bytes([7; 16]),
            epoch: Epoch(3),
            factors_version: FactorsVersion(9),
            proved: Authentication::by_password(at),
            transport: Transport::Bearer,
            device: None,
            device_name: None,
            expires_at: at,
        };
        let full = PendingSignIn {
            purpose: ChallengePurpose::Enrolment,
            transport: Transport::Cookie,
            device: Some([5; 16]),
            device_name: Some("Ada's télé".to_owned()),
            ..plain.clone()
        };
        for pending in [plain, full] {
            let bytes = encode(&pending);
            assert_eq!(decode(&bytes), Some(pending));
            assert_eq!(decode(&bytes[..FIXED_BYTES - 1]), None);
            assert_eq!(decode(&[&[VERSION + 1], &bytes[1..]].concat()), None, "a value of a newer release");
        }
    }
}
