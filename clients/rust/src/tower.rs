//! For `tower`, and so for axum, hyper and tonic: [`VerifyLayer`] lets through requests with a valid access token, and puts
//! `Arc<Claims>` among their extensions. Others are answered 401 with `WWW-Authenticate: Bearer`, or 503 with `Retry-After`
//! where it can't be told whether the token was revoked; with an empty body.

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
    bearer::{self, Refusal},
};

/// Puts [`VerifyService`] around services.
#[derive(Clone, Debug)]
pub struct VerifyLayer {
    verifier: Verifier,
}

impl VerifyLayer {
    /// Lets through what this verifier accepts.
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier }
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = VerifyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        VerifyService { verifier: self.verifier.clone(), inner }
    }
}

/// Lets requests with a valid access token through to the service inside.
#[derive(Clone, Debug)]
pub struct VerifyService<S> {
    verifier: Verifier,
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
        // the one that was made ready is called, not its copy
        let copy = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, copy);
        let verifier = self.verifier.clone();
        Box::pin(async move {
            let verified = match bearer::token(request.headers()) {
                Ok(token) => verifier.verify(token).await.map_err(Refusal::Token),
                Err(refusal) => Err(refusal),
            };
            match verified {
                Ok(claims) => {
                    request.extensions_mut().insert(claims);
                    inner.call(request).await
                }
                Err(refusal) => Ok(answer(&refusal)),
            }
        })
    }
}

fn answer<R: Default>(refusal: &Refusal) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match refusal.challenge() {
        Some(challenge) => headers.insert(WWW_AUTHENTICATE, challenge),
        None => headers.insert(RETRY_AFTER, HeaderValue::from_static(bearer::RETRY_AFTER)),
    };
    response
}
