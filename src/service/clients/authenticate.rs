//! Authenticates a client by its secret or by a signed assertion (RFC 6749, section 2.3; RFC 7523).

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::{
    crypto::{
        client_assertion::{Assertion, AssertionError},
        client_keys::ClientKeys,
        client_secret,
    },
    domain::{
        app_client::ClientAuthMethod,
        audit::{Actor, AuditEntry, AuditEvent},
        client::Client,
        secret::SecretText,
    },
    fetch::FetchError,
    service::{
        error::{ServiceError, from_store_errors},
        limits,
    },
    state::{AppState, dynamic_clients::DocumentError},
};

/// The endpoints whose URLs the `aud` claim of an assertion may name, beside the issuer.
const AUDIENCE_ENDPOINTS: [&str; 3] = ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"];

/// The credentials of a client.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A client id and a secret.
    Secret {
        /// The client id.
        client_id: String,
        /// The secret.
        secret: SecretText,
        /// Whether the secret was sent in the form, and not by HTTP Basic.
        is_in_form: bool,
    },
    /// A signed JWT (RFC 7523, section 2.2).
    Assertion {
        /// The client id that was sent beside the assertion, if any.
        client_id: Option<String>,
        /// The JWT.
        assertion: SecretText,
    },
}

/// Why a client was not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateClientError {
    /// The client is unknown or disabled, or its credentials are wrong. The log has the cause.
    #[error("the client is unknown or disabled, or its credentials are wrong")]
    Invalid,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(AuthenticateClientError: crate::store::redis::RedisError, crate::state::error::StateError);

/// Authenticates a client.
///
/// # Errors
/// [`AuthenticateClientError`]
pub async fn authenticate(
    state: &AppState,
    credentials: Credentials,
    ip: Option<IpAddr>,
) -> Result<Arc<Client>, AuthenticateClientError> {
    let refuse = |client, why: &str| refuse(state, ip, client, why);
    match credentials {
        Credentials::Secret { client_id, secret, is_in_form } => {
            let presented_hash = client_secret::hash(secret.expose());
            let method = if is_in_form { ClientAuthMethod::SecretPost } else { ClientAuthMethod::SecretBasic };
            match state.clients.find(&client_id).await? {
                Some(found) if !found.client.accepts(method) => {
                    Err(refuse(Some(found.client), "the client is registered with another authentication method"))
                }
                Some(found) if found.client.has_secret(&presented_hash, state.clock.now()) => Ok(found.client),
                Some(found) => Err(refuse(Some(found.client), "the secret is wrong")),
                None => Err(refuse_without_client(state, ip, &client_id)),
            }
        }
        Credentials::Assertion { client_id, assertion } => {
            // Boxed because the future is large, and few requests have an assertion.
            Box::pin(authenticate_by_assertion(state, client_id.as_deref(), assertion.expose(), ip)).await
        }
    }
}

/// Authenticates a client by a signed JWT, and accepts each JWT once. Fetches the client's keys if they are at a `jwks_uri`.
async fn authenticate_by_assertion(
    state: &AppState,
    sent_client_id: Option<&str>,
    assertion: &str,
    ip: Option<IpAddr>,
) -> Result<Arc<Client>, AuthenticateClientError> {
    let refuse = |client, why: &str| refuse(state, ip, client, why);
    let refuse_unreadable = |error: AssertionError| refuse(None, &error.to_string());
    let assertion = Assertion::parse(assertion).map_err(refuse_unreadable)?;
    let client_id = assertion.client_id().map_err(refuse_unreadable)?;
    let found = state.clients.find(client_id).await?;
    let Some(found) = found else { return Err(refuse_without_client(state, ip, client_id)) };
    if sent_client_id.is_some_and(|sent| sent != client_id) {
        return Err(refuse(Some(found.client), "client_id and the assertion name different clients"));
    }
    if !found.client.accepts(ClientAuthMethod::PrivateKeyJwt) {
        return Err(refuse(Some(found.client), "the client is registered with another authentication method"));
    }
    let issuer = &state.config.issuer;
    let mut audiences = vec![issuer.clone()];
    audiences.extend(AUDIENCE_ENDPOINTS.map(|endpoint| format!("{issuer}{endpoint}")));
    let now = state.clock.now();
    let verify = |keys: &ClientKeys| assertion.verify(keys, &audiences, state.config.token.leeway, now);
    // A fetch of the client's keys counts against the limit of the address that causes it.
    if !state.clients.has_keys(&found) {
        limits::check_client_document(state, ip)?;
    }
    let keys = match state.clients.keys(&found).await {
        Ok(keys) => keys,
        // The node is busy with other fetches. This is no failed authentication: the client's credentials may be right.
        Err(error @ DocumentError::Fetch(FetchError::Busy)) => {
            let unavailable = ServiceError::Unavailable {
                dependency: "client's key set",
                retry_after: Duration::from_secs(1),
                source: error.into(),
            };
            return Err(unavailable.into());
        }
        Err(error) => return Err(refuse(Some(Arc::clone(&found.client)), &error.to_string())),
    };
    let verified = match verify(&keys) {
        // The client may have a new key at its `jwks_uri`. Keys that were fetched within the last minute are not fetched again.
        Err(AssertionError::BadSignature) => {
            if !state.clients.has_recent_keys(&found) {
                limits::check_client_document(state, ip)?;
            }
            match state.clients.recent_keys(&found).await {
                Some(recent) => verify(&recent),
                None => Err(AssertionError::BadSignature),
            }
        }
        outcome => outcome,
    };
    let accepted = verified.map_err(|error| refuse(Some(Arc::clone(&found.client)), &error.to_string()))?;
    let ttl = accepted.until.saturating_since(now);
    if state.redis.replay_guard.record_first_use(client_id, &accepted.jti, ttl).await? {
        Ok(found.client)
    } else {
        Err(refuse(Some(found.client), "the assertion was used before"))
    }
}

/// Refuses an authentication for which no enabled client was found.
fn refuse_without_client(state: &AppState, ip: Option<IpAddr>, client_id: &str) -> AuthenticateClientError {
    match state.clients.disabled(client_id) {
        Some(client) => refuse(state, ip, Some(client), "the client is disabled"),
        None => refuse(state, ip, None, "no enabled client has this id"),
    }
}

/// Counts and records a failed authentication, and returns the error for the caller.
fn refuse(state: &AppState, ip: Option<IpAddr>, client: Option<Arc<Client>>, why: &str) -> AuthenticateClientError {
    // Beyond the limit, single failures are not recorded: a flood of them must not fill the audit log.
    if let Err(limited) = limits::count_client_authentication_failure(state, ip) {
        return limited.into();
    }
    let entry = AuditEntry::new(state.clock.now(), AuditEvent::ClientAuthentication).actor(Actor::Anyone).address(ip);
    state.audit.record(match &client {
        Some(client) if !client.is_enabled() => entry.refused("disabled").client(client.id.clone()),
        Some(client) => entry.refused("wrong_credentials").client(client.id.clone()),
        None => entry.refused("unknown_client"),
    });
    match client {
        Some(client) => tracing::warn!(
            client = %client.id,
            reason = why,
            "client authentication failed: the request was refused. Check the credentials of the client; `latchkey audit --event \
             client_authentication` shows the address"
        ),
        None => tracing::info!(
            reason = why,
            "client authentication failed: the request was refused. Its client id is not logged, since it may be a \
             secret that was typed in the wrong place; `latchkey audit --event client_authentication` shows the \
             address"
        ),
    }
    AuthenticateClientError::Invalid
}
