//! Whether an access token is valid and its session lives, for those who ask on behalf of others: forward-auth and
//! introspection. What was verified lately is known without Redis and without checking a signature again.

use crate::{
    crypto::access_token::Verified,
    service::{
        authenticate::{self, AuthenticateError},
        error::ServiceError,
    },
    state::AppState,
};

/// What an access token says, if it is valid, meant for `token.audience`, and its session lives; a service client's own, if
/// that may still do anything. A session whose end was confirmed is known to be over on every node (I3); a client that was
/// disabled, within seconds.
///
/// # Errors
/// [`AuthenticateError`]
pub async fn verify(state: &AppState, token: &str) -> Result<Verified, AuthenticateError> {
    let verified = authenticate::verify_issued(state, token).await?;
    let good = match &verified {
        Verified::Session(session) => {
            let liveness = state
                .redis
                .sessions
                .liveness(session.sub, session.sid, state.clock.now())
                .await
                .map_err(ServiceError::from)?;
            liveness.is_some()
        }
        Verified::Client(client) => {
            client.aud.contains(&state.config.token.audience)
                && state.clients.find(&client.client_id).await.map_err(ServiceError::from)?.is_some()
        }
    };
    if good {
        Ok(verified)
    } else {
        tracing::debug!("an access token of an ended session, of a disabled client or for others was presented");
        Err(AuthenticateError::InvalidToken)
    }
}
