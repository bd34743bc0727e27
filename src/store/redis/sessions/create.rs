//! Creates a session.

use std::{iter::repeat, time::Duration};

use fred::{
    bytes::{BufMut, Bytes},
    types::Value,
};

use super::{MAX_U48, SessionStore, evicted_ids, grant_too_long, new_record, session_arg_prefix, whole_millis};
use crate::{
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        authentication::Authentication,
        clock::Timestamp,
        event::EndReason,
        ids::{AccountId, SessionId},
        session::{ClientGrant, Grant, OriginTag, SessionOrigin, Transport},
    },
    store::redis::{
        connection::RedisError,
        last_use::{LastUse, LastUseOrigin},
        record::{self, Record},
        script::unexpected,
    },
};

/// A session to create.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The id.
    pub id: SessionId,
    /// The account that the session belongs to.
    pub account: AccountId,
    /// The account's roles.
    pub roles: Roles,
    /// The account's other claims.
    pub additional_claims: AdditionalClaims,
    /// The version of the account's claims that these roles and claims belong to.
    pub claims_version: ClaimsVersion,
    /// The account's epoch when its credentials were checked.
    pub epoch: Epoch,
    /// The transport of the session's refresh token.
    pub transport: Transport,
    /// Address, device and user agent of the sign-in.
    pub origin: SessionOrigin,
    /// The keyed digest of the network and user agent of the sign-in.
    pub tag: OriginTag,
    /// The authentication and the grant that the session is based on.
    pub basis: SessionBasis,
    /// The idle timeout.
    pub idle_timeout: Duration,
    /// The absolute lifetime.
    pub absolute_timeout: Duration,
    /// The maximum number of sessions of the account; the oldest ends first.
    pub max_per_account: u32,
}

/// The authentication and the grant that a session is based on. The default is a sign-in by password to the first-party client.
#[derive(Clone, Debug, Default)]
pub struct SessionBasis {
    /// The authentication; if none, a password at the time of creation.
    pub authentication: Option<Authentication>,
    /// The client, the scopes and the audiences; none for the first-party defaults.
    pub client: Option<ClientGrant>,
    /// The parent: the session, such as a browser's, with which the new session ends. None for a session without a parent.
    pub parent: Option<SessionId>,
}

/// The outcome of [`SessionStore::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateOutcome {
    /// The session was created.
    Created {
        /// The new session.
        grant: Grant,
        /// The sessions that were ended because of the account's session limit.
        evicted: Vec<SessionId>,
    },
    /// The account or its claims have changed since its credentials were checked: check them again. The change ended all sessions (I5), or
    /// outdated the claims (I16), so no session may be based on them.
    Stale,
}

impl SessionStore {
    /// Creates a session, and ends the account's oldest sessions if there would be too many.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn create(&self, new: NewSession, now: Timestamp) -> Result<CreateOutcome, RedisError> {
        let SessionBasis { authentication, client, parent } = new.basis;
        let encoded_grant = match &client {
            Some(client) => Some(record::encode_grant(client).ok_or_else(|| grant_too_long(client))?),
            None => None,
        };
        let (record, ttl) = new_record(new.transport, new.idle_timeout, new.absolute_timeout, now);
        let record = Record { has_grant: encoded_grant.is_some(), has_last_use: true, ..record };
        let last_use = LastUse::new(LastUseOrigin { tag: new.tag, ip: new.origin.ip }, authentication, parent);
        // create.lua describes the arguments. After the ids, the first has 2 values of 6 bytes, 3 of 4 bytes, and the record of 36 bytes.
        let mut argument = session_arg_prefix(new.account, new.id, 2 * 6 + 3 * 4 + 36);
        for millis in [now.as_millis().max(0).unsigned_abs(), whole_millis(ttl)] {
            argument.put_uint(millis.min(MAX_U48), 6);
        }
        argument.put_u32(new.max_per_account);
        argument.put_u32(new.epoch.0);
        argument.put_u32(new.claims_version.0);
        argument.extend_from_slice(&record.encode());
        let mut arguments = vec![Value::Bytes(argument.freeze()), new.additional_claims.encode_with(&new.roles).into()];
        let details = record::encode_details(encoded_grant, &new.origin).into_iter().map(Bytes::from);
        // empty texts stand for missing parts, since each operation of a batch has the same number of arguments
        arguments.extend(details.chain(repeat(Bytes::new())).take(record::DETAIL_PARTS).map(Value::Bytes));
        arguments.push(Value::Bytes(last_use.encode(now).into()));
        let answer = self.connection.run_batched(|scripts| &scripts.create, new.account, arguments).await?;
        // A text; or, if the session limit has ended sessions, an array that begins with the text and the position of the last event.
        let (outcome, last_event) = match &answer {
            Value::Array(parts) => (parts.first().and_then(Value::as_str), parts.get(1)),
            outcome => (outcome.as_str(), None),
        };
        match outcome.as_deref() {
            Some("created") => {
                let evicted = evicted_ids(&answer);
                for session in &evicted {
                    self.log.session_cache.remove_session(new.account, *session);
                    self.count_revocation(EndReason::Limit);
                }
                if let Some(position) = last_event {
                    self.confirm_ended("create", new.account, position).await?;
                }
                let client = client.map(Box::new);
                let claims = (new.roles, new.additional_claims, new.claims_version);
                let grant = record.into_grant(new.account, new.id, claims, Some(&last_use), client);
                Ok(CreateOutcome::Created { grant, evicted })
            }
            Some("stale") => Ok(CreateOutcome::Stale),
            _ => Err(unexpected("create", &answer)),
        }
    }
}
