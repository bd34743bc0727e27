//! Lets an operator, an admin or a service client remove a secondary address for the account's owner.

use std::net::IpAddr;

use crate::{
    domain::{
        account::Email,
        audit::{AuditEntry, AuditEvent},
        ids::AccountId,
        mail::AddressChange,
    },
    service::{
        error::{ServiceError, from_store_errors},
        initiator::Initiator,
        replace_sessions::end_sessions,
    },
    state::AppState,
};

/// Why an address was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveEmailError {
    /// There is no such account.
    #[error("there is no such account")]
    NoAccount,
    /// The account has no such address.
    #[error("the account has no such e-mail address")]
    Unknown,
    /// The primary address can't be removed.
    #[error("this is the primary e-mail address, which `latchkey user set-email` changes")]
    IsPrimary,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(RemoveEmailError);

/// Removes a secondary address of an account, and the undo link of the address if it was once the primary one. Returns the number of
/// sessions that ended.
///
/// If the address was verified, all sessions of the account end and the owner gets a notice. Ending the sessions increments the account's
/// epoch, which also invalidates links that were sent to the address.
///
/// # Errors
/// [`RemoveEmailError`]
pub async fn remove(
    state: &AppState,
    account: AccountId,
    email: &Email,
    initiator: &Initiator,
    ip: Option<IpAddr>,
) -> Result<u64, RemoveEmailError> {
    let now = state.clock.now();
    let mut change = state.sql.change_account(account).await?.ok_or(RemoveEmailError::NoAccount)?;
    if change.account.email.key() == email.key() {
        return Err(RemoveEmailError::IsPrimary);
    }
    let mut secondary_emails = change.secondary_emails().await?.into_iter();
    let found = secondary_emails.find(|secondary| secondary.email.key() == email.key());
    let removed = found.ok_or(RemoveEmailError::Unknown)?;
    let was_verified = removed.verified_at.is_some();
    change.remove_secondary_email(removed.id, now).await?;
    change.remove_former_address(&removed.email).await?;
    let mut entry = AuditEntry::new(now, AuditEvent::EmailRemoved).account(account).address(ip);
    entry.facts.actor = initiator.actor();
    let entry = if was_verified { entry } else { entry.because("unverified") };
    change.record(&entry).await?;
    let mut sessions_ended = 0;
    if was_verified {
        // The removed address gets the notice too. The origin is absent, because the owner did not make the change.
        let (address, also_to, origin) = (&removed.email, Some(&removed.email), None);
        super::change::notify(state, &mut change, AddressChange::Removed, address, also_to, origin).await?;
        sessions_ended = end_sessions(state, &mut change).await?;
    }
    change.commit().await?;
    tracing::info!(%account, sessions_ended, "secondary e-mail address of an account removed");
    Ok(sessions_ended)
}
