//! Sets the metadata that operators and service clients store about an account (`app_metadata`). Access tokens contain the members
//! that `token.app_metadata` names.

use crate::{
    domain::{
        additional_claims::MAX_TOKEN_METADATA,
        audit::{AuditEntry, AuditEvent},
        ids::AccountId,
        profile::{Metadata, Profile, ProfileError},
    },
    service::{
        additional_claims,
        error::{ServiceError, from_store_errors},
        initiator::Initiator,
    },
    state::AppState,
};

/// The scope that a service client needs to set metadata.
pub const SCOPE: &str = "accounts:metadata";

/// Why metadata was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetMetadataError {
    /// There is no such account.
    #[error("there is no such account")]
    NotFound,
    /// The metadata would be too large.
    #[error("the metadata {0}")]
    Invalid(#[from] ProfileError),
    /// The members that access tokens contain are too large.
    #[error(
        "the members that access tokens contain (token.app_metadata) must have at most {MAX_TOKEN_METADATA} bytes of JSON"
    )]
    TooLargeForTokens,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(SetMetadataError);

/// Replaces the metadata, as [`edit_app_metadata`] does with an edit that ignores the stored metadata.
///
/// # Errors
/// [`SetMetadataError`]
pub async fn set_app_metadata(
    state: &AppState,
    id: AccountId,
    metadata: Metadata,
    initiator: &Initiator,
) -> Result<Profile, SetMetadataError> {
    edit_app_metadata(state, id, initiator, |_stored| Ok(metadata)).await
}

/// Replaces the metadata with the result of `edit`, which gets the stored metadata. The account's row is locked meanwhile, so that no
/// concurrent change is lost.
///
/// If a member that tokens contain changes, every node refuses the account's older tokens once this function has returned, and the next
/// refresh of each session returns a token with the new members (I16: changes of claims apply at once). Returns the account's profile with
/// the new metadata.
///
/// # Errors
/// [`SetMetadataError`]
pub async fn edit_app_metadata(
    state: &AppState,
    id: AccountId,
    initiator: &Initiator,
    edit: impl FnOnce(Metadata) -> Result<Metadata, ProfileError> + Send,
) -> Result<Profile, SetMetadataError> {
    let now = state.clock.now();
    let mut change = state.sql.change_account(id).await?.ok_or(SetMetadataError::NotFound)?;
    let former_claims = additional_claims::load_in_change(state, &mut change).await?;
    let mut profile = change.profile().await?;
    profile.app_metadata = edit(profile.app_metadata)?;
    if additional_claims::token_metadata_bytes(&state.config.token, &profile.app_metadata) > MAX_TOKEN_METADATA {
        return Err(SetMetadataError::TooLargeForTokens);
    }
    change.set_profile(&profile).await?;
    let mut entry = AuditEntry::new(now, AuditEvent::ProfileChanged).account(id).detail("app_metadata");
    entry.facts.actor = initiator.actor();
    change.record(&entry).await?;
    // Last before the commit: if a later statement failed, Redis would already have the new claims.
    additional_claims::update(state, &mut change, &former_claims).await?;
    change.commit().await?;
    tracing::info!(account = %id, "the account's app_metadata was changed; the audit log names the actor");
    Ok(profile)
}
