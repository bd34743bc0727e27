//! Verifies an access token for a forward-auth proxy: signature, audience and session. A recently verified token needs no check of
//! its signature, and a cached session no request to Redis.

use crate::{
    crypto::access_token::IssuedToken,
    service::authenticate::{AuthenticateError, check_session, verify_issued_token},
    state::AppState,
};

/// Verifies the access token of a live session or of an enabled service client, for the audience `token.audience`.
///
/// Once the request that ends a session is answered, every node refuses the session's tokens (I3). Once a change of an account's claims is
/// answered, every node refuses the account's older tokens (I16). The tokens of a disabled client are refused within seconds.
///
/// # Errors
/// [`AuthenticateError`]
pub async fn verify(state: &AppState, token: &str) -> Result<IssuedToken, AuthenticateError> {
    let verified = verify_issued_token(state, token).await?;
    let is_accepted = match &verified {
        IssuedToken::Session(session) => {
            let now = state.clock.now();
            let liveness = state.redis.sessions.liveness(session.sub, session.sid, now).await?;
            check_session(session, liveness)?;
            true
        }
        // An app's token is for other services, not for those behind the proxy.
        IssuedToken::App(_) => false,
        IssuedToken::Client(client) => {
            // The registry finds enabled clients only.
            client.aud.contains(&state.config.token.audience) && state.clients.find(&client.client_id).await?.is_some()
        }
    };
    if !is_accepted {
        let client_id = match &verified {
            IssuedToken::Session(claims) | IssuedToken::App(claims) => &claims.client_id,
            IssuedToken::Client(claims) => &claims.client_id,
        };
        tracing::debug!(
            client = client_id,
            "access token refused: its client is disabled, or its audience is not accepted"
        );
        return Err(AuthenticateError::InvalidToken);
    }
    Ok(verified)
}
