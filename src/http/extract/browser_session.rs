//! The browser of a request to one of Latchkey's own pages: its session, and the anti-forgery token of its forms.

use poem::{Request, RequestBody, Result, http::header};

use crate::{
    crypto::csrf::{CsrfSubject, VisitorToken},
    domain::session::SessionOrigin,
    http::{
        cookie,
        extract::{client_info, state},
        problem::ProblemError,
    },
    service::browser_session::{self, BrowserSession},
    state::AppState,
};

/// The browser of a request, as an argument of handlers (`browser: Browser`) for pages and for the API.
///
/// The session, if there is one, was read from Redis for this request. To protect a form:
///
/// 1. When you show it, call [`Browser::csrf_token`], put the token into a hidden field, and set the returned cookie, if any.
/// 2. When it is submitted, refuse it unless [`Browser::accepts_csrf`] returns true for the field, and check
///    [`CsrfCheck`](super::auth::CsrfCheck) as well.
#[derive(Clone, Debug)]
pub struct Browser {
    /// The live session of the browser.
    pub session: Option<BrowserSession>,
    /// The address and the user agent of the request.
    pub origin: SessionOrigin,
    /// The token of the visitor's cookie, which stands for the browser before sign-in.
    visitor: Option<VisitorToken>,
}

impl Browser {
    /// The anti-forgery token for a form, and, if the browser has no cookie yet, the `Set-Cookie` header to send with the form. The token is
    /// bound to the session or, before sign-in, to the visitor's cookie. So after a sign-in, older forms are refused.
    pub fn csrf_token(&mut self, state: &AppState) -> (String, Option<String>) {
        let mut set_cookie = None;
        if self.session.is_none() && self.visitor.is_none() {
            let visitor = VisitorToken::generate(&state.entropy);
            set_cookie = Some(cookie::set_visitor(&visitor));
            self.visitor = Some(visitor);
        }
        // Never the default: the browser has a session or a visitor's cookie by now.
        let token = self.csrf_subject().map(|subject| state.csrf.token(subject)).unwrap_or_default();
        (token, set_cookie)
    }

    /// Whether `presented`, the hidden field of a submitted form, is a token of this browser.
    pub fn accepts_csrf(&self, state: &AppState, presented: &str) -> bool {
        self.csrf_subject().is_some_and(|subject| state.csrf.verify(subject, presented))
    }

    /// The session or the visitor that the tokens are bound to; none if the browser has neither.
    fn csrf_subject(&self) -> Option<CsrfSubject<'_>> {
        match (&self.session, &self.visitor) {
            (Some(browser), _) => Some(CsrfSubject::Session(browser.session.id)),
            (None, Some(visitor)) => Some(CsrfSubject::Visitor(visitor)),
            (None, None) => None,
        }
    }
}

impl<'a> poem::FromRequest<'a> for Browser {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        let state = state(request)?;
        let user_agent = request.headers().get(header::USER_AGENT);
        let origin = SessionOrigin {
            ip: client_info::address_of(request),
            user_agent: user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            device: None,
        };
        let session = match cookie::browser_token(request) {
            Some(token) => browser_session::load(state, &token, &origin).await.map_err(ProblemError::from)?,
            None => None,
        };
        let visitor = cookie::visitor_token(request).as_deref().and_then(VisitorToken::parse);
        Ok(Self { session, origin, visitor })
    }
}
