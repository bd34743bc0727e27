//! Changes the password of the caller's account; all its other sessions end with the old password (I5).

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
    service::{
        accounts::record_ended,
        error::{ServiceError, from_store_errors},
        limits,
        register::password_context,
    },
    state::AppState,
};

/// Why a password was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangePasswordError {
    /// The account was deleted or disabled.
    #[error("the account was deleted or disabled")]
    NoAccount,
    /// The caller's session ended while the passwords were being hashed (I3).
    #[error("the session has ended")]
    SessionEnded,
    /// The current password is wrong.
    #[error("the current password is wrong")]
    WrongPassword,
    /// The new password does not satisfy the policy.
    #[error(transparent)]
    WeakPassword(WeakPassword),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ChangePasswordError);

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
    let account = state.sql.account(caller.sub).await?;
    let account = account.filter(|account| account.disabled_at.is_none()).ok_or(ChangePasswordError::NoAccount)?;
    let checked = account.password_hash.clone();
    match state.passwords.verify(current, checked.clone()).await.map_err(ServiceError::from)? {
        Verified::Match { .. } => {}
        Verified::Mismatch | Verified::Unusable(_) => {
            state.audit.record(entry(state.clock.now(), caller, ip).refused("wrong_password"));
            return Err(ChangePasswordError::WrongPassword);
        }
    }
    let new = state.passwords.check_new(new).map_err(ChangePasswordError::WeakPassword)?;
    let context = password_context(&account.email, account.username.as_ref());
    let hash = state.passwords.hash_new(new, context).await.map_err(|error| match error {
        PasswordError::Weak(weak) => ChangePasswordError::WeakPassword(weak),
        other => ChangePasswordError::Service(other.into()),
    })?;

    let now = state.clock.now();
    let change = state.sql.change_account(account.id).await?;
    let mut change = change.ok_or(ChangePasswordError::NoAccount)?;
    // The account may have changed while the passwords were being hashed.
    if change.account.disabled_at.is_some() {
        return Err(ChangePasswordError::NoAccount);
    }
    if change.account.epoch != account.epoch {
        return Err(ChangePasswordError::WrongPassword);
    }
    change.set_password(&hash, now).await?;
    change.record(&entry(now, caller, ip)).await?;
    let epoch = change.bump_epoch().await?;
    // While the row is locked: if the sessions can't be ended, or the caller's own session has ended, the password stays.
    let reason = Reason::PasswordChanged;
    let ended = state.redis.sessions.revoke_others(account.id, caller.sid, epoch, reason, now).await?;
    let ended = ended.ok_or(ChangePasswordError::SessionEnded)?;
    record_ended(&mut change, reason, ended, now).await?;
    change.commit().await?;
    tracing::info!(account = %account.id, "password changed");
    Ok(())
}

/// The audit entry of a change.
fn entry(now: Timestamp, caller: &AccessClaims, ip: Option<IpAddr>) -> Entry {
    Entry::new(now, AuditEvent::PasswordChange).account(caller.sub).session(caller.sid).by(Actor::Account).from(ip)
}
