//! Devices that have passed a second factor and may skip it for a time (`factors.remember_device`).

use super::{clock::Timestamp, ids::RememberedDeviceId};

/// A remembered device. `Debug` shows only the id and two times: the rest is secret or personal.
#[derive(Clone, PartialEq, Eq)]
pub struct RememberedDevice {
    /// The id, by which the owner names the device.
    pub id: RememberedDeviceId,
    /// The digest of the account and the device token.
    pub digest: [u8; 32],
    /// The digest of the account's last password change, factors, e-mail address and roles when the device was remembered. The
    /// device stops skipping the second factor when one of them changes.
    pub binding: [u8; 16],
    /// The name that the client gave the device.
    pub name: Option<String>,
    /// The user agent with which the device was remembered.
    pub user_agent: Option<String>,
    /// When the user passed a second factor on the device.
    pub created_at: Timestamp,
    /// When the device stops skipping the second factor.
    pub expires_at: Timestamp,
    /// When the device last skipped the second factor.
    pub last_used_at: Option<Timestamp>,
}

impl std::fmt::Debug for RememberedDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RememberedDevice")
            .field("id", &self.id)
            .field("created_at", &self.created_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
