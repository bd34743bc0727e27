//! The service over HTTP. Every route is on this page.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use hyper::body::Bytes;
use poem::{
    Endpoint, EndpointExt, IntoEndpoint, IntoResponse, Request, Response, Result, Route,
    endpoint::{BoxEndpoint, make_sync},
    get,
    http::Method,
    web::Redirect,
};
use poem_openapi::{OpenApi, OpenApiService};

use crate::state::AppState;

pub mod api;
pub mod cookie;
pub mod extract;
pub mod metrics;
pub mod middleware;
pub mod oauth;
pub mod openapi;
pub mod paths;
pub mod problem;
pub mod raw_json;
pub mod shutdown;
pub mod types;

use api::{
    account::AccountApi, health::HealthApi, keys::KeysApi, login::SigningInApi, metadata::MetadataApi,
    revocations::RevocationsApi, session::SessionApi, verify::VerifyApi,
};
use extract::client_info;
use middleware::{body, concurrency_limit, cors, request_context, timeout};
use oauth::{IntrospectApi, RevokeApi, TokenApi};
use openapi::Document;
use paths::Paths;

/// The pages beside the API.
pub(crate) const PAGES: [&str; 4] = ["/", "/docs", "/openapi.json", "/openapi.yaml"];

/// Everything that is served:
///
/// | path | what |
/// | --- | --- |
/// | `/v1/users`, `/v1/me`, `/v1/me/password` | [`api::account`] |
/// | `/v1/login`, `/v1/refresh`, `/v1/logout` | [`api::login`] |
/// | `/v1/sessions`, `/v1/sessions/{id}` | [`api::session`] |
/// | `/.well-known/jwks.json` | [`api::keys`] |
/// | `/.well-known/oauth-authorization-server`, `/.well-known/openid-configuration` | [`api::metadata`] |
/// | `/v1/revocations` | [`api::revocations`] |
/// | `/v1/verify` | [`api::verify`] |
/// | `/oauth2/token`, `/oauth2/introspect`, `/oauth2/revoke` | [`oauth`] |
/// | `/livez`, `/readyz` | [`api::health`] |
/// | `/docs`, `/openapi.json`, `/openapi.yaml` | [`openapi`] |
pub fn endpoint(state: Arc<AppState>) -> impl Endpoint<Output = Response> + 'static {
    let service = service();
    let paths = Arc::new(Paths::of(&service));
    let http = &state.config.http;
    let pages = Route::new()
        .at("/docs", page(|document| &document.html, "text/html; charset=utf-8"))
        .at("/openapi.json", page(|document| &document.json, "application/json"))
        .at("/openapi.yaml", page(|document| &document.yaml, "application/yaml"))
        .at("/", get(make_sync(|_| Redirect::see_other("/docs"))));
    let mut often = HashMap::new();
    (SigningInApi, IntrospectApi).add_routes(&mut often);
    let read = body::ReadBody::new(http.max_body_bytes, http.body_timeout);
    let routes = Routes { pages, often, api: service.into_endpoint() }
        .data(Arc::clone(&state))
        .with(read)
        .with(timeout::RequestTimeout::new(http.request_timeout))
        .with(concurrency_limit::ConcurrencyLimit::new(http.max_requests))
        .map_to_response();
    let inner = oauth::IntrospectionCache::new(routes, Arc::clone(&state), read);
    let cors = cors::Cors::new(&state.config);
    request_context::RequestContext { inner, entropy: state.entropy.clone(), cors, paths, state }
}

/// The API, and the pages beside it. Each route more on the way, as nesting would have it, costs as much as a small handler;
/// so what is called most often is found by its path and method at once.
struct Routes<P, A> {
    pages: P,
    /// Calls without parameters in their paths and queries.
    often: HashMap<String, HashMap<Method, BoxEndpoint<'static>>>,
    api: A,
}

impl<P: Endpoint, A: Endpoint> Endpoint for Routes<P, A> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        if let Some(endpoint) = self.often.get(request.uri().path()).and_then(|methods| methods.get(request.method())) {
            return Ok(client_info::keep_device(endpoint.call(request).await?));
        }
        if PAGES.contains(&request.uri().path()) {
            return Ok(self.pages.call(request).await?.into_response());
        }
        api::verify::normalise(&mut request);
        api::metadata::normalise(&mut request);
        Ok(client_info::keep_device(self.api.call(request).await?.into_response()))
    }
}

/// The API document as the service serves it, without the service.
pub fn document() -> Document {
    Document::new(&service())
}

fn service() -> OpenApiService<impl OpenApi, ()> {
    openapi::service((
        SigningInApi,
        AccountApi,
        SessionApi,
        MetadataApi,
        KeysApi,
        VerifyApi,
        RevocationsApi,
        TokenApi,
        IntrospectApi,
        RevokeApi,
        HealthApi,
    ))
}

/// The document, made when somebody first asks for it: that takes more memory than all else before.
static DOCUMENT: LazyLock<Document> = LazyLock::new(document);

/// A page of the document, which never changes while the service runs.
fn page(text: fn(&Document) -> &str, content_type: &'static str) -> impl Endpoint + 'static {
    let body = move || Bytes::from_static(text(&DOCUMENT).as_bytes());
    get(make_sync(move |_| Response::builder().content_type(content_type).body(body())))
}
