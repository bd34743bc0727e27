//! Middleware for `tower`, and so for axum, hyper and tonic.
//!
//! [`VerifyLayer`] lets requests with a valid access token pass and adds `Arc<Claims>` to their extensions. Others are
//! answered with 401 and a challenge (RFC 6750, section 3), with 403 if a required role or scope is missing, or with 503
//! and `Retry-After` if the token cannot be verified now. The body of these responses is empty.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Verifier,
    bearer::{self, Refusal, Requirements},
};

/// Wraps services in [`VerifyService`].
#[derive(Clone, Debug)]
pub struct VerifyLayer {
    verifier: Verifier,
    requirements: Requirements,
}

impl VerifyLayer {
    /// Lets signed-in users pass. Service clients' own tokens are refused.
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, requirements: Requirements::default() }
    }

    /// Also accepts tokens that service clients obtained for themselves (`client_credentials`).
    #[must_use]
    pub fn allow_clients(mut self) -> Self {
        self.requirements.allow_clients = true;
        self
    }

    /// Answers 403 unless the account has one of these roles.
    #[must_use]
    pub fn require_role<R: Into<String>>(mut self, any_of: impl IntoIterator<Item = R>) -> Self {
        self.requirements.require_role(any_of);
        self
    }

    /// Answers 403 with an `insufficient_scope` challenge unless the token has all of these scopes.
    #[must_use]
    pub fn require_scope<S: Into<String>>(mut self, all_of: impl IntoIterator<Item = S>) -> Self {
        self.requirements.require_scope(all_of);
        self
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = VerifyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        VerifyService { verifier: self.verifier.clone(), requirements: self.requirements.clone(), inner }
    }
}

/// Lets requests with a valid access token pass to the inner service.
#[derive(Clone, Debug)]
pub struct VerifyService<S> {
    verifier: Verifier,
    requirements: Requirements,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for VerifyService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The service that `poll_ready` made ready is called, not its clone.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let (verifier, requirements) = (self.verifier.clone(), self.requirements.clone());
        Box::pin(async move {
            let verified = match bearer::token(request.headers()) {
                Ok(token) => verifier.verify(token).await.map_err(Refusal::Token),
                Err(refusal) => Err(refusal),
            };
            match verified.and_then(|claims| requirements.check(&claims).map(|()| claims)) {
                Ok(claims) => {
                    request.extensions_mut().insert(claims);
                    inner.call(request).await
                }
                Err(refusal) => Ok(response(&refusal)),
            }
        })
    }
}

fn response<R: Default>(refusal: &Refusal) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(challenge) = refusal.challenge() {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(RETRY_AFTER, seconds);
    }
    response
}
