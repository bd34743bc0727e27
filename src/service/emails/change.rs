//! Removes a secondary address, or makes it the primary address.

use super::ChangeEmailsError;
use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::Email,
        audit::{Actor, AuditEntry, AuditEvent},
        event::EndReason,
        ids::EmailId,
        mail::{AddressChange, MailData, Template},
    },
    service::{
        account_mail, change_email, error::ServiceError, factors::change::Caller, limits,
        recent_authentication::require_recent, replace_sessions::replace_sessions, request_origin::RequestOrigin,
        token_issuer::Tokens,
    },
    state::AppState,
    store::sql::{AccountChange, SecondaryEmail},
};

/// Removes a secondary address. If the address was verified, all sessions end, and the function returns the tokens of the session that
/// replaces the caller's (I5: a change of a verified address ends all sessions).
///
/// # Errors
/// [`ChangeEmailsError`]
pub async fn remove(state: &AppState, caller: &Caller<'_>, id: EmailId) -> Result<Option<Tokens>, ChangeEmailsError> {
    let (claims, origin, now) = (caller.claims, caller.origin, state.clock.now());
    let (mut change, secondary) = begin(state, caller, id).await?;
    let was_verified = secondary.verified_at.is_some();
    change.remove_secondary_email(secondary.id, now).await?;
    let entry = AuditEntry::new(now, AuditEvent::EmailRemoved).account(claims.sub).session(claims.sid);
    let entry = if was_verified { entry } else { entry.because("unverified") };
    change.record(&entry.actor(Actor::Account).address(origin.ip)).await?;
    if !was_verified {
        change.commit().await?;
        return Ok(None);
    }
    let (removed, also_to) = (&secondary.email, Some(&secondary.email));
    notify(state, &mut change, AddressChange::Removed, removed, also_to, Some(origin)).await?;
    let tokens = replace_sessions(state, &mut change, claims, caller.accepted, EndReason::Revoked, origin.ip).await?;
    change.commit().await?;
    tracing::info!(account = %claims.sub, "secondary e-mail address of an account removed by its owner");
    Ok(Some(tokens))
}

/// Makes a verified secondary address the primary one; the former primary address becomes a secondary one. The owner of the former
/// address can undo the change within `account.undo_window`, unless an earlier change can still be undone. All sessions end (I5: a
/// change of a verified address ends all sessions). A new session replaces the caller's, and its tokens are returned.
///
/// # Errors
/// [`ChangeEmailsError`]
pub async fn make_primary(state: &AppState, caller: &Caller<'_>, id: EmailId) -> Result<Tokens, ChangeEmailsError> {
    let (claims, origin, now) = (caller.claims, caller.origin, state.clock.now());
    let (mut change, secondary) = begin(state, caller, id).await?;
    let Some(verified_at) = secondary.verified_at else { return Err(ChangeEmailsError::NotVerified) };
    let before = change.account.clone();
    let id_of_former = state.entropy.email_id(now);
    change.make_primary(&secondary, verified_at, id_of_former, now).await?;
    // A new primary address that waits for its confirmation would otherwise replace this one later.
    change.clear_pending_address().await?;
    let entry = AuditEntry::new(now, AuditEvent::EmailChanged).account(claims.sub).session(claims.sid);
    change.record(&entry.because("made_primary").actor(Actor::Account).address(origin.ip)).await?;
    // The former primary address gets the link that undoes the change, the new one a notice.
    change_email::offer_undo(state, &mut change, &before, &secondary.email, origin).await?;
    let also_to = None;
    notify(state, &mut change, AddressChange::MadePrimary, &secondary.email, also_to, Some(origin)).await?;
    let tokens = replace_sessions(state, &mut change, claims, caller.accepted, EndReason::Revoked, origin.ip).await?;
    change.commit().await?;
    tracing::info!(account = %claims.sub, "secondary e-mail address of an account made the primary one by its owner");
    Ok(tokens)
}

/// Locks the caller's account and finds its secondary address with this id. The caller must have authenticated recently.
///
/// # Errors
/// [`ChangeEmailsError`], such as `IsPrimary` if the id is that of the primary address.
async fn begin(
    state: &AppState,
    caller: &Caller<'_>,
    id: EmailId,
) -> Result<(AccountChange, SecondaryEmail), ChangeEmailsError> {
    require_recent(state, caller.claims).await?;
    limits::check_account_change(state, caller.claims.sid, caller.origin.ip).await?;
    let mut change = lock(state, caller.claims).await?;
    // The primary address has the id of the account.
    if id.0 == change.account.id.0 {
        return Err(ChangeEmailsError::IsPrimary);
    }
    let found = change.secondary_emails().await?.into_iter().find(|secondary| secondary.id == id);
    let secondary = found.ok_or(ChangeEmailsError::Unknown)?;
    Ok((change, secondary))
}

/// Locks the caller's account. An account that is disabled or whose deletion is due counts as missing: its access tokens may not have
/// expired.
pub(super) async fn lock(state: &AppState, caller: &AccessClaims) -> Result<AccountChange, ChangeEmailsError> {
    let change = state.sql.change_account(caller.sub).await?;
    let change = change.filter(|change| !change.account.is_closed(state.clock.now()));
    change.ok_or(ChangeEmailsError::NoAccount)
}

/// Notifies the owner of a change of the secondary address `address`. Notices go to the primary address, if it is verified, and to
/// `also_to`. `origin` is `None` if an operator, an admin or a service client made the change.
pub(super) async fn notify(
    state: &AppState,
    change: &mut AccountChange,
    kind: AddressChange,
    address: &Email,
    also_to: Option<&Email>,
    origin: Option<&RequestOrigin>,
) -> Result<(), ServiceError> {
    let template = Template::SecondaryAddressChanged;
    if state.config.mail.notices_off.contains(&template) {
        return Ok(());
    }
    let primary = change.account.email_verified.then(|| change.account.email.clone());
    for to in primary.iter().chain(also_to) {
        let notice = match origin {
            Some(origin) => account_mail::notice(state, &change.account, origin, state.clock.now()).await?,
            None => account_mail::operator_notice(state.clock.now()),
        };
        let data = MailData::SecondaryAddressChanged { change: kind, secondary: address.as_str().to_owned(), notice };
        account_mail::enqueue(state, change, to, origin.unwrap_or(&RequestOrigin::default()), data).await?;
    }
    Ok(())
}
