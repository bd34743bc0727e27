//! An operator disables, enables and deletes accounts; their sessions end with them (I5).

use crate::{
    domain::{
        account::{Account, Identifier},
        audit::{AuditEvent, Entry},
        event::Reason,
        ids::AccountId,
    },
    service::error::ServiceError,
    state::AppState,
};

/// Why an account couldn't be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeAccountError {
    /// There is none.
    #[error("there is no such account")]
    NotFound,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Finds an account by its id, e-mail address or username.
///
/// # Errors
/// [`ChangeAccountError`]
pub async fn find(state: &AppState, name: &str) -> Result<Account, ChangeAccountError> {
    let found = match name.parse::<AccountId>() {
        Ok(id) => state.sql.account(id).await,
        Err(_) => state.sql.find_account(&Identifier::parse(name)).await,
    };
    found.map_err(ServiceError::from)?.ok_or(ChangeAccountError::NotFound)
}

/// Keeps an account from signing in, and ends its sessions; says how many.
///
/// # Errors
/// [`ChangeAccountError`]
pub async fn disable(state: &AppState, id: AccountId) -> Result<u64, ChangeAccountError> {
    let now = state.clock.now();
    let change = state.sql.change_account(id).await.map_err(ServiceError::from)?;
    let mut change = change.ok_or(ChangeAccountError::NotFound)?;
    change.set_disabled(Some(now), now).await.map_err(ServiceError::from)?;
    change.record(&Entry::new(now, AuditEvent::AccountDisabled).account(id)).await.map_err(ServiceError::from)?;
    let epoch = change.bump_epoch().await.map_err(ServiceError::from)?;
    // While the row is locked: if the sessions can't be ended, nothing is changed.
    let ended = state
        .redis
        .sessions
        .revoke_all(id, None, Some(epoch), Reason::Disabled, now)
        .await
        .map_err(ServiceError::from)?;
    change.commit().await.map_err(ServiceError::from)?;
    tracing::info!(account = %id, ended, "an account was disabled");
    Ok(ended)
}

/// Lets an account sign in again.
///
/// # Errors
/// [`ChangeAccountError`]
pub async fn enable(state: &AppState, id: AccountId) -> Result<(), ChangeAccountError> {
    let change = state.sql.change_account(id).await.map_err(ServiceError::from)?;
    let mut change = change.ok_or(ChangeAccountError::NotFound)?;
    let now = state.clock.now();
    change.set_disabled(None, now).await.map_err(ServiceError::from)?;
    change.record(&Entry::new(now, AuditEvent::AccountEnabled).account(id)).await.map_err(ServiceError::from)?;
    change.commit().await.map_err(ServiceError::from)?;
    tracing::info!(account = %id, "an account was enabled");
    Ok(())
}

/// Deletes an account and ends its sessions; says how many. Its id is never used again.
///
/// # Errors
/// [`ChangeAccountError`]
pub async fn delete(state: &AppState, id: AccountId) -> Result<u64, ChangeAccountError> {
    let now = state.clock.now();
    let change = state.sql.change_account(id).await.map_err(ServiceError::from)?;
    let mut change = change.ok_or(ChangeAccountError::NotFound)?;
    let epoch = change.account.epoch.next();
    change.delete().await.map_err(ServiceError::from)?;
    change.record(&Entry::new(now, AuditEvent::AccountDeleted).account(id)).await.map_err(ServiceError::from)?;
    let ended = state
        .redis
        .sessions
        .revoke_all(id, None, Some(epoch), Reason::Deleted, now)
        .await
        .map_err(ServiceError::from)?;
    change.commit().await.map_err(ServiceError::from)?;
    tracing::info!(account = %id, ended, "an account was deleted");
    Ok(ended)
}
