//! Decides authorization requests: an app redirects its user to Latchkey, and receives a code (RFC 6749, section 4.1; OpenID Connect
//! Core 1.0, section 3.1).
//!
//! `/oauth2/authorize` calls [`authorize`]. Its outcome is a response for the client, or a page to show, with the handle of the request.
//! The page gets the handle as its parameter `request`. The page then:
//!
//! 1. calls [`pending`] to learn the client, the request (`login_hint`, `ui_locales`, scopes) and the step that is missing.
//! 2. lets the user complete that step: sign in (`service::browser_session`), confirm the account ([`select_account`]) or consent
//!    ([`consent`]). If the user refuses, the page calls [`deny`] and sends the response to the client, as `/oauth2/authorize` does.
//! 3. sends the browser to `/oauth2/authorize?request=HANDLE`, which checks everything again and shows the next page or responds.
//!
//! A request waits in Redis for at most [`REQUEST_TTL`]. Its handle authorizes nothing: the browser's session decides each step.

mod client;
mod error;
mod issue;
mod validate;

use std::{net::IpAddr, sync::Arc, time::Duration};

use self::client::{RequestStage, is_known};
pub(crate) use client::may_redirect;
pub use error::{AuthorizationError, AuthorizeError, UntrustedRequest};
pub(crate) use issue::{CodePayload, code_binding_digest};
pub use validate::Parameters;
pub(crate) use validate::find_audience;

use crate::{
    crypto::authorization_code::RequestHandle,
    domain::{
        app_client::{ClientKind, is_owned_by_a_server},
        authentication::Acr,
        authorization::{AuthorizationRequest, AuthorizationResponse},
        client::{Client, SpaceSeparated},
        dynamic_client::DynamicClient,
        ids::AccountId,
        session::SessionOrigin,
    },
    service::{browser_session::BrowserSession, error::ServiceError, limits},
    state::AppState,
    store::sql::{AllowedClient, Consent, Permission},
};

/// How long a request waits for its user.
pub const REQUEST_TTL: Duration = Duration::from_mins(10);

/// The step that is missing before a client gets its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizeStep {
    /// The browser has no session: the user has to sign in.
    SignIn,
    /// The authentication of the browser's session is older than the client accepts: the user has to authenticate again.
    Reauthenticate,
    /// The browser's session has a lower authentication level than the client accepts. Contains the required level.
    StepUp(Acr),
    /// The user has to consent to the requested scopes and resources.
    Consent,
    /// The user has to choose the account.
    SelectAccount,
    /// The user has to create an account.
    CreateAccount,
    /// The request cannot succeed: the browser returns to the client with this error response.
    Redirect(AuthorizationResponse),
}

/// A request that waits for its user, and the missing step.
#[derive(Clone, Debug)]
pub struct PendingAuthorization {
    /// The client, whose name and links the page shows.
    pub client: Arc<Client>,
    /// The request.
    pub request: AuthorizationRequest,
    /// The audiences of the client's tokens (RFC 8707), without the issuer.
    pub resources: SpaceSeparated,
    /// The missing step; `None` if no step is missing and the browser can go to `/oauth2/authorize`.
    pub step: Option<AuthorizeStep>,
}

/// The result of a request to `/oauth2/authorize`.
#[derive(Clone, Debug)]
pub enum AuthorizeOutcome {
    /// The response for the client.
    Respond(AuthorizationResponse),
    /// A page to show, and the handle of the request.
    Page {
        /// The missing step; never a redirect.
        step: AuthorizeStep,
        /// The parameter `request` of the page.
        handle: RequestHandle,
        /// The parameter `ui_locales` of the page: the languages that the user chose on an earlier page, or those of the request.
        ui_locales: Option<String>,
    },
}

