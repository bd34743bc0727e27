//! The HTTP API. The table at [`endpoint`] lists every route.

use std::{collections::HashMap, sync::Arc};

use poem::{
    Endpoint, EndpointExt, IntoEndpoint, IntoResponse, Request, Response, Result, Route, endpoint::BoxEndpoint,
    http::Method,
};
use poem_openapi::{OpenApi, OpenApiService};

use crate::state::AppState;

pub mod api;
pub mod cookie;
pub mod extract;
mod feed_connection;
pub mod metrics;
pub mod middleware;
pub mod oauth;
pub mod openapi;
mod pages;
pub mod paths;
pub mod problem;
pub mod raw_json;
pub mod shutdown;
pub mod takeover;
pub mod types;

use api::{
    account::AccountApi, app_metadata::AppMetadataApi, consents::ConsentsApi, devices::DevicesApi,
    email_login::EmailLoginApi, emails::EmailsApi, enrolment::EnrolmentApi, export::ExportApi, factors::FactorsApi,
    health::HealthApi, invitation::InvitationApi, keys::KeysApi, login::LoginApi, me::MeApi, metadata::MetadataApi,
    passkey_login::PasskeyLoginApi, passkeys::PasskeysApi, reauthentication::ReauthenticationApi,
    recovery::RecoveryApi, revocations::RevocationsApi, second_factor::SecondFactorApi, session::SessionApi,
    support::SupportApi, totp::TotpApi, verify::VerifyApi,
};
use extract::client_info;
use middleware::{body, concurrency_limit, cors, request_context, timeout};
use oauth::{AuthorizeApi, EndSessionApi, IntrospectApi, RegisterApi, RevokeApi, TokenApi, UserInfoApi};
use openapi::{Document, Limits, pages as documentation};
pub use pages::PATHS as PAGE_PATHS;
use paths::Paths;

/// Builds the endpoint that serves all routes:
///
/// | path | module |
/// | --- | --- |
/// | `/v1/users`, `/v1/me/password` | [`api::account`] |
/// | `/v1/me` | [`api::me`] |
/// | `/v1/me/email`, `/v1/me/emails`, `/v1/me/emails/{id}`, `/v1/me/emails/{id}/primary` | [`api::emails`] |
/// | `/v1/me/export` | [`api::export`] |
/// | `/v1/email/verification`, `/v1/email/verify`, `/v1/email/undo`, `/v1/password/forgot`, `/v1/password/reset`, `/v1/account/secure` | [`api::recovery`] |
/// | `/v1/login/code`, `/v1/login/code/verify` | [`api::email_login`] |
/// | `/v1/login/second-factor`, `/v1/login/second-factor/code` | [`api::second_factor`] |
/// | `/v1/login/enrolment/totp`, `/v1/login/enrolment/passkey` | [`api::enrolment`] |
/// | `/v1/me/factors`, `/v1/me/factors/email-code`, `/v1/me/recovery-codes` | [`api::factors`] |
/// | `/v1/me/factors/totp` | [`api::totp`] |
/// | `/v1/users/factors/reset`, `/v1/users/emails/remove` | [`api::support`] |
/// | `/v1/me/devices`, `/v1/me/devices/{id}` | [`api::devices`] |
/// | `/v1/users/invite`, `/v1/users/reset` | [`api::invitation`] |
/// | `/v1/users/{id}/app-metadata` | [`api::app_metadata`] |
/// | `/v1/login`, `/v1/refresh`, `/v1/logout` | [`api::login`] |
/// | `/v1/me/reauthenticate` | [`api::reauthentication`] |
/// | `/v1/me/passkeys` | [`api::passkeys`] |
/// | `/v1/login/passkey`, `/.well-known/webauthn` | [`api::passkey_login`] |
/// | `/v1/sessions`, `/v1/sessions/{id}` | [`api::session`] |
/// | `/.well-known/jwks.json` | [`api::keys`] |
/// | `/.well-known/oauth-authorization-server`, `/.well-known/openid-configuration` | [`api::metadata`] |
/// | `/v1/revocations` | [`api::revocations`] |
/// | `/v1/verify` | [`api::verify`] |
/// | `/v1/me/consents`, `/v1/me/consents/{client_id}` | [`api::consents`] |
/// | `/oauth2/authorize`, `/oauth2/userinfo`, `/oauth2/logout` | [`oauth`] |
/// | `/oauth2/token`, `/oauth2/introspect`, `/oauth2/revoke`, `/oauth2/register` | [`oauth`] |
/// | `/livez`, `/readyz` | [`api::health`] |
/// | `/account`, `/account/…` | `pages` |
/// | `/docs`, `/openapi.json`, `/openapi.yaml` | [`openapi::pages`] |
///
/// A request passes these layers, outermost first: [`request_context`], [`oauth::IntrospectionCache`], [`body`],
/// [`concurrency_limit`], [`timeout`].
pub fn endpoint(state: Arc<AppState>) -> impl Endpoint<Output = Response> + 'static {
    let service = service();
    let paths = Arc::new(Paths::of(&service));
    let http = &state.config.http;
    let documentation = http.docs.then(|| documentation::routes(Limits::of(&state.config)));
    let pages = state.pages.is_some().then(|| pages::endpoint().boxed());
    let mut frequent = HashMap::new();
    (LoginApi, IntrospectApi).add_routes(&mut frequent);
    let read_body = body::ReadBody::new(http);
    state.metrics.register(read_body.pending().metrics().clone());
    // the layers, innermost first
    let routes = Routes { documentation, pages, frequent, api: service.into_endpoint() }
        .data(Arc::clone(&state))
        .with(timeout::RequestTimeout::new(http.request_timeout))
        // Inside `read_body`: a request counts only after its body has arrived.
        .with(concurrency_limit::ConcurrencyLimit::new(http.max_requests))
        .with(read_body.clone())
        .map_to_response();
    let inner = oauth::IntrospectionCache::new(routes, Arc::clone(&state), read_body);
    let cors = cors::Cors::new(&state.config);
    request_context::RequestContext { inner, cors, paths, state }
}

