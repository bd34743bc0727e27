//! Exchanges a refresh token for the next tokens of its session (I1), or ends the session if the token was reused (I2).

use crate::{
    crypto::id_token::IdToken,
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        client::Client,
        clock::Timestamp,
        event::EndReason,
        session::{AcceptedTransport, Grant, Rotation, SessionOrigin},
    },
    metrics::RotationOutcome,
    service::{
        decode_refresh_token::decode_refresh_token,
        error::{ServiceError, from_store_errors},
        exchange_code::{restrict_to_resource, set_public_client_id},
        id_tokens, limits, notices,
        sign_in::policy,
        token_issuer::{self, Tokens},
    },
    state::AppState,
    store::redis::{LastUseOrigin, Presentation},
};

/// Why a refresh token was refused.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The token is not genuine, or its session has ended.
    #[error("the refresh token is not valid, or its session was ended")]
    InvalidToken,
    /// The token was superseded by a later one, and may no longer be repeated. Its session was revoked (RFC 9700, section 4.14.2).
    #[error("the refresh token was used before; its session was ended")]
    Reused,
    /// The session was not granted the resource.
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

/// Exchanges a refresh token for the session's next tokens. A superseded token that is repeated within the permitted time returns the
/// session's current refresh token.
///
/// # Errors
/// [`RefreshError`]
pub async fn refresh(state: &AppState, token: &str, origin: &SessionOrigin) -> Result<Tokens, RefreshError> {
    exchange(state, token, origin, AcceptedTransport::Any).await
}

/// Exchanges a refresh token at an endpoint that takes the token in the body. The token of a cookie session is invalid there, and its
/// session is not affected.
///
/// # Errors
/// [`RefreshError`]
pub async fn refresh_in_body(state: &AppState, token: &str, origin: &SessionOrigin) -> Result<Tokens, RefreshError> {
    exchange(state, token, origin, AcceptedTransport::Bearer).await
}

/// Exchanges the refresh token of an app's session. With a `resource`, the access token is for that resource only (RFC 8707, section
/// 2.2). Also returns an ID token, if `openid` was granted. The token of another client's session is invalid, and that session is not
/// affected.
///
/// If `resource` is refused, the session has been rotated nevertheless: the granted audiences are part of Redis' answer to the
/// rotation, and reading them before would cost a second round trip (I8: one round trip). A repeat of the token is answered with the
/// session's current token.
///
/// # Errors
/// [`RefreshError`]
pub async fn refresh_for_client(
    state: &AppState,
    client: &Client,
    token: &str,
    resource: Option<&str>,
    origin: &SessionOrigin,
) -> Result<(Tokens, Option<IdToken>), RefreshError> {
    let rotated = rotate(state, token, origin, AcceptedTransport::Bearer, Some(client.id.as_str())).await;
    let RotatedGrant { mut grant, now, .. } = count_outcome(state, rotated)?;
    if let Some(resource) = resource {
        restrict_to_resource(state, &mut grant, resource).ok_or(RefreshError::InvalidTarget)?;
    }
    set_public_client_id(&mut grant, client);
    let tokens = token_issuer::issue(state, &grant, now)?;
    // Only the ID token of the sign-in contains the nonce.
    let nonce = None;
    let id_token = id_tokens::issue(state, &grant, nonce, &tokens.access_token, now).await?;
    Ok((tokens, id_token))
}

/// Rotates a session of any client or none, and issues its next tokens.
async fn exchange(
    state: &AppState,
    token: &str,
    origin: &SessionOrigin,
    accepted: AcceptedTransport,
) -> Result<Tokens, RefreshError> {
    let only_client = None;
    let rotated = rotate(state, token, origin, accepted, only_client).await;
    let RotatedGrant { grant, now, .. } = count_outcome(state, rotated)?;
    Ok(token_issuer::issue(state, &grant, now)?)
}

/// The grant of a rotated session.
struct RotatedGrant {
    grant: Grant,
    /// The time of the rotation.
    now: Timestamp,
    /// The outcome that metrics count.
    outcome: RotationOutcome,
}

/// Counts the outcome of a rotation in the metrics, and returns `rotated` unchanged.
fn count_outcome(state: &AppState, rotated: Result<RotatedGrant, RefreshError>) -> Result<RotatedGrant, RefreshError> {
    state.metrics.count_rotation(match &rotated {
        Ok(rotated) => rotated.outcome,
        Err(RefreshError::InvalidToken | RefreshError::InvalidTarget) => RotationOutcome::Invalid,
        Err(RefreshError::Reused) => RotationOutcome::Reused,
        Err(RefreshError::Expired) => RotationOutcome::Expired,
        Err(RefreshError::Service(error)) => error.into(),
    });
    rotated
}

