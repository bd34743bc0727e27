//! Middleware and extractors for `poem`.
//!
//! [`Verify`] lets requests with a valid access token pass, and handlers get the claims as a [`Caller`]. Other requests are
//! answered with a problem (RFC 9457): 401 with a challenge (RFC 6750, section 3; RFC 9470, section 3), 403 if a required role
//! or scope is missing, or 503 with `Retry-After` if the token cannot be verified now.
//!
//! A response body of unknown length ends when the session ends. An event stream then ends as if it were complete, and any
//! other body ends with an error. With the feature `poem-websocket`, a handler can take a `SessionWebSocket` in place of
//! poem's `WebSocket`: the connection then closes when the session ends.

use std::{io, ops::Deref, sync::Arc};

use http_body_util::{BodyExt, combinators::BoxBody};
use poem::{Endpoint, FromRequest, IntoResponse, Middleware, Request, RequestBody, Response, Result};

pub use crate::session_end::body::SessionEnded;
use crate::{
    Claims, VerifiedSession,
    bearer::Refusal,
    guard::{Guard, guard_methods},
    session_end::body::SessionBody,
};

#[cfg(feature = "poem-websocket")]
mod websocket;
#[cfg(feature = "poem-websocket")]
pub use websocket::{SessionSocket, SessionWebSocket};

/// Wraps endpoints in [`VerifyEndpoint`].
#[derive(Clone, Debug)]
pub struct Verify {
    guard: Guard,
}

guard_methods!(Verify);

impl<E: Endpoint> Middleware<E> for Verify {
    type Output = VerifyEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        VerifyEndpoint { guard: self.guard.clone(), inner }
    }
}

/// Lets requests with a valid access token pass to the inner endpoint.
#[derive(Clone, Debug)]
pub struct VerifyEndpoint<E> {
    guard: Guard,
    inner: E,
}

impl<E: Endpoint> Endpoint for VerifyEndpoint<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        match self.guard.authorize(request.headers()).await {
            Ok(session) => {
                // a handler takes a `Caller` or a `VerifiedSession`
                request.extensions_mut().insert(Caller(Arc::clone(session.claims())));
                request.extensions_mut().insert(session.clone());
                let response = self.inner.call(request).await?.into_response();
                Ok(end_with_session(response, &session))
            }
            Err(refusal) => Ok(refusal_response(&refusal)),
        }
    }
}

/// The claims of the request's access token. Without [`Verify`] around the handler, the response is 401.
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
        added_by_verify(request)
    }
}

/// The session that [`Verify`] added to the request. Without [`Verify`] around the handler, the response is 401.
impl<'a> FromRequest<'a> for VerifiedSession {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        added_by_verify(request)
    }
}

/// The extension of type `T` that [`Verify`] added to the request. Without [`Verify`], the error is the response 401.
fn added_by_verify<T: Clone + Send + Sync + 'static>(request: &Request) -> Result<T> {
    let added = request.extensions().get::<T>().cloned();
    added.ok_or_else(|| poem::Error::from_response(refusal_response(&Refusal::NoToken)))
}

/// Makes a body of unknown length end when the session ends. A body of known length needs no wrapper.
fn end_with_session(mut response: Response, session: &VerifiedSession) -> Response {
    let body: BoxBody<_, io::Error> = response.take_body().into();
    let has_unknown_length = http_body::Body::size_hint(&body).exact().is_none();
    if has_unknown_length {
        let session_body = SessionBody::new(body, response.headers(), session);
        response.set_body(BoxBody::new(session_body.map_err(io::Error::other)));
    } else {
        response.set_body(body);
    }
    response
}

fn refusal_response(refusal: &Refusal) -> Response {
    let mut response =
        Response::builder().status(refusal.status()).content_type("application/problem+json").body(refusal.problem());
    response.headers_mut().extend(refusal.headers());
    response
}