/// The API, the pages and the documentation. A lookup in Poem's nested routes costs as much as a small handler, so the most frequent
/// calls are looked up by path and method first.
struct Routes<A> {
    /// `None` if `http.docs` is off.
    documentation: Option<Route>,
    /// `None` if `pages.enabled` is off.
    pages: Option<BoxEndpoint<'static>>,
    /// The most frequent calls, by path and method. Their paths have no parameters, so exact lookups find them.
    frequent: HashMap<String, HashMap<Method, BoxEndpoint<'static>>>,
    api: A,
}

impl<A: Endpoint> Endpoint for Routes<A> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let path = request.uri().path();
        let frequent = self.frequent.get(path).and_then(|methods| methods.get(request.method()));
        if let Some(endpoint) = frequent {
            return Ok(client_info::move_device_token_to_cookie(endpoint.call(request).await?));
        }
        if documentation::PATHS.contains(&path)
            && let Some(documentation) = &self.documentation
        {
            return Ok(documentation.call(request).await?.into_response());
        }
        if pages::is_page(path)
            && let Some(pages) = &self.pages
        {
            return pages.call(request).await;
        }
        // An API route has one exact path. Proxies call `/v1/verify`, and clients the metadata, at longer paths too.
        api::verify::normalize(&mut request);
        api::metadata::strip_issuer_path(&mut request);
        Ok(client_info::move_device_token_to_cookie(self.api.call(request).await?.into_response()))
    }
}

/// Renders the OpenAPI document with these configured limits. Needs no running service.
pub fn document(limits: &Limits) -> Document {
    Document::new(&service(), limits)
}

/// Combines the APIs of all endpoint groups.
fn service() -> OpenApiService<impl OpenApi, ()> {
    // Nested tuples, because poem-openapi combines at most sixteen APIs in one tuple.
    let sign_in = (LoginApi, EmailLoginApi, PasskeyLoginApi, SecondFactorApi, EnrolmentApi);
    let account = (
        AccountApi,
        MeApi,
        EmailsApi,
        ExportApi,
        ReauthenticationApi,
        RecoveryApi,
        InvitationApi,
        SupportApi,
        FactorsApi,
        TotpApi,
        DevicesApi,
        PasskeysApi,
        AppMetadataApi,
        ConsentsApi,
        SessionApi,
    );
    let services = (MetadataApi, KeysApi, VerifyApi, RevocationsApi);
    let oauth = (AuthorizeApi, TokenApi, UserInfoApi, EndSessionApi, IntrospectApi, RevokeApi, RegisterApi);
    openapi::service((sign_in, account, services, oauth, HealthApi))
}
