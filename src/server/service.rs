//! Converts hyper's requests and responses for poem's endpoint.

use std::{any::Any, convert::Infallible, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use hyper::{Request, Response, body::Incoming};
use poem::{
    Endpoint,
    http::{HeaderValue, Method, StatusCode, Version, header::CONNECTION, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};

use super::{
    activity::{Activity, TrackedBody},
    connection::Context,
};
use crate::{
    http::{
        shutdown::{Draining, ShutdownSignals, Stopping},
        takeover::Takeover,
    },
    logging::panic_message,
};

/// Serves the requests of one connection.
pub(super) struct Service<E> {
    /// The endpoint, the settings and the shutdown signals that all connections share.
    pub(super) context: Arc<Context<E>>,
    /// The connection's requests in flight.
    pub(super) activity: Arc<Activity>,
    /// Lets a handler take the connection over from hyper.
    pub(super) takeover: Takeover,
    /// The address of this node to which the client has connected.
    pub(super) local: SocketAddr,
    /// The peer's address, before any `forwarded_header` is read.
    pub(super) remote: SocketAddr,
}

impl<E: Endpoint + 'static> hyper::service::Service<Request<Incoming>> for Service<E> {
    type Response = Response<TrackedBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin();
        let context = Arc::clone(&self.context);
        // Of all handlers, only those of readiness checks and event streams (GET and HEAD) read the shutdown signals.
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            let draining = Draining(context.drain.token().clone());
            let stopping = Stopping(context.stop.token().clone());
            request.extensions_mut().insert(ShutdownSignals { draining, stopping });
        }
        let version = request.version();
        // Only event streams take the connection over. Over HTTP/2, a connection carries other streams as well.
        if *request.method() == Method::GET && version == Version::HTTP_11 {
            request.extensions_mut().insert(self.takeover.clone());
        }
        let local = LocalAddr(self.local.into());
        let remote = RemoteAddr(self.remote.into());
        Box::pin(async move {
            let response = context.endpoint.get_response((request, local, remote, Scheme::HTTP).into());
            // If a handler panics, hyper alone would close the connection without a response.
            let response = AssertUnwindSafe(response).catch_unwind().await;
            let response = response.unwrap_or_else(|panic| internal_error(&*panic));
            let mut response: Response<_> = response.into();
            let must_close = leaves_a_body_unread(response.status()) || context.drain.is_triggered();
            // While the node drains, clients are to move to other nodes. HTTP/2 forbids this header (RFC 9113, section 8.2.2).
            if version < Version::HTTP_2 && must_close {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // The request is in flight until the response's body is sent.
            Ok(response.map(|body| TrackedBody::new(body, in_flight)))
        })
    }
}

/// Logs a panic, and returns the response to its request.
#[cold]
fn internal_error(panic: &(dyn Any + Send)) -> poem::Response {
    tracing::error!(
        cause = panic_message(panic),
        "a request failed with 500 because of a bug (a panic in its handler); other requests are unaffected. Report it with the panic's \
         message on standard error"
    );
    StatusCode::INTERNAL_SERVER_ERROR.into()
}

/// Whether the rest of the request's body may still arrive after a response with this status, so that the connection can't be
/// reused (RFC 9110, sections 15.5.9 and 15.5.14).
fn leaves_a_body_unread(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE)
}
