//! Introspections that are asked again, by the same client in the same words, as services do that ask about a token at each
//! of its requests. What the question says was found out the first time, so none of it is taken apart again; whether the
//! answer still holds is looked at every time ([`service::introspect::revalidate`](crate::service::introspect::again)).
//!
//! What isn't known here goes to the endpoint, and only that puts anything in here. Of its answer the status, the type and
//! the operation's name are repeated here; a test compares the two.

use std::{fmt, sync::Arc};

use poem::{
    Endpoint, FromRequest, IntoResponse, Request, RequestBody, Response, Result,
    http::{HeaderValue, Method, header},
};
use poem_openapi::OperationId;

use super::{form, introspect};
use crate::{
    crypto::digest_cache::{DigestCache, Fingerprint},
    http::{middleware::body::ReadBody, problem::ProblemError},
    metrics::CacheMetrics,
    service::introspect::{CachedDecision, revalidate},
    state::AppState,
};

/// The questions that were answered lately: who asks, and what.
type Asked = DigestCache<CachedDecision>;

/// That of a request to the endpoint, if all that its answer depends on is in one header and the body.
fn question(asked: &Asked, request: &Request, body: &[u8]) -> Option<Fingerprint> {
    let mut authorizations = request.headers().get_all(header::AUTHORIZATION).iter();
    let (authorization, None) = (authorizations.next()?, authorizations.next()) else { return None };
    Some(asked.fingerprint(&[authorization.as_bytes(), body]))
}

/// The endpoint's argument: what it answers with can be kept for the next time it is asked the same.
#[derive(Clone)]
pub(super) struct CacheSlot(Option<(Arc<Asked>, Fingerprint)>);

impl CacheSlot {
    /// Whether it can.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// This is what the answer rests on.
    pub(super) fn remember(self, answered: impl FnOnce() -> CachedDecision) {
        if let Some((asked, question)) = self.0 {
            asked.insert(question, Arc::new(answered()));
        }
    }
}

impl<'a> FromRequest<'a> for CacheSlot {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(request.data().cloned().unwrap_or(Self(None)))
    }
}

/// Stands before everything that is served, and lets by whatever it doesn't know.
pub struct IntrospectionCache<E> {
    inner: E,
    state: Arc<AppState>,
    read: ReadBody,
    /// None where nothing is to be remembered.
    asked: Option<Arc<Asked>>,
    metrics: CacheMetrics,
}

impl<E> IntrospectionCache<E> {
    /// Before `inner`, which reads bodies as `read` does.
    pub fn new(inner: E, state: Arc<AppState>, read: ReadBody) -> Self {
        let most = state.config.cache.max_tokens;
        let asked = (most > 0).then(|| Arc::new(Asked::new(most, &state.entropy)));
        let metrics = CacheMetrics::new("introspections");
        state.metrics.register_boxed(metrics.collector());
        Self { inner, state, read, asked, metrics }
    }

    /// The answer, if it is known; else the request is made ready for the endpoint.
    async fn answer(&self, asked: &Arc<Asked>, request: &mut Request) -> Result<Option<Response>> {
        // one that has to be waited for is waited for where all others are
        let Some(body) = self.read.try_read_buffered(request).await? else { return Ok(None) };
        let question = question(asked, request, &body);
        request.set_body(body);
        let Some(question) = question else { return Ok(None) };
        if let Some(answered) = asked.get(question)
            && let Some(told) = revalidate(&self.state, &answered).map_err(ProblemError::from)?
        {
            let mut response: Response = told.into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, introspect::CONTENT_TYPE);
            response.set_data(OperationId(introspect::OPERATION_ID));
            self.metrics.hits.inc();
            return Ok(Some(response));
        }
        self.metrics.misses.inc();
        request.set_data(CacheSlot(Some((Arc::clone(asked), question))));
        Ok(None)
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for IntrospectionCache<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let asks = request.uri().path() == introspect::PATH
            && request.uri().query().is_none()
            && request.method() == Method::POST
            && request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes)
                == Some(form::CONTENT_TYPE.as_bytes());
        if asks
            && let Some(asked) = &self.asked
            && let Some(answer) = self.answer(asked, &mut request).await?
        {
            return Ok(answer);
        }
        // boxed, as in timeout.rs
        Box::pin(self.inner.call(request)).await
    }
}

impl<E> fmt::Debug for IntrospectionCache<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[introspections that were asked before]")
    }
}
