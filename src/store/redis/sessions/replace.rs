//! Ends all sessions of an account, and starts a new session that replaces one of them (I5: credential changes end sessions).

use std::time::Duration;

use fred::types::Value;

use super::{AccountSessions, SessionStore, bytes, decode_client_grant, new_record};
use crate::{
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        authentication::Authentication,
        clock::Timestamp,
        event::EndReason,
        ids::{AccountId, SessionId},
        session::{AcceptedTransport, Grant, Transport},
    },
    store::redis::{
        connection::RedisError,
        last_use::{LastUse, encode_authentication},
        record::{self, Record},
        script::{self, unexpected},
    },
};

/// A session that replaces another one when all sessions of the account end.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The id of the new session.
    pub id: SessionId,
    /// The account that the session belongs to.
    pub account: AccountId,
    /// The session that the new session replaces.
    pub replaces: SessionId,
    /// The transports that the replaced session may have.
    pub accepted: AcceptedTransport,
    /// The account's roles.
    pub roles: Roles,
    /// The account's other claims.
    pub additional_claims: AdditionalClaims,
    /// The version of the account's claims that these roles and claims belong to.
    pub claims_version: ClaimsVersion,
    /// The account's new epoch.
    pub epoch: Epoch,
    /// The authentication of the new session; `None` keeps the authentication of the replaced session.
    pub authentication: Option<Authentication>,
    /// The idle timeout.
    pub idle_timeout: Duration,
    /// The absolute lifetime.
    pub absolute_timeout: Duration,
}

/// The outcome of [`SessionStore::replace_all`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplaceOutcome {
    /// The session was replaced, and all others have ended.
    Replaced {
        /// The new session.
        grant: Grant,
        /// The number of live sessions that ended, without the replaced one.
        ended: u64,
    },
    /// The session to replace has ended; nothing was changed.
    Gone,
    /// The transport of the session to replace is not accepted; nothing was changed.
    NotAccepted,
}

impl SessionStore {
    /// Ends every session of an account and starts the session that replaces `replacement.replaces`, with the transport and the
    /// details of the replaced one. Does nothing if the session to replace has ended (I3: revoked stays revoked) or its transport is
    /// not accepted. Returns once no other node can call an ended session active.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn replace_all(
        &self,
        replacement: Replacement,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<ReplaceOutcome, RedisError> {
        let Replacement {
            id,
            account,
            replaces,
            accepted,
            roles,
            additional_claims,
            claims_version,
            epoch,
            authentication,
            idle_timeout,
            absolute_timeout,
        } = replacement;
        // The script replaces the transport `Bearer` by that of the replaced session.
        let (record, ttl) = new_record(Transport::Bearer, idle_timeout, absolute_timeout, now);
        let refuses_cookies = accepted == AcceptedTransport::Bearer;
        // ARGV 9 to 15 of revoke_all.lua
        let replacement_args = [
            bytes(replaces.as_bytes()),
            Value::Bytes(record.encode().into()),
            script::duration_millis(ttl),
            additional_claims.encode_with(&roles).into(),
            if refuses_cookies { "1".into() } else { "".into() },
            Value::Integer(claims_version.0.into()),
            Value::Bytes(authentication.map(encode_authentication).unwrap_or_default().into()),
        ];
        // With a replacement, the script expects the new session's id where it otherwise expects the session to keep.
        let ended_sessions = AccountSessions::all(account).except(id).with_epoch(epoch);
        let answer = self.run_revoke_all(ended_sessions, reason, now, replacement_args).await?;
        match answer.as_str().as_deref() {
            Some("gone") => return Ok(ReplaceOutcome::Gone),
            Some("cookie") => return Ok(ReplaceOutcome::NotAccepted),
            _ => {}
        }
        // The answer: number of ended sessions, record, version of the claims, last use, details
        let Value::Array(parts) = &answer else { return Err(unexpected("revoke_all", &answer)) };
        let (Some(ended), Some(record)) =
            (parts.first().and_then(Value::as_u64), parts.get(1).and_then(Value::as_bytes))
        else {
            return Err(unexpected("revoke_all", &answer));
        };
        let record = Record::decode(record)?;
        let stamp = record::decode_claims_stamp(parts.get(2).and_then(Value::as_bytes))?;
        let last_use = parts.get(3).and_then(Value::as_bytes).map(LastUse::decode).transpose()?;
        let client = decode_client_grant(&record, parts.get(4))?;
        let claims = (roles, additional_claims, stamp.version);
        let grant = record.into_grant(account, id, claims, last_use.as_ref(), client);
        Ok(ReplaceOutcome::Replaced { grant, ended })
    }
}
