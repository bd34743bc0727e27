//! Reads the status of a refresh token for introspection, without presenting the token.

use fred::{bytes::Bytes, interfaces::HashesInterface};

use super::{
    RedisError, SessionStore,
    record::{self, GenerationStatus},
};
use crate::domain::{
    clock::Timestamp,
    ids::{AccountId, SessionId},
    session::{Generation, RepeatRule},
};

/// The status of a refresh token that would be accepted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshStatus {
    /// When the token was issued. None for a superseded token: Redis stores only when the session's current token was issued.
    pub issued_at: Option<Timestamp>,
    /// When the session ends if no token of it is refreshed.
    pub expires_at: Timestamp,
}

impl SessionStore {
    /// The status of a refresh token of generation `presented`. None if the token would be refused, or if it belongs to the session of an
    /// app: only the app may use it. One round trip without writes.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn refresh_status(
        &self,
        account: AccountId,
        session: SessionId,
        presented: Generation,
        rule: &RepeatRule,
        now: Timestamp,
    ) -> Result<Option<RefreshStatus>, RedisError> {
        let client = self.connection.client_for_request()?;
        let field = Bytes::copy_from_slice(session.as_bytes());
        // Boxed: fred's futures have several kilobytes, which would be moved with the futures of all callers.
        let found: Option<Bytes> =
            self.look_ups.measure(Box::pin(client.hget(self.connection.keys.sessions(account), field))).await?;
        let Some(bytes) = found else { return Ok(None) };
        let (record, status) = record::classify_generation(&bytes, presented, rule, now)?;
        let expires_at = record.idle_ends_at.min(record.ends_at);
        // only sessions of apps have a grant
        if record.has_grant || now >= expires_at || status == GenerationStatus::Refused {
            return Ok(None);
        }
        // a session's last use is the sign-in or the refresh that issued the current token
        let issued_at = (status == GenerationStatus::Current).then_some(record.last_used_at);
        Ok(Some(RefreshStatus { issued_at, expires_at }))
    }
}
