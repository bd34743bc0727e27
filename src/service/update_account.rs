//! Changes the profile, the metadata and the username of the caller's account.

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::{Account, Username},
        audit::{Actor, AuditEntry, AuditEvent},
        profile::{LanguageTag, Metadata, Profile, TimeZoneName},
    },
    service::{
        error::{ServiceError, from_store_errors},
        limits,
        recent_authentication::require_recent,
    },
    state::AppState,
    store::sql::SetUsernameError,
};

/// The changes. `None` leaves a value unchanged; `Some(None)` removes it.
#[derive(Clone, Debug, Default)]
pub struct AccountUpdate {
    /// The username.
    pub username: Option<Option<Username>>,
    /// The display name.
    pub display_name: Option<Option<String>>,
    /// The locale.
    pub locale: Option<Option<LanguageTag>>,
    /// The time zone.
    pub time_zone: Option<Option<TimeZoneName>>,
    /// The metadata that the owner writes; replaces all of the former metadata.
    pub user_metadata: Option<Metadata>,
}

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateAccountError {
    /// The account was deleted or disabled.
    #[error("the account was deleted or disabled")]
    NoAccount,
    /// Another account has the username.
    #[error("another account has this username")]
    UsernameTaken,
    /// The username is reserved.
    #[error("the username is reserved")]
    UsernameReserved,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(UpdateAccountError);

/// Applies the changes to the caller's account, and returns its new state. A change of the username needs a recent authentication,
/// because the username is an identifier for signing in.
///
/// # Errors
/// [`UpdateAccountError`]
pub async fn update_account(
    state: &AppState,
    caller: &AccessClaims,
    update: AccountUpdate,
    ip: Option<IpAddr>,
) -> Result<(Account, Profile), UpdateAccountError> {
    if let Some(new_username) = &update.username {
        require_recent(state, caller).await?;
        let reserved = &state.config.registration.reserved_usernames;
        if new_username.as_ref().is_some_and(|username| reserved.contains(&username.key())) {
            return Err(UpdateAccountError::UsernameReserved);
        }
    }
    limits::check_self_service(state, ip).await?;
    let now = state.clock.now();
    // the account may have been disabled or deleted after the access token was checked
    let change = state.sql.change_account(caller.sub).await?.filter(|change| !change.account.is_closed(now));
    let mut change = change.ok_or(UpdateAccountError::NoAccount)?;
    if let Some(new_username) = &update.username {
        change.set_username(new_username.as_ref(), now).await.map_err(|error| match error {
            SetUsernameError::Taken => UpdateAccountError::UsernameTaken,
            SetUsernameError::Sql(error) => error.into(),
        })?;
    }
    let mut profile = change.profile().await?;
    if let Some(display_name) = update.display_name {
        profile.display_name = display_name;
    }
    if let Some(locale) = update.locale {
        profile.locale = locale;
    }
    if let Some(time_zone) = update.time_zone {
        profile.time_zone = time_zone;
    }
    if let Some(metadata) = update.user_metadata {
        profile.user_metadata = metadata;
    }
    change.set_profile(&profile).await?;
    let entry = AuditEntry::new(now, AuditEvent::ProfileChanged).account(caller.sub).session(caller.sid);
    change.record(&entry.actor(Actor::Account).address(ip)).await?;
    // `commit` consumes the change
    let account = change.account.clone();
    change.commit().await?;
    Ok((account, profile))
}
