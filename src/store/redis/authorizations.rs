//! Authorization requests that wait for their user, and authorization codes.
//!
//! A request is stored as a string; its key contains the SHA-256 of the request's handle. A code is stored as a string, too. Its key is in
//! the hash slot of the account's sessions, so that one atomic step exchanges the code for a session (`lua/exchange.lua`). All numbers are
//! big-endian:
//!
//! | bytes of a code | field |
//! | --- | --- |
//! | 1 | `L`, live |
//! | 32 | binding: a digest of the client, the redirect URI and the PKCE challenge |
//! | 16 | the browser's session in which the user has authorized the client |
//! | 1 | 1 if the code's session outlives the browser's session (`offline_access`), or 0 |
//! | 6 | expires at, in milliseconds since the Unix epoch |
//! | 3 times 1 to 65 | the three parts of the session's details (record.rs): a byte with the length, 0 to 64, and the part |
//! | the rest | the payload: the data that the service needs to answer the token request, as JSON |
//!
//! A used code is `U`, the binding, and the session that the code was exchanged for. Its key is kept for [`USED_CODE_RETENTION`].

use std::{sync::Arc, time::Duration};

use fred::{
    bytes::Bytes,
    interfaces::KeysInterface,
    types::{Expiration, Value},
};

use super::{
    RedisConnection, RedisError, key,
    last_use::{LastUse, LastUseOrigin},
    record::{self, Record},
    revocation_log::RevocationLog,
    script::{self, duration_millis, millis, unexpected},
    sessions::{decode_client_grant, decode_roles_and_claims, evicted_ids, grant_too_long, new_record, parse_position},
};
use crate::domain::{
    clock::Timestamp,
    event::EndReason,
    ids::{AccountId, SessionId},
    session::{ClientGrant, Grant, SessionOrigin, Transport},
};

/// How long a used code is recognized, so that a second use ends the session of the first (RFC 6749, section 4.1.2).
const USED_CODE_RETENTION: Duration = Duration::from_mins(10);

/// A code to store.
#[derive(Clone, Debug)]
pub struct NewCode<'a> {
    /// The account.
    pub account: AccountId,
    /// The SHA-256 of the code.
    pub digest: [u8; 32],
    /// A digest of the client, the redirect URI and the PKCE challenge, which the token request must match.
    pub binding: [u8; 32],
    /// The browser's session in which the user has authorized the client.
    pub browser: SessionId,
    /// Whether the session outlives the browser's session (`offline_access`).
    pub is_offline: bool,
    /// The client grant of the session.
    pub client: &'a ClientGrant,
    /// Address and user agent of the browser, for the list of sessions.
    pub origin: &'a SessionOrigin,
    /// The data that the service needs to answer the token request, as JSON.
    pub payload: &'a str,
    /// When the code expires.
    pub expires_at: Timestamp,
}

/// A code to exchange for a session. Roles, claims and authentication are those of the browser's session.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// The account.
    pub account: AccountId,
    /// The SHA-256 of the code.
    pub digest: [u8; 32],
    /// See [`NewCode::binding`].
    pub binding: [u8; 32],
    /// The id of the new session.
    pub session: SessionId,
    /// The origin of the request.
    pub origin: LastUseOrigin,
    /// The idle timeout.
    pub idle_timeout: Duration,
    /// The absolute lifetime.
    pub absolute_timeout: Duration,
    /// The maximum number of sessions of the account; the oldest ends first.
    pub max_per_account: u32,
}

/// The outcome of [`Authorizations::exchange`].
#[derive(Clone, Debug)]
pub enum ExchangeOutcome {
    /// The session was created, and the code was consumed.
    Created {
        /// The new session.
        grant: Grant,
        /// See [`NewCode::payload`].
        payload: String,
        /// The sessions that were ended because of the account's session limit.
        evicted: Vec<SessionId>,
    },
    /// The code was used before. The session that it was exchanged for has ended, if it was live.
    Reused {
        /// The session, if this call has ended it.
        ended: Option<SessionId>,
    },
    /// The code is unknown or has expired, the code was issued for another client, redirect URI or PKCE challenge, or the browser's
    /// session has ended.
    Invalid,
}

