//! CORS (the Fetch standard): which pages of other origins may call which endpoints and read the responses.
//!
//! Pages of the issuer's origin and of `http.allowed_origins` may call the user endpoints and read all responses,
//! errors included. Public documents may be read by every page. A page of any other origin gets no CORS headers, so its browser
//! hides the response from it. The request is processed nevertheless; [`crate::http::cookie`] decides whether the cookie counts.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};

use crate::{
    config::Config,
    domain::clock::{Clock, Timestamp},
    http::cookie::{SEC_FETCH_SITE, origin_of},
};

/// How long a browser may cache a preflight response, in seconds. Chromium's limit is two hours.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// Request headers that pages may send in addition to the safelisted ones.
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, X-Request-Id, X-Device-Token");
/// Response headers that pages may read in addition to the safelisted ones.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, X-Device-Token",
);
const EVERY_ORIGIN: HeaderValue = HeaderValue::from_static("*");

/// Maximum number of origins that are remembered as logged, because callers can invent any number of origins.
const MAX_LOGGED_ORIGINS: usize = 32;
/// The minimum time between two log lines once [`MAX_LOGGED_ORIGINS`] origins are remembered.
const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// Maximum number of characters of an origin that are logged.
const LOGGED_CHARACTERS: usize = 128;

/// Evaluates requests against the allowed origins.
pub struct Cors {
    allowed_origins: Vec<HeaderValue>,
    refused_origins: RefusedOrigins,
}

/// The origins that may read the responses of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    /// No page of another origin.
    Nobody,
    /// Every page.
    Everyone,
    /// Pages of the allowed origins.
    Allowed {
        /// Whether these pages may send the cookie.
        credentials: bool,
    },
}

impl Readers {
    fn of(path: &str) -> Self {
        match path {
            "/v1/users" | "/v1/login" | "/v1/refresh" | "/v1/logout" | "/v1/me" | "/v1/me/password"
            | "/v1/sessions" => Self::Allowed { credentials: true },
            "/oauth2/token" | "/oauth2/revoke" | "/oauth2/userinfo" | "/oauth2/register" => {
                Self::Allowed { credentials: false }
            }
            "/docs" | "/openapi.json" | "/openapi.yaml" => Self::Everyone,
            _ if path.starts_with("/.well-known/") => Self::Everyone,
            // a single session
            _ if path.strip_prefix("/v1/sessions/").is_some_and(|id| !id.contains('/')) => {
                Self::Allowed { credentials: true }
            }
            _ if path.starts_with("/v1/login/") || path.starts_with("/v1/me/") => Self::Allowed { credentials: true },
            _ => Self::Nobody,
        }
    }
}

/// The CORS headers of one response.
#[derive(Debug)]
pub struct Sharing {
    readers: Readers,
    /// The value of `Access-Control-Allow-Origin`, if any.
    origin: Option<HeaderValue>,
}

impl Cors {
    /// Allows the issuer's origin and `http.allowed_origins`.
    pub fn new(config: &Config) -> Self {
        let own = origin_of(&config.issuer);
        let origins = std::iter::once(&own).chain(&config.http.allowed_origins);
        let allowed_origins = origins.filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
        Self { allowed_origins, refused_origins: RefusedOrigins::default() }
    }

    /// Decides who may read the response to this request. Logs an origin that is not allowed.
    pub fn evaluate(&self, request: &Request, clock: &Clock) -> Sharing {
        let readers = Readers::of(request.uri().path());
        let origin = match readers {
            Readers::Nobody => None,
            Readers::Everyone => Some(EVERY_ORIGIN),
            Readers::Allowed { .. } => request.headers().get(header::ORIGIN).and_then(|origin| {
                let is_allowed = self.allowed_origins.contains(origin);
                // Not logged: browsers do not block a page that calls its own origin, even if that is not the issuer's.
                if !is_allowed && !is_same_origin(request) {
                    self.refused_origins.log(origin, clock);
                }
                is_allowed.then(|| origin.clone())
            }),
        };
        Sharing { readers, origin }
    }
}

