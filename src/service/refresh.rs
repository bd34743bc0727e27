//! Exchanges a refresh token for the next tokens of its session (I1), or ends the session if the token was reused (I2).

use crate::{
    domain::{
        audit::{Actor, AuditEvent, Entry},
        authentication::Acr,
        clock::Timestamp,
        event::Reason,
        session::{Accepted, Grant, Origin, Rotation},
    },
    service::{
        decode_refresh_token::decode_refresh_token,
        error::{ServiceError, from_store_errors},
        limits, notices,
        token_issuer::{self, Tokens},
    },
    state::AppState,
    store::redis::{Presentation, UseOrigin},
};

/// Why a refresh token was refused.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The token is not genuine, or its session was ended.
    #[error("the refresh token is not valid, or its session was ended")]
    InvalidToken,
    /// The token was superseded, and must not be repeated; its session was revoked (RFC 9700, section 4.14.2).
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

/// Exchanges a refresh token for the session's next tokens. A repeat by a holder that may have lost the response
/// returns the current refresh token.
///
/// # Errors
/// [`RefreshError`]
pub async fn refresh(state: &AppState, token: &str, from: &Origin) -> Result<Tokens, RefreshError> {
    exchange(state, token, from, Accepted::Any).await
}

/// Exchanges a refresh token at an endpoint that takes it in the body. The token of a cookie session is not valid there, and
/// its session is not affected.
///
/// # Errors
/// [`RefreshError`]
pub async fn refresh_in_body(state: &AppState, token: &str, from: &Origin) -> Result<Tokens, RefreshError> {
    exchange(state, token, from, Accepted::Bearer).await
}

async fn exchange(state: &AppState, token: &str, from: &Origin, accepted: Accepted) -> Result<Tokens, RefreshError> {
    let outcome = rotate(state, token, from, accepted).await;
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
    from: &Origin,
    accepted: Accepted,
) -> Result<(Tokens, &'static str), RefreshError> {
    limits::refresh_from(state, from.ip)?;
    let claims = decode_refresh_token(state, token).await?.ok_or(RefreshError::InvalidToken)?;
    limits::refresh_of(state, claims.account)?;
    let now = state.clock.now();
    let settings = &state.config.session;
    let tag = state.origin_tags.tag(from.ip, from.user_agent.as_deref());
    let presentation = Presentation {
        account: claims.account,
        session: claims.session,
        generation: claims.generation,
        accepted,
        origin: UseOrigin { tag, ip: from.ip },
    };
    let sessions = &state.redis.sessions;
    let rotation = sessions.present(&presentation, &settings.repeat_rule(), settings.idle_timeout, now).await?;
    let record = |event: Entry| {
        let entry = event.account(claims.account).session(claims.session);
        state.audit.record(entry.by(Actor::Anyone).from(from.ip));
    };
    let ended = |reason: &'static str| {
        tracing::warn!(account = %claims.account, session = %claims.session, reason, "refresh token reused: session ended");
        record(Entry::new(now, AuditEvent::RefreshReuse).refused(reason));
        Err(RefreshError::Reused)
    };
    if let Rotation::Rotated(grant) | Rotation::Repeated(grant) | Rotation::Counted(grant) = &rotation
        && lacks_factor(state, grant, now)
    {
        return end_without_factor(state, grant, from, now).await;
    }
    match rotation {
        Rotation::Rotated(grant) => Ok((token_issuer::issue(state, &grant, now)?, "rotated")),
        Rotation::Repeated(grant) => Ok((token_issuer::issue(state, &grant, now)?, "repeated")),
        Rotation::Counted(grant) => {
            record(Entry::new(now, AuditEvent::RefreshRepeat));
            Ok((token_issuer::issue(state, &grant, now)?, "counted"))
        }
        Rotation::Reused => {
            notices::session_reuse(state, claims.account, from.ip).await;
            ended("superseded")
        }
        Rotation::SecondHolder => {
            notices::session_reuse(state, claims.account, from.ip).await;
            ended("second_holder")
        }
        Rotation::Expired => Err(RefreshError::Expired),
        // Redis no longer has the session; the token says whether it has expired.
        Rotation::Gone if claims.expires_at <= now => Err(RefreshError::Expired),
        Rotation::Gone => Err(RefreshError::InvalidToken),
    }
}

/// Whether the account must have a second factor, the session began without one, and the grace period is over (I14).
fn lacks_factor(state: &AppState, grant: &Grant, now: Timestamp) -> bool {
    let settings = &state.config.factors;
    grant.authentication.acr < Acr::Aal2
        && settings.required.applies_to(&grant.roles)
        && now >= grant.created_at + settings.grace
}

/// Ends a session that lacks the second factor that its account must have.
async fn end_without_factor<T>(
    state: &AppState,
    grant: &Grant,
    from: &Origin,
    now: Timestamp,
) -> Result<T, RefreshError> {
    let reason = Reason::FactorRequired;
    if state.redis.sessions.revoke(grant.account, grant.session, reason, now).await? {
        let entry = Entry::new(now, AuditEvent::SessionEnded).because(reason.as_str()).by(Actor::Service);
        state.audit.record(entry.account(grant.account).session(grant.session).from(from.ip));
    }
    Err(RefreshError::InvalidToken)
}
