//! `GET /livez`, `GET /readyz`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, payload::Json};

use super::Tag;
use crate::{
    http::shutdown::Draining,
    service::readiness::{self, Status},
    state::AppState,
};

/// Liveness and readiness probes.
pub struct HealthApi;

// The schema calls this type `Status`. In this file, `Status` is the result of a check.
/// The condition of the service.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
#[oai(rename = "Status", rename_all = "snake_case")]
enum StatusName {
    /// The service works.
    Ok,
    /// The service can't work at the moment, or is shutting down.
    Unavailable,
}

/// The answer of a probe.
#[derive(Object)]
struct Health {
    /// `ok` or `unavailable`.
    status: StatusName,
}

#[derive(ApiResponse)]
enum LiveResponse {
    /// The process is alive.
    #[oai(status = 200)]
    Ok(Json<Health>),
}

#[derive(ApiResponse)]
enum ReadyResponse {
    /// Redis and the database work.
    #[oai(status = 200)]
    Ready(Json<Health>),
    /// Redis or the database does not work, or the service is shutting down.
    #[oai(status = 503)]
    NotReady(Json<Health>),
}

#[OpenApi(tag = "Tag::Health")]
impl HealthApi {
    /// Liveness probe
    ///
    /// Restart the process when this fails.
    #[oai(path = "/livez", method = "get", operation_id = "livez")]
    async fn livez(&self) -> LiveResponse {
        LiveResponse::Ok(Json(Health { status: StatusName::Ok }))
    }

    /// Readiness probe
    ///
    /// Checks Redis and the database, at most once a second. Send requests to another node while this fails. Fails as soon
    /// as the service receives the signal to stop. It serves requests until `http.drain_delay` has passed. The cause of a
    /// failure is for operators only: see the log, `/readyz` of the metrics listener, or `latchkey doctor`.
    #[oai(path = "/readyz", method = "get", operation_id = "readyz")]
    async fn readyz(&self, Data(state): Data<&Arc<AppState>>, Draining(draining): Draining) -> ReadyResponse {
        // a draining node (one that shuts down) is not ready, whatever the checks would find
        if draining.is_cancelled() || readiness::worst(&readiness::check(state).await) == Status::Failed {
            return ReadyResponse::NotReady(Json(Health { status: StatusName::Unavailable }));
        }
        ReadyResponse::Ready(Json(Health { status: StatusName::Ok }))
    }
}
