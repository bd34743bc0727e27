//! Introspections that are asked again, by the same client in the same words, as services do that ask about a token at each
//! of its requests. What the question says was found out the first time, so none of it is taken apart again; whether the
//! answer still holds is looked at every time ([`flow::introspect::again`](crate::flow::introspect::again)).
//!
//! What isn't known here goes to the endpoint, and only that puts anything in here. Of its answer the status, the type and
//! the operation's name are repeated here; a test compares the two.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use poem::{
    Endpoint, FromRequest, IntoResponse, Request, RequestBody, Response, Result,
    http::{HeaderValue, Method, header},
};
use poem_openapi::OperationId;

use super::{form, introspect};
use crate::{
    app::App,
    domain::{
        bounded_map::{AsRandom, BoundedMap},
        entropy::Entropy,
    },
    flow::introspect::{Answered, again},
    http::{body::ReadBody, problem::ProblemError},
    metrics::CacheMetrics,
};

/// Into how many parts the questions are dealt, each with a lock of its own.
const PARTS: usize = 16;

/// A salted SHA-256 of who asks and of what: neither a client's secret nor a token is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Question([u8; 32]);

impl Question {
    fn part(self) -> usize {
        usize::from(self.0[0]) % PARTS
    }
}

type Part = BoundedMap<Question, Arc<Answered>, AsRandom>;

/// The questions that were answered lately.
struct Asked {
    parts: Vec<Mutex<Part>>,
    /// What every digest begins with, so that nobody can choose which questions come to lie together.
    salt: [u8; 32],
}

impl Asked {
    fn new(most: usize, entropy: &Entropy) -> Self {
        let part = || Mutex::new(BoundedMap::new(most / PARTS));
        Self { parts: std::iter::repeat_with(part).take(PARTS).collect(), salt: entropy.bytes() }
    }

    /// That of a request to the endpoint, if all that its answer depends on is in one header and the body.
    fn question(&self, request: &Request, body: &[u8]) -> Option<Question> {
        let mut authorizations = request.headers().get_all(header::AUTHORIZATION).iter();
        let (authorization, None) = (authorizations.next()?, authorizations.next()) else { return None };
        let mut digest = Context::new(&SHA256);
        digest.update(&self.salt);
        digest.update(&authorization.len().to_be_bytes());
        digest.update(authorization.as_bytes());
        digest.update(body);
        digest.finish().as_ref().try_into().ok().map(Question)
    }

    fn answered(&self, question: Question) -> Option<Arc<Answered>> {
        let part = &self.parts[question.part()];
        part.lock().unwrap_or_else(PoisonError::into_inner).get(&question).map(Arc::clone)
    }

    fn remember(&self, question: Question, answered: Answered) {
        let part = &self.parts[question.part()];
        part.lock().unwrap_or_else(PoisonError::into_inner).insert(question, Arc::new(answered));
    }
}

/// The endpoint's argument: what it answers with can be kept for the next time it is asked the same.
#[derive(Clone)]
pub(super) struct NextTime(Option<(Arc<Asked>, Question)>);

impl NextTime {
    /// Whether it can.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// This is what the answer rests on.
    pub(super) fn remember(self, answered: impl FnOnce() -> Answered) {
        if let Some((asked, question)) = self.0 {
            asked.remember(question, answered());
        }
    }
}

impl<'a> FromRequest<'a> for NextTime {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(request.data().cloned().unwrap_or(Self(None)))
    }
}

/// Stands before everything that is served, and lets by whatever it doesn't know.
pub struct Again<E> {
    inner: E,
    app: Arc<App>,
    read: ReadBody,
    /// None where nothing is to be remembered.
    asked: Option<Arc<Asked>>,
    metrics: CacheMetrics,
}

impl<E> Again<E> {
    /// Before `inner`, which reads bodies as `read` does.
    pub fn new(inner: E, app: Arc<App>, read: ReadBody) -> Self {
        let most = app.config.cache.max_tokens;
        let asked = (most > 0).then(|| Arc::new(Asked::new(most, &app.entropy)));
        let metrics = CacheMetrics::new("introspections");
        app.metrics.register_boxed(metrics.collector());
        Self { inner, app, read, asked, metrics }
    }

    /// The answer, if it is known; else the request is made ready for the endpoint.
    async fn answer(&self, asked: &Arc<Asked>, request: &mut Request) -> Result<Option<Response>> {
        // one that has to be waited for is waited for where all others are
        let Some(body) = self.read.what_is_there(request).await? else { return Ok(None) };
        let question = asked.question(request, &body);
        request.set_body(body);
        let Some(question) = question else { return Ok(None) };
        if let Some(answered) = asked.answered(question)
            && let Some(told) = again(&self.app, &answered).map_err(ProblemError::from)?
        {
            let mut response: Response = told.into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, introspect::CONTENT_TYPE);
            response.set_data(OperationId(introspect::OPERATION_ID));
            self.metrics.hits.inc();
            return Ok(Some(response));
        }
        self.metrics.misses.inc();
        request.set_data(NextTime(Some((Arc::clone(asked), question))));
        Ok(None)
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Again<E> {
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

impl<E> fmt::Debug for Again<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[introspections that were asked before]")
    }
}
