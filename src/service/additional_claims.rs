//! The claims of an account that the configuration adds to its access tokens (`token.email_verified`, `token.app_metadata`).
//! Redis stores them beside the account's roles, so that a refresh reads them in the same command.

use crate::{
    config::TokenSettings,
    domain::{
        account::Account,
        additional_claims::{AdditionalClaims, MAX_TOKEN_METADATA},
        profile::Metadata,
    },
    service::error::ServiceError,
    state::AppState,
    store::sql::{AccountChange, SqlError},
};

/// The claims of an account that signs in. Reads the database only if tokens contain metadata.
///
/// # Errors
/// [`SqlError`]
pub(super) async fn load(state: &AppState, account: &Account) -> Result<AdditionalClaims, SqlError> {
    let settings = &state.config.token;
    let metadata = if settings.app_metadata.is_empty() {
        Metadata::default()
    } else {
        state.sql.profile(account.id).await?.app_metadata
    };
    Ok(select(settings, account, &metadata))
}

/// The claims of an account after its uncommitted change.
///
/// # Errors
/// [`SqlError`]
pub(super) async fn load_in_change(state: &AppState, change: &mut AccountChange) -> Result<AdditionalClaims, SqlError> {
    let settings = &state.config.token;
    let metadata =
        if settings.app_metadata.is_empty() { Metadata::default() } else { change.profile().await?.app_metadata };
    Ok(select(settings, &change.account, &metadata))
}

/// The size of the members of `metadata` that tokens contain, in bytes of JSON.
pub(super) fn token_metadata_bytes(settings: &TokenSettings, metadata: &Metadata) -> usize {
    metadata.only(&settings.app_metadata).to_json().len()
}

/// Selects the claims that the configuration adds to tokens.
fn select(settings: &TokenSettings, account: &Account, metadata: &Metadata) -> AdditionalClaims {
    let mut members = metadata.only(&settings.app_metadata);
    if members.to_json().len() > MAX_TOKEN_METADATA {
        // Writes check the size, but `token.app_metadata` may name more members than when the metadata was written.
        tracing::warn!(
            account = %account.id,
            "the members of app_metadata that token.app_metadata names exceed {MAX_TOKEN_METADATA} bytes: tokens omit all of them until \
             they are smaller. Shorten the account's metadata or the list"
        );
        members = Metadata::default();
    }
    let email_verified = settings.email_verified.then_some(account.email_verified);
    AdditionalClaims::new(email_verified, members.into_members())
}

/// Stores the claims of a changed account under a new version, so that no older token is accepted (I16), and under a new epoch, so that
/// no sign-in stores older claims. Does nothing if the claims equal `before`, those before the change.
///
/// # Errors
/// [`ServiceError`]
pub(super) async fn update(
    state: &AppState,
    change: &mut AccountChange,
    before: &AdditionalClaims,
) -> Result<(), ServiceError> {
    if load_in_change(state, change).await? == *before {
        return Ok(());
    }
    let now = state.clock.now();
    change.bump_claims_version(now).await?;
    let epoch = change.bump_epoch().await?;
    super::accounts::store_claims(state, change, epoch, now).await
}
