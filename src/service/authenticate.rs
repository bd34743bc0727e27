//! Authenticates the caller of a request by its access token.

use std::sync::Arc;

use crate::{
    crypto::access_token::{AccessClaims, IssuedToken, TokenError, VerifiedToken},
    domain::{account::Account, profile::Profile, session::Liveness},
    service::{
        error::{ServiceError, from_store_errors},
        peer_keys::require_keys_of_peers,
    },
    state::AppState,
};

/// Why a caller is not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// The access token is not valid here (RFC 6750, section 3.1: `invalid_token`). The log has the cause at level debug.
    #[error("the access token is not valid, or its session was ended")]
    InvalidToken,
    /// The claims of the token's account have changed since the token was issued: older tokens are refused at once (I16). A refresh
    /// returns a token with the current claims.
    #[error("the claims of the account have changed since the access token was issued")]
    ClaimsChanged,
    /// The access token is an app's, without the scope that the call needs.
    #[error("the access token does not have the required scope")]
    InsufficientScope,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(AuthenticateError: crate::store::redis::RedisError, crate::store::sql::SqlError,
    crate::state::error::StateError);

impl From<TokenError> for AuthenticateError {
    fn from(_: TokenError) -> Self {
        Self::InvalidToken
    }
}

impl From<VerifyError> for AuthenticateError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Refused(error) => error.into(),
            VerifyError::Service(error) => error.into(),
        }
    }
}

/// Why an access token is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The token is refused.
    #[error(transparent)]
    Refused(#[from] TokenError),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Verifies an access token of a session, not of a service client, and looks the session up in Redis, so that the tokens of an
/// ended session are refused at once and not only when they expire (ASVS 7.4.1). The session cache is not used: a command such as
/// `latchkey user disable` does not wait until it is up to date.
///
/// # Errors
/// [`AuthenticateError`]
pub async fn authenticate(state: &AppState, token: &str) -> Result<Arc<VerifiedToken>, AuthenticateError> {
    let claims = verify_issued_token(state, token).await?.into_session().inspect_err(log_refusal)?;
    let live = state.redis.sessions.liveness_in_redis(claims.sub, claims.sid, state.clock.now()).await?;
    check_session(&claims, live)?;
    Ok(claims)
}

/// Checks that a token may use the API of its account. The token must be the first-party client's (`token.client_id`), or have all scopes
/// of `token.scope`.
///
/// # Errors
/// [`AuthenticateError::InsufficientScope`]
pub fn check_account_scope(state: &AppState, claims: &AccessClaims) -> Result<(), AuthenticateError> {
    let settings = &state.config.token;
    let has_scope = |scope: &str| claims.scope.split(' ').any(|granted| granted == scope);
    let is_first_party = claims.client_id == settings.client_id;
    if is_first_party || settings.scope.split(' ').all(has_scope) {
        return Ok(());
    }
    tracing::debug!(client = claims.client_id, "access token refused: it lacks the scope of the account's API");
    Err(AuthenticateError::InsufficientScope)
}

/// Checks a verified token against the state of its session. `live` is `None` if the session has ended.
///
/// # Errors
/// [`AuthenticateError::InvalidToken`], [`AuthenticateError::ClaimsChanged`]
pub(super) fn check_session(claims: &AccessClaims, live: Option<Liveness>) -> Result<(), AuthenticateError> {
    let Some(Liveness { claims: current, .. }) = live else {
        tracing::debug!(session = %claims.sid, "access token refused: its session has ended");
        return Err(AuthenticateError::InvalidToken);
    };
    if claims.are_outdated_by(&current) {
        tracing::debug!(session = %claims.sid, "access token refused: the claims of its account have changed");
        return Err(AuthenticateError::ClaimsChanged);
    }
    Ok(())
}

/// Verifies an access token of a session or of a service client, for any audience. Does not look up whether the session has ended.
///
/// If the token names an unknown key, reloads the keys and verifies again: another node may have just published the key.
///
/// # Errors
/// [`VerifyError::Refused`]; [`VerifyError::Service`] if the token names an unknown key and this node can't find out whether another node
/// has that key.
pub async fn verify_issued_token(state: &AppState, token: &str) -> Result<IssuedToken, VerifyError> {
    let mut verified = state.tokens.verify(token, state.clock.now());
    if matches!(verified, Err(TokenError::UnknownKey)) {
        // a failure is reported below, if the key is still unknown
        let _ = state.keys.reload_on_miss().await;
        verified = state.tokens.verify(token, state.clock.now());
        if matches!(verified, Err(TokenError::UnknownKey)) {
            // boxed, because this path is rare
            Box::pin(require_keys_of_peers(state)).await?;
        }
    }
    Ok(verified.inspect_err(log_refusal)?)
}

/// Logs why a token was refused.
fn log_refusal(error: &TokenError) {
    tracing::debug!(%error, "access token refused");
}

/// Returns the account and the profile of a caller. The tokens of a deleted account are invalid.
///
/// # Errors
/// [`AuthenticateError`]
pub async fn account_and_profile(
    state: &AppState,
    caller: &AccessClaims,
) -> Result<(Account, Profile), AuthenticateError> {
    let account = state.sql.account(caller.sub).await?.ok_or(AuthenticateError::InvalidToken)?;
    let profile = state.sql.profile(account.id).await?;
    Ok((account, profile))
}