/// A TTL as an option of `SET`, of at least 1 ms: Redis refuses 0.
fn expiration(ttl: Duration) -> Expiration {
    Expiration::PX(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1))
}

/// Authorization requests and codes. Clones share the connections.
#[derive(Clone)]
pub struct Authorizations {
    connection: Arc<RedisConnection>,
    log: Arc<RevocationLog>,
}

impl Authorizations {
    pub(super) fn new(connection: Arc<RedisConnection>, log: Arc<RevocationLog>) -> Self {
        Self { connection, log }
    }

    /// Stores a request, or replaces it. `digest` is the SHA-256 of its handle.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn put_request(&self, digest: [u8; 32], request: &str, ttl: Duration) -> Result<(), RedisError> {
        let key = self.connection.keys.authorization_request(digest);
        let (condition, return_former_value) = (None, false);
        let client = self.connection.client_for_request()?;
        // Boxed, here and below: fred's futures have several kilobytes, which would be moved with the futures of all callers.
        let answer = Box::pin(client.set(key, request, Some(expiration(ttl)), condition, return_former_value)).await;
        answer.inspect_err(|error| self.connection.reconnect_if_demoted(error)).map_err(RedisError::from)
    }

    /// Reads a request; `None` if there is no such request or it has expired.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn request(&self, digest: [u8; 32]) -> Result<Option<String>, RedisError> {
        let key = self.connection.keys.authorization_request(digest);
        Ok(Box::pin(self.connection.client_for_request()?.get(key)).await?)
    }

    /// Removes a request. Of several concurrent callers, exactly one gets true (I11).
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn remove_request(&self, digest: [u8; 32]) -> Result<bool, RedisError> {
        let key = self.connection.keys.authorization_request(digest);
        let answer = Box::pin(self.connection.client_for_request()?.del(key)).await;
        let removed: i64 = answer.inspect_err(|error| self.connection.reconnect_if_demoted(error))?;
        Ok(removed > 0)
    }

    /// Whether this client grant fits into the record of a session. The service checks it before it calls [`Self::put_code`].
    pub fn grant_fits(client: &ClientGrant) -> bool {
        record::encode_grant(client).is_some()
    }

    /// Stores a code.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn put_code(&self, code: &NewCode<'_>, now: Timestamp) -> Result<(), RedisError> {
        let grant = record::encode_grant(code.client).ok_or_else(|| grant_too_long(code.client))?;
        let mut value = Vec::with_capacity(256);
        value.push(b'L');
        value.extend_from_slice(&code.binding);
        value.extend_from_slice(code.browser.as_bytes());
        value.push(code.is_offline.into());
        // the 6 low bytes of 8
        value.extend_from_slice(&code.expires_at.as_millis().max(0).to_be_bytes()[2..]);
        let mut details = record::encode_details(Some(grant), code.origin);
        // missing parts are empty
        details.resize(record::DETAIL_PARTS, Vec::new());
        for part in details {
            // a part has at most 64 bytes
            value.push(u8::try_from(part.len()).unwrap_or(0));
            value.extend_from_slice(&part);
        }
        value.extend_from_slice(code.payload.as_bytes());
        let key = self.connection.keys.authorization_code(code.account, code.digest);
        let ttl = expiration(code.expires_at.saturating_since(now));
        let (condition, return_former_value) = (None, false);
        let client = self.connection.client_for_request()?;
        let answer = Box::pin(client.set(key, Bytes::from(value), Some(ttl), condition, return_former_value)).await;
        answer.inspect_err(|error| self.connection.reconnect_if_demoted(error)).map_err(RedisError::from)
    }

    /// Exchanges a code for a session, in one atomic step. Exactly one of several concurrent callers gets the session (I11). The session
    /// has the authentication of the browser's session. Without `offline_access` it also ends with the browser's session.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn exchange(&self, exchange: &Exchange, now: Timestamp) -> Result<ExchangeOutcome, RedisError> {
        let Exchange { account, session, .. } = *exchange;
        let (keys, bucket) = (&self.connection.keys, key::bucket(account));
        let keys = vec![
            keys.sessions(account),
            keys.authorization_code(account, exchange.digest),
            keys.events_of_bucket(bucket),
            keys.position_of_bucket(bucket),
        ];
        let (record, ttl) = new_record(Transport::Bearer, exchange.idle_timeout, exchange.absolute_timeout, now);
        let record = Record { has_grant: true, has_last_use: true, ..record };
        // a tag (8 bytes), the length of the address (1) and the address (up to 16)
        let mut origin = Vec::with_capacity(25);
        exchange.origin.encode(&mut origin);
        let bytes = |bytes: &[u8]| Value::Bytes(Bytes::copy_from_slice(bytes));
        // exchange.lua describes these arguments, and the parts of the answer.
        let arguments = vec![
            self.connection.event_trim_args(),
            bytes(account.as_bytes()),
            bytes(&exchange.binding),
            bytes(session.as_bytes()),
            millis(now),
            duration_millis(ttl),
            Value::Integer(exchange.max_per_account.into()),
            Value::Bytes(record.encode().into()),
            Value::Bytes(origin.into()),
            duration_millis(USED_CODE_RETENTION),
        ];
        let answer = script::run(&self.connection.scripts.exchange, &self.connection, keys, arguments).await?;
        let Value::Array(parts) = &answer else { return Err(unexpected("exchange", &answer)) };
        let bytes_at = |index: usize| parts.get(index).and_then(Value::as_bytes);
        match parts.first().and_then(Value::as_str).as_deref() {
            Some("created") => {
                // The answer of the Lua function `create`: a text, or `{'created', position, ids…}` if it has ended sessions.
                let (Some(created), Some(payload)) = (parts.get(1), bytes_at(2)) else {
                    return Err(unexpected("exchange", &answer));
                };
                let evicted = evicted_ids(created);
                for session in &evicted {
                    self.log.session_cache.remove_session(account, *session);
                    self.connection.metrics.count_revocation(EndReason::Limit);
                }
                if let Value::Array(created) = created
                    && let Some(position) = created.get(1)
                {
                    // I3, revoked stays revoked: the evicted sessions have ended on every node when the caller gets the answer
                    let position = parse_position("exchange", position)?;
                    self.log.confirm_position(self.log.acks.open(), account, position).await;
                }
                let (roles, additional) = decode_roles_and_claims(parts.get(3))?;
                let claims = record::decode_claims_stamp(bytes_at(4))?;
                let last_use = bytes_at(5).map(LastUse::decode).transpose()?;
                // The record as it was stored: the script may have moved its end to that of the browser's session.
                let record = bytes_at(7).ok_or_else(|| unexpected("exchange", &answer))?;
                let record = Record::decode(record)?;
                let client = decode_client_grant(&record, parts.get(6))?;
                let payload = String::from_utf8_lossy(payload).into_owned();
                let grant =
                    record.into_grant(account, session, (roles, additional, claims.version), last_use.as_ref(), client);
                Ok(ExchangeOutcome::Created { grant, payload, evicted })
            }
            Some("reused") => {
                let ended = bytes_at(1).and_then(|id| <[u8; 16]>::try_from(id).ok()).map(SessionId::from_bytes);
                if let (Some(session), Some(position)) = (ended, parts.get(2)) {
                    self.log.session_cache.remove_session(account, session);
                    self.connection.metrics.count_revocation(EndReason::Reuse);
                    // I3, as above
                    let position = parse_position("exchange", position)?;
                    self.log.confirm_position(self.log.acks.open(), account, position).await;
                }
                Ok(ExchangeOutcome::Reused { ended })
            }
            Some("invalid") => Ok(ExchangeOutcome::Invalid),
            _ => Err(unexpected("exchange", &answer)),
        }
    }
}
