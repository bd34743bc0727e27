//! Exchanges a refresh token for the next tokens of its session (I1), or ends the session if the token was reused (I2).

use crate::{
    crypto::id_token::IdToken,
    domain::{
        audit::{Actor, AuditEvent, Entry},
        client::Client,
        clock::Timestamp,
        event::Reason,
        session::{Accepted, Grant, Origin, Rotation},
    },
    service::{
        decode_refresh_token::decode_refresh_token,
        error::{ServiceError, from_store_errors},
        exchange_code::{narrow, set_public_client_id},
        id_tokens, limits, notices,
        sign_in::policy,
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
    /// The resource is not one of the session's.
    #[error("the resource was not granted")]
    InvalidTarget,
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

/// Exchanges the refresh token of an app's session, for the access token of one of its resources if one is named (RFC 8707, section
/// 2.2). Also returns an ID token, if `openid` was granted. The token of another client's session is not valid, and its session is not
/// affected.
///
/// # Errors
/// [`RefreshError`]
pub async fn refresh_for_client(
    state: &AppState,
    client: &Client,
    token: &str,
    resource: Option<&str>,
    from: &Origin,
) -> Result<(Tokens, Option<IdToken>), RefreshError> {
    let rotated = rotate(state, token, from, Accepted::Bearer, Some(client.id.as_str())).await;
    let (mut grant, now) = count_outcome(state, rotated)?;
    if let Some(resource) = resource {
        narrow(state, &mut grant, resource).ok_or(RefreshError::InvalidTarget)?;
    }
    set_public_client_id(&mut grant, client);
    let tokens = token_issuer::issue(state, &grant, now)?;
    let id_token = id_tokens::issue(state, &grant, None, &tokens.access_token, now).await?;
    Ok((tokens, id_token))
}

async fn exchange(state: &AppState, token: &str, from: &Origin, accepted: Accepted) -> Result<Tokens, RefreshError> {
    let rotated = rotate(state, token, from, accepted, None).await;
    let (grant, now) = count_outcome(state, rotated)?;
    Ok(token_issuer::issue(state, &grant, now)?)
}

/// Counts the outcome of a rotation in the metrics.
fn count_outcome(
    state: &AppState,
    outcome: Result<(Grant, Timestamp, &'static str), RefreshError>,
) -> Result<(Grant, Timestamp), RefreshError> {
    let label = match &outcome {
        Ok((_, _, label)) => label,
        Err(RefreshError::InvalidTarget) => "invalid",
        Err(RefreshError::InvalidToken) => "invalid",
        Err(RefreshError::Reused) => "reused",
        Err(RefreshError::Expired) => "expired",
        Err(RefreshError::Service(error)) => error.label(),
    };
    state.metrics.rotations.with_label_values(&[label]).inc();
    outcome.map(|(grant, now, _)| (grant, now))
}

async fn rotate(
    state: &AppState,
    token: &str,
    from: &Origin,
    accepted: Accepted,
    client: Option<&str>,
) -> Result<(Grant, Timestamp, &'static str), RefreshError> {
    limits::check_refresh_by_address(state, from.ip)?;
    let claims = decode_refresh_token(state, token).await?.ok_or(RefreshError::InvalidToken)?;
    limits::check_refresh_by_account(state, claims.account)?;
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
    let rotation =
        sessions.present_for(&presentation, client, &settings.repeat_rule(), settings.idle_timeout, now).await?;
    let record = |event: Entry| {
        let entry = event.account(claims.account).session(claims.session);
        state.audit.record(entry.by(Actor::Anyone).from(from.ip));
    };
    let refuse_reuse = |reason: &'static str| {
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
        Rotation::Rotated(grant) => Ok((grant, now, "rotated")),
        Rotation::Repeated(grant) => Ok((grant, now, "repeated")),
        Rotation::Counted(grant) => {
            record(Entry::new(now, AuditEvent::RefreshRepeat));
            Ok((grant, now, "counted"))
        }
        Rotation::Reused => {
            notices::session_reuse(state, claims.account, from.ip).await;
            refuse_reuse("superseded")
        }
        Rotation::SecondHolder => {
            notices::session_reuse(state, claims.account, from.ip).await;
            refuse_reuse("second_holder")
        }
        Rotation::Expired => Err(RefreshError::Expired),
        // Redis no longer has the session; the token says whether it has expired.
        Rotation::Gone if claims.expires_at <= now => Err(RefreshError::Expired),
        Rotation::Gone => Err(RefreshError::InvalidToken),
    }
}

/// Whether the account must have a second factor, the session began without one, and the grace period has expired (I14). An app session
/// counts from the sign-in of its browser.
pub(super) fn lacks_factor(state: &AppState, grant: &Grant, now: Timestamp) -> bool {
    let began = if grant.client.is_some() { grant.authentication.at } else { grant.created_at };
    policy::lacks_factor(&state.config.factors, grant.authentication.acr, &grant.roles, began, now)
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
