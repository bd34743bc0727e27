//! The metrics listener: `/metrics` for Prometheus, and `/readyz` with the details that the public `/readyz` leaves out.

use std::sync::Arc;

use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, get, handler, http::StatusCode, web::Data};
use serde_json::json;

use crate::{
    http::shutdown::Draining,
    service::{
        metrics,
        readiness::{self, Check, Status},
    },
    state::AppState,
};

/// Media type of Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The endpoint of the metrics listener. Its `/readyz` fails once `draining` is cancelled, because the public listener drains then. The
/// metrics listener itself serves until the service has stopped.
pub fn endpoint(state: Arc<AppState>, draining: Draining) -> impl Endpoint<Output = Response> + 'static {
    Route::new().at("/metrics", get(render)).at("/readyz", get(readyz)).data(state).data(draining).map_to_response()
}

#[handler]
async fn render(Data(state): Data<&Arc<AppState>>) -> Response {
    match metrics::render(state).await {
        Ok(text) => Response::builder().content_type(CONTENT_TYPE).body(text),
        Err(error) => {
            tracing::error!(
                %error,
                "rendering the metrics failed: /metrics answers 500, and the next request tries again; other requests are unaffected. If this lasts, \
                 report this line (a bug), and restart the node"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[handler]
async fn readyz(Data(state): Data<&Arc<AppState>>, Data(draining): Data<&Draining>) -> Response {
    let checks = readiness::check(state).await;
    let worst = readiness::worst(&checks);
    let describe = |check: &Check| {
        let problems: Vec<_> = check.problems.iter().map(|problem| problem.text.as_str()).collect();
        json!({ "name": check.name, "status": status_text(check.status), "problems": problems })
    };
    let is_draining = draining.0.is_cancelled();
    let summary = if is_draining { "draining" } else { status_text(worst) };
    let descriptions: Vec<_> = checks.iter().map(describe).collect();
    let body = json!({ "status": summary, "checks": descriptions });
    // a node with warnings is ready
    let is_ready = !is_draining && worst != Status::Failed;
    let status_code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Response::builder().status(status_code).content_type("application/json").body(body.to_string())
}

fn status_text(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Failed => "failed",
    }
}
