//! Operations on sessions. I8: each function is one atomic round trip within one slot.

mod claims;
mod create;
mod end;
mod find;
mod present;
mod replace;
mod step_up;

use std::{sync::Arc, time::Duration};

use fred::{
    bytes::{Bytes, BytesMut},
    types::Value,
};

pub use self::{
    create::{CreateOutcome, NewSession, SessionBasis},
    end::AccountSessions,
    find::FoundSession,
    present::Presentation,
    replace::{ReplaceOutcome, Replacement},
    step_up::{SessionAuthentications, StepUp, StepUpOutcome},
};
use super::{
    connection::{RedisConnection, RedisError},
    key,
    record::{self, Record},
    revocation_log::{Position, RevocationLog},
    script::{self, Script, unexpected},
};
use crate::{
    domain::{
        account::Roles,
        additional_claims::AdditionalClaims,
        clock::Timestamp,
        event::EndReason,
        ids::{AccountId, SessionId},
        session::{ClientGrant, Generation, Transport},
    },
    metrics::Timed,
};

/// How long a fence refuses sign-ins that were checked before an account changed. Longer than any request may take: the maximum of
/// `http.request_timeout` is 10 minutes.
const FENCE_DURATION: Duration = Duration::from_mins(15);

/// The latest time that a record can hold, in milliseconds: the maximum of a u48.
const MAX_U48: u64 = (1 << 48) - 1;

/// Sessions and their refresh tokens. Clones share the connections.
#[derive(Clone)]
pub struct SessionStore {
    pub(super) connection: Arc<RedisConnection>,
    pub(super) log: Arc<RevocationLog>,
    /// The metrics of lookups of one session: their duration and errors.
    pub(super) look_ups: Timed,
}

impl SessionStore {
    pub(super) fn new(connection: Arc<RedisConnection>, log: Arc<RevocationLog>) -> Self {
        Self { look_ups: connection.metrics.timed("look_up"), connection, log }
    }

    /// Waits until no other node treats the sessions that a script has ended as active. `position` is the id of the script's last event.
    /// `script` names the script in errors.
    async fn confirm_ended(
        &self,
        script: &'static str,
        account: AccountId,
        position: &Value,
    ) -> Result<(), RedisError> {
        let position = parse_position(script, position)?;
        self.log.confirm_position(self.log.acks.open(), account, position).await;
        Ok(())
    }

    fn count_revocation(&self, reason: EndReason) {
        self.connection.metrics.count_revocation(reason);
    }

    /// Runs a script on an account's sessions in one round trip, with the keys and arguments of every session script
    /// (`lua/lib.lua`). `own_arguments` are those that only this script takes: ARGV 3 and following.
    async fn run(
        &self,
        script: &Script,
        account: AccountId,
        own_arguments: impl IntoIterator<Item = Value>,
    ) -> Result<Value, RedisError> {
        let (keys, bucket) = (&self.connection.keys, key::bucket(account));
        let keys = vec![keys.sessions(account), keys.events_of_bucket(bucket), keys.position_of_bucket(bucket)];
        // Room for the two common arguments and seven own ones. Only a replacement (`replace.rs`) has more.
        let mut arguments = Vec::with_capacity(9);
        arguments.extend([self.connection.event_trim_args(), bytes(account.as_bytes())]);
        arguments.extend(own_arguments);
        script::run(script, &self.connection, keys, arguments).await
    }
}

/// The beginning of the first argument of a batched operation: the account id and the session id, with capacity for
/// `additional_bytes`. The operation's values are one argument, since each further argument costs Redis as much as a small command.
fn session_arg_prefix(account: AccountId, session: SessionId, additional_bytes: usize) -> BytesMut {
    const ID_BYTES: usize = 16;
    let mut argument = BytesMut::with_capacity(2 * ID_BYTES + additional_bytes);
    argument.extend_from_slice(account.as_bytes());
    argument.extend_from_slice(session.as_bytes());
    argument
}

/// The ids of the sessions that ended because of the session limit, from the answer of `create` in create_session.lua:
/// `{'created', position, ids…}`.
pub(super) fn evicted_ids(answer: &Value) -> Vec<SessionId> {
    let Value::Array(parts) = answer else { return Vec::new() };
    session_ids(parts.get(2..).unwrap_or_default())
}

/// The session ids in a list that a script has returned.
fn session_ids(ids: &[Value]) -> Vec<SessionId> {
    let ids = ids.iter().filter_map(|id| <[u8; 16]>::try_from(id.as_bytes()?).ok());
    ids.map(SessionId::from_bytes).collect()
}

/// The record of a session that begins now, and the minimum TTL of the account's session hash.
pub(super) fn new_record(
    transport: Transport,
    idle: Duration,
    absolute: Duration,
    now: Timestamp,
) -> (Record, Duration) {
    let (idle_ends_at, ends_at) = (now + idle, now + absolute);
    // Longer than needed, so that most refreshes leave the TTL unchanged.
    let kept_until = idle_ends_at.min(ends_at) + idle / 16;
    let record = Record {
        has_grant: false,
        has_last_use: false,
        has_step_up: false,
        generation: Generation(0),
        transport,
        created_at: now,
        last_used_at: now,
        idle_ends_at,
        ends_at,
        kept_until,
    };
    (record, kept_until.saturating_since(now))
}

/// Decodes the roles and the other claims of an account, from the field `r` of its session hash.
pub(super) fn decode_roles_and_claims(field: Option<&Value>) -> Result<(Roles, AdditionalClaims), RedisError> {
    match field.and_then(Value::as_str) {
        None => Ok((Roles::default(), AdditionalClaims::default())),
        Some(text) => {
            AdditionalClaims::decode_with_roles(&text).map_err(|error| RedisError::Unexpected(error.to_string()))
        }
    }
}

/// Decodes the client grant at the beginning of a session's details, if the session has one.
pub(super) fn decode_client_grant(
    record: &Record,
    details: Option<&Value>,
) -> Result<Option<Box<ClientGrant>>, RedisError> {
    if !record.has_grant {
        return Ok(None);
    }
    let details = details.and_then(Value::as_bytes).unwrap_or_default();
    let (grant, _rest) = record::decode_grant(details)?;
    Ok(Some(grant))
}

/// The error for a client grant that does not fit into a session.
pub(super) fn grant_too_long(client: &ClientGrant) -> RedisError {
    RedisError::Unexpected(format!(
        "the scopes and audiences that {} requests need more than the {} bytes that a session has for them: request fewer",
        client.client_id,
        record::MAX_GRANT_BYTES
    ))
}

fn bytes(id: &[u8; 16]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(id))
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Parses the position that a script has returned. `script` names the script in the error.
pub(super) fn parse_position(script: &str, answer: &Value) -> Result<Position, RedisError> {
    answer.as_str().and_then(|text| Position::parse(&text)).ok_or_else(|| unexpected(script, answer))
}
