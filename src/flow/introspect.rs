//! Another service asks what a token is worth (RFC 7662).

use std::sync::{Arc, Weak};

use hyper::body::Bytes;

use crate::{
    app::App,
    crypto::{
        access_token::{Verified, VerifiedToken},
        client_secret,
        client_token::ClientClaims,
        refresh_token::{self, RefreshClaims},
    },
    domain::{
        client::{Client, ClientId, ClientSecretHash},
        secret::SecretText,
    },
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

/// What the answer to a service client that asked about a session's access token rests on.
#[derive(Debug)]
pub struct Answered {
    client: ClientId,
    secret: ClientSecretHash,
    /// Gone when it isn't among the verified tokens any more.
    token: Weak<VerifiedToken>,
}

impl Answered {
    /// That `caller`, which showed this secret, was told of the token.
    pub fn new(caller: &Client, secret: &SecretText, token: &Arc<VerifiedToken>) -> Self {
        let secret = client_secret::hash(secret.expose());
        Self { client: caller.id.clone(), secret, token: Arc::downgrade(token) }
    }
}

/// What is told when the same is asked again, by the same client that shows the same secret; none if any of what the answer
/// rests on has changed, or may have. The client may have been disabled or given another secret or other audiences, the key
/// may be retired, the token expired, the session over.
///
/// # Errors
/// [`Failure`]: it asks too often.
pub fn again(app: &App, answered: &Answered) -> Result<Option<Bytes>, Failure> {
    let Answered { client, secret, token } = answered;
    let Some(token) = token.upgrade() else { return Ok(None) };
    let Some(told) = token.told.get() else { return Ok(None) };
    let now = app.clock.now();
    let may_ask = app.clients.is_allowed(client.as_str(), |caller| {
        caller.has_secret(secret, now) && caller.audiences.contains(&app.config.token.audience)
    });
    let holds = may_ask && app.is_still_valid(&token, now) && app.redis.is_remembered(token.sub, token.sid, now);
    if !holds {
        return Ok(None);
    }
    limits::introspection(app, client.as_str())?;
    app.verified_tokens.metrics().hits.inc();
    app.redis.count_remembered();
    Ok(Some(told.clone()))
}