/// Validates a new request, or resumes a stored one. Returns the response for the client, or the page of the missing step.
///
/// # Errors
/// [`AuthorizeError`]: a response for the client, or a message for the user if the client or its redirect URI can't be trusted.
pub async fn authorize(
    state: &AppState,
    parameters: &Parameters,
    browser: Option<&BrowserSession>,
    origin: &SessionOrigin,
) -> Result<AuthorizeOutcome, AuthorizeError> {
    let (handle, request, client) = match parameters.handle()? {
        Some(handle) => {
            let (request, client) = load(state, &handle).await?;
            (Some(handle), request, client)
        }
        None => {
            limits::check_authorization(state, origin.ip)?;
            let (request, client) = validate::validate(state, parameters, browser, origin.ip).await?;
            (None, request, client)
        }
    };
    match missing_step(state, &request, &client, browser).await? {
        // The request has failed: its response is an error.
        Some(AuthorizeStep::Redirect(response)) => {
            if let Some(handle) = handle {
                state.redis.authorizations.remove_request(handle.digest()).await?;
            }
            if !may_redirect(state, &client, &response.redirect_uri, browser).await? {
                return Err(AuthorizeError::Unconfirmed(Box::new(response)));
            }
            return Ok(AuthorizeOutcome::Respond(response));
        }
        Some(step) => {
            let ui_locales = parameters.ui_locales().or(request.ui_locales.as_deref()).map(str::to_owned);
            let handle = store(state, handle, &request).await?;
            return Ok(AuthorizeOutcome::Page { step, handle, ui_locales });
        }
        None => {}
    }
    // never happens: without a session, the step `SignIn` or `CreateAccount` is missing
    let Some(browser) = browser else { return Err(UntrustedRequest::Expired.into()) };
    // If several tabs return with the same handle, only one of them gets the code.
    if let Some(handle) = &handle
        && !state.redis.authorizations.remove_request(handle.digest()).await?
    {
        return Err(UntrustedRequest::Expired.into());
    }
    let response = issue::issue(state, &request, &client, browser, origin).await?;
    Ok(AuthorizeOutcome::Respond(response))
}

/// Validates a request that was sent by POST and stores it: the browser sends its cookies only with the GET request that follows.
///
/// # Errors
/// [`AuthorizeError`]
pub async fn validate_and_store(
    state: &AppState,
    parameters: &Parameters,
    ip: Option<IpAddr>,
) -> Result<RequestHandle, AuthorizeError> {
    limits::check_authorization(state, ip)?;
    let no_session = None;
    let (request, _) = validate::validate(state, parameters, no_session, ip).await?;
    let new_handle = None;
    store(state, new_handle, &request).await
}

/// Returns the request of a handle, its client, and the step that is missing in this browser.
///
/// # Errors
/// [`AuthorizeError::Untrusted`] if the handle is unknown or has expired
pub async fn pending(
    state: &AppState,
    handle: &RequestHandle,
    browser: Option<&BrowserSession>,
) -> Result<PendingAuthorization, AuthorizeError> {
    let (request, client) = load(state, handle).await?;
    let step = missing_step(state, &request, &client, browser).await?;
    let resources = validate::resources_of(state, &client, &request)?;
    Ok(PendingAuthorization { client, request, resources, step })
}

/// Records that the user continues with the account of the browser's session (`prompt=select_account`).
///
/// # Errors
/// [`AuthorizeError`]
pub async fn select_account(
    state: &AppState,
    handle: &RequestHandle,
    browser: &BrowserSession,
) -> Result<(), AuthorizeError> {
    let (mut request, _) = load(state, handle).await?;
    request.selected = Some(browser.session.id);
    store(state, Some(handle.clone()), &request).await?;
    Ok(())
}

/// Records that the user consents to the request, and stores the consent for the client's later requests.
///
/// # Errors
/// [`AuthorizeError`]
pub async fn consent(state: &AppState, handle: &RequestHandle, browser: &BrowserSession) -> Result<(), AuthorizeError> {
    let (mut request, client) = load(state, handle).await?;
    let scope = scope_of(&request)?;
    let resources = validate::resources_of(state, &client, &request)?;
    let allowed = Permission { scope: &scope, resources: &resources };
    let account = browser.session.account;
    let now = state.clock.now();
    match &client.dynamic {
        None => state.sql.add_consent(account, &client.id, allowed, now).await?,
        Some(dynamic) => allow_dynamic(state, account, &client, dynamic, allowed).await?,
    }
    // A recovery of the account deletes its consents and ends its sessions. If this session has ended, a recovery at the same time may have
    // missed this consent, so it is deleted here (I13: no consent that another person gave survives).
    if state.redis.sessions.find(account, browser.session.id, now).await?.is_none() {
        state.sql.delete_consent(account, &client.id, now).await?;
    }
    request.consented = Some(browser.session.id);
    store(state, Some(handle.clone()), &request).await?;
    Ok(())
}

