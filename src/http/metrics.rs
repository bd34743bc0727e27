//! `/metrics`, on a listener of its own: what Prometheus reads.

use std::sync::Arc;

use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, get, handler, http::StatusCode, web::Data};

use crate::{service::metrics, state::AppState};

/// The type of Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that this listener serves.
pub fn endpoint(state: Arc<AppState>) -> impl Endpoint<Output = Response> + 'static {
    Route::new().at("/metrics", get(tell)).data(state).map_to_response()
}

#[handler]
async fn tell(Data(state): Data<&Arc<AppState>>) -> Response {
    match metrics::text(state).await {
        Ok(text) => Response::builder().content_type(CONTENT_TYPE).body(text),
        Err(error) => {
            tracing::error!(%error, "the metrics can't be told");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
