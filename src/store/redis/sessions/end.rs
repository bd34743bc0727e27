//! Ends sessions: one, one with those beneath it, or all of an account (I3: once the request is answered, no node accepts the session).

use fred::types::Value;

use super::{FENCE_DURATION, SessionStore, bytes, parse_position, session_arg_prefix, session_ids};
use crate::{
    domain::{
        account::Epoch,
        clock::Timestamp,
        event::EndReason,
        ids::{AccountId, SessionId},
    },
    store::redis::{
        connection::RedisError,
        revocation_log::session_end_event,
        script::{millis, unexpected},
    },
};

/// The sessions of an account that [`SessionStore::revoke_all`] ends.
#[derive(Clone, Copy, Debug)]
pub struct AccountSessions {
    /// The account.
    pub account: AccountId,
    /// The session that stays live, if any.
    pub except: Option<SessionId>,
    /// The account's new epoch, the counter of its changes. If given, a sign-in that was checked against an older epoch can't create a
    /// session for 15 minutes (I5: changed credentials end all sessions).
    pub epoch: Option<Epoch>,
}

impl AccountSessions {
    /// All sessions of an account. Its epoch stays.
    pub const fn all(account: AccountId) -> Self {
        Self { account, except: None, epoch: None }
    }

    /// The sessions without `session`, which stays live.
    #[must_use]
    pub const fn except(self, session: SessionId) -> Self {
        Self { except: Some(session), ..self }
    }

    /// The sessions, with the account's new epoch.
    #[must_use]
    pub const fn with_epoch(self, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..self }
    }
}

impl SessionStore {
    /// Ends one session (I3). Returns whether the session existed, once no other node can call it active. Waits also if the session had
    /// ended before: its end may not have reached every node yet.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn revoke(
        &self,
        account: AccountId,
        session: SessionId,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<bool, RedisError> {
        let pending = self.log.acks.open();
        let ack_origin = pending.origin(); // the node and the number to acknowledge
        let mut argument = session_arg_prefix(account, session, ack_origin.len());
        argument.extend_from_slice(ack_origin.as_bytes());
        let event = session_end_event(account, session, reason, now);
        let arguments = vec![Value::Bytes(argument.freeze()), event.into()];
        let answer = self.connection.run_batched(|scripts| &scripts.revoke, account, arguments).await;
        // Removed after an error as well, since Redis may have run the script. The next lookup reads Redis.
        self.log.session_cache.remove_session(account, session);
        let answer = answer?;
        // The script returns 1, or the position of the bucket if the session had ended before.
        let ended = matches!(answer, Value::Integer(1));
        if ended {
            self.count_revocation(reason);
            pending.confirmed().await;
        } else {
            let position = parse_position("revoke", &answer)?;
            self.log.confirm_position(pending, account, position).await;
        }
        Ok(ended)
    }

    /// Ends one session and, if it is a browser's session, the sessions beneath it (I3). Returns the sessions that ended, once no other
    /// node can call them active. Waits also if the session had ended before, as [`Self::revoke`] does.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn revoke_tree(
        &self,
        account: AccountId,
        session: SessionId,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, RedisError> {
        let pending = self.log.acks.open();
        let arguments = [bytes(session.as_bytes()), reason.as_str().into(), millis(now), pending.origin().into()];
        let answer = self.run(&self.connection.scripts.revoke_tree, account, arguments).await;
        // after an error as well, as in `revoke`
        self.log.session_cache.remove_session(account, session);
        let answer = answer?;
        let Value::Array(ended) = &answer else {
            // The session had ended before.
            let position = parse_position("revoke_tree", &answer)?;
            self.log.confirm_position(pending, account, position).await;
            return Ok(Vec::new());
        };
        let ended = session_ids(ended);
        for ended_session in &ended {
            self.log.session_cache.remove_session(account, *ended_session);
        }
        self.count_revocation(reason);
        pending.confirmed().await;
        Ok(ended)
    }

    /// Moves the sessions beneath the browser's session `former` to its replacement `new`, and ends `former` (I3). If `new` is not live,
    /// ends `former` and the sessions beneath it. Returns the sessions that ended, none if `former` had ended before. `reason` is the
    /// reason of every end.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn adopt(
        &self,
        account: AccountId,
        former: SessionId,
        new: SessionId,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, RedisError> {
        let pending = self.log.acks.open();
        let arguments = [
            bytes(former.as_bytes()),
            bytes(new.as_bytes()),
            reason.as_str().into(),
            millis(now),
            pending.origin().into(),
        ];
        let answer = self.run(&self.connection.scripts.adopt, account, arguments).await;
        // The answer does not name the app sessions that moved, so all sessions of the account are removed, except the new one.
        self.log.session_cache.remove_account(account, Some(new));
        let answer = answer?;
        let Value::Array(ended) = &answer else {
            // `former` had ended before.
            let position = parse_position("adopt", &answer)?;
            self.log.confirm_position(pending, account, position).await;
            return Ok(Vec::new());
        };
        self.count_revocation(reason);
        pending.confirmed().await;
        Ok(session_ids(ended))
    }

    /// Ends the sessions of an account (I3). Returns how many live sessions ended, once no other node can call them active.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn revoke_all(
        &self,
        sessions: AccountSessions,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<u64, RedisError> {
        let no_replacement = [];
        let answer = self.run_revoke_all(sessions, reason, now, no_replacement).await?;
        answer.as_u64().ok_or_else(|| unexpected("revoke_all", &answer))
    }

    /// Runs `revoke_all.lua`, with the arguments of a replacement session, if any. Returns the script's answer.
    pub(super) async fn run_revoke_all(
        &self,
        sessions: AccountSessions,
        reason: EndReason,
        now: Timestamp,
        replacement: impl IntoIterator<Item = Value>,
    ) -> Result<Value, RedisError> {
        let AccountSessions { account, except, epoch } = sessions;
        let pending = self.log.acks.open();
        let absent = || Value::from("");
        let arguments = [
            except.map_or_else(absent, |id| bytes(id.as_bytes())),
            reason.as_str().into(),
            millis(now),
            epoch.map_or_else(absent, |epoch| Value::Integer(epoch.0.into())),
            millis(now + FENCE_DURATION),
            pending.origin().into(),
        ];
        let arguments = arguments.into_iter().chain(replacement);
        let answer = self.run(&self.connection.scripts.revoke_all, account, arguments).await;
        self.log.session_cache.remove_account(account, except);
        let answer = answer?;
        // The script returns the number of ended sessions, or an array with the replacement session. A text, such as 'gone', means that
        // it changed nothing.
        if answer.as_u64().is_some() || answer.is_array() {
            self.count_revocation(reason);
            pending.confirmed().await;
        }
        Ok(answer)
    }
}
