//! The outermost layer: assigns the request id, maps errors to problems, sets the common headers, and records the
//! request in the log, the metrics and the trace.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures_util::{
    FutureExt,
    future::{Either, ready},
};
use poem::{
    Endpoint, Request, Response, Result,
    http::{HeaderValue, Method, StatusCode, Uri, header},
};
use poem_openapi::OperationId;
use tracing::{Instrument, Span, field};

use super::{
    cors::{Cors, Sharing},
    problem_mapping,
    request_id::RequestId,
};
use crate::{
    http::{
        extract::{client_address, client_info},
        oauth::OAuthError,
        pages,
        paths::Paths,
        problem::{
            ProblemError,
            cause::{self, FailureCause},
        },
    },
    logging::panic_message,
    state::AppState,
    telemetry,
};

pub use super::request_id::REQUEST_ID;

/// Paths of health probes, which are logged at DEBUG: every orchestrator calls them every few seconds.
const PROBE_PATHS: [&str; 2] = ["/livez", "/readyz"];

/// The outermost layer.
pub struct RequestContext<E> {
    /// The next layer.
    pub inner: E,
    /// Evaluates CORS.
    pub cors: Cors,
    /// The methods and names of all paths.
    pub paths: Arc<Paths>,
    /// The configuration, the source of randomness and the metrics of the node.
    pub state: Arc<AppState>,
}

/// Facts about a request that the response and the records need after it was handled.
struct Received {
    started: Instant,
    id: RequestId,
    /// The method as the log names it.
    method: &'static str,
    uri: Uri,
    cors: Sharing,
    span: Span,
}

impl<E: Endpoint<Output = Response>> Endpoint for RequestContext<E> {
    type Output = Response;

    // Not an `async fn`, whose future would hold a copy of the request, which is large.
    fn call(&self, request: Request) -> impl Future<Output = Result<Response>> + Send {
        let method = logged_method(request.method());
        let received = Received {
            started: Instant::now(),
            id: RequestId::of(&request, &self.state.entropy),
            method,
            uri: request.uri().clone(), // the next layer consumes the request
            cors: self.cors.evaluate(&request, &self.state.clock),
            span: tracing::trace_span!(
                target: telemetry::TARGET,
                "request",
                otel.kind = "server",
                http.request.method = method,
                http.route = field::Empty,
                http.response.status_code = field::Empty,
                otel.status_code = field::Empty,
            ),
        };
        let outcome = if received.cors.is_preflight(&request) {
            let response = received.cors.preflight_response(&self.paths.methods(received.uri.path()));
            Either::Left(ready((Ok(response), None)))
        } else {
            client_address::observe_forwarding(&request, &self.state.config.http, &self.state.metrics.forwarded);
            // not from other clients, since the headers also decide whether the trace is sampled
            if client_info::is_from_trusted_proxy(&request, &self.state.config.http) {
                telemetry::continue_trace(&received.span, request.headers());
            }
            let response = self.respond(request, received.id.clone());
            Either::Right(cause::collect(response.instrument(received.span.clone())))
        };
        outcome.map(|(outcome, cause)| Ok(self.complete(received, outcome, cause)))
    }
}