/// Stores a dynamic client (one that no operator has registered) with the account's consent, so that the other endpoints find it.
async fn allow_dynamic(
    state: &AppState,
    account: AccountId,
    client: &Client,
    dynamic: &DynamicClient,
    permission: Permission<'_>,
) -> Result<(), AuthorizeError> {
    let metadata = serde_json::to_string(&dynamic.metadata).map_err(|error| ServiceError::Internal(error.into()))?;
    let allowed =
        AllowedClient { id: &client.id, client_id: &dynamic.client_id, metadata: &metadata, source: dynamic.source };
    let max = state.config.dynamic_clients.max_per_account;
    // false if the account has allowed the maximum number of dynamic clients
    let is_stored = state.sql.allow_dynamic_client(account, allowed, permission, max, state.clock.now()).await?;
    state.clients.evict(client);
    if is_stored { Ok(()) } else { Err(AuthorizeError::TooManyApps) }
}

/// Ends a request whose user has refused, or can't meet its requirements. Returns the error response for the client.
///
/// # Errors
/// [`AuthorizeError`]
pub async fn deny(
    state: &AppState,
    handle: &RequestHandle,
    error: AuthorizationError,
) -> Result<AuthorizationResponse, AuthorizeError> {
    let (request, _) = load(state, handle).await?;
    state.redis.authorizations.remove_request(handle.digest()).await?;
    Ok(error.response(state, &request))
}

/// Reads the stored request of a handle. The request's client must still be registered with the redirect URI.
async fn load(state: &AppState, handle: &RequestHandle) -> Result<(AuthorizationRequest, Arc<Client>), AuthorizeError> {
    let stored = state.redis.authorizations.request(handle.digest()).await?;
    let stored = stored.ok_or(UntrustedRequest::Expired)?;
    let request: AuthorizationRequest =
        serde_json::from_str(&stored).map_err(|error| ServiceError::Internal(error.into()))?;
    let client =
        client::trusted_client(state, &request.client_id, &request.redirect_uri, RequestStage::Continued).await?;
    Ok((request, client))
}

/// Stores a request under its handle, or under a new one (`None`), until [`REQUEST_TTL`] after the request's creation. Returns the handle.
async fn store(
    state: &AppState,
    handle: Option<RequestHandle>,
    request: &AuthorizationRequest,
) -> Result<RequestHandle, AuthorizeError> {
    let handle = handle.unwrap_or_else(|| RequestHandle::generate(&state.entropy));
    let ttl = (request.created_at + REQUEST_TTL).saturating_since(state.clock.now());
    if ttl.is_zero() {
        return Err(UntrustedRequest::Expired.into());
    }
    let text = serde_json::to_string(request).map_err(|error| ServiceError::Internal(error.into()))?;
    state.redis.authorizations.put_request(handle.digest(), &text, ttl).await?;
    Ok(handle)
}

/// Returns the step that is missing before the client gets its code. With `prompt=none`, returns the error response for the client.
async fn missing_step(
    state: &AppState,
    request: &AuthorizationRequest,
    client: &Client,
    browser: Option<&BrowserSession>,
) -> Result<Option<AuthorizeStep>, ServiceError> {
    let Some(step) = find_missing_step(state, request, client, browser).await? else { return Ok(None) };
    if !request.prompt.none {
        return Ok(Some(step));
    }
    let mut error = match &step {
        AuthorizeStep::Consent => AuthorizationError::ConsentRequired,
        AuthorizeStep::Redirect(_) => AuthorizationError::UnmetAuthenticationRequirements,
        AuthorizeStep::SelectAccount => AuthorizationError::AccountSelectionRequired,
        _ => AuthorizationError::LoginRequired,
    };
    // A dynamic client that the user has not allowed must not learn whether the browser is signed in, and at which level.
    if !is_known(state, client, browser).await? {
        error = AuthorizationError::LoginRequired;
    }
    Ok(Some(AuthorizeStep::Redirect(error.response(state, request))))
}

