//! Exchanges a refresh token for the next tokens of its session (I1), or ends the session if the token was reused (I2).

use std::net::IpAddr;

use crate::{
    domain::{
        audit::{Actor, AuditEvent, Entry},
        session::{Accepted, Rotation},
    },
    service::{
        decode_refresh_token::decode_refresh_token,
        error::{ServiceError, from_store_errors},
        limits,
        token_issuer::{self, Tokens},
    },
    state::AppState,
};

/// Why a refresh token was refused.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The token is not genuine, or its session was ended.
    #[error("the refresh token is not valid, or its session was ended")]
    InvalidToken,
    /// The token was superseded longer ago than the grace window; its session was revoked (RFC 9700, section 4.14.2).
    #[error("the refresh token was used before; its session was ended")]
    Reused,
    /// The session exceeded its idle timeout or its absolute lifetime.
    #[error("the session has expired")]
    Expired,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(RefreshError);

/// Exchanges a refresh token for the session's next tokens. A repetition within the grace window returns the same refresh
/// token, so that a lost response does no harm.
///
/// # Errors
/// [`RefreshError`]
pub async fn refresh(state: &AppState, token: &str, ip: Option<IpAddr>) -> Result<Tokens, RefreshError> {
    exchange(state, token, ip, Accepted::Any).await
}

/// Exchanges a refresh token at an endpoint that takes it in the body. The token of a cookie session is not valid there, and
/// its session is not affected.
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
        Err(RefreshError::Service(error)) => error.label(),
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
    let claims = decode_refresh_token(state, token).await?.ok_or(RefreshError::InvalidToken)?;
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
        .await?;
    match rotation {
        Rotation::Rotated(grant) => Ok((token_issuer::issue(state, &grant, now)?, "rotated")),
        Rotation::Repeated(grant) => Ok((token_issuer::issue(state, &grant, now)?, "repeated")),
        Rotation::Reused => {
            tracing::warn!(account = %claims.account, session = %claims.session, "refresh token reused: session ended");
            let entry = Entry::new(now, AuditEvent::RefreshReuse).account(claims.account).session(claims.session);
            state.audit.record(entry.refused("superseded").by(Actor::Anyone).from(ip));
            Err(RefreshError::Reused)
        }
        Rotation::Expired => Err(RefreshError::Expired),
        // Redis no longer has the session; the token says whether it has expired.
        Rotation::Gone if claims.expires_at <= now => Err(RefreshError::Expired),
        Rotation::Gone => Err(RefreshError::InvalidToken),
    }
}
