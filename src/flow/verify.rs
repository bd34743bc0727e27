//! Whether an access token is valid and its session lives, for those who ask on behalf of others: forward-auth and
//! introspection. What was verified lately is known without Redis and without checking a signature again.

use std::sync::Arc;

use crate::{
    app::App,
    crypto::access_token::VerifiedToken,
    flow::{
        error::Failure,
        me::{self, AuthenticateError},
    },
};

/// What an access token says, if it is valid and its session lives. A session that was ended on another node is known to be
/// over within milliseconds, and after `cache.max_staleness` at worst.
///
/// # Errors
/// [`AuthenticateError`]
pub async fn verify(app: &App, token: &str) -> Result<Arc<VerifiedToken>, AuthenticateError> {
    let verified = me::verify(app, token).await?;
    let liveness = app.redis.liveness(verified.sub, verified.sid, app.clock.now()).await.map_err(Failure::from)?;
    if liveness.is_some() {
        Ok(verified)
    } else {
        tracing::debug!(session = %verified.sid, "an access token of an ended session was presented");
        Err(AuthenticateError::InvalidToken)
    }
}
