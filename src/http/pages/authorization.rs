//! The authorization request that a sign-in belongs to: its client, its pages, and the URL at which it continues.

use poem::{Response, Result, handler};

use super::{
    form::Form,
    provider::{form_post, unconfirmed_page},
    respond::issuer_path,
    visit::Visit,
};
use crate::{
    crypto::authorization_code::RequestHandle,
    domain::{
        app_client::is_owned_by_a_server,
        authorization::{AuthorizationResponse, ResponseMode},
    },
    http::problem::{Code, ProblemError},
    pages::views::{ClientView, Consent, ScopeView, SelectAccount},
    service::authorize::{self, AuthorizationError, AuthorizeError, AuthorizeStep, PendingAuthorization},
};

/// The authorization request of a visit.
pub(super) struct Authorization {
    /// The handle of the request.
    pub(super) handle: RequestHandle,
    /// The request, its client and the missing step.
    pub(super) pending: PendingAuthorization,
}

impl Authorization {
    /// The request of a visit, if it has one.
    ///
    /// # Errors
    /// [`Code::RequestExpired`]
    pub(super) async fn of(visit: &Visit) -> Result<Option<Self>, ProblemError> {
        let Some(text) = &visit.request else { return Ok(None) };
        let handle = RequestHandle::parse(text).ok_or_else(expired)?;
        let pending = authorize::pending(&visit.state, &handle, visit.browser.session.as_ref()).await;
        let pending = pending.map_err(refused)?;
        Ok(Some(Self { handle, pending }))
    }

    /// The client, as pages show it.
    pub(super) fn client(&self) -> ClientView {
        let client = &self.pending.client;
        ClientView { name: client.display_name().to_owned(), host: host(&self.pending.request.redirect_uri) }
    }
}

/// The host of a redirect URI. Without a host, the scheme, which names an app on the user's device.
pub(super) fn host(redirect_uri: &str) -> String {
    let Ok(url) = url::Url::parse(redirect_uri) else { return String::new() };
    url.host_str().unwrap_or_else(|| url.scheme()).to_owned()
}

fn expired() -> ProblemError {
    ProblemError::new(Code::RequestExpired, "The sign-in took too long, or was finished before.")
}

fn refused(error: AuthorizeError) -> ProblemError {
    match error {
        // the waiting request has expired or was finished, or its client has changed meanwhile
        AuthorizeError::Untrusted(_) | AuthorizeError::Refused(_) | AuthorizeError::Unconfirmed(_) => expired(),
        AuthorizeError::TooManyApps => {
            ProblemError::new(Code::TooManyApps, "The account allows too many apps that no operator has registered.")
        }
        AuthorizeError::Service(error) => error.into(),
    }
}

/// The URL at which the browser continues after a complete sign-in: the authorization request, or a page of the account.
pub(super) fn continuation_url(visit: &Visit) -> String {
    let base = issuer_path(visit);
    match &visit.request {
        Some(request) => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("request", request);
            if let Some(locales) = visit.ui_locales() {
                query.append_pair("ui_locales", locales);
            }
            format!("{base}/oauth2/authorize?{}", query.finish())
        }
        None => format!("{base}{}{}", super::PREFIX, visit.next()),
    }
}

/// `GET /account/consent`
#[handler]
pub(super) async fn show_consent(mut visit: Visit) -> Result<Response> {
    let (Some(authorization), Some(_)) = (Authorization::of(&visit).await?, &visit.browser.session) else {
        return Ok(visit.reply().redirect_to_page("/sign-in"));
    };
    if authorization.pending.step != Some(AuthorizeStep::Consent) {
        return Ok(visit.reply().redirect_to(&continuation_url(&visit)));
    }
    // sets the name of the account, which the page shows
    super::account::load_owner_identifier(&mut visit).await?;
    // `any_target`: the answer to the form may redirect to the client
    visit.reply().any_target().page(&consent_view(&authorization))
}

fn consent_view(authorization: &Authorization) -> Consent {
    let PendingAuthorization { client, request, resources, .. } = &authorization.pending;
    Consent {
        client: authorization.client(),
        scopes: request.scope.split(' ').filter(|scope| !scope.is_empty()).map(ScopeView::new).collect(),
        is_registered: client.dynamic.is_none(),
        publisher: client.dynamic.as_ref().and_then(|dynamic| dynamic.host()),
        is_on_device: !is_owned_by_a_server(&request.redirect_uri),
        resources: resources.items().to_vec(),
    }
}

/// `POST /account/consent`
#[handler]
pub(super) async fn consent(mut visit: Visit, mut form: Form) -> Result<Response> {
    let decision = form.text("decision");
    visit.check_csrf(&mut form)?;
    let (Some(authorization), Some(browser)) = (Authorization::of(&visit).await?, &visit.browser.session) else {
        return Ok(visit.reply().redirect_to_page("/sign-in"));
    };
    if decision == "allow" {
        let consented = authorize::consent(&visit.state, &authorization.handle, browser).await.map_err(refused);
        return match consented {
            Ok(()) => Ok(visit.reply().redirect_to(&continuation_url(&visit))),
            Err(problem) if problem.code == Code::TooManyApps => {
                // sets the name of the account, which the page shows
                super::account::load_owner_identifier(&mut visit).await?;
                let view = consent_view(&authorization);
                visit.reply().any_target().error(&problem).page(&view)
            }
            Err(problem) => Err(problem.into()),
        };
    }
    let denied = authorize::deny(&visit.state, &authorization.handle, AuthorizationError::AccessDenied).await;
    let denied = denied.map_err(refused)?;
    let client = &authorization.pending.client;
    // the redirect URI of an unknown client may lead to an attacker's page
    let may_redirect = authorize::may_redirect(&visit.state, client, &denied.redirect_uri, Some(browser)).await;
    let may_redirect = may_redirect.map_err(ProblemError::from)?;
    if may_redirect { send(&visit, &denied) } else { unconfirmed_page(&visit, &denied) }
}

/// Sends a response to the client, by the response mode that it has requested.
fn send(visit: &Visit, response: &AuthorizationResponse) -> Result<Response> {
    Ok(match response.mode {
        ResponseMode::Query => visit.reply().redirect_to(&response.to_url()),
        ResponseMode::FormPost => form_post(visit, response)?,
    })
}

/// `GET /account/select-account`
#[handler]
pub(super) async fn show_select_account(mut visit: Visit) -> Result<Response> {
    let (Some(authorization), Some(_)) = (Authorization::of(&visit).await?, &visit.browser.session) else {
        return Ok(visit.reply().redirect_to_page("/sign-in"));
    };
    let current = super::account::load_owner_identifier(&mut visit).await?;
    let view = SelectAccount { client: Some(authorization.client()), current };
    visit.reply().any_target().page(&view)
}

/// `POST /account/select-account`
#[handler]
pub(super) async fn select_account(visit: Visit, mut form: Form) -> Result<Response> {
    let choice = form.text("choice");
    visit.check_csrf(&mut form)?;
    let (Some(authorization), Some(browser)) = (Authorization::of(&visit).await?, &visit.browser.session) else {
        return Ok(visit.reply().redirect_to_page("/sign-in"));
    };
    if choice == "current" {
        authorize::select_account(&visit.state, &authorization.handle, browser).await.map_err(refused)?;
        return Ok(visit.reply().redirect_to(&continuation_url(&visit)));
    }
    // `again`: the page asks for a sign-in although the browser has a session
    Ok(visit.reply().redirect_to_page("/sign-in?again=1"))
}
