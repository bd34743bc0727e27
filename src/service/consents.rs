//! The apps that may sign the owner of an account in: what they were allowed, and how to withdraw it.

use std::net::IpAddr;

use crate::{
    crypto::{access_token::AccessClaims, client_registration::reference},
    domain::{
        audit::{Actor, AuditEvent, Entry},
        client::ClientId,
        clock::Timestamp,
        event::Reason,
        session::Session,
    },
    service::error::ServiceError,
    state::{AppState, clients::ClientRegistry},
    store::sql::Consent,
};

/// An app that the owner of an account has signed in to, or has allowed to.
#[derive(Clone, Debug)]
pub struct AuthorizedApp {
    /// The `client_id` that the app sends.
    pub client_id: String,
    /// The app's name; the `client_id` if it has none, or is no longer registered.
    pub name: String,
    /// The consent of the owner; none for an app that does not ask.
    pub consent: Option<Consent>,
    /// The live sessions of the app, oldest first.
    pub sessions: Vec<Session>,
}

impl AuthorizedApp {
    /// When it was used last: by a refresh of one of its sessions, or when the owner consented.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        let used = self.sessions.iter().map(|session| session.last_used_at).max();
        used.or_else(|| self.consent.as_ref().map(|consent| consent.updated_at))
    }
}

/// The consents of the caller, by client.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(state: &AppState, caller: &AccessClaims) -> Result<Vec<Consent>, ServiceError> {
    Ok(state.sql.consents(caller.sub).await?)
}

/// The name of a client by [`Client::id`](crate::domain::client::Client::id), as its users know it: its `client_id` if it has no name, or is
/// no longer registered.
///
/// # Errors
/// [`ServiceError`]
pub async fn client_name(state: &AppState, id: &str) -> Result<String, ServiceError> {
    Ok(state.clients.label(id).await?.name)
}

/// The id of the client with this `client_id`, under which consents and sessions are kept. None for a text that is the id of no client.
pub fn id_of(client_id: &str) -> Option<ClientId> {
    match ClientRegistry::dynamic_source(client_id) {
        Some(source) => Some(reference(source, client_id)),
        None => ClientId::parse(client_id).ok(),
    }
}

/// The apps of the caller's account, by `client_id`: those with a consent or a live session.
///
/// # Errors
/// [`ServiceError`]
pub async fn apps(state: &AppState, caller: &AccessClaims) -> Result<Vec<AuthorizedApp>, ServiceError> {
    let consents = state.sql.consents(caller.sub).await?;
    let sessions = state.redis.sessions.list(caller.sub, state.clock.now()).await?;
    let mut apps: Vec<AuthorizedApp> = Vec::new();
    for consent in consents {
        let client_id = consent.client_id.clone();
        apps.push(AuthorizedApp { name: client_id.clone(), client_id, consent: Some(consent), sessions: Vec::new() });
    }
    for session in sessions {
        let Some(client_id) = session.client.as_ref().map(|client| client.client_id.clone()) else { continue };
        match apps.iter_mut().find(|app| app.client_id == client_id) {
            Some(app) => app.sessions.push(session),
            None => {
                apps.push(AuthorizedApp { name: client_id.clone(), client_id, consent: None, sessions: vec![session] })
            }
        }
    }
    for app in &mut apps {
        let label = state.clients.label(&app.client_id).await?;
        (app.client_id, app.name) = (label.client_id, label.name);
    }
    apps.sort_by(|one, other| one.client_id.cmp(&other.client_id));
    Ok(apps)
}

/// Withdraws the caller's consent to an app, and ends all of the app's sessions. Returns whether there was anything.
///
/// # Errors
/// [`ServiceError`]. Sessions that were not ended yet are still listed.
pub async fn revoke(
    state: &AppState,
    caller: &AccessClaims,
    client: &ClientId,
    ip: Option<IpAddr>,
) -> Result<bool, ServiceError> {
    let now = state.clock.now();
    // First: a code that is exchanged meanwhile is refused, or its session is found below.
    let mut found = state.sql.delete_consent(caller.sub, client, now).await?;
    for session in state.redis.sessions.list(caller.sub, now).await? {
        if session.client.as_ref().is_none_or(|grant| grant.client_id != client.as_str()) {
            continue;
        }
        if state.redis.sessions.revoke(caller.sub, session.id, Reason::Revoked, now).await? {
            found = true;
            let entry = Entry::new(now, AuditEvent::SessionEnded).because(Reason::Revoked.as_str());
            let entry = entry.account(caller.sub).session(session.id).client(client.clone());
            state.audit.record(entry.by(Actor::Account).from(ip));
        }
    }
    Ok(found)
}
