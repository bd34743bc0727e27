//! `/metrics` for Prometheus, on a listener of its own.

use std::sync::Arc;

use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, get, handler, http::StatusCode, web::Data};

use crate::{service::metrics, state::AppState};

/// Media type of Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The endpoint of the metrics listener.
pub fn endpoint(state: Arc<AppState>) -> impl Endpoint<Output = Response> + 'static {
    Route::new().at("/metrics", get(render)).data(state).map_to_response()
}

#[handler]
async fn render(Data(state): Data<&Arc<AppState>>) -> Response {
    match metrics::render(state).await {
        Ok(text) => Response::builder().content_type(CONTENT_TYPE).body(text),
        Err(error) => {
            tracing::error!(%error, "failed to render metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
