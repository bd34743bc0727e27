//! Authenticates the caller of a request by its access token.

use std::sync::Arc;

use crate::{
    crypto::access_token::{AccessClaims, TokenError, Verified, VerifiedToken},
    domain::account::Account,
    service::error::{ServiceError, from_store_errors},
    state::AppState,
};

/// Why a caller is not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// The access token is not valid here (RFC 6750, section 3.1: `invalid_token`). The log has the cause.
    #[error("the access token is not valid, or its session was ended")]
    InvalidToken,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(AuthenticateError: crate::store::redis::RedisError, crate::store::sql::SqlError,
    crate::state::error::StateError);

/// Verifies an access token and looks its session up in Redis, so that the tokens of an ended session are refused at once and
/// not only when they expire (ASVS 7.4.1).
///
/// # Errors
/// [`AuthenticateError`]
pub async fn authenticate(state: &AppState, token: &str) -> Result<Arc<VerifiedToken>, AuthenticateError> {
    let claims = verify(state, token).await?;
    if state.redis.sessions.is_live(claims.sub, claims.sid, state.clock.now()).await? {
        Ok(claims)
    } else {
        tracing::debug!(session = %claims.sid, "access token refused: its session has ended");
        Err(AuthenticateError::InvalidToken)
    }
}

/// Verifies a session's access token, without looking at its session.
///
/// # Errors
/// [`AuthenticateError::InvalidToken`]
pub async fn verify(state: &AppState, token: &str) -> Result<Arc<VerifiedToken>, AuthenticateError> {
    verify_issued(state, token).await?.into_session().map_err(|error| {
        tracing::debug!(%error, "access token refused");
        AuthenticateError::InvalidToken
    })
}

/// Verifies an access token of a session or of a service client; the latter may be for another audience.
///
/// # Errors
/// [`AuthenticateError::InvalidToken`]
pub async fn verify_issued(state: &AppState, token: &str) -> Result<Verified, AuthenticateError> {
    try_verify(state, token).await.map_err(|error| {
        tracing::debug!(%error, "access token refused");
        AuthenticateError::InvalidToken
    })
}

/// Does the same and returns the cause of a refusal. A token with an unknown key reloads the keys
/// ([`SigningKeys::reload_on_miss`](crate::state::keys::SigningKeys::reload_on_miss)): another node may have published the
/// key just now.
pub(super) async fn try_verify(state: &AppState, token: &str) -> Result<Verified, TokenError> {
    let mut verified = state.tokens.verify(token, state.clock.now());
    if matches!(verified, Err(TokenError::UnknownKey)) {
        state.keys.reload_on_miss().await;
        verified = state.tokens.verify(token, state.clock.now());
    }
    verified
}

/// The account of a caller. The tokens of a deleted account are invalid.
///
/// # Errors
/// [`AuthenticateError`]
pub async fn me(state: &AppState, caller: &AccessClaims) -> Result<Account, AuthenticateError> {
    let account = state.sql.account(caller.sub).await?;
    account.ok_or(AuthenticateError::InvalidToken)
}
