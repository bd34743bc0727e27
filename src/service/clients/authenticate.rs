//! A service client shows who it is: by its secret, or by what it signed with its key (RFC 6749, section 2.3; RFC 7523).

use std::{net::IpAddr, sync::Arc};

use crate::{
    crypto::{
        client_assertion::{Assertion, AssertionError},
        client_secret,
    },
    domain::{
        audit::{Actor, AuditEvent, Entry},
        client::Client,
        secret::SecretText,
    },
    service::error::ServiceError,
    state::AppState,
};

/// The endpoints that an assertion may be meant for, beside the issuer itself.
const ENDPOINTS: [&str; 3] = ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"];

/// What a client shows.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Its name and its secret.
    Secret {
        /// Its name.
        client_id: String,
        /// Its secret.
        secret: SecretText,
    },
    /// A signed JWT (RFC 7523, section 2.2).
    Assertion {
        /// The name that was sent beside it, if one was.
        client_id: Option<String>,
        /// The JWT.
        assertion: SecretText,
    },
}

/// Why a client isn't believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateClientError {
    /// There is no such client, it is disabled, or it showed something wrong; the log says what.
    #[error("the client is not known, disabled, or its credentials are wrong")]
    Invalid,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// The client that these credentials are of.
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
        Credentials::Secret { client_id, secret } => {
            let presented = client_secret::hash(secret.expose());
            let known = state.clients.find(&client_id).await.map_err(ServiceError::from)?;
            match known {
                Some(known) if known.client.has_secret(&presented, state.clock.now()) => Ok(known.client),
                known => Err(refuse(known.map(|known| known.client), "its secret is wrong")),
            }
        }
        Credentials::Assertion { client_id, assertion } => {
            Box::pin(by_assertion(state, client_id.as_deref(), assertion.expose(), ip)).await
        }
    }
}

async fn by_assertion(
    state: &AppState,
    client_id: Option<&str>,
    assertion: &str,
    ip: Option<IpAddr>,
) -> Result<Arc<Client>, AuthenticateClientError> {
    let refuse = |client, why: &str| refuse(state, ip, client, why);
    let invalid = |error: AssertionError| refuse(None, &error.to_string());
    let assertion = Assertion::parse(assertion).map_err(invalid)?;
    let name = assertion.client_id().map_err(invalid)?;
    if client_id.is_some_and(|sent| sent != name) {
        return Err(refuse(None, "its client_id and its assertion differ"));
    }
    let Some(known) = state.clients.find(name).await.map_err(ServiceError::from)? else { return Err(refuse(None, "")) };
    let issuer = &state.config.issuer;
    let mut audiences = vec![issuer.clone()];
    audiences.extend(ENDPOINTS.map(|endpoint| format!("{issuer}{endpoint}")));
    let now = state.clock.now();
    let accepted = assertion
        .verify(&known.keys, &audiences, state.config.token.leeway, now)
        .map_err(|error| refuse(Some(Arc::clone(&known.client)), &error.to_string()))?;
    let ttl = accepted.until.saturating_since(now);
    if state.redis.replay_guard.first_use(name, &accepted.jti, ttl).await.map_err(ServiceError::from)? {
        Ok(known.client)
    } else {
        Err(refuse(Some(known.client), "its assertion was used before"))
    }
}

fn refuse(state: &AppState, ip: Option<IpAddr>, client: Option<Arc<Client>>, why: &str) -> AuthenticateClientError {
    let entry = Entry::new(state.clock.now(), AuditEvent::ClientAuthentication).by(Actor::Anyone).from(ip);
    state.audit.record(match &client {
        Some(client) => entry.refused("wrong_credentials").client(client.id.clone()),
        None => entry.refused("unknown_client"),
    });
    match client {
        Some(client) => tracing::warn!(client = %client.id, why, "a service client was refused"),
        // of a name that may be anything, nothing is told
        None => tracing::info!(why, "a service client was refused that isn't known, or is disabled"),
    }
    AuthenticateClientError::Invalid
}
