//! For `poem`: [`Verify`] is a middleware that lets through requests with a valid access token, and [`Caller`] is what
//! handlers behind it take to know who calls. Other requests are answered 401 with `WWW-Authenticate: Bearer`, or 503 with
//! `Retry-After` where it can't be told whether the token was revoked.

use std::{ops::Deref, sync::Arc};

use poem::{
    Endpoint, FromRequest, IntoResponse, Middleware, Request, RequestBody, Response, Result,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};

use crate::{
    Claims, Verifier,
    bearer::{self, Refusal},
};

/// The middleware.
#[derive(Clone, Debug)]
pub struct Verify {
    verifier: Verifier,
}

impl Verify {
    /// Lets through what this verifier accepts.
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier }
    }
}

impl<E: Endpoint> Middleware<E> for Verify {
    type Output = VerifyEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        VerifyEndpoint { verifier: self.verifier.clone(), inner }
    }
}

/// Lets requests with a valid access token through to the endpoint inside.
#[derive(Clone, Debug)]
pub struct VerifyEndpoint<E> {
    verifier: Verifier,
    inner: E,
}

impl<E: Endpoint> Endpoint for VerifyEndpoint<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let verified = match bearer::token(request.headers()) {
            Ok(token) => self.verifier.verify(token).await.map_err(Refusal::Token),
            Err(refusal) => Err(refusal),
        };
        match verified {
            Ok(claims) => {
                request.extensions_mut().insert(Caller(claims));
                self.inner.call(request).await.map(IntoResponse::into_response)
            }
            Err(refusal) => Ok(answer(&refusal)),
        }
    }
}

/// Who calls: what the request's access token says. A handler that takes it answers 401 where no [`Verify`] stands before
/// it.
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<Claims>);

impl Deref for Caller {
    type Target = Claims;
    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl<'a> FromRequest<'a> for Caller {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| poem::Error::from_response(answer(&Refusal::NoToken)))
    }
}

fn answer(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let response = Response::builder().status(status).header(CACHE_CONTROL, "no-store");
    match refusal.challenge() {
        Some(challenge) => response.header(WWW_AUTHENTICATE, challenge).finish(),
        None => response.header(RETRY_AFTER, bearer::RETRY_AFTER).finish(),
    }
}
