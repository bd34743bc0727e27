//! Step-ups: authentications of a session's user after the sign-in.

use fred::{
    bytes::{Bytes, BytesMut},
    interfaces::HashesInterface,
    types::Value,
};

use super::{SessionStore, bytes, decode_client_grant, decode_roles_and_claims};
use crate::{
    domain::{
        account::Epoch,
        authentication::Authentication,
        clock::Timestamp,
        ids::{AccountId, SessionId},
        session::Grant,
    },
    store::redis::{
        connection::RedisError,
        last_use::{LastUse, LastUseOrigin, encode_authentication},
        record::{self, Record},
        script::{millis, unexpected},
    },
};

/// An authentication of a session's user after the sign-in.
#[derive(Clone, Copy, Debug)]
pub struct StepUp {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
    /// The account's epoch when its credentials were checked.
    pub epoch: Epoch,
    /// The authentication.
    pub authentication: Authentication,
    /// The origin of the request, stored if the session has none yet (a session of release 0.1).
    pub origin: LastUseOrigin,
}

/// The outcome of [`SessionStore::step_up`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepUpOutcome {
    /// The authentication was recorded. Contains the session's current grant.
    Recorded(Box<Grant>),
    /// The session has ended.
    Gone,
    /// The account has changed since its credentials were checked (I5: such a change ends sessions). Nothing was recorded.
    Stale,
}

/// The authentications of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionAuthentications {
    /// The authentication of the sign-in.
    pub sign_in: Authentication,
    /// The user's last authentication after the sign-in, if any.
    pub step_up: Option<Authentication>,
}

impl SessionStore {
    /// Records an authentication of a session's user after the sign-in. The session's refresh token stays valid.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn step_up(&self, step_up: StepUp, now: Timestamp) -> Result<StepUpOutcome, RedisError> {
        let StepUp { account, session, epoch, authentication, origin } = step_up;
        // A tag (8 bytes), a length (1) and an address (at most 16).
        let mut encoded_origin = BytesMut::with_capacity(25);
        origin.encode(&mut encoded_origin);
        let arguments = [
            bytes(session.as_bytes()),
            millis(now),
            Value::Integer(epoch.0.into()),
            Value::Bytes(encode_authentication(authentication).into()),
            Value::Bytes(encoded_origin.freeze()),
        ];
        let answer = self.run(&self.connection.scripts.step_up, account, arguments).await;
        // The next lookup must read the step-up from Redis, also after an error: Redis may have run the script nevertheless.
        self.log.session_cache.remove_session(account, session);
        let answer = answer?;
        match answer.as_str().as_deref() {
            Some("gone") => return Ok(StepUpOutcome::Gone),
            Some("stale") => return Ok(StepUpOutcome::Stale),
            _ => {}
        }
        // The positions are those that step_up.lua describes.
        let Value::Array(parts) = &answer else { return Err(unexpected("step_up", &answer)) };
        let record = parts.first().and_then(Value::as_bytes).ok_or_else(|| unexpected("step_up", &answer))?;
        let record = Record::decode(record)?;
        let (roles, additional_claims) = decode_roles_and_claims(parts.get(1))?;
        let stamp = record::decode_claims_stamp(parts.get(2).and_then(Value::as_bytes))?;
        let last_use = parts.get(3).and_then(Value::as_bytes).map(LastUse::decode).transpose()?;
        let client_grant = decode_client_grant(&record, parts.get(4))?;
        let roles_and_claims = (roles, additional_claims, stamp.version);
        let grant = record.into_grant(account, session, roles_and_claims, last_use.as_ref(), client_grant);
        Ok(StepUpOutcome::Recorded(Box::new(grant)))
    }

    /// The authentications of a session. `None` if the session has ended.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn sign_in_and_step_up(
        &self,
        account: AccountId,
        session: SessionId,
    ) -> Result<Option<SessionAuthentications>, RedisError> {
        let client = self.connection.client_for_request()?;
        let record_field = Bytes::copy_from_slice(session.as_bytes());
        let fields = vec![record_field, record::last_use_field(session)];
        let answer = Box::pin(client.hmget(self.connection.keys.sessions(account), fields));
        let (record, last_use): (Option<Bytes>, Option<Bytes>) = self.look_ups.measure(answer).await?;
        let Some(record) = record else { return Ok(None) };
        let record = Record::decode(&record)?;
        // In a record of release 0.1, which lacks the flag `has_last_use`, this field belongs to the details (last_use.rs).
        let last_use = last_use.filter(|_| record.has_last_use);
        let last_use = last_use.map(|part| LastUse::decode(&part)).transpose()?;
        Ok(Some(SessionAuthentications {
            sign_in: record.authentication(last_use.as_ref()),
            step_up: last_use.and_then(|last_use| last_use.step_up),
        }))
    }
}
