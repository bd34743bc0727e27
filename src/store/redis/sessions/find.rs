//! Reads sessions, from Redis or from the session cache of the node, and extends the idle timeout of browsers' sessions.

use std::time::Duration;

use fred::{
    bytes::{Bytes, BytesMut},
    interfaces::HashesInterface,
    types::Value,
};

use super::{SessionStore, bytes};
use crate::{
    domain::{
        account::{ClaimsVersion, Roles},
        additional_claims::AdditionalClaims,
        clock::Timestamp,
        ids::{AccountId, SessionId},
        session::{Liveness, Session},
    },
    store::redis::{
        connection::RedisError,
        last_use::LastUseOrigin,
        record::{self, Record},
        script::{self, millis},
    },
};

/// A live session, with the account's roles and claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSession {
    /// The session.
    pub session: Session,
    /// The account's roles.
    pub roles: Roles,
    /// The version of the account's claims.
    pub claims_version: ClaimsVersion,
}

impl SessionStore {
    /// Reads a session from Redis, with the account's roles. Returns none if the session has ended.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn find(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<FoundSession>, RedisError> {
        let id = session.as_bytes().as_slice();
        // A session has parts beside its record (record.rs): 1 to 3 are the details, and 4 is the last use.
        let part_numbers = 1..=4;
        // The fields are the record, the account's roles and other claims (`r`), the version of the claims, and the parts.
        let claims_version_field = Bytes::from_static(record::CLAIMS_VERSION_FIELD.as_bytes());
        let mut fields = vec![Bytes::copy_from_slice(id), Bytes::from_static(b"r"), claims_version_field];
        fields.extend(part_numbers.clone().map(|number| Bytes::from([id, &[number]].concat())));
        let answer =
            Box::pin(self.connection.client_for_request()?.hmget(self.connection.keys.sessions(account), fields));
        let found: Vec<Option<Bytes>> = self.look_ups.measure(answer).await?;
        let [Some(record), roles, claims_stamp, parts @ ..] = found.as_slice() else { return Ok(None) };
        let parts = part_numbers.zip(parts).filter_map(|(number, part)| Some((number, part.as_ref()?))).collect();
        let session = record::decode_session(account, session, record, parts)?;
        if session.is_expired(now) {
            return Ok(None);
        }
        let roles = match roles {
            Some(text) => {
                let decoded = AdditionalClaims::decode_with_roles(&String::from_utf8_lossy(text));
                let (roles, _additional) = decoded.map_err(|error| RedisError::Unexpected(error.to_string()))?;
                roles
            }
            None => Roles::default(),
        };
        let claims_version = record::decode_claims_stamp(claims_stamp.as_deref())?.version;
        Ok(Some(FoundSession { session, roles, claims_version }))
    }

    /// The live sessions of an account, oldest first.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn list(&self, account: AccountId, now: Timestamp) -> Result<Vec<Session>, RedisError> {
        let client = self.connection.client_for_request()?;
        let fields: Vec<(Bytes, Bytes)> = client
            .hgetall::<std::collections::HashMap<Bytes, Bytes>, _>(self.connection.keys.sessions(account))
            .await?
            .into_iter()
            .collect();
        let mut sessions = record::decode_all(account, &fields);
        sessions.retain(|session| !session.is_expired(now));
        sessions.sort_by_key(|session| (session.created_at, session.id));
        Ok(sessions)
    }

    /// Whether a session is live. Reads Redis.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn is_live(&self, account: AccountId, session: SessionId, now: Timestamp) -> Result<bool, RedisError> {
        Ok(self.look_up(account, session, now).await?.is_some())
    }

    /// Returns the [`Liveness`] of a session, or none if the session has ended. Reads Redis.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn liveness_in_redis(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<Liveness>, RedisError> {
        self.look_up(account, session, now).await
    }

    /// Returns the [`Liveness`] of a session, or none if the session has ended. Reads Redis, unless the node's session cache is valid and
    /// has the session.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn liveness(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<Liveness>, RedisError> {
        let session_cache = &self.log.session_cache;
        if let Some(cached) = session_cache.get(account, session, now) {
            return Ok(Some(cached));
        }
        // taken before Redis is read, so that `insert` refuses a session that may have ended meanwhile; none while the cache is not valid
        let version = session_cache.version(account);
        let found = self.look_up(account, session, now).await?;
        if let (Some(version), Some(found)) = (version, found) {
            session_cache.insert(account, session, found, version);
        }
        Ok(found)
    }

    /// As [`SessionStore::liveness`], but reads only the cache. Counts no cache hit; call [`SessionStore::count_cache_hit`] for that.
    pub fn cached_liveness(&self, account: AccountId, session: SessionId, now: Timestamp) -> Option<Liveness> {
        self.log.session_cache.peek(account, session, now)
    }

    /// Counts a hit of the session cache, for a session found with [`SessionStore::cached_liveness`].
    pub fn count_cache_hit(&self) {
        self.log.session_cache.count_hit();
    }

    /// Reads the [`Liveness`] of a session from Redis.
    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "redis look_up", skip_all, fields(otel.kind = "client", db.system.name = "redis", db.operation.name = "look_up"))]
    async fn look_up(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<Liveness>, RedisError> {
        let client = self.connection.client_for_request()?;
        let fields = vec![
            Bytes::copy_from_slice(session.as_bytes()),
            Bytes::from_static(record::CLAIMS_VERSION_FIELD.as_bytes()),
        ];
        // Boxed: fred's futures have several kilobytes, which would be moved with the futures of all callers.
        let answer = Box::pin(client.hmget(self.connection.keys.sessions(account), fields));
        let (found, claims): (Option<Bytes>, Option<Bytes>) = self.look_ups.measure(answer).await?;
        let Some(record) = found else { return Ok(None) };
        let Record { created_at, idle_ends_at, ends_at, has_step_up: stepped_up, .. } = Record::decode(&record)?;
        let claims = record::decode_claims_stamp(claims.as_deref())?;
        let is_live = now < idle_ends_at.min(ends_at);
        Ok(is_live.then_some(Liveness { created_at, idle_ends_at, ends_at, claims, stepped_up }))
    }

    /// Extends the idle timeout of a browser's session, which has a cookie and no refresh token whose use would extend the timeout.
    /// Returns whether the session is live.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn touch(
        &self,
        account: AccountId,
        session: SessionId,
        origin: LastUseOrigin,
        idle_timeout: Duration,
        now: Timestamp,
    ) -> Result<bool, RedisError> {
        // A tag (8 bytes), the length of the address (1) and the address (at most 16).
        let mut encoded = BytesMut::with_capacity(25);
        origin.encode(&mut encoded);
        let arguments = [
            bytes(session.as_bytes()),
            millis(now),
            script::duration_millis(idle_timeout),
            Value::Bytes(encoded.freeze()),
        ];
        let answer = self.run(&self.connection.scripts.touch, account, arguments).await?;
        let is_live = matches!(answer, Value::Integer(1));
        Ok(is_live)
    }
}
