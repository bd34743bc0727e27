//! The roles and other claims of an account beside its sessions (I16).

use fred::{bytes::Bytes, interfaces::HashesInterface, types::Value};

use super::{FENCE, SessionStore};
use crate::{
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        clock::Timestamp,
        ids::AccountId,
    },
    store::redis::{
        connection::RedisError,
        record,
        script::{millis, unexpected},
    },
};

impl SessionStore {
    /// Replaces the roles and other claims that the next refresh of each session of an account returns, and their version (I16).
    /// Returns the version once no other node accepts a token with an older one: `version`, or a later one if Redis has given
    /// `version` to a change that the database did not store. A sign-in that was checked against an epoch older than `epoch` can't create a session
    /// any more, so that it can't write the former roles.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn set_claims(
        &self,
        account: AccountId,
        roles: &Roles,
        additional: &AdditionalClaims,
        version: ClaimsVersion,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<ClaimsVersion, RedisError> {
        let pending = self.log.acks.open();
        let arguments = [
            additional.encode_with(roles).into(),
            millis(now),
            Value::Integer(epoch.0.into()),
            millis(now + FENCE),
            Value::Integer(version.0.into()),
            pending.origin().into(),
        ];
        let answer = self.run(&self.connection.scripts.set_claims, account, arguments).await;
        // On success and on failure: the next lookup of each session reads Redis.
        self.log.session_cache.remove_account(account, None);
        let answer = answer?;
        let version = answer.as_u64().and_then(|version| u32::try_from(version).ok());
        let version = version.ok_or_else(|| unexpected("set_claims", &answer))?;
        pending.confirmed().await;
        Ok(ClaimsVersion(version))
    }

    /// The version of an account's claims in Redis. None if Redis holds no version; the database may hold one.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn claims_version(&self, account: AccountId) -> Result<Option<ClaimsVersion>, RedisError> {
        let client = self.connection.client();
        let found = client.hget(self.connection.keys.sessions(account), record::CLAIMS_FIELD);
        let found: Option<Bytes> = Box::pin(found).await?;
        Ok(found.map(|stamp| record::decode_claims(Some(&stamp))).transpose()?.map(|stamp| stamp.version))
    }
}
