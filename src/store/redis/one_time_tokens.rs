//! One-time tokens: links and codes of mails, a hash for each account. Each function is one atomic round trip on one key.
//!
//! A field of the hash is the purpose (1 byte) and an id (16 bytes). A value has these parts. Numbers are big-endian, and times
//! are in milliseconds since the Unix epoch:
//!
//! | bytes | part |
//! | --- | --- |
//! | 6 | issued at |
//! | 6 | expires at |
//! | 16 | binding: a digest of the state that the token was issued for |
//! | 32 | keyed digest of the link's token |
//! | 32 | keyed digest of the code |
//! | 1 | remaining attempts: the number of wrong codes after which the code is no longer accepted |

use std::sync::Arc;

use fred::{bytes::Bytes, interfaces::KeysInterface, types::Value};

use super::{
    RedisConnection, RedisError,
    script::{self, duration_millis, millis, unexpected},
};
use crate::domain::{
    clock::Timestamp,
    ids::AccountId,
    one_time_token::{Binding, CODE_ATTEMPTS, StoredToken, TokenPurpose},
};

/// The length of a value.
const VALUE_BYTES: usize = 93;

/// The keyed digests of a presented link or code: one for each server secret in use. A stored token with one of them matches.
#[derive(Clone, Debug)]
pub enum PresentedDigests {
    /// Of the token of a link.
    Link(Vec<[u8; 32]>),
    /// Of a code.
    Code(Vec<[u8; 32]>),
}

/// The stored tokens that a presented token is compared with. A wrong code counts against all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenGroup {
    /// All tokens of the account with this purpose.
    Purpose(TokenPurpose),
    /// The token of one challenge, by the token's id. Wrong codes for other challenges don't count against it.
    Challenge(TokenPurpose, [u8; 16]),
}

impl TokenGroup {
    /// The bytes with which the fields of the group's tokens begin.
    fn prefix(self) -> Bytes {
        match self {
            Self::Purpose(purpose) => Bytes::copy_from_slice(&[purpose.byte()]),
            Self::Challenge(purpose, id) => [&[purpose.byte()], id.as_slice()].concat().into(),
        }
    }
}

/// A live token as Redis stores it. A caller that has consumed the token keeps the field and the value, to store it again if the
/// caller's change fails.
#[derive(Clone, Debug)]
pub struct FoundToken {
    field: Bytes,
    value: Bytes,
}

/// Whether a lookup consumes the token that it finds.
#[derive(Clone, Copy)]
enum Lookup {
    Keep,
    Consume,
}

impl Lookup {
    /// The argument of `use_token.lua`.
    fn argument(self) -> &'static str {
        match self {
            Self::Keep => "0",
            Self::Consume => "1",
        }
    }
}

/// One-time tokens. Clones share the connections.
#[derive(Clone)]
pub struct OneTimeTokens {
    connection: Arc<RedisConnection>,
}

impl OneTimeTokens {
    pub(super) fn new(connection: Arc<RedisConnection>) -> Self {
        Self { connection }
    }

    /// Stores a token under an id.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn issue(&self, token: &StoredToken, id: [u8; 16], now: Timestamp) -> Result<(), RedisError> {
        let mut field = vec![token.purpose.byte()];
        field.extend_from_slice(&id);
        let mut value = Vec::with_capacity(VALUE_BYTES);
        for time in [token.issued_at, token.expires_at] {
            // a time is a u48
            value.extend_from_slice(&time.as_millis().max(0).to_be_bytes()[2..]);
        }
        value.extend_from_slice(&token.binding.0);
        value.extend_from_slice(&token.link);
        value.extend_from_slice(&token.code);
        value.push(CODE_ATTEMPTS);
        let stored = FoundToken { field: field.into(), value: value.into() };
        self.put(token.account, token.purpose, &stored, token.expires_at, now).await
    }

    /// Stores a token again that [`OneTimeTokens::take`] has consumed.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn restore(
        &self,
        account: AccountId,
        purpose: TokenPurpose,
        found: &FoundToken,
        now: Timestamp,
    ) -> Result<(), RedisError> {
        let mut expiry_bytes = [0; 8];
        // the time of the expiry, a u48, follows the time of issue
        if let Some(bytes) = found.value.get(6..12) {
            expiry_bytes[2..].copy_from_slice(bytes);
        }
        let expires_at = Timestamp::from_millis(i64::from_be_bytes(expiry_bytes));
        if expires_at <= now {
            return Ok(());
        }
        self.put(account, purpose, found, expires_at, now).await
    }

    /// Stores the field and the value of a token until it expires.
    async fn put(
        &self,
        account: AccountId,
        purpose: TokenPurpose,
        token: &FoundToken,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), RedisError> {
        let arguments = vec![
            millis(now),
            Value::Bytes(token.field.clone()),
            Value::Bytes(token.value.clone()),
            Value::Integer(purpose.max_live().into()),
            duration_millis(expires_at.saturating_since(now)),
        ];
        let keys = vec![self.connection.keys.one_time_tokens(account)];
        script::run(&self.connection.scripts.issue_token, &self.connection, keys, arguments).await.map(drop)
    }

    /// Finds a live token without consuming it. A wrong code counts as an attempt.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn find(
        &self,
        account: AccountId,
        group: TokenGroup,
        presented: &PresentedDigests,
        binding: Binding,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, RedisError> {
        self.look_up(account, group, presented, binding, Lookup::Keep, now).await
    }

    /// Consumes a live token. Exactly one of several concurrent callers receives it (I11: a token works once). A wrong code counts as an attempt.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn take(
        &self,
        account: AccountId,
        group: TokenGroup,
        presented: &PresentedDigests,
        binding: Binding,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, RedisError> {
        self.look_up(account, group, presented, binding, Lookup::Consume, now).await
    }

    /// Removes all tokens of an account.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn clear(&self, account: AccountId) -> Result<(), RedisError> {
        let key = self.connection.keys.one_time_tokens(account);
        let deleted = self.connection.client_for_request()?.del(key).await;
        deleted.inspect_err(|error| self.connection.reconnect_if_demoted(error)).map_err(RedisError::from)
    }

    /// Runs `use_token.lua`.
    async fn look_up(
        &self,
        account: AccountId,
        group: TokenGroup,
        presented: &PresentedDigests,
        binding: Binding,
        lookup: Lookup,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, RedisError> {
        let (kind, digests) = match presented {
            PresentedDigests::Link(digests) => ("link", digests),
            PresentedDigests::Code(digests) => ("code", digests),
        };
        let mut arguments = vec![
            millis(now),
            Value::Bytes(group.prefix()),
            kind.into(),
            lookup.argument().into(),
            Value::Bytes(Bytes::copy_from_slice(&binding.0)),
        ];
        arguments.extend(digests.iter().map(|digest| Value::Bytes(Bytes::copy_from_slice(digest))));
        let keys = vec![self.connection.keys.one_time_tokens(account)];
        let answer = script::run(&self.connection.scripts.use_token, &self.connection, keys, arguments).await?;
        let parts = match &answer {
            Value::Array(parts) => parts.as_slice(),
            // The client library reads an empty table of the script as null.
            Value::Null => &[],
            _ => return Err(unexpected("use_token", &answer)),
        };
        if parts.is_empty() {
            return Ok(None);
        }
        if let [field, value] = parts
            && let (Some(field), Some(value)) = (bytes(field), bytes(value))
        {
            return Ok(Some(FoundToken { field, value }));
        }
        Err(unexpected("use_token", &answer))
    }
}

fn bytes(value: &Value) -> Option<Bytes> {
    value.as_bytes().map(Bytes::copy_from_slice)
}
