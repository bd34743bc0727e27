//! A user signs out: the session is over, everywhere, once this has answered (I3).

use crate::{
    app::App,
    domain::{
        event::Reason,
        ids::{AccountId, SessionId},
    },
    flow::error::Failure,
};

/// Which session to end.
#[derive(Clone, Debug)]
pub enum Logout {
    /// That of a refresh token.
    RefreshToken(String),
    /// That of an access token which has been verified.
    Session(AccountId, SessionId),
}

/// Why a sign-out was refused.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// The refresh token isn't one of ours.
    #[error("the refresh token is not valid")]
    InvalidToken,
    /// See [`Failure`].
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// Ends a session. Ending one that is over already is no error, so that this can be repeated.
///
/// # Errors
/// [`LogoutError`]
pub async fn logout(app: &App, input: Logout) -> Result<(), LogoutError> {
    let (account, session) = match input {
        Logout::Session(account, session) => (account, session),
        Logout::RefreshToken(token) => {
            let claims = app.refresh_tokens.decode(&token).map_err(|_| LogoutError::InvalidToken)?;
            (claims.account, claims.session)
        }
    };
    app.redis.revoke(account, session, Reason::Logout, app.clock.now()).await.map_err(Failure::from)?;
    Ok(())
}
