//! Middleware for `tower`, and so for axum, hyper and tonic.
//!
//! [`VerifyLayer`] lets requests with a valid access token pass, and adds `Arc<Claims>` and [`VerifiedSession`] to their
//! extensions. It answers other requests with 401 and a challenge (RFC 6750, section 3; RFC 9470, section 3), with 403 if a
//! required role or scope is missing, or with 503 and `Retry-After` if the token cannot be verified now. The body of these
//! responses is empty.
//!
//! A response body of unknown length, such as an event stream, ends when the session ends ([`SessionBody`]). With the
//! feature `tower-upgrade`, an upgraded connection ends too: the layer closes the connection, and the handler reads the end of the
//! stream. A WebSocket gets a close frame first, with a close code and the cause.
//!
//! Without the feature `tower-upgrade`, the layer does not close upgraded connections. The handler has to watch the session, and to
//! close the connection when the session ends:
//!
//! ```no_run
//! use latchkey_verify::VerifiedSession;
//!
//! # async fn handle(request: http::Request<()>, connection: impl Future<Output = ()> + Send + 'static) {
//! let Some(session) = request.extensions().get::<VerifiedSession>() else { return };
//! let mut watch = session.watch();
//! tokio::spawn(async move {
//!     if let Err(cause) = watch.run(connection).await {
//!         println!("the connection is closed: {cause}");
//!     }
//! });
//! # }
//! ```

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

#[cfg(feature = "tower-upgrade")]
mod upgrade;
#[cfg(feature = "tower-upgrade")]
mod websocket_frames;

#[cfg(doc)]
use crate::VerifiedSession;
pub use crate::session_end::body::{SessionBody, SessionEnded};
use crate::{
    bearer::Refusal,
    guard::{Guard, guard_methods},
};

/// Wraps a service in a [`VerifyService`].
#[derive(Clone, Debug)]
pub struct VerifyLayer {
    guard: Guard,
}

guard_methods!(VerifyLayer);

impl<S> Layer<S> for VerifyLayer {
    type Service = VerifyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        VerifyService { guard: self.guard.clone(), inner }
    }
}

/// Lets requests with a valid access token pass to the inner service.
#[derive(Clone, Debug)]
pub struct VerifyService<S> {
    guard: Guard,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for VerifyService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Body + Default,
{
    type Response = Response<SessionBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // `poll_ready` made `self.inner` ready, but not its clone, so the clone stays for the next request.
        let clone = self.inner.clone();
        let mut ready_inner = mem::replace(&mut self.inner, clone);
        let guard = self.guard.clone();
        Box::pin(async move {
            match guard.authorize(request.headers()).await {
                Ok(session) => {
                    request.extensions_mut().insert(Arc::clone(session.claims()));
                    request.extensions_mut().insert(session.clone());
                    // a tunnel closes an upgraded connection when the session ends
                    #[cfg(feature = "tower-upgrade")]
                    let tunnel = upgrade::Tunnel::open(&mut request, &session).await;
                    let response = ready_inner.call(request).await?;
                    #[cfg(feature = "tower-upgrade")]
                    if let Some(tunnel) = tunnel {
                        tunnel.connect(&response);
                    }
                    let (head, body) = response.into_parts();
                    let body = SessionBody::new(body, &head.headers, &session);
                    Ok(Response::from_parts(head, body))
                }
                Err(refusal) => Ok(refusal_response(&refusal)),
            }
        })
    }
}

/// A response with the refusal's status and headers, and an empty body.
fn refusal_response<R: Default>(refusal: &Refusal) -> Response<SessionBody<R>> {
    let mut response = Response::new(SessionBody::without_session(R::default()));
    *response.status_mut() = refusal.status();
    *response.headers_mut() = refusal.headers();
    response
}
