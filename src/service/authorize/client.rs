//! Finds the client of an authorization request. An operator has registered the client, the client has registered itself, or the
//! `client_id` is the URL of the client's metadata document.

use std::{net::IpAddr, sync::Arc};

use super::error::{AuthorizeError, UntrustedRequest};
use crate::{
    domain::{app_client::is_owned_by_a_server, client::Client, dynamic_client::DynamicSource},
    service::{browser_session::BrowserSession, error::ServiceError, limits},
    state::{
        AppState,
        clients::{ClientRegistry, LoadedClient},
        dynamic_clients::DocumentError,
    },
};

/// The stage of an authorization request.
#[derive(Clone, Copy)]
pub(super) enum RequestStage {
    /// A new request of a browser at this address. A fetch of the client's document counts against the rate limits of the address.
    New(Option<IpAddr>),
    /// A stored request that continues after a page of Latchkey. A fetch is not counted, since the client was found before.
    Continued,
}

/// Finds the enabled client with this id, if responses may go to `redirect_uri`.
pub(super) async fn trusted_client(
    state: &AppState,
    client_id: &str,
    redirect_uri: &str,
    stage: RequestStage,
) -> Result<Arc<Client>, AuthorizeError> {
    let found = match ClientRegistry::dynamic_source(client_id) {
        None => state.clients.find(client_id).await?.ok_or(UntrustedRequest::UnknownClient)?,
        // boxed, because the future of a fetch is large
        Some(source) => Box::pin(find_dynamic(state, client_id, source, stage)).await?,
    };
    if !found.client.app.allows_redirect(redirect_uri) {
        return Err(UntrustedRequest::RedirectUri.into());
    }
    Ok(found.client)
}

/// Whether an operator registered the client, or the user of this browser's session has allowed it.
pub(super) async fn is_known(
    state: &AppState,
    client: &Client,
    browser: Option<&BrowserSession>,
) -> Result<bool, ServiceError> {
    let is_registered_by_operator = client.dynamic.is_none();
    if is_registered_by_operator {
        return Ok(true);
    }
    let Some(browser) = browser else { return Ok(false) };
    let consent = state.sql.consent(browser.session.account, client.id.as_str()).await?;
    Ok(consent.is_some())
}

/// Whether this browser may be redirected to the client without an action of its user. Anyone can publish the metadata of a client, so an
/// unknown client may redirect users to a page of an attacker (RFC 9700, section 4.11.2). A URI without https is
/// allowed: its loopback address or own scheme leads to the user's device.
pub(crate) async fn may_redirect(
    state: &AppState,
    client: &Client,
    uri: &str,
    browser: Option<&BrowserSession>,
) -> Result<bool, ServiceError> {
    if !is_owned_by_a_server(uri) {
        return Ok(true);
    }
    is_known(state, client, browser).await
}

/// Finds a dynamic client (one that no operator has registered), even if no account has allowed it. Other endpoints need that.
async fn find_dynamic(
    state: &AppState,
    client_id: &str,
    source: DynamicSource,
    stage: RequestStage,
) -> Result<LoadedClient, AuthorizeError> {
    if !state.clients.accepts(source) {
        return Err(UntrustedRequest::UnknownClient.into());
    }
    let found = match source {
        // the id itself contains the registration
        DynamicSource::Registration => {
            state.clients.unseal_registration(client_id).ok_or(UntrustedRequest::UnknownClient)?
        }
        DynamicSource::Document => {
            let outcome = match state.clients.cached_document(client_id) {
                Some(outcome) => outcome,
                None => {
                    if let RequestStage::New(ip) = stage {
                        limits::check_client_document(state, ip)?;
                    }
                    state.clients.fetch_document(client_id).await
                }
            };
            outcome.map_err(untrusted_document)?
        }
    };
    if state.clients.is_dynamic_client_disabled(&found.client).await? {
        return Err(UntrustedRequest::UnknownClient.into());
    }
    Ok(found)
}

/// The error for an unusable document, with the end of the sentence that the page shows. The cause of a failed fetch is only in the log:
/// the page must not reveal which hosts the service can reach. `Off` can't occur: [`find_dynamic`] has checked the setting.
fn untrusted_document(error: DocumentError) -> UntrustedRequest {
    UntrustedRequest::ClientDocument(match error {
        DocumentError::Off | DocumentError::Fetch(_) => "it can't be fetched",
        DocumentError::Url(_) => "its address is not allowed",
        DocumentError::Host => "its host is not allowed",
        DocumentError::Json => "it is not valid JSON",
        DocumentError::Metadata(_) => "its content is not valid",
        DocumentError::Keys => "its keys can't be used",
    })
}
