//! Whether the response to a request may set the refresh cookie.

use poem::{Request, RequestBody, Result};

use crate::{
    domain::session::{AcceptedTransport, Transport},
    http::{
        cookie,
        extract::state,
        problem::{Code, ProblemError},
    },
    service::sign_in::second_factor::AcceptedTransports,
};

/// The reason why the response must not set the refresh cookie, if there is one. Either a page of another site made the request, and would
/// sign its visitor in to another account, or the browser would not keep the cookie.
pub struct CookieRefusal(Option<ProblemError>);

impl CookieRefusal {
    /// The transports that a session may have if the response is to replace it: not `cookie`, if the response must not set the
    /// cookie.
    pub const fn accepted_transport(&self) -> AcceptedTransport {
        if self.0.is_some() { AcceptedTransport::Bearer } else { AcceptedTransport::Any }
    }

    /// The transports that a sign-in by this request may use for its new session.
    pub const fn accepted_transports_of_sign_in(&self) -> AcceptedTransports {
        if self.0.is_some() { AcceptedTransports::Bearer } else { AcceptedTransports::BearerAndCookie }
    }

    /// Refuses a sign-in with the cookie as its transport, if the response must not set the cookie.
    ///
    /// # Errors
    /// [`Code::CrossSiteRequest`], [`Code::CookieCrossSite`]
    pub fn check(self, transport: Transport) -> Result<(), ProblemError> {
        match self.0 {
            Some(problem) if transport == Transport::Cookie => Err(problem),
            _ => Ok(()),
        }
    }

    /// Converts an error of a use case to a problem. A use case does not know why the cookie must not be set: the error for it
    /// always becomes [`Code::CrossSiteRequest`], which this function replaces by the actual reason.
    pub fn with_reason<E>(self, error: E) -> ProblemError
    where
        ProblemError: From<E>,
    {
        let problem = ProblemError::from(error);
        match self.0 {
            Some(reason) if problem.code == Code::CrossSiteRequest => reason,
            _ => problem,
        }
    }
}

impl<'a> poem::FromRequest<'a> for CookieRefusal {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        let state = state(request)?;
        let checked =
            cookie::refuse_cross_site(state, request).and_then(|()| cookie::refuse_unusable_cookie(state, request));
        Ok(Self(checked.err()))
    }
}
