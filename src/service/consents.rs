//! The apps to which the owner of an account signs in: lists them with their consents, and withdraws a consent.

use std::net::IpAddr;

use crate::{
    crypto::{access_token::AccessClaims, client_registration},
    domain::{
        account::{Account, Email},
        audit::{Actor, AuditEntry, AuditEvent},
        client::ClientId,
        clock::Timestamp,
        event::EndReason,
        session::Session,
    },
    service::{error::ServiceError, id_tokens::has_scope},
    state::{AppState, clients::ClientRegistry},
    store::sql::Consent,
};

/// An app that the owner of an account has signed in to or consented to.
#[derive(Clone, Debug)]
pub struct AuthorizedApp {
    /// The `client_id` that the app sends.
    pub client_id: String,
    /// The app's name; the `client_id` if the app has no name or is no longer registered.
    pub name: String,
    /// The consent of the owner; `None` for an app that does not ask for consent.
    pub consent: Option<Consent>,
    /// The live sessions of the app, oldest first.
    pub sessions: Vec<Session>,
    /// The URL at which the app starts a sign-in (OpenID Connect Core 1.0, section 4), if it has one.
    pub open_url: Option<String>,
}

impl AuthorizedApp {
    fn new(client_id: String, consent: Option<Consent>, sessions: Vec<Session>) -> Self {
        Self { name: client_id.clone(), client_id, consent, sessions, open_url: None }
    }

    /// When the app was last used: the last refresh of one of its sessions, or else the time of the consent.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        let used = self.sessions.iter().map(|session| session.last_used_at).max();
        used.or_else(|| self.consent.as_ref().map(|consent| consent.updated_at))
    }

    /// Whether a consent or a session of the app contains the scope `email`.
    fn has_email_scope(&self) -> bool {
        let is_consented =
            self.consent.as_ref().is_some_and(|consent| consent.scope.items().iter().any(|scope| scope == "email"));
        let mut grants = self.sessions.iter().filter_map(|session| session.client.as_ref());
        is_consented || grants.any(|grant| has_scope(&grant.scope, "email"))
    }
}

/// The id under which the consents and sessions of the client with this `client_id` are stored. `None` if no client can have this
/// `client_id`.
pub fn stored_client_id(client_id: &str) -> Option<ClientId> {
    match ClientRegistry::dynamic_source(client_id) {
        Some(source) => Some(client_registration::reference(source, client_id)),
        None => ClientId::parse(client_id).ok(),
    }
}

/// The apps of the caller's account that have a consent or a live session, sorted by `client_id`.
///
/// # Errors
/// [`ServiceError`]
pub async fn apps(state: &AppState, caller: &AccessClaims) -> Result<Vec<AuthorizedApp>, ServiceError> {
    let consents = state.sql.consents(caller.sub).await?;
    let sessions = state.redis.sessions.list(caller.sub, state.clock.now()).await?;
    let mut apps: Vec<AuthorizedApp> = Vec::new();
    for consent in consents {
        let client_id = consent.client_id.clone();
        apps.push(AuthorizedApp::new(client_id, Some(consent), Vec::new()));
    }
    for session in sessions {
        let Some(client_id) = session.client.as_ref().map(|client| client.client_id.clone()) else { continue };
        match apps.iter_mut().find(|app| app.client_id == client_id) {
            Some(app) => app.sessions.push(session),
            None => apps.push(AuthorizedApp::new(client_id, None, vec![session])),
        }
    }
    // loaded once, and only if an app gets the account's e-mail address
    let mut account = None;
    for app in &mut apps {
        // Consents and sessions name a dynamic client by a digest. The label has the `client_id` that the client sends.
        let label = state.clients.label(&app.client_id).await?;
        (app.client_id, app.name) = (label.client_id, label.name);
        let Some(settings) = label.client.as_ref().map(|client| &client.app) else { continue };
        if settings.initiate_login_uri.is_none() {
            continue;
        }
        // The URL contains the e-mail address (`login_hint`), and reaches the app's logs. Only an app with the scope `email` gets the address.
        let gets_email = app.has_email_scope();
        if gets_email && account.is_none() {
            account = state.sql.account(caller.sub).await?;
        }
        let email = if gets_email { account.as_ref().and_then(Account::primary_email) } else { None };
        app.open_url = settings.initiate_login_url(&state.config.issuer, email.map(Email::as_str));
    }
    apps.sort_by(|left, right| left.client_id.cmp(&right.client_id));
    Ok(apps)
}

/// Withdraws the caller's consent to an app, and ends all of the app's sessions. Returns whether there was a consent or a session.
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
    // The consent is deleted first. A code that is exchanged at the same time is then refused, or its session is found below.
    let mut found = state.sql.delete_consent(caller.sub, client, now).await?;
    for session in state.redis.sessions.list(caller.sub, now).await? {
        let belongs_to_app = session.client.as_ref().is_some_and(|grant| grant.client_id == client.as_str());
        if !belongs_to_app {
            continue;
        }
        if state.redis.sessions.revoke(caller.sub, session.id, EndReason::Revoked, now).await? {
            found = true;
            let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(EndReason::Revoked.as_str());
            let entry = entry.account(caller.sub).session(session.id).client(client.clone());
            state.audit.record(entry.actor(Actor::Account).address(ip));
        }
    }
    Ok(found)
}
