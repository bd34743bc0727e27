//! A user changes the password: all other sessions end with the old one (I5).

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEvent, Entry},
        clock::Timestamp,
        event::Reason,
        secret::SecretText,
    },
    password::{PasswordError, Verified, WeakPassword},
    service::{error::ServiceError, limits, register::password_context},
    state::AppState,
};

/// Why a change was refused.
#[derive(Debug, thiserror::Error)]
pub enum ChangePasswordError {
    /// The account is gone or disabled.
    #[error("the account is gone or disabled")]
    NoAccount,
    /// The session that asks was ended while its passwords were being hashed (I3).
    #[error("the session was ended")]
    SessionEnded,
    /// The current password is another.
    #[error("the current password is wrong")]
    WrongPassword,
    /// The new password can be guessed.
    #[error(transparent)]
    WeakPassword(WeakPassword),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Changes the password of the caller's account and ends its other sessions, or does neither.
///
/// # Errors
/// [`ChangePasswordError`]
pub async fn change_password(
    state: &AppState,
    caller: &AccessClaims,
    current: SecretText,
    new: SecretText,
    ip: Option<IpAddr>,
) -> Result<(), ChangePasswordError> {
    let _place = state.passwords.reserve().map_err(ServiceError::from)?;
    limits::password_change(state, caller.sid, ip).await?;
    let account = state.sql.account(caller.sub).await.map_err(ServiceError::from)?;
    let account = account.filter(|account| account.disabled_at.is_none()).ok_or(ChangePasswordError::NoAccount)?;
    let checked = account.password_hash.clone();
    match state.passwords.verify(current, Some(checked.clone())).await.map_err(ServiceError::from)? {
        Verified::Match { .. } => {}
        Verified::Mismatch => {
            state.audit.record(entry(state.clock.now(), caller, ip).refused("wrong_password"));
            return Err(ChangePasswordError::WrongPassword);
        }
    }
    let context = password_context(&account.email, account.username.as_ref());
    let hash = state.passwords.hash_new(new, context).await.map_err(|error| match error {
        PasswordError::Weak(weak) => ChangePasswordError::WeakPassword(weak),
        other => ChangePasswordError::Service(other.into()),
    })?;

    let now = state.clock.now();
    let change = state.sql.change_account(account.id).await.map_err(ServiceError::from)?;
    let mut change = change.ok_or(ChangePasswordError::NoAccount)?;
    // Hashing takes a while: is the account still what was checked?
    if change.account.disabled_at.is_some() {
        return Err(ChangePasswordError::NoAccount);
    }
    if change.account.epoch != account.epoch {
        return Err(ChangePasswordError::WrongPassword);
    }
    change.set_password(&hash, now).await.map_err(ServiceError::from)?;
    change.record(&entry(now, caller, ip)).await.map_err(ServiceError::from)?;
    let epoch = change.bump_epoch().await.map_err(ServiceError::from)?;
    // While the row is locked: if the sessions can't be ended, or the one that asks was ended meanwhile, the password
    // stays.
    state
        .redis
        .sessions
        .revoke_others(account.id, caller.sid, epoch, Reason::PasswordChanged, now)
        .await
        .map_err(ServiceError::from)?
        .ok_or(ChangePasswordError::SessionEnded)?;
    change.commit().await.map_err(ServiceError::from)?;
    tracing::info!(account = %account.id, "a password was changed");
    Ok(())
}

/// What the audit log says of a change.
fn entry(now: Timestamp, caller: &AccessClaims, ip: Option<IpAddr>) -> Entry {
    Entry::new(now, AuditEvent::PasswordChange).account(caller.sub).session(caller.sid).by(Actor::Account).from(ip)
}
