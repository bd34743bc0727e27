//! The roles and other claims of an account, stored beside its sessions (I16: claim changes apply at once).

use fred::{bytes::Bytes, interfaces::HashesInterface, types::Value};

use super::{FENCE_DURATION, SessionStore};
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
    /// Replaces the roles and other claims of an account, and their version. The next refresh of each session returns them.
    ///
    /// Returns the stored version, once no other node accepts a token with an older one. It is `version`, or a later one if an earlier
    /// change that the database did not store has used `version` in Redis.
    ///
    /// For 15 minutes, a sign-in that read an epoch (the account's counter of changes) before `epoch` can't create a session: it would
    /// write the former roles.
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
            millis(now + FENCE_DURATION),
            Value::Integer(version.0.into()),
            pending.origin().into(),
        ];
        let answer = self.run(&self.connection.scripts.set_claims, account, arguments).await;
        // Removed after an error as well, since Redis may have run the script. The next lookup of each session reads Redis.
        let except = None; // no session stays
        self.log.session_cache.remove_account(account, except);
        let answer = answer?;
        let stored = answer.as_u64().and_then(|version| u32::try_from(version).ok());
        let stored = stored.ok_or_else(|| unexpected("set_claims", &answer))?;
        // waits for the acknowledgements of the other nodes
        pending.confirmed().await;
        Ok(ClaimsVersion(stored))
    }

    /// The version of an account's claims in Redis. None if Redis holds no version; the database may hold one.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn claims_version(&self, account: AccountId) -> Result<Option<ClaimsVersion>, RedisError> {
        let client = self.connection.client_for_request()?;
        let lookup = client.hget(self.connection.keys.sessions(account), record::CLAIMS_VERSION_FIELD);
        let Some(field): Option<Bytes> = Box::pin(lookup).await? else { return Ok(None) };
        Ok(Some(record::decode_claims_stamp(Some(&field))?.version))
    }
}
