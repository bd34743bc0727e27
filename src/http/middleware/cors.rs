//! Which pages of other origins may make which calls and read the answers (the Fetch standard's CORS protocol).
//!
//! A browser asks before it sends what a form couldn't (the preflight), and keeps an answer from the page unless the answer
//! says otherwise. Pages of the issuer's own origin and of `http.allowed_origins` may make the calls of those who sign in,
//! and see all answers to them, errors included. What is public anyway is so for every page. For any other origin nothing
//! is said, and its requests go on as if it hadn't been named: what a browser then does with the answer is the
//! browser's part, and what the cookie is good for stays in [`crate::http::cookie`].

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};

use crate::config::Config;
use crate::http::cookie::origin_of;

/// How long a browser may keep what a preflight told it, in seconds: Chromium keeps nothing longer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// The headers that pages may send beside those that every form sends.
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, X-Request-Id, X-Device-Token");
/// The headers of answers that pages may read beside the harmless ones.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, X-Device-Token",
);
const ANYONE: HeaderValue = HeaderValue::from_static("*");

/// Knows whose pages may call.
pub struct Cors {
    origins: Vec<HeaderValue>,
}

/// With whom what is at a path is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shared {
    /// With no page of another origin.
    No,
    /// With every page: it is public.
    Public,
    /// With pages of the allowed origins.
    Allowed {
        /// Whether browsers send the cookie along.
        credentials: bool,
    },
}

impl Shared {
    fn at(path: &str) -> Self {
        match path {
            "/v1/users" | "/v1/login" | "/v1/refresh" | "/v1/logout" | "/v1/me" | "/v1/me/password"
            | "/v1/sessions" => Self::Allowed { credentials: true },
            "/oauth2/token" | "/oauth2/revoke" => Self::Allowed { credentials: false },
            "/docs" | "/openapi.json" | "/openapi.yaml" => Self::Public,
            _ if path.starts_with("/.well-known/") => Self::Public,
            _ if path.strip_prefix("/v1/sessions/").is_some_and(|id| !id.contains('/')) => {
                Self::Allowed { credentials: true }
            }
            _ => Self::No,
        }
    }
}

/// What the answer to one request says about who may read it.
#[derive(Debug)]
pub struct Sharing {
    shared: Shared,
    /// The origin of the page that makes the request, if it may.
    origin: Option<HeaderValue>,
}

impl Cors {
    /// Shares with the pages of the issuer's origin and of those that are allowed.
    pub fn new(config: &Config) -> Self {
        let own = origin_of(&config.issuer);
        let origins = std::iter::once(&own).chain(&config.http.allowed_origins);
        Self { origins: origins.filter_map(|origin| HeaderValue::from_str(origin).ok()).collect() }
    }

    /// What is to be said of the answer to this request.
    pub fn sharing(&self, request: &Request) -> Sharing {
        let shared = Shared::at(request.uri().path());
        let origin = match shared {
            Shared::No => None,
            Shared::Public => Some(ANYONE),
            Shared::Allowed { .. } => {
                request.headers().get(header::ORIGIN).filter(|origin| self.origins.contains(origin)).cloned()
            }
        };
        Sharing { shared, origin }
    }
}

impl Sharing {
    /// Whether the request is a browser asking whether it may send another, which it may.
    pub fn is_preflight(&self, request: &Request) -> bool {
        let headers = request.headers();
        self.origin.is_some()
            && request.method() == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The answer to a preflight for a path that has these methods. Browsers refuse all that isn't in it.
    pub fn preflight(&self, methods: &str) -> Response {
        Response::builder()
            .status(StatusCode::NO_CONTENT)
            .header(header::ACCESS_CONTROL_ALLOW_METHODS, methods)
            .header(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS)
            .header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE)
            .finish()
    }

    /// Says on an answer, whatever it is, who may read it.
    pub fn tell(self, headers: &mut HeaderMap) {
        let Self { shared, origin } = self;
        if matches!(shared, Shared::Allowed { .. }) {
            // the next caller of the same may be of another origin
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if shared == (Shared::Allowed { credentials: true }) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}