/// Returns the missing step, without regard to `prompt=none`.
async fn find_missing_step(
    state: &AppState,
    request: &AuthorizationRequest,
    client: &Client,
    browser: Option<&BrowserSession>,
) -> Result<Option<AuthorizeStep>, ServiceError> {
    let prompt = request.prompt;
    let Some(BrowserSession { session, .. }) = browser else {
        return Ok(Some(if prompt.create { AuthorizeStep::CreateAccount } else { AuthorizeStep::SignIn }));
    };
    let now = state.clock.now();
    let authentication = session.authentication.with_step_up(session.step_up, state.config.factors.step_up_ttl, now);
    // whether the user has authenticated since the app sent this request
    let is_fresh = authentication.at >= request.created_at;
    if prompt.create && !is_fresh {
        return Ok(Some(AuthorizeStep::CreateAccount));
    }
    // Another user than the app expects (`id_token_hint`) has signed in. With `prompt=none` the step is `SignIn`, so that the error is
    // `login_required` (OpenID Connect Core 1.0, section 3.1.2.1).
    if request.subject.is_some_and(|subject| subject != session.account) {
        return Ok(Some(if prompt.none { AuthorizeStep::SignIn } else { AuthorizeStep::SelectAccount }));
    }
    if prompt.select_account && !is_fresh && request.selected != Some(session.id) {
        return Ok(Some(AuthorizeStep::SelectAccount));
    }
    let age = now.saturating_since(authentication.at);
    let is_old = request.max_age.is_some_and(|max_age| age > Duration::from_secs(max_age));
    if !is_fresh && (prompt.login || is_old) {
        return Ok(Some(AuthorizeStep::Reauthenticate));
    }
    let is_too_weak = request.acr > authentication.acr.level();
    if is_too_weak && is_fresh {
        // The user has just authenticated, so the account has no factor for the requested level (RFC 9470, section 5).
        let response = AuthorizationError::UnmetAuthenticationRequirements.response(state, request);
        return Ok(Some(AuthorizeStep::Redirect(response)));
    }
    if is_too_weak {
        return Ok(Some(AuthorizeStep::StepUp(Acr::from_level(request.acr))));
    }
    if request.consented == Some(session.id) {
        return Ok(None);
    }
    // No operator has vetted a dynamic client. If another program could pose as the client, the user consents each time.
    let asks_each_time = client.dynamic.is_some() && is_impersonable(client, &request.redirect_uri);
    if prompt.consent || asks_each_time {
        return Ok(Some(AuthorizeStep::Consent));
    }
    if needs_consent(client, &request.redirect_uri) {
        let given = state.sql.consent(session.account, client.id.as_str()).await?;
        let scope = scope_of(request)?;
        let resources = validate::resources_of(state, client, request)?;
        let covers = |given: Consent| given.scope.contains_all(&scope) && given.resources.contains_all(&resources);
        if !given.is_some_and(covers) {
            return Ok(Some(AuthorizeStep::Consent));
        }
    }
    Ok(None)
}

/// Whether any program on the user's device could pose as the client: it is public, and no server owns its redirect URI (RFC 8252,
/// section 8.6).
fn is_impersonable(client: &Client, redirect_uri: &str) -> bool {
    client.kind == ClientKind::Public && !is_owned_by_a_server(redirect_uri)
}

/// Whether the user consents before a client gets a code for this redirect URI.
pub(super) fn needs_consent(client: &Client, redirect_uri: &str) -> bool {
    client.app.asks_consent || is_impersonable(client, redirect_uri)
}

/// The requested scopes. They were validated when the request arrived, so an error is internal.
fn scope_of(request: &AuthorizationRequest) -> Result<SpaceSeparated, ServiceError> {
    SpaceSeparated::from_spaced(&request.scope).map_err(|error| ServiceError::Internal(error.into()))
}
