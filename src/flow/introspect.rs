//! Another service asks what a token is worth (RFC 7662).

use std::sync::Arc;

use crate::{
    app::App,
    crypto::{
        access_token::{Verified, VerifiedToken},
        client_token::ClientClaims,
        refresh_token::{self, RefreshClaims},
    },
    domain::client::Client,
    flow::{
        clients,
        error::Failure,
        limits,
        me::{self, AuthenticateError},
    },
    store::redis::RefreshStanding,
};

/// What is told of a token.
#[derive(Clone, Debug)]
pub enum Introspection {
    /// It isn't one, or is worth nothing now, or is none of the asking client's business. Which of these isn't told.
    Inactive,
    /// A session's access token.
    Session(Arc<VerifiedToken>),
    /// A service client's own access token.
    Client(Arc<VerifiedToken<ClientClaims>>),
    /// A refresh token that would be accepted now.
    Refresh(RefreshClaims, RefreshStanding),
}

/// What `caller` may know of a token: something only of tokens that are for one of its audiences (RFC 7662, section 4).
///
/// # Errors
/// [`Failure`]
pub async fn introspect(app: &App, caller: &Client, token: &str) -> Result<Introspection, Failure> {
    limits::introspection(app, caller.id.as_str())?;
    let now = app.clock.now();
    let of_sessions = caller.audiences.contains(&app.config.token.audience);
    if token.starts_with(refresh_token::PREFIX) {
        let Ok(claims) = app.refresh_tokens.decode(token) else { return Ok(Introspection::Inactive) };
        if !of_sessions {
            return Ok(Introspection::Inactive);
        }
        let (RefreshClaims { account, session, generation, .. }, grace) = (claims, app.config.session.grace);
        let standing = app.redis.refresh_standing(account, session, generation, grace, now).await?;
        return Ok(standing.map_or(Introspection::Inactive, |standing| Introspection::Refresh(claims, standing)));
    }
    match me::verify_issued(app, token).await {
        Ok(Verified::Session(verified)) if of_sessions => {
            let lives = app.redis.liveness(verified.sub, verified.sid, now).await?.is_some();
            Ok(if lives { Introspection::Session(verified) } else { Introspection::Inactive })
        }
        Ok(Verified::Client(verified)) if verified.aud.iter().any(|audience| caller.audiences.contains(audience)) => {
            let enabled = clients::find(app, &verified.client_id).await?.is_some();
            Ok(if enabled { Introspection::Client(verified) } else { Introspection::Inactive })
        }
        Ok(_) | Err(AuthenticateError::InvalidToken) => Ok(Introspection::Inactive),
        Err(AuthenticateError::Failure(failure)) => Err(failure),
    }
}
