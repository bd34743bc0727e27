//! Exports the data of the caller's account.

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        passkey::Passkey,
        profile::Profile,
        session::Session,
    },
    service::{
        authenticate::AuthenticateError,
        limits,
        remembered_devices::{self, DeviceEntry},
    },
    state::AppState,
    store::sql::{AddressRecord, AuditFilter, AuditRow, Consent, SecondaryEmail, TotpFactor},
};

/// Maximum number of security events in an export. Older events are left out.
const MAX_EVENTS: u32 = 10_000;

/// Everything that is stored about an account. The response to the caller leaves out the secrets: the password's hash and encrypted keys.
#[derive(Clone, Debug)]
pub struct AccountExport {
    /// The account.
    pub account: Account,
    /// The profile.
    pub profile: Profile,
    /// The secondary addresses.
    pub secondary_emails: Vec<SecondaryEmail>,
    /// The new address that is not confirmed yet.
    pub pending_address: Option<AddressRecord>,
    /// The former addresses whose changes can still be undone.
    pub former_addresses: Vec<AddressRecord>,
    /// The authenticator apps that were confirmed.
    pub totp_factors: Vec<TotpFactor>,
    /// The passkeys.
    pub passkeys: Vec<Passkey>,
    /// The devices that may skip the second factor.
    pub devices: Vec<DeviceEntry>,
    /// The consents that the owner has given to apps.
    pub consents: Vec<Consent>,
    /// The live sessions.
    pub sessions: Vec<Session>,
    /// The security events, newest first.
    pub events: Vec<AuditRow>,
}

/// Exports the account of the caller.
///
/// # Errors
/// [`AuthenticateError::InvalidToken`] if the account was deleted, or another [`AuthenticateError`].
pub async fn export_account(
    state: &AppState,
    caller: &AccessClaims,
    ip: Option<IpAddr>,
) -> Result<AccountExport, AuthenticateError> {
    limits::check_self_service(state, ip).await?;
    let (id, now) = (caller.sub, state.clock.now());
    let account = state.sql.account(id).await?.ok_or(AuthenticateError::InvalidToken)?;
    let mut totp_factors = state.sql.totp_factors(id).await?;
    totp_factors.retain(|factor| factor.confirmed_at.is_some());
    let mut consents = state.sql.consents(id).await?;
    // A consent stores the internal id of a dynamic client. The owner of the account knows the app by its `client_id`.
    for consent in &mut consents {
        consent.client_id = state.clients.label(&consent.client_id).await?.client_id;
    }
    let of_account = AuditFilter { account: Some(id), ..AuditFilter::default() };
    let calling_device = None; // an export does not mark the device that requests it
    let export = AccountExport {
        account,
        profile: state.sql.profile(id).await?,
        secondary_emails: state.sql.secondary_emails(id).await?,
        pending_address: state.sql.pending_address(id, now).await?,
        former_addresses: state.sql.former_addresses(id, now).await?,
        totp_factors,
        passkeys: state.sql.passkeys(id).await?,
        devices: remembered_devices::list(state, id, calling_device).await?,
        consents,
        sessions: state.redis.sessions.list(id, now).await?,
        events: state.sql.audit(&of_account, MAX_EVENTS).await?,
    };
    let entry = AuditEntry::new(now, AuditEvent::AccountExported).account(id).session(caller.sid);
    state.audit.record(entry.actor(Actor::Account).address(ip));
    Ok(export)
}
