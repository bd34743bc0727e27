//! Middleware and an extractor for `poem`.
//!
//! [`Verify`] lets requests with a valid access token pass, and handlers take [`Caller`] for the claims. Other requests are
//! answered with a problem (RFC 9457): 401 with a challenge (RFC 6750, section 3), 403 if a required role or scope is
//! missing, or 503 with `Retry-After` if the token cannot be verified now.

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
    bearer::{self, Refusal, Requirements},
};

/// The middleware.
#[derive(Clone, Debug)]
pub struct Verify {
    verifier: Verifier,
    requirements: Requirements,
}

impl Verify {
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

impl<E: Endpoint> Middleware<E> for Verify {
    type Output = VerifyEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        VerifyEndpoint { verifier: self.verifier.clone(), requirements: self.requirements.clone(), inner }
    }
}

/// Lets requests with a valid access token pass to the inner endpoint.
#[derive(Clone, Debug)]
pub struct VerifyEndpoint<E> {
    verifier: Verifier,
    requirements: Requirements,
    inner: E,
}

impl<E: Endpoint> Endpoint for VerifyEndpoint<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let verified = match bearer::token(request.headers()) {
            Ok(token) => self.verifier.verify(token).await.map_err(Refusal::Token),
            Err(refusal) => Err(refusal),
        };
        match verified.and_then(|claims| self.requirements.check(&claims).map(|()| claims)) {
            Ok(claims) => {
                request.extensions_mut().insert(Caller(claims));
                self.inner.call(request).await.map(IntoResponse::into_response)
            }
            Err(refusal) => Ok(response(&refusal)),
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
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| poem::Error::from_response(response(&Refusal::NoToken)))
    }
}

fn response(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut response = Response::builder().status(status).header(CACHE_CONTROL, "no-store");
    if let Some(challenge) = refusal.challenge() {
        response = response.header(WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = refusal.retry_after() {
        response = response.header(RETRY_AFTER, seconds);
    }
    response.content_type("application/problem+json").body(refusal.problem())
}