/// Whether the browser says that the page and the request have the same origin.
fn is_same_origin(request: &Request) -> bool {
    request.headers().get(SEC_FETCH_SITE).is_some_and(|site| site == "same-origin")
}

impl Sharing {
    /// Whether the request is a preflight of a page that may call this path.
    pub fn is_preflight(&self, request: &Request) -> bool {
        let headers = request.headers();
        self.origin.is_some()
            && request.method() == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The response to a preflight for a path that has these methods (`GET, POST`).
    #[cold]
    pub fn preflight_response(&self, methods: &str) -> Response {
        Response::builder()
            .status(StatusCode::NO_CONTENT)
            .header(header::ACCESS_CONTROL_ALLOW_METHODS, methods)
            .header(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS)
            .header(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE)
            .finish()
    }

    /// Sets the CORS headers of a response.
    pub fn apply(self, headers: &mut HeaderMap) {
        let Self { readers, origin } = self;
        if matches!(readers, Readers::Allowed { .. }) {
            // a cache must not give this response to pages of another origin
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        if readers == (Readers::Allowed { credentials: true }) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// Logs an origin that is not allowed, unless the origin is remembered as logged. Once [`MAX_LOGGED_ORIGINS`] origins are remembered,
/// logs at most one origin in each [`LOG_INTERVAL`], and forgets the oldest for it.
#[derive(Debug, Default)]
struct RefusedOrigins(Mutex<LoggedOrigins>);

#[derive(Debug, Default)]
struct LoggedOrigins {
    /// The origins that are remembered as logged, oldest first.
    origins: VecDeque<HeaderValue>,
    last_logged_at: Option<Timestamp>,
}

impl LoggedOrigins {
    /// Remembers an origin as logged if it must be logged now. Returns whether it must.
    fn remember_if_due(&mut self, origin: &HeaderValue, now: Timestamp) -> bool {
        if self.origins.contains(origin) {
            return false;
        }
        if self.origins.len() >= MAX_LOGGED_ORIGINS {
            if self.last_logged_at.is_some_and(|last| now < last + LOG_INTERVAL) {
                return false;
            }
            self.origins.pop_front();
        }
        self.origins.push_back(origin.clone());
        self.last_logged_at = Some(now);
        true
    }
}

impl RefusedOrigins {
    fn log(&self, origin: &HeaderValue, clock: &Clock) {
        let is_due = self.0.lock().unwrap_or_else(PoisonError::into_inner).remember_if_due(origin, clock.now());
        if !is_due {
            return;
        }
        let text = String::from_utf8_lossy(origin.as_bytes());
        let shown: String = text.chars().take(LOGGED_CHARACTERS).flat_map(char::escape_default).collect();
        tracing::warn!(
            origin = shown,
            "an origin is not in http.allowed_origins: browsers block the API calls of its pages (CORS) and their use \
             of the session cookie. Add the origin if the pages are yours"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_logged_once_and_further_origins_once_a_minute() {
        let mut logged = LoggedOrigins::default();
        let start = Timestamp::from_millis(0);
        let origin = |number: usize| HeaderValue::from_str(&format!("https://{number}.example")).unwrap();
        for number in 0..MAX_LOGGED_ORIGINS {
            assert!(logged.remember_if_due(&origin(number), start), "{number}");
            assert!(!logged.remember_if_due(&origin(number), start), "{number}: once");
        }
        let (further, another) = (origin(MAX_LOGGED_ORIGINS), origin(MAX_LOGGED_ORIGINS + 1));
        assert!(!logged.remember_if_due(&further, start), "the interval since the last line is not over");
        assert!(logged.remember_if_due(&further, start + LOG_INTERVAL));
        assert!(!logged.remember_if_due(&another, start + LOG_INTERVAL), "the next interval begins with the last line");
        assert_eq!(logged.origins.len(), MAX_LOGGED_ORIGINS);
    }
}
