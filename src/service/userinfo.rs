//! The userinfo endpoint: returns the claims about a token's user that the granted scopes reveal (OpenID Connect Core 1.0, section 5.3).

use crate::{
    crypto::{access_token::IssuedToken, id_token::UserClaims},
    domain::ids::AccountId,
    service::{
        authenticate::{AuthenticateError, check_session, verify_issued_token},
        id_tokens::{self, has_scope},
    },
    state::AppState,
};

/// Why no claims are returned.
#[derive(Debug, thiserror::Error)]
pub enum UserInfoError {
    /// The scope `openid` was not granted.
    #[error("the access token does not have the scope openid")]
    InsufficientScope,
    /// See [`AuthenticateError`].
    #[error(transparent)]
    Authenticate(#[from] AuthenticateError),
}

/// Returns the account of an access token with the scope `openid`, and the claims that the token's other scopes reveal. The session must
/// be live, and the client enabled.
///
/// # Errors
/// [`UserInfoError`]
pub async fn userinfo(state: &AppState, token: &str) -> Result<(AccountId, UserClaims), UserInfoError> {
    let verified = match verify_issued_token(state, token).await.map_err(AuthenticateError::from)? {
        IssuedToken::Session(verified) => verified,
        // an app may use this endpoint if its token is also for Latchkey, not only for other APIs
        IssuedToken::App(verified) if verified.aud.contains(&state.config.issuer) => verified,
        IssuedToken::App(_) | IssuedToken::Client(_) => return Err(AuthenticateError::InvalidToken.into()),
    };
    let now = state.clock.now();
    let liveness = state.redis.sessions.liveness(verified.sub, verified.sid, now).await;
    check_session(&verified, liveness.map_err(AuthenticateError::from)?)?;
    // sessions from `/v1/login` belong to no registered client
    if verified.client_id != state.config.token.client_id {
        let enabled_client = state.clients.find(&verified.client_id).await.map_err(AuthenticateError::from)?;
        if enabled_client.is_none() {
            tracing::debug!(client = verified.client_id, "access token refused: its client is disabled");
            return Err(AuthenticateError::InvalidToken.into());
        }
    }
    if !has_scope(&verified.scope, "openid") {
        return Err(UserInfoError::InsufficientScope);
    }
    let claims = id_tokens::user_claims(state, verified.sub, &verified.scope).await.map_err(AuthenticateError::from)?;
    // the account may have been deleted just now
    let claims = claims.ok_or(AuthenticateError::InvalidToken)?;
    Ok((verified.sub, claims))
}
