//! Deletes an account for its owner after a grace period. A sign-in during the grace period cancels the deletion.

use std::time::Duration;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        clock::Timestamp,
        event::EndReason,
        ids::AccountId,
        mail::MailData,
    },
    service::{
        account_mail,
        accounts::record_ended,
        error::{ServiceError, from_store_errors},
        limits,
        recent_authentication::require_recent,
        request_origin::RequestOrigin,
    },
    state::AppState,
    store::redis::AccountSessions,
};

/// Number of accounts per read.
const BATCH_SIZE: u32 = 100;

/// A run ends after this number of accounts for which a store did not answer, because each of them may have waited for a timeout.
const MAX_UNAVAILABLE: u32 = 10;

/// The interval of [`run_deletions`].
const INTERVAL: Duration = Duration::from_mins(1);

/// Why the deletion of an account was not scheduled.
#[derive(Debug, thiserror::Error)]
pub enum DeleteAccountError {
    /// The account was deleted or disabled.
    #[error("the account was deleted or disabled")]
    NoAccount,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(DeleteAccountError);

/// Ends all sessions of the caller's account and schedules its deletion. Returns when it will be deleted.
///
/// # Errors
/// [`DeleteAccountError`]
pub async fn request(
    state: &AppState,
    caller: &AccessClaims,
    origin: &RequestOrigin,
) -> Result<Timestamp, DeleteAccountError> {
    require_recent(state, caller).await?;
    // deletions share the rate limit of password changes
    limits::check_account_change(state, caller.sid, origin.ip).await?;
    let now = state.clock.now();
    let change = state.sql.change_account(caller.sub).await?.filter(|change| !change.account.is_closed(now));
    let mut change = change.ok_or(DeleteAccountError::NoAccount)?;
    let deletes_at = now + state.config.account.deletion_grace;
    change.set_deletion(Some(deletes_at), now).await?;
    let entry = AuditEntry::new(now, AuditEvent::DeletionRequested).account(caller.sub).session(caller.sid);
    change.record(&entry.actor(Actor::Account).address(origin.ip)).await?;
    let epoch = change.bump_epoch().await?;
    if change.account.email_verified {
        let data = MailData::DeletionScheduled { deletes_at, sign_in: state.config.mail.links.sign_in.clone() };
        let to = change.account.email.clone();
        account_mail::enqueue(state, &mut change, &to, origin, data).await?;
    }
    // before the commit: no session outlives a scheduled deletion. If the commit fails, the owner signs in and repeats the request.
    let sessions = AccountSessions::all(caller.sub).with_epoch(epoch);
    let ended_count = state.redis.sessions.revoke_all(sessions, EndReason::Revoked, now).await?;
    record_ended(&mut change, EndReason::Revoked, ended_count, now).await?;
    change.commit().await?;
    tracing::info!(account = %caller.sub, %deletes_at, "deletion of an account requested by its owner");
    Ok(deletes_at)
}

/// Cancels the deletion of an account whose owner signs in. Returns the changed account; `None` if the account is deleted, is
/// disabled, or has reached the end of the grace period.
pub(super) async fn cancel(state: &AppState, id: AccountId) -> Result<Option<Account>, ServiceError> {
    let now = state.clock.now();
    let Some(mut change) = state.sql.change_account(id).await? else { return Ok(None) };
    if change.account.is_closed(now) {
        return Ok(None);
    }
    change.set_deletion(None, now).await?;
    let entry = AuditEntry::new(now, AuditEvent::DeletionCancelled).account(id).actor(Actor::Account);
    change.record(&entry).await?;
    let account = change.account.clone();
    change.commit().await?;
    tracing::info!(account = %id, "deletion of an account cancelled by a sign-in");
    Ok(Some(account))
}

/// Deletes accounts whose grace period has passed. Returns their number. Logs each account that can't be deleted, and continues with the
/// next one.
///
/// # Errors
/// [`ServiceError`], if the due accounts can't be read. Accounts that were not deleted yet are deleted by the next run.
pub async fn delete_due(state: &AppState) -> Result<u64, ServiceError> {
    let now = state.clock.now();
    let mut deleted = 0;
    let mut failed = 0;
    let mut unavailable = 0;
    loop {
        // The accounts that could not be deleted are still due, and come first.
        let skipped = failed;
        let due = state.sql.accounts_due_for_deletion(now, skipped, BATCH_SIZE).await?;
        if due.is_empty() {
            return Ok(deleted);
        }
        for id in due {
            match delete_if_due(state, id).await {
                Ok(is_deleted) => deleted += u64::from(is_deleted),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        account = %id,
                        "an account whose grace period has passed could not be deleted, retrying in {} s; nobody can \
                         sign in to it",
                        INTERVAL.as_secs()
                    );
                    failed += 1;
                    unavailable += u32::from(matches!(error, ServiceError::Unavailable { .. }));
                    if unavailable == MAX_UNAVAILABLE {
                        return Ok(deleted);
                    }
                }
            }
        }
    }
}

/// Deletes an account whose grace period has passed. Returns false if a sign-in has cancelled the deletion in the meantime, or the
/// account is already deleted.
async fn delete_if_due(state: &AppState, id: AccountId) -> Result<bool, ServiceError> {
    let now = state.clock.now();
    let Some(mut change) = state.sql.change_account(id).await? else { return Ok(false) };
    if change.account.deletion_at.is_none_or(|at| at > now) {
        return Ok(false);
    }
    // Redis refuses a sign-in that read the account at an earlier epoch. The row is deleted, so SQL does not store the new epoch.
    let epoch = change.account.epoch.next();
    change.delete().await?;
    let entry = AuditEntry::new(now, AuditEvent::AccountDeleted).account(id).because("requested_by_owner");
    change.record(&entry.actor(Actor::Service)).await?;
    let sessions = AccountSessions::all(id).with_epoch(epoch);
    let ended_count = state.redis.sessions.revoke_all(sessions, EndReason::Deleted, now).await?;
    record_ended(&mut change, EndReason::Deleted, ended_count, now).await?;
    change.commit().await?;
    if let Err(error) = state.redis.one_time_tokens.clear(id).await {
        tracing::debug!(%error, account = %id, "deleting the one-time tokens of an account failed; they expire by themselves");
    }
    tracing::info!(account = %id, "account deleted at its owner's request");
    Ok(true)
}

/// Deletes accounts whose grace period has passed, for as long as the node runs.
pub async fn run_deletions(state: &AppState) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(error) = delete_due(state).await {
            tracing::warn!(
                %error,
                "reading the accounts that are due for deletion failed, retrying in {} s; nobody can sign in to them",
                INTERVAL.as_secs()
            );
        }
    }
}
