//! Changes the password of the caller's account. All sessions of the account end, and a new session replaces the caller's. So copies of the
//! caller's tokens stop working as well (I5: a changed password ends all sessions).

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        clock::Timestamp,
        event::EndReason,
        mail::{MailData, Template},
        secret::SecretText,
        session::AcceptedTransport,
    },
    password::{PasswordError, Verified, WeakPassword},
    service::{
        account_mail,
        error::{ServiceError, from_replace_sessions_error, from_store_errors},
        limits,
        recent_authentication::require_recent_besides_password,
        register::password_context,
        replace_sessions::replace_sessions,
        request_origin::RequestOrigin,
        token_issuer::Tokens,
    },
    state::AppState,
};

/// Why a password was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangePasswordError {
    /// The account was deleted or disabled.
    #[error("the account was deleted or disabled")]
    NoAccount,
    /// The caller's session ended while the passwords were being hashed (I3: revoked stays revoked).
    #[error("the session has ended")]
    SessionEnded,
    /// Only bearer sessions were accepted, and the caller's is a cookie session.
    #[error("the session's refresh token is in a cookie, which a page of another site must not set")]
    CookieNotAccepted,
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
from_replace_sessions_error!(ChangePasswordError);

/// Changes the password of the caller's account, ends its sessions, and returns the tokens of the session that replaces the caller's. The
/// new session counts as authenticated now, or at the caller's step-up if there was one, and has the caller's transport and details.
///
/// On an error the password is unchanged. The sessions are unchanged too, unless the database fails to commit after Redis has ended them.
/// The caller then has to sign in again.
///
/// # Errors
/// [`ChangePasswordError`]
pub async fn change_password(
    state: &AppState,
    caller: &AccessClaims,
    current_password: SecretText,
    new_password: SecretText,
    origin: RequestOrigin,
    accepted: AcceptedTransport,
) -> Result<Tokens, ChangePasswordError> {
    let ip = origin.ip;
    // First, so that a request reaches neither Redis nor the database while the hashing queue is full.
    let _reservation = state.passwords.reserve().map_err(ServiceError::from)?;
    limits::check_account_change(state, caller.sid, ip).await?;
    let account = state.sql.account(caller.sub).await?;
    let account = account.filter(|account| account.disabled_at.is_none()).ok_or(ChangePasswordError::NoAccount)?;
    // only for an account with a second factor
    require_recent_besides_password(state, caller, &account)?;
    let verification = state.passwords.verify(current_password, account.password_hash.clone()).await;
    match verification.map_err(ServiceError::from)? {
        Verified::Match { .. } => {}
        Verified::Mismatch | Verified::Unusable(_) => {
            state.audit.record(entry(state.clock.now(), caller, ip).refused("wrong_password"));
            return Err(ChangePasswordError::WrongPassword);
        }
    }
    let new_password = state.passwords.check_new(new_password).map_err(ChangePasswordError::WeakPassword)?;
    let account_words = password_context(&account.email, account.username.as_ref());
    let hash = state.passwords.hash_new(new_password, account_words).await.map_err(|error| match error {
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
    // A later epoch may mean that another request has changed the password: the one verified above counts as wrong.
    if change.account.epoch != account.epoch {
        return Err(ChangePasswordError::WrongPassword);
    }
    change.set_password(&hash, now).await?;
    change.record(&entry(now, caller, ip)).await?;
    if account_mail::should_notify(state, &change.account, Template::PasswordChanged) {
        let notice = account_mail::notice(state, &change.account, &origin, now).await?;
        let to = change.account.email.clone();
        account_mail::enqueue(state, &mut change, &to, &origin, MailData::PasswordChanged { notice }).await?;
    }
    // The row is still locked. If the sessions can't be ended, or the caller's own session has ended, the password stays unchanged.
    let tokens = replace_sessions(state, &mut change, caller, accepted, EndReason::PasswordChanged, ip).await?;
    change.commit().await?;
    tracing::info!(
        account = %account.id,
        session = %tokens.session,
        replaced = %caller.sid,
        "password changed by the account's owner: a new session replaces the caller's, and all others ended"
    );
    Ok(tokens)
}

/// The audit entry of a password change.
fn entry(now: Timestamp, caller: &AccessClaims, ip: Option<IpAddr>) -> AuditEntry {
    AuditEntry::new(now, AuditEvent::PasswordChange)
        .account(caller.sub)
        .session(caller.sid)
        .actor(Actor::Account)
        .address(ip)
}
