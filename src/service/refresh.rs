//! A refresh token is presented: the session moves on by one generation, or is found to be over (I1, I2).

use std::net::IpAddr;

use crate::{
    domain::{
        audit::{Actor, AuditEvent, Entry},
        session::{Accepted, Rotation},
    },
    service::{
        error::ServiceError,
        limits,
        token_issuer::{self, Tokens},
    },
    state::AppState,
};

/// Why a refresh token was refused.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// It isn't one of ours, or its session was ended.
    #[error("the refresh token is not valid, or its session was ended")]
    InvalidToken,
    /// It was superseded longer ago than the grace window; its session has been revoked (RFC 9700, section 4.14.2).
    #[error("the refresh token was used before; its session has been ended")]
    Reused,
    /// Its session lay idle for too long, or reached its absolute end.
    #[error("the session has expired")]
    Expired,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Exchanges a refresh token for the session's next tokens. Repeating it within the grace window gives the same refresh
/// token again, so that a lost answer costs nothing.
///
/// # Errors
/// [`RefreshError`]
pub async fn refresh(state: &AppState, token: &str, ip: Option<IpAddr>) -> Result<Tokens, RefreshError> {
    exchange(state, token, ip, Accepted::Any).await
}

/// The same where refresh tokens travel in bodies: those of sessions that keep theirs in the cookie are not valid there, and
/// nothing comes of presenting one.
///
/// # Errors
/// [`RefreshError`]
pub async fn refresh_in_body(state: &AppState, token: &str, ip: Option<IpAddr>) -> Result<Tokens, RefreshError> {
    exchange(state, token, ip, Accepted::Bearer).await
}

async fn exchange(
    state: &AppState,
    token: &str,
    ip: Option<IpAddr>,
    accepted: Accepted,
) -> Result<Tokens, RefreshError> {
    let outcome = rotate(state, token, ip, accepted).await;
    let label = match &outcome {
        Ok((_, label)) => label,
        Err(RefreshError::InvalidToken) => "invalid",
        Err(RefreshError::Reused) => "reused",
        Err(RefreshError::Expired) => "expired",
        Err(RefreshError::Service(failure)) => failure.label(),
    };
    state.metrics.rotations.with_label_values(&[label]).inc();
    outcome.map(|(tokens, _)| tokens)
}

async fn rotate(
    state: &AppState,
    token: &str,
    ip: Option<IpAddr>,
    accepted: Accepted,
) -> Result<(Tokens, &'static str), RefreshError> {
    limits::refresh_from(state, ip)?;
    let claims = state.refresh_tokens.decode(token).map_err(|_| RefreshError::InvalidToken)?;
    limits::refresh_of(state, claims.account)?;
    let now = state.clock.now();
    let settings = &state.config.session;
    let rotation = state
        .redis
        .sessions
        .rotate_accepted(
            claims.account,
            claims.session,
            claims.generation,
            accepted,
            settings.grace,
            settings.idle_timeout,
            now,
        )
        .await
        .map_err(ServiceError::from)?;
    match rotation {
        Rotation::Rotated(grant) => Ok((token_issuer::issue(state, &grant, now)?, "rotated")),
        Rotation::Repeated(grant) => Ok((token_issuer::issue(state, &grant, now)?, "repeated")),
        Rotation::Reused => {
            tracing::warn!(account = %claims.account, session = %claims.session, "a superseded refresh token was presented; its session has been ended");
            let entry = Entry::new(now, AuditEvent::RefreshReuse).account(claims.account).session(claims.session);
            state.audit.record(entry.refused("superseded").by(Actor::Anyone).from(ip));
            Err(RefreshError::Reused)
        }
        Rotation::Expired => Err(RefreshError::Expired),
        // Redis has forgotten it; the token itself tells whether it had expired.
        Rotation::Gone if claims.expires_at <= now => Err(RefreshError::Expired),
        Rotation::Gone => Err(RefreshError::InvalidToken),
    }
}
