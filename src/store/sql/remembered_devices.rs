//! The table `remembered_devices`: devices that may skip the second factor of an account.

use sqlx::{Row, any::AnyRow};

use super::{AccountChange, Sql, SqlError, query};
use crate::domain::{
    audit::AuditEntry,
    clock::Timestamp,
    ids::{AccountId, RememberedDeviceId},
    remembered_device::RememberedDevice,
};

/// Selects the devices that may skip the second factor of an account: unexpired devices that were remembered after `since`, with the digest
/// of the account's current state.
#[derive(Clone, Copy, Debug)]
pub struct LiveDevices {
    /// The account.
    pub account: AccountId,
    /// The digest of the account's current state: last password change, factors, primary address and roles.
    pub binding: [u8; 16],
    /// Only devices that were remembered after this time may skip the second factor.
    pub since: Timestamp,
    /// The current time.
    pub now: Timestamp,
}

impl Sql {
    /// Records a use of the device with a token's digest. Returns the device's id, or `None` if no selected device has the digest.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn use_remembered_device(
        &self,
        live: LiveDevices,
        digest: &[u8; 32],
    ) -> Result<Option<RememberedDeviceId>, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "UPDATE remembered_devices SET last_used_at = $1 WHERE account_id = $2 AND digest = $3 AND binding = $4 \
                   AND created_at > $5 AND expires_at > $1 RETURNING id";
        let row = query(sql)
            .bind(live.now.as_millis())
            .bind(live.account.to_string())
            .bind(digest.to_vec())
            .bind(live.binding.to_vec())
            .bind(live.since.as_millis())
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let id: String = row.try_get("id")?;
        parse_id(&id).map(Some)
    }

    /// The selected devices, newest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn remembered_devices(&self, live: LiveDevices) -> Result<Vec<RememberedDevice>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = "SELECT id, digest, binding, name, user_agent, created_at, expires_at, last_used_at \
                   FROM remembered_devices WHERE account_id = $1 AND binding = $2 AND created_at > $3 AND expires_at > $4 \
                   ORDER BY created_at DESC, id DESC";
        let rows = query(sql)
            .bind(live.account.to_string())
            .bind(live.binding.to_vec())
            .bind(live.since.as_millis())
            .bind(live.now.as_millis())
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        rows.iter().map(read_device).collect()
    }

    /// Forgets a device of an account. If the account had the device, writes `entry` to the audit log and returns true.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn forget_device(
        &self,
        account: AccountId,
        id: RememberedDeviceId,
        entry: &AuditEntry,
    ) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "DELETE FROM remembered_devices WHERE account_id = $1 AND id = $2";
        let deleted = query(sql).bind(account.to_string()).bind(id.to_string()).execute(&mut *tx).await?;
        let existed = deleted.rows_affected() > 0;
        if existed {
            self.record(&mut tx, entry).await?;
        }
        tx.commit().await?;
        Ok(existed)
    }

    /// Forgets all devices of an account, and returns their number. If there were any, writes `entry` to the audit log with that number.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn forget_devices(&self, account: AccountId, entry: AuditEntry) -> Result<u64, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "DELETE FROM remembered_devices WHERE account_id = $1";
        let forgotten = query(sql).bind(account.to_string()).execute(&mut *tx).await?.rows_affected();
        if forgotten > 0 {
            self.record(&mut tx, &entry.count(forgotten)).await?;
        }
        tx.commit().await?;
        Ok(forgotten)
    }
}

impl AccountChange {
    /// Remembers a device. Removes devices that have expired or were remembered in another state of the account, and the oldest devices
    /// if more than `max` would remain.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn remember_device(&mut self, device: &RememberedDevice, max: u32) -> Result<(), SqlError> {
        let account = self.account.id.to_string();
        query("DELETE FROM remembered_devices WHERE account_id = $1 AND (binding <> $2 OR expires_at <= $3)")
            .bind(account.clone())
            .bind(device.binding.to_vec())
            .bind(device.created_at.as_millis())
            .execute(&mut *self.tx)
            .await?;
        // Keeps the newest `max - 1` devices, to leave room for the new one.
        let sql = "DELETE FROM remembered_devices WHERE account_id = $1 AND id NOT IN (\
                   SELECT id FROM remembered_devices WHERE account_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2)";
        query(sql).bind(account.clone()).bind(i64::from(max.saturating_sub(1))).execute(&mut *self.tx).await?;
        let sql = "INSERT INTO remembered_devices \
                   (id, account_id, digest, binding, name, user_agent, created_at, expires_at, last_used_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        query(sql)
            .bind(device.id.to_string())
            .bind(account)
            .bind(device.digest.to_vec())
            .bind(device.binding.to_vec())
            .bind(device.name.clone())
            .bind(device.user_agent.clone())
            .bind(device.created_at.as_millis())
            .bind(device.expires_at.as_millis())
            .bind(device.last_used_at.map(Timestamp::as_millis))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Forgets all devices after a change of the account: the user must pass a second factor again on each of them.
    pub(super) async fn forget_devices(&mut self) -> Result<(), SqlError> {
        let sql = "DELETE FROM remembered_devices WHERE account_id = $1";
        query(sql).bind(self.account.id.to_string()).execute(&mut *self.tx).await?;
        Ok(())
    }
}

fn read_device(row: &AnyRow) -> Result<RememberedDevice, SqlError> {
    let id: String = row.try_get("id")?;
    let (digest, binding): (Vec<u8>, Vec<u8>) = (row.try_get("digest")?, row.try_get("binding")?);
    let unreadable = || SqlError::Corrupt(format!("the remembered device {id}"));
    Ok(RememberedDevice {
        id: parse_id(&id)?,
        digest: digest.try_into().map_err(|_| unreadable())?,
        binding: binding.try_into().map_err(|_| unreadable())?,
        name: row.try_get("name")?,
        user_agent: row.try_get("user_agent")?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        expires_at: Timestamp::from_millis(row.try_get("expires_at")?),
        last_used_at: row.try_get::<Option<i64>, _>("last_used_at")?.map(Timestamp::from_millis),
    })
}

fn parse_id(id: &str) -> Result<RememberedDeviceId, SqlError> {
    id.parse().map_err(|_| SqlError::Corrupt(format!("the id {id} of a remembered device")))
}
