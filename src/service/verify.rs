//! Verifies an access token for a forward-auth proxy: signature, audience and session. Recently verified tokens and cached
//! sessions cost neither a signature check nor a request to Redis.

use crate::{
    crypto::access_token::Verified,
    service::authenticate::{self, AuthenticateError},
    state::AppState,
};

/// Verifies the access token of a live session or of an enabled service client, for the audience `token.audience`. A session
/// whose end was confirmed is over on every node (I3); a disabled client is refused within seconds.
///
/// # Errors
/// [`AuthenticateError`]
pub async fn verify(state: &AppState, token: &str) -> Result<Verified, AuthenticateError> {
    let verified = authenticate::verify_issued(state, token).await?;
    let valid = match &verified {
        Verified::Session(session) => {
            let now = state.clock.now();
            state.redis.sessions.liveness(session.sub, session.sid, now).await?.is_some()
        }
        Verified::Client(client) => {
            client.aud.contains(&state.config.token.audience) && state.clients.find(&client.client_id).await?.is_some()
        }
    };
    if valid {
        Ok(verified)
    } else {
        tracing::debug!(
            "access token refused: its session has ended, its client is disabled, or its audience is another"
        );
        Err(AuthenticateError::InvalidToken)
    }
}
