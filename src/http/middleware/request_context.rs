//! The outermost layer, which every request passes on its way in and out: it gives the request its id, turns every error
//! into a problem, and writes the line in the log.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures_util::FutureExt;
use poem::{
    Endpoint, Request, Response, Result,
    error::{MethodNotAllowedError, NotFoundError, ResponseError},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
};
use poem_openapi::{OperationId, error::ParsePathError};
use tracing::{Instrument, field};
use uuid::fmt::Hyphenated;

use crate::http::{
    extract::client_info,
    middleware::body::BodyError,
    middleware::cors::Cors,
    middleware::timeout::TimedOut,
    oauth::OAuthError,
    paths::Paths,
    problem::{Code, ProblemError},
};
use crate::{domain::entropy::Entropy, state::AppState, telemetry};

/// The header that carries a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Paths of health probes, which are logged at DEBUG: every orchestrator calls them every few seconds.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// See the module.
pub struct RequestContext<E> {
    /// What is behind it.
    pub inner: E,
    /// Where ids come from.
    pub entropy: Entropy,
    /// Knows which pages may call and read what.
    pub cors: Cors,
    /// Knows which methods a path has.
    pub paths: Arc<Paths>,
    /// Whose metrics count the requests.
    pub state: Arc<AppState>,
}

impl<E: Endpoint<Output = Response>> Endpoint for RequestContext<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let started = Instant::now();
        let id = request_id(&request).unwrap_or_else(|| Id::new(&self.entropy));
        let method = logged(request.method());
        let uri = request.uri().clone();
        let sharing = self.cors.sharing(&request);
        let span = tracing::trace_span!(
            target: telemetry::TARGET,
            "request",
            otel.kind = "server",
            http.request.method = method,
            http.route = field::Empty,
            http.response.status_code = field::Empty,
            otel.status_code = field::Empty,
        );
        let outcome = if sharing.is_preflight(&request) {
            Ok(sharing.preflight(&self.paths.methods(uri.path())))
        } else {
            if client_info::is_of_trusted_proxy(&request, &self.state.config.http.trusted_proxies) {
                telemetry::continue_trace(&span, request.headers());
            }
            self.answer(request, id.as_str()).instrument(span.clone()).await
        };
        let mut response = match outcome {
            Ok(response) => response,
            Err(error) => {
                let operation = error.data::<OperationId>().copied();
                let mut response = match error.downcast_ref::<OAuthError>() {
                    Some(error) => error.clone().into_response(),
                    None => problem(error, &self.paths, uri.path(), id.as_str()).into_response(id.as_str()),
                };
                if let Some(operation) = operation {
                    response.set_data(operation);
                }
                response
            }
        };
        let route =
            response.data::<OperationId>().map_or_else(|| self.paths.route(uri.path()), |operation| operation.0);
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id.0.clone());
        sharing.tell(headers);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // no other site may show the documents in a frame of its own
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'none'"));
        // answers are about one caller, and often hold tokens; what may be kept says so itself
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        let took = started.elapsed();
        self.state.metrics.request(route, method, response.status().as_str(), took);
        let status = response.status().as_u16();
        if !span.is_disabled() {
            telemetry::rename_span(&span, format!("{method} {route}"));
            span.record("http.route", route);
            span.record("http.response.status_code", status);
            if response.status().is_server_error() {
                span.record("otel.status_code", "ERROR");
            }
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if PROBES.contains(&uri.path()) {
            tracing::debug!(target: "latchkey::request", request_id = id.as_str(), method, route, status, micros, "request");
        } else if response.status().is_server_error() {
            tracing::warn!(target: "latchkey::request", request_id = id.as_str(), method, route, status, micros, "request");
        } else {
            tracing::info!(target: "latchkey::request", request_id = id.as_str(), method, route, status, micros, "request");
        }
        Ok(response)
    }
}

impl<E: Endpoint<Output = Response>> RequestContext<E> {
    /// What is behind the door answers; a panic there is an internal error of this one request.
    async fn answer(&self, request: Request, id: &str) -> Result<Response> {
        AssertUnwindSafe(self.inner.call(request)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(request_id = id, "a handler panicked");
            Err(ProblemError::new(Code::InternalError, "The log has more, under this request's id.").into())
        })
    }
}

/// A method as the log names it: callers may make up methods of any length.
fn logged(method: &Method) -> &'static str {
    let known = ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"];
    known.into_iter().find(|known| method.as_str() == *known).unwrap_or("other")
}

/// A request's id, as the header has it.
struct Id(HeaderValue);

impl Id {
    fn new(entropy: &Entropy) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        entropy.uuid().hyphenated().encode_lower(&mut text);
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("")))
    }

    fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// The id that a caller gave its request, if it is fit for a log line.
fn request_id(request: &Request) -> Option<Id> {
    let id = request.headers().get(REQUEST_ID)?;
    let fit = (8..=64).contains(&id.len())
        && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    fit.then(|| Id(id.clone()))
}

/// Any error as a problem, the framework's own included.
fn problem(error: poem::Error, paths: &Paths, path: &str, id: &str) -> ProblemError {
    if let Some(problem) = error.downcast_ref::<ProblemError>() {
        return problem.clone();
    }
    if let Some(body) = error.downcast_ref::<BodyError>() {
        return ProblemError::new(code_of(body.status()), sentence(body));
    }
    if let Some(timed_out) = error.downcast_ref::<TimedOut>() {
        let retry_after = Some(std::time::Duration::from_secs(TimedOut::RETRY_AFTER_SECONDS.into()));
        return ProblemError { retry_after, ..ProblemError::new(Code::Unavailable, sentence(timed_out)) };
    }
    if error.is::<NotFoundError>() {
        return ProblemError::new(Code::NotFound, "See /docs for what there is.");
    }
    if error.is::<MethodNotAllowedError>() {
        let allow = Some(paths.methods(path)).filter(|methods| !methods.is_empty());
        return ProblemError { allow, ..ProblemError::new(Code::MethodNotAllowed, "See the header `Allow`.") };
    }
    if error.is::<ParsePathError>() {
        return ProblemError::new(
            Code::MalformedRequest,
            "A part of the path isn't what it should be, such as a UUID.",
        );
    }
    let status = error.status();
    if status.is_client_error() {
        // Those of the framework are about parameters, whose values are no secrets.
        return ProblemError::new(code_of(status), sentence(&error));
    }
    tracing::error!(request_id = id, %error, "internal error");
    ProblemError::new(Code::InternalError, "The log has more, under this request's id.")
}

fn code_of(status: StatusCode) -> Code {
    Code::ALL.iter().copied().find(|code| code.status() == status).unwrap_or(Code::MalformedRequest)
}

fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
