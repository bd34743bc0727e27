//! Secures an account whose owner reports the action of a notice as not theirs (the link "this wasn't me").

use crate::{
    domain::{
        audit::{Actor, AuditEvent, Entry},
        one_time_token::TokenPurpose,
        secret::SecretText,
    },
    service::{
        change_email,
        error::{ServiceError, from_store_errors},
        limits,
        one_time_tokens::{self, Presented},
        request_origin::RequestOrigin,
    },
    state::AppState,
    store::sql::AccountChange,
};

/// Why an account was not secured.
#[derive(Debug, thiserror::Error)]
pub enum SecureAccountError {
    /// The link does not work: it was used, has expired, or the account has another address now.
    #[error("the link does not work any more")]
    InvalidToken,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(SecureAccountError);

/// Removes the password, ends all sessions and sends a reset link to the account's address.
///
/// # Errors
/// [`SecureAccountError`]
pub async fn secure_account(
    state: &AppState,
    token: &SecretText,
    origin: &RequestOrigin,
) -> Result<(), SecureAccountError> {
    limits::recovery(state, origin.ip).await?;
    let (purpose, presented) = (TokenPurpose::SecureAccount, Presented::Link(token.clone()));
    let Some(claim) = one_time_tokens::find(state, &presented, &[purpose], None, &[]).await? else {
        one_time_tokens::record_refusal(state, &presented, purpose, origin.ip);
        return Err(SecureAccountError::InvalidToken);
    };
    let change = state.sql.change_account(claim.account.id).await?.ok_or(SecureAccountError::InvalidToken)?;
    let Some(taken) = one_time_tokens::take(state, &claim, &change.account).await? else {
        return Err(SecureAccountError::InvalidToken);
    };
    let outcome = apply(state, change, origin).await;
    if outcome.is_err() {
        one_time_tokens::restore(state, &claim, &taken).await;
    }
    Ok(outcome?)
}

async fn apply(state: &AppState, mut change: AccountChange, origin: &RequestOrigin) -> Result<(), ServiceError> {
    let (id, now) = (change.account.id, state.clock.now());
    let entry = Entry::new(now, AuditEvent::AccountSecured).account(id).by(Actor::Account).from(origin.ip);
    change.record(&entry).await?;
    change_email::secure(state, &mut change, origin).await?;
    change.commit().await?;
    tracing::info!(account = %id, "account secured by its owner");
    Ok(())
}
