//! Who is calling: an access token is verified, its session looked up, its account read.

use std::sync::Arc;

use crate::{
    crypto::access_token::{AccessClaims, TokenError, Verified, VerifiedToken},
    domain::account::Account,
    service::error::ServiceError,
    state::AppState,
};

/// Why a caller isn't let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// The access token isn't valid here (RFC 6750, section 3.1: `invalid_token`); the log says why.
    #[error("the access token is not valid, or its session was ended")]
    InvalidToken,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// What an access token says, if it is valid and its session lives: an ended one's tokens are refused here at once,
/// not only when they expire (ASVS 7.4.1).
///
/// # Errors
/// [`AuthenticateError`]
pub async fn authenticate(state: &AppState, token: &str) -> Result<Arc<VerifiedToken>, AuthenticateError> {
    let claims = verify(state, token).await?;
    if state.redis.sessions.is_live(claims.sub, claims.sid, state.clock.now()).await.map_err(ServiceError::from)? {
        Ok(claims)
    } else {
        tracing::debug!(session = %claims.sid, "an access token of an ended session was presented");
        Err(AuthenticateError::InvalidToken)
    }
}

/// What a session's access token says, if it is valid; whether its session still lives isn't asked. A key that isn't known
/// may have just been made by another node, so it is looked for (`SigningKeys::reload_on_miss`).
///
/// # Errors
/// [`AuthenticateError::InvalidToken`]
pub async fn verify(state: &AppState, token: &str) -> Result<Arc<VerifiedToken>, AuthenticateError> {
    match verify_issued(state, token).await? {
        Verified::Session(verified) => Ok(verified),
        Verified::Client(_) => {
            tracing::debug!(error = %TokenError::NoSession, "an access token was refused");
            Err(AuthenticateError::InvalidToken)
        }
    }
}

/// The same for tokens of either kind: that of a session, or that of a service client itself, which may be meant for others.
///
/// # Errors
/// [`AuthenticateError::InvalidToken`]
pub async fn verify_issued(state: &AppState, token: &str) -> Result<Verified, AuthenticateError> {
    let mut verified = state.verify_issued_token(token);
    if matches!(verified, Err(TokenError::UnknownKey)) {
        state.keys.reload_on_miss().await;
        verified = state.verify_issued_token(token);
    }
    verified.map_err(|error| {
        tracing::debug!(%error, "an access token was refused");
        AuthenticateError::InvalidToken
    })
}

/// The account of a caller.
///
/// # Errors
/// [`AuthenticateError`]: an account that was deleted meanwhile has no valid tokens.
pub async fn me(state: &AppState, caller: &AccessClaims) -> Result<Account, AuthenticateError> {
    let account = state.sql.account(caller.sub).await.map_err(ServiceError::from)?;
    account.ok_or(AuthenticateError::InvalidToken)
}
