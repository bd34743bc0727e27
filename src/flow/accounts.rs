//! An operator disables, enables and deletes accounts; their sessions end with them (I5).

use crate::{
    app::App,
    domain::{
        account::{Account, Identifier},
        audit::{AuditEvent, Entry},
        event::Reason,
        ids::AccountId,
    },
    flow::error::Failure,
};

/// Why an account couldn't be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeAccountError {
    /// There is none.
    #[error("there is no such account")]
    NotFound,
    /// See [`Failure`].
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// Finds an account by its id, e-mail address or username.
///
/// # Errors
/// [`ChangeAccountError`]
pub async fn find(app: &App, name: &str) -> Result<Account, ChangeAccountError> {
    let found = match name.parse::<AccountId>() {
        Ok(id) => app.sql.account(id).await,
        Err(_) => app.sql.find_account(&Identifier::parse(name)).await,
    };
    found.map_err(Failure::from)?.ok_or(ChangeAccountError::NotFound)
}

/// Keeps an account from signing in, and ends its sessions; says how many.
///
/// # Errors
/// [`ChangeAccountError`]
pub async fn disable(app: &App, id: AccountId) -> Result<u64, ChangeAccountError> {
    let now = app.clock.now();
    let change = app.sql.change_account(id).await.map_err(Failure::from)?;
    let mut change = change.ok_or(ChangeAccountError::NotFound)?;
    change.set_disabled(Some(now), now).await.map_err(Failure::from)?;
    change.record(&Entry::new(now, AuditEvent::AccountDisabled).account(id)).await.map_err(Failure::from)?;
    let epoch = change.bump_epoch().await.map_err(Failure::from)?;
    // While the row is locked: if the sessions can't be ended, nothing is changed.
    let ended = app.redis.revoke_all(id, None, Some(epoch), Reason::Disabled, now).await.map_err(Failure::from)?;
    change.commit().await.map_err(Failure::from)?;
    tracing::info!(account = %id, ended, "an account was disabled");
    Ok(ended)
}

/// Lets an account sign in again.
///
/// # Errors
/// [`ChangeAccountError`]
pub async fn enable(app: &App, id: AccountId) -> Result<(), ChangeAccountError> {
    let change = app.sql.change_account(id).await.map_err(Failure::from)?;
    let mut change = change.ok_or(ChangeAccountError::NotFound)?;
    let now = app.clock.now();
    change.set_disabled(None, now).await.map_err(Failure::from)?;
    change.record(&Entry::new(now, AuditEvent::AccountEnabled).account(id)).await.map_err(Failure::from)?;
    change.commit().await.map_err(Failure::from)?;
    tracing::info!(account = %id, "an account was enabled");
    Ok(())
}

/// Deletes an account and ends its sessions; says how many. Its id is never used again.
///
/// # Errors
/// [`ChangeAccountError`]
pub async fn delete(app: &App, id: AccountId) -> Result<u64, ChangeAccountError> {
    let now = app.clock.now();
    let change = app.sql.change_account(id).await.map_err(Failure::from)?;
    let mut change = change.ok_or(ChangeAccountError::NotFound)?;
    let epoch = change.account.epoch.next();
    change.delete().await.map_err(Failure::from)?;
    change.record(&Entry::new(now, AuditEvent::AccountDeleted).account(id)).await.map_err(Failure::from)?;
    let ended = app.redis.revoke_all(id, None, Some(epoch), Reason::Deleted, now).await.map_err(Failure::from)?;
    change.commit().await.map_err(Failure::from)?;
    tracing::info!(account = %id, ended, "an account was deleted");
    Ok(ended)
}
