//! Exchanges an authorization code for the tokens of a new session (RFC 6749, section 4.1.3; RFC 7636, section 4.6).

use crate::{
    crypto::{
        authorization_code::{AuthorizationCode, is_code_verifier, s256},
        id_token::IdToken,
    },
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        client::Client,
        clock::Timestamp,
        event::EndReason,
        secret::SecretText,
        session::{Grant, SessionOrigin},
    },
    service::{
        authorize::{CodePayload, code_binding_digest, find_audience, needs_consent},
        error::{ServiceError, from_store_errors},
        id_tokens, limits,
        refresh::lacks_factor,
        token_issuer::{self, Tokens},
    },
    state::AppState,
    store::redis::{Exchange, ExchangeOutcome, LastUseOrigin},
};

/// The parameters of an exchange.
#[derive(Clone, Debug)]
pub struct CodeExchange {
    /// The code.
    pub code: SecretText,
    /// The redirect URI of the authorization request.
    pub redirect_uri: String,
    /// The PKCE verifier; `None` if the authorization request had no challenge. A verifier without a challenge is refused (RFC 9700,
    /// section 4.8.2).
    pub code_verifier: Option<SecretText>,
    /// The resource that the access token is for, one of those of the authorization request; `None` for all of them (RFC 8707,
    /// section 2.2).
    pub resource: Option<String>,
}

/// Why a code was not exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeCodeError {
    /// The code is unknown, used, expired, or bound to another client, redirect URI or verifier. Or what the code was issued for has changed:
    /// the browser session has ended, the consent was withdrawn, or the account now needs a second factor that the sign-in lacked.
    #[error("the authorization code is not valid")]
    InvalidCode,
    /// The resource was not among those of the authorization request.
    #[error("the resource was not requested from the authorization endpoint")]
    InvalidTarget,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ExchangeCodeError);

/// Exchanges a code, once (I11, single use). A second exchange ends the session of the first one (RFC 6749, section 4.1.2).
///
/// A refused `resource` uses the code up: the step in Redis that returns the granted audiences uses it up.
///
/// # Errors
/// [`ExchangeCodeError`]
pub async fn exchange_code(
    state: &AppState,
    client: &Client,
    input: CodeExchange,
    origin: &SessionOrigin,
) -> Result<(Tokens, Option<IdToken>), ExchangeCodeError> {
    // Exchanges and refreshes share a limit.
    limits::check_refresh_by_address(state, origin.ip)?;
    let code = AuthorizationCode::parse(input.code.expose()).ok_or(ExchangeCodeError::InvalidCode)?;
    // The code is bound to the challenge of the authorization request. An empty challenge stands for a request without one.
    let challenge = match &input.code_verifier {
        None => String::new(),
        Some(verifier) if is_code_verifier(verifier.expose()) => s256(verifier.expose()),
        Some(_) => return Err(ExchangeCodeError::InvalidCode),
    };
    let now = state.clock.now();
    let settings = &state.config.session;
    let exchange = Exchange {
        account: code.account,
        digest: code.digest(),
        binding: code_binding_digest(client.id.as_str(), &input.redirect_uri, &challenge),
        session: state.entropy.session_id(),
        origin: LastUseOrigin { tag: state.origin_tags.tag(origin.ip, origin.user_agent.as_deref()), ip: origin.ip },
        idle_timeout: settings.idle_timeout,
        absolute_timeout: settings.absolute_timeout,
        max_per_account: settings.max_per_account,
    };
    let new_entry =
        |event| AuditEntry::new(now, event).account(code.account).client(client.id.clone()).address(origin.ip);
    let (grant, payload) = match state.redis.authorizations.exchange(&exchange, now).await? {
        ExchangeOutcome::Created { grant, payload, evicted } => {
            for evicted_session in evicted {
                // not by `new_entry`: the evicted session may be of another client and another address
                let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(EndReason::Limit.as_str());
                state.audit.record(entry.account(code.account).session(evicted_session).actor(Actor::Service));
            }
            (grant, payload)
        }
        ExchangeOutcome::Reused { ended: ended_session } => {
            tracing::warn!(
                account = %code.account,
                client = %client.id,
                session = ended_session.map(tracing::field::display),
                "an authorization code was used a second time: the session of its first use, if still live, was ended. The code may be stolen, \
                 or the app repeats its request: `latchkey audit --event code_reuse` shows how often"
            );
            let mut entry =
                new_entry(AuditEvent::CodeReuse).refused("used_before").actor(Actor::Client(client.id.clone()));
            entry.facts.session = ended_session;
            state.audit.record(entry);
            return Err(ExchangeCodeError::InvalidCode);
        }
        ExchangeOutcome::Invalid => return Err(ExchangeCodeError::InvalidCode),
    };
    // The session exists now. If no tokens are issued, it must end. `issue_tokens` gets a clone of the grant, because it changes it.
    match issue_tokens(state, client, grant.clone(), &payload, &input, now).await {
        Ok(issued) => {
            state.audit.record(new_entry(AuditEvent::SignIn).session(grant.session).actor(Actor::Account));
            Ok(issued)
        }
        Err(error) => {
            let reason = EndReason::Revoked;
            match state.redis.sessions.revoke(grant.account, grant.session, reason, now).await {
                // another request has ended the session and recorded that
                Ok(false) => {}
                Ok(true) => {
                    let entry = new_entry(AuditEvent::SessionEnded).because(reason.as_str()).session(grant.session);
                    state.audit.record(entry.actor(Actor::Service));
                }
                Err(revoke_error) => tracing::warn!(
                    error = %revoke_error,
                    account = %grant.account,
                    session = %grant.session,
                    "the session of an authorization code that was refused could not be ended: it has no tokens, and stays live until its \
                     idle timeout"
                ),
            }
            Err(error)
        }
    }
}

