//! Remembered devices: a device that has shown a second factor may sign in with the password alone, for the time
//! `factors.remember_device`.
//!
//! A device is accepted only while the account's password, factors, address and roles are the same as when it was remembered. It replaces
//! the second factor only after a password. It does not raise the session's level: `amr` and `acr` are those of the password (I14: no
//! path yields an `acr` that the user has not earned).

use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{Acr, Authentication, AuthenticationMethods},
        ids::{AccountId, RememberedDeviceId},
        remembered_device::RememberedDevice,
        session::SessionOrigin,
    },
    metrics::{SecondFactorMethod, SecondFactorOutcome},
    service::{
        error::ServiceError,
        limits::DeviceToken,
        sign_in::{Authenticated, policy},
    },
    state::AppState,
    store::sql::LiveDevices,
};

/// A remembered device in a list.
#[derive(Clone, Debug)]
pub struct DeviceEntry {
    /// The device.
    pub device: RememberedDevice,
    /// Whether it is the calling device.
    pub is_current: bool,
}

/// Whether the device of a sign-in may skip the second factor. Records the use of the device.
pub(super) async fn skips_factor(state: &AppState, input: &Authenticated<'_>) -> Result<bool, ServiceError> {
    let Some(token) = input.device else { return Ok(false) };
    // A remembered device does not raise the level, so a higher level needs the second factor.
    if input.wanted_acr > Acr::Aal1 || !can_remember(state, &input.account, &input.authentication) {
        return Ok(false);
    }
    let Some(live) = live_devices(state, &input.account) else { return Ok(false) };
    let found = state.sql.use_remembered_device(live, &digest(input.account.id, token)).await?;
    let is_remembered = found.is_some();
    if is_remembered {
        state.metrics.count_second_factor(SecondFactorMethod::RememberedDevice, SecondFactorOutcome::Success);
    }
    Ok(is_remembered)
}

/// Whether a device can be remembered after this first factor: the first factor is a password alone, and the policy allows remembered
/// devices for the account.
pub(super) fn can_remember(state: &AppState, account: &Account, first_factor: &Authentication) -> bool {
    first_factor.methods == AuthenticationMethods::PASSWORD
        && policy::remember_for(&state.config.factors, account).is_some()
}

/// Remembers a device that has shown a second factor. A failure does not fail the sign-in.
pub(super) async fn remember(state: &AppState, account: &Account, token: &DeviceToken, origin: &SessionOrigin) {
    if let Err(error) = try_remember(state, account, token, origin).await {
        tracing::warn!(%error, account = %account.id, "a device could not be remembered: its next sign-in needs the second factor");
    }
}

async fn try_remember(
    state: &AppState,
    account: &Account,
    token: &DeviceToken,
    origin: &SessionOrigin,
) -> Result<(), ServiceError> {
    let settings = &state.config.factors;
    let Some(lifetime) = policy::remember_for(settings, account) else { return Ok(()) };
    let now = state.clock.now();
    let binding = binding_of(account);
    let Some(mut change) = state.sql.change_account(account.id).await? else { return Ok(()) };
    // If the account has changed since it was read, the device is not remembered.
    if binding_of(&change.account) != binding {
        return Ok(());
    }
    let device = RememberedDevice {
        id: state.entropy.remembered_device_id(now),
        digest: digest(account.id, token),
        binding,
        name: origin.device.clone(),
        user_agent: origin.user_agent.clone(),
        created_at: now,
        expires_at: now + lifetime,
        last_used_at: None,
    };
    change.remember_device(&device, settings.max_remembered_devices).await?;
    let entry = AuditEntry::new(now, AuditEvent::DeviceRemembered).account(account.id).detail(device.id.to_string());
    change.record(&entry.actor(Actor::Account).address(origin.ip)).await?;
    Ok(change.commit().await?)
}

/// The remembered devices of an account, the newest first. `current` is the token of the calling device.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(
    state: &AppState,
    account: AccountId,
    current: Option<&DeviceToken>,
) -> Result<Vec<DeviceEntry>, ServiceError> {
    let Some(account) = state.sql.account(account).await? else { return Ok(Vec::new()) };
    let Some(live) = live_devices(state, &account) else { return Ok(Vec::new()) };
    let current_digest = current.map(|token| digest(account.id, token));
    let devices = state.sql.remembered_devices(live).await?.into_iter();
    Ok(devices.map(|device| DeviceEntry { is_current: Some(device.digest) == current_digest, device }).collect())
}

/// Forgets a remembered device of the caller's account. Returns whether the account had the device. Needs no recent authentication,
/// because its only effect is that the device needs the second factor again.
///
/// # Errors
/// [`ServiceError`]
pub async fn forget(
    state: &AppState,
    caller: &AccessClaims,
    id: RememberedDeviceId,
    ip: Option<IpAddr>,
) -> Result<bool, ServiceError> {
    let entry = forget_entry(state, caller, ip).detail(id.to_string());
    Ok(state.sql.forget_device(caller.sub, id, &entry).await?)
}

/// Forgets all remembered devices of the caller's account. Returns their number.
///
/// # Errors
/// [`ServiceError`]
pub async fn forget_all(state: &AppState, caller: &AccessClaims, ip: Option<IpAddr>) -> Result<u64, ServiceError> {
    Ok(state.sql.forget_devices(caller.sub, forget_entry(state, caller, ip)).await?)
}

/// The audit entry for devices that the caller's account forgets.
fn forget_entry(state: &AppState, caller: &AccessClaims, ip: Option<IpAddr>) -> AuditEntry {
    let entry = AuditEntry::new(state.clock.now(), AuditEvent::DeviceForgotten).account(caller.sub).session(caller.sid);
    entry.actor(Actor::Account).address(ip)
}

/// The query for the devices of an account with which its owner can skip the second factor now; `None` if the policy allows none.
fn live_devices(state: &AppState, account: &Account) -> Option<LiveDevices> {
    let now = state.clock.now();
    let lifetime = policy::remember_for(&state.config.factors, account)?;
    // `since` counts as well as each device's `expires_at`: the configured lifetime may be shorter now
    Some(LiveDevices { account: account.id, binding: binding_of(account), since: now - lifetime, now })
}

/// The digest under which a device token is stored. The token has 256 random bits, so a fast hash is enough.
fn digest(account: AccountId, token: &DeviceToken) -> [u8; 32] {
    hash(&[b"remembered-device", account.as_bytes(), token.expose().as_bytes()])
}

/// A digest of the account's state: the first half of the hash. A device is remembered only while this state stays the same.
fn binding_of(account: &Account) -> [u8; 16] {
    let digest = hash(&[
        &account.password_changed_at.as_millis().to_be_bytes(),
        &account.factors_version.0.to_be_bytes(),
        account.email.key().as_bytes(),
        account.roles.to_string().as_bytes(),
    ]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

/// SHA-256 of the parts. Each part is preceded by its length, so that different parts never give the same input.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}