/// Rotates the session of a refresh token. With `only_client`, the session must belong to the client with this id.
async fn rotate(
    state: &AppState,
    token: &str,
    origin: &SessionOrigin,
    accepted: AcceptedTransport,
    only_client: Option<&str>,
) -> Result<RotatedGrant, RefreshError> {
    limits::check_refresh_by_address(state, origin.ip)?;
    let claims = decode_refresh_token(state, token).await?.ok_or(RefreshError::InvalidToken)?;
    limits::check_refresh_by_account(state, claims.account)?;
    let now = state.clock.now();
    let settings = &state.config.session;
    let tag = state.origin_tags.tag(origin.ip, origin.user_agent.as_deref());
    let presentation = Presentation {
        account: claims.account,
        session: claims.session,
        generation: claims.generation,
        accepted,
        origin: LastUseOrigin { tag, ip: origin.ip },
    };
    let sessions = &state.redis.sessions;
    let rotation =
        sessions.present_for(&presentation, only_client, &settings.repeat_rule(), settings.idle_timeout, now).await?;
    let record = |event: AuditEntry| {
        let entry = event.account(claims.account).session(claims.session);
        state.audit.record(entry.actor(Actor::Anyone).address(origin.ip));
    };
    let refuse_reuse = |reason: &'static str| {
        tracing::warn!(
            account = %claims.account,
            session = %claims.session,
            reason,
            "a replaced refresh token was used again: the session was ended, since the token may be stolen. A client that stores old tokens \
             causes this too: `latchkey audit --event refresh_reuse` shows how often"
        );
        record(AuditEntry::new(now, AuditEvent::RefreshReuse).refused(reason));
        Err(RefreshError::Reused)
    };
    // Redis returns the roles, which may require a second factor, together with the rotation.
    if let Rotation::Rotated(grant) | Rotation::Repeated(grant) | Rotation::Counted(grant) = &rotation
        && lacks_factor(state, grant, now)
    {
        return end_without_factor(state, grant, origin, now).await;
    }
    match rotation {
        Rotation::Rotated(grant) => Ok(RotatedGrant { grant, now, outcome: RotationOutcome::Rotated }),
        Rotation::Repeated(grant) => Ok(RotatedGrant { grant, now, outcome: RotationOutcome::Repeated }),
        // a repeat from another network or user agent
        Rotation::Counted(grant) => {
            record(AuditEntry::new(now, AuditEvent::RefreshRepeat));
            Ok(RotatedGrant { grant, now, outcome: RotationOutcome::Counted })
        }
        Rotation::Reused => {
            notices::session_reuse(state, claims.account, origin.ip).await;
            refuse_reuse("superseded")
        }
        Rotation::SecondHolder => {
            notices::session_reuse(state, claims.account, origin.ip).await;
            refuse_reuse("second_holder")
        }
        Rotation::Expired => Err(RefreshError::Expired),
        // Redis no longer has the session. The token's expiry tells an expired session from one that was ended.
        Rotation::Gone if claims.expires_at <= now => Err(RefreshError::Expired),
        Rotation::Gone => Err(RefreshError::InvalidToken),
    }
}

/// Whether the account must have a second factor, the session began without one, and the grace period for adding one has expired (I14).
/// For an app session, this period counts from the sign-in in the browser.
pub(super) fn lacks_factor(state: &AppState, grant: &Grant, now: Timestamp) -> bool {
    let began_at = if grant.client.is_some() { grant.authentication.at } else { grant.created_at };
    policy::lacks_factor(&state.config.factors, grant.authentication.acr, &grant.roles, began_at, now)
}

/// Ends a session that lacks the second factor that its account must have. The result is always an error.
async fn end_without_factor<T>(
    state: &AppState,
    grant: &Grant,
    origin: &SessionOrigin,
    now: Timestamp,
) -> Result<T, RefreshError> {
    let reason = EndReason::FactorRequired;
    let has_ended = state.redis.sessions.revoke(grant.account, grant.session, reason, now).await?;
    // if false, another request has ended the session and recorded that
    if has_ended {
        let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(reason.as_str()).actor(Actor::Service);
        state.audit.record(entry.account(grant.account).session(grant.session).address(origin.ip));
    }
    Err(RefreshError::InvalidToken)
}