/// Records the result of a request on its span, which is exported.
#[cold]
fn record_on_span(span: &Span, method: &str, route: &str, status: StatusCode) {
    telemetry::rename_span(span, format!("{method} {route}"));
    span.record("http.route", route);
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// Logs a request that failed or that recorded a cause: as an error if the cause is internal, else as a warning.
#[cold]
fn log_failure(
    request_id: &str,
    method: &str,
    route: &str,
    status: StatusCode,
    micros: u64,
    cause: Option<FailureCause>,
) {
    let status = status.as_u16();
    match cause {
        None => {
            tracing::warn!(target: "latchkey::request", request_id, method, route, status, micros, "request failed because of a bug: the ERROR line with this request_id has the cause. Report it");
        }
        Some(FailureCause::Dependency { name: dependency, error }) => {
            tracing::warn!(target: "latchkey::request", request_id, method, route, status, micros, dependency, error, "request failed: a dependency is unavailable");
        }
        Some(FailureCause::Limit { setting, error }) => {
            tracing::warn!(target: "latchkey::request", request_id, method, route, status, micros, setting, error, "request failed: it reached a limit of this node");
        }
        Some(FailureCause::Conflict(error)) => {
            tracing::warn!(target: "latchkey::request", request_id, method, route, status, micros, error, "request failed: another request changed the same account; the client can retry");
        }
        Some(FailureCause::Internal(error)) => {
            tracing::error!(target: "latchkey::request", request_id, method, route, status, micros, error, "request failed because of an internal error: report it with this line, unless the error names a cause that you can remove");
        }
    }
}

impl<E: Endpoint<Output = Response>> RequestContext<E> {
    /// Calls the next layer. A panic in it becomes an internal error of this request.
    fn respond(&self, request: Request, id: RequestId) -> impl Future<Output = Result<Response>> + Send {
        let response = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        response.map(move |outcome| outcome.unwrap_or_else(|panic| Err(internal_error(&*panic, id.as_str()).into())))
    }

    /// Maps an error to a response, sets the common headers, and records the request.
    fn complete(&self, received: Received, outcome: Result<Response>, cause: Option<FailureCause>) -> Response {
        let Received { started, id, method, uri, cors, span } = received;
        let cause = cause.or_else(|| outcome.as_ref().err().and_then(problem_mapping::unrecorded_cause));
        let is_get = method == "GET";
        let mut response = outcome.unwrap_or_else(|error| self.error_response(error, is_get, uri.path(), &id));
        let route =
            response.data::<OperationId>().map_or_else(|| self.paths.route(uri.path()), |operation| operation.0);
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id.0.clone());
        cors.apply(headers);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // other sites must not show /docs in a frame; pages have set their own value
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static("frame-ancestors 'none'"));
        // most responses are about one caller, and many hold tokens; cacheable ones have set their own value
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        let elapsed = started.elapsed();
        self.state.metrics.count_request(route, method, response.status().as_str(), elapsed);
        if !span.is_disabled() {
            record_on_span(&span, method, route, response.status());
        }
        let status = response.status().as_u16();
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        if PROBE_PATHS.contains(&uri.path()) {
            tracing::debug!(target: "latchkey::request", request_id = id.as_str(), method, route, status, micros, "request");
        } else if cause.is_some() || response.status().is_server_error() {
            log_failure(id.as_str(), method, route, response.status(), micros, cause);
        } else {
            tracing::info!(target: "latchkey::request", request_id = id.as_str(), method, route, status, micros, "request");
        }
        response
    }

    /// The response to an error: an OAuth error, an error page, or a problem. `is_get` is false for other methods,
    /// such as the POST of a form: an error page then offers no retry.
    #[cold]
    fn error_response(&self, error: poem::Error, is_get: bool, path: &str, id: &RequestId) -> Response {
        // the response keeps the id of the operation, by which the log and the metrics name the route
        let operation = error.data::<OperationId>().copied();
        let mut response = match error.downcast_ref::<OAuthError>() {
            Some(error) => error.clone().into_response(),
            None => {
                let locale = error.data::<pages::VisitorLocale>().cloned();
                let problem = problem_mapping::problem_of(error, &self.paths, self.state.config.http.docs, path);
                let page = pages::error_page(&self.state, path, locale.as_ref(), is_get, &problem, id.as_str());
                page.unwrap_or_else(|| problem.into_response(id.as_str()))
            }
        };
        if let Some(operation) = operation {
            response.set_data(operation);
        }
        response
    }
}

/// Logs a panic of the request with this id, and returns the error for its response.
#[cold]
fn internal_error(panic: &(dyn Any + Send), id: &str) -> ProblemError {
    tracing::error!(
        request_id = id,
        cause = panic_message(panic),
        "a request failed with 500 because of a bug (a panic in its handler); other requests are unaffected. Report it with the panic's \
         message on standard error"
    );
    ProblemError::internal()
}

/// A method as the log names it. Unknown methods are `other`, because callers may invent methods of any length.
fn logged_method(method: &Method) -> &'static str {
    let names = ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"];
    names.into_iter().find(|name| method.as_str() == *name).unwrap_or("other")
}