/// Issues the tokens of the session that a code has started. Checks what may have changed since the code was issued.
async fn issue_tokens(
    state: &AppState,
    client: &Client,
    mut grant: Grant,
    payload: &str,
    input: &CodeExchange,
    now: Timestamp,
) -> Result<(Tokens, Option<IdToken>), ExchangeCodeError> {
    let payload: CodePayload = serde_json::from_str(payload).map_err(|error| ServiceError::Internal(error.into()))?;
    // The consent may have been withdrawn. A redirect URI that leads to the user's device needs a consent, too.
    if needs_consent(client, &input.redirect_uri) {
        let consent = state.sql.consent(grant.account, client.id.as_str()).await?;
        if consent.is_none() {
            return Err(ExchangeCodeError::InvalidCode);
        }
    }
    // The account may need a second factor now.
    if lacks_factor(state, &grant, now) {
        return Err(ExchangeCodeError::InvalidCode);
    }
    if let Some(resource) = input.resource.as_deref() {
        restrict_to_resource(state, &mut grant, resource).ok_or(ExchangeCodeError::InvalidTarget)?;
    }
    set_public_client_id(&mut grant, client);
    let tokens = token_issuer::issue(state, &grant, now)?;
    let id_token = id_tokens::issue(state, &grant, payload.nonce, &tokens.access_token, now).await?;
    Ok((tokens, id_token))
}

/// If the client is dynamic (no operator has registered it), replaces its internal id in the grant by the `client_id` that it sends: tokens
/// must not show the internal id.
pub(super) fn set_public_client_id(grant: &mut Grant, client: &Client) {
    if let Some(dynamic) = &client.dynamic
        && let Some(granted) = grant.client.as_deref_mut()
    {
        granted.client_id.clone_from(&dynamic.client_id);
    }
}

/// Restricts the audiences of the next access token to one resource and, for userinfo, the issuer. `None` if the grant lacks the
/// resource.
pub(super) fn restrict_to_resource(state: &AppState, grant: &mut Grant, resource: &str) -> Option<()> {
    let client = grant.client.as_deref_mut()?;
    let requested = find_audience(&client.audiences, resource)?.clone();
    client.audiences.retain(|audience| *audience == requested || *audience == state.config.issuer);
    Some(())
}
