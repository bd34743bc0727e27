//! Caches responses to byte-identical introspection requests, such as those of services that introspect a token on each of
//! their own requests. A hit skips the parsing of the credentials, the form and the token. It rechecks whether the cached
//! decision still holds ([`revalidate`](crate::service::introspect::revalidate)).
//!
//! A miss goes to the endpoint, which alone fills the cache. A hit repeats the endpoint's status, media type and operation
//! id (by which metrics and traces name the request); a test compares the response to a hit with that of the endpoint.

use std::{fmt, sync::Arc};

use futures_util::future::Either;
use hyper::body::Bytes;
use poem::{
    Endpoint, FromRequest, IntoResponse, Request, RequestBody, Response, Result,
    http::{HeaderValue, Method, header},
};
use poem_openapi::OperationId;

use super::{form, introspect};
use crate::{
    crypto::digest_cache::{Digest, DigestCache},
    http::{middleware::body::ReadBody, problem::ProblemError},
    metrics::CacheMetrics,
    service::introspect::{CachedDecision, revalidate},
    state::AppState,
};

type ResponseCache = DigestCache<CachedResponse>;

/// A response, and the decision that must still hold when it is sent again.
struct CachedResponse {
    decision: CachedDecision,
    body: Bytes,
}

/// The cache key of a request, from its `Authorization` header and its body. `None` if it has no such header or several.
fn cache_key(cache: &ResponseCache, request: &Request, body: &[u8]) -> Option<Digest> {
    let mut authorizations = request.headers().get_all(header::AUTHORIZATION).iter();
    let authorization = authorizations.next()?;
    if authorizations.next().is_some() {
        return None;
    }
    Some(cache.digest(&[authorization.as_bytes(), body]))
}

/// The slot in the cache for the response to a request; an argument of the endpoint.
#[derive(Clone)]
pub(super) struct CacheSlot(Option<(Arc<ResponseCache>, Digest)>);

impl CacheSlot {
    /// Whether the response can be cached.
    pub(super) fn is_available(&self) -> bool {
        self.0.is_some()
    }

    /// Caches a response.
    pub(super) fn fill(self, decision: CachedDecision, body: &[u8]) {
        if let Some((cache, key)) = self.0 {
            // a copy without the spare capacity of a serialized response
            cache.insert(key, Arc::new(CachedResponse { decision, body: Bytes::copy_from_slice(body) }));
        }
    }
}

impl<'a> FromRequest<'a> for CacheSlot {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(request.data().cloned().unwrap_or(Self(None)))
    }
}

/// The middleware. Forwards every request that it can't answer from the cache.
pub struct IntrospectionCache<E> {
    inner: E,
    state: Arc<AppState>,
    read_body: ReadBody,
    /// `None` if caching is turned off.
    cache: Option<Arc<ResponseCache>>,
    metrics: CacheMetrics,
}

impl<E> IntrospectionCache<E> {
    /// Wraps `inner`, whose middleware that reads bodies is a clone of `read_body`.
    pub fn new(inner: E, state: Arc<AppState>, read_body: ReadBody) -> Self {
        let capacity = state.config.cache.max_tokens;
        let cache = (capacity > 0).then(|| Arc::new(ResponseCache::new(capacity, &state.entropy)));
        let metrics = CacheMetrics::new("introspections");
        state.metrics.register_boxed(metrics.collector());
        Self { inner, state, read_body, cache, metrics }
    }

    /// Returns the cached response if it still holds. Otherwise gives the request a [`CacheSlot`], which the endpoint may fill.
    async fn cached_response(&self, cache: &Arc<ResponseCache>, request: &mut Request) -> Result<Option<Response>> {
        // an incomplete body is left to the inner layers, which limit how long they wait for it
        let Some(body) = self.read_body.try_read_buffered(request).await? else { return Ok(None) };
        let key = cache_key(cache, request, &body);
        // the endpoint reads the body after a miss
        request.set_body(body);
        let Some(key) = key else { return Ok(None) };
        if let Some(cached) = cache.get(key)
            && revalidate(&self.state, &cached.decision).map_err(ProblemError::from)?
        {
            let mut response: Response = cached.body.clone().into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, introspect::CONTENT_TYPE);
            response.set_data(OperationId(introspect::OPERATION_ID));
            self.metrics.hits.inc();
            return Ok(Some(response));
        }
        self.metrics.misses.inc();
        request.set_data(CacheSlot(Some((Arc::clone(cache), key))));
        Ok(None)
    }
}

impl<E: Endpoint<Output = Response>> IntrospectionCache<E> {
    /// Responds from the cache or from the endpoint.
    async fn introspect(&self, cache: &Arc<ResponseCache>, mut request: Request) -> Result<Response> {
        match self.cached_response(cache, &mut request).await? {
            Some(response) => Ok(response),
            None => Box::pin(self.inner.call(request)).await,
        }
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for IntrospectionCache<E> {
    type Output = Response;

    // Both futures are boxed: they are large, and the callers move them.
    fn call(&self, request: Request) -> impl Future<Output = Result<Response>> + Send {
        match &self.cache {
            Some(cache) if is_introspection(&request) => Either::Left(Box::pin(self.introspect(cache, request))),
            _ => Either::Right(Box::pin(self.inner.call(request))),
        }
    }
}

/// Whether a request may have a cached response.
fn is_introspection(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.uri().path() == introspect::PATH
        && request.uri().query().is_none()
        && request.method() == Method::POST
        && content_type == Some(form::CONTENT_TYPE.as_bytes())
}

impl<E> fmt::Debug for IntrospectionCache<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[introspection cache]")
    }
}
