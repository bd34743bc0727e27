//! Stores the challenges of passkey ceremonies, each as one string. Each function is one atomic round trip on one key.
//!
//! | bytes | field |
//! | --- | --- |
//! | 1 | purpose |
//! | 16 | account; zeros for a sign-in without a username |
//! | 16 | context: the session, or a digest of the challenge of the sign-in; zeros for none |
//! | rest | state of the ceremony: JSON of `webauthn-rs-core` |

use std::{sync::Arc, time::Duration};

use fred::{
    bytes::Bytes,
    interfaces::KeysInterface,
    types::{Expiration, Value},
};

use super::{
    RedisConnection, RedisError,
    script::{self, unexpected},
};
use crate::domain::{ids::AccountId, passkey::PasskeyPurpose};

/// The purpose, the account and the context that a challenge was issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChallengeBinding {
    /// The purpose.
    pub purpose: PasskeyPurpose,
    /// The account; none for a sign-in without a username.
    pub account: Option<AccountId>,
    /// The session, or a digest of the challenge of the sign-in; zeros for none.
    pub context: [u8; 16],
}

impl ChallengeBinding {
    /// The bytes with which the stored string begins: purpose, account, context.
    fn bytes(&self) -> Vec<u8> {
        let account = self.account.map_or([0; 16], |account| *account.as_bytes());
        [&[self.purpose.byte()][..], &account, &self.context].concat()
    }
}

/// Challenges of passkey ceremonies. Clones share the connections.
#[derive(Clone)]
pub struct PasskeyChallenges {
    connection: Arc<RedisConnection>,
}

impl PasskeyChallenges {
    pub(super) fn new(connection: Arc<RedisConnection>) -> Self {
        Self { connection }
    }

    /// Stores a challenge with the state of its ceremony for `ttl`.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn issue(
        &self,
        challenge: &[u8],
        binding: &ChallengeBinding,
        state: &[u8],
        ttl: Duration,
    ) -> Result<(), RedisError> {
        let key = self.connection.keys.passkey_challenge(challenge);
        let value = Bytes::from([&binding.bytes(), state].concat());
        // Redis refuses an expiry of 0 ms.
        let ttl = Expiration::PX(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1));
        // Overwrites an older value, and does not return it. Boxed: fred's futures are large.
        let (set_options, return_previous) = (None, false);
        let client = self.connection.client_for_request()?;
        let answer = Box::pin(client.set(key, value, Some(ttl), set_options, return_previous)).await;
        answer.inspect_err(|error| self.connection.reconnect_if_demoted(error)).map_err(RedisError::from)
    }

    /// Consumes a challenge and returns the state of its ceremony. Exactly one of several concurrent callers gets the state (I11: a
    /// challenge works once). `None` if the challenge was used, has expired, or has another binding.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn take(&self, challenge: &[u8], binding: &ChallengeBinding) -> Result<Option<Bytes>, RedisError> {
        let keys = vec![self.connection.keys.passkey_challenge(challenge)];
        let arguments = vec![Value::Bytes(binding.bytes().into())];
        let script = &self.connection.scripts.take_passkey_challenge;
        match script::run(script, &self.connection, keys, arguments).await? {
            Value::Null => Ok(None),
            answer => match answer.as_bytes() {
                Some(state) => Ok(Some(Bytes::copy_from_slice(state))),
                None => Err(unexpected("take_passkey_challenge", &answer)),
            },
        }
    }
}
