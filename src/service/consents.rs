//! What the owner of an account has permitted apps: listed and withdrawn.

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::client::ClientId,
    service::{error::ServiceError, sessions},
    state::AppState,
    store::sql::Consent,
};

/// What the caller has permitted, by client.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(state: &AppState, caller: &AccessClaims) -> Result<Vec<Consent>, ServiceError> {
    Ok(state.sql.consents(caller.sub).await?)
}

/// The name of a client, as its users know it: its id if it has no name, or is no longer registered.
///
/// # Errors
/// [`ServiceError`]
pub async fn client_name(state: &AppState, client_id: &str) -> Result<String, ServiceError> {
    let found = state.clients.find(client_id).await?;
    Ok(found.and_then(|found| found.client.app.name.clone()).unwrap_or_else(|| client_id.to_owned()))
}

/// Withdraws what the caller has permitted a client, and ends the client's sessions of the account. Returns whether there was
/// anything.
///
/// # Errors
/// [`ServiceError`]. Sessions that were not ended yet are still listed.
pub async fn revoke(
    state: &AppState,
    caller: &AccessClaims,
    client: &ClientId,
    ip: Option<IpAddr>,
) -> Result<bool, ServiceError> {
    let mut found = state.sql.delete_consent(caller.sub, client, state.clock.now()).await?;
    for session in sessions::list(state, caller).await? {
        if session.client.as_ref().is_some_and(|grant| grant.client_id == client.as_str()) {
            found |= sessions::revoke(state, caller, session.id, ip).await?;
        }
    }
    Ok(found)
}
