//! `GET /livez`, `GET /readyz`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, payload::Json};

use super::Tag;
use crate::{
    http::shutdown::Draining,
    service::readiness::{self, Check, Status},
    state::AppState,
};

/// Whether the service lives and can work.
pub struct HealthApi;

/// How something is.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
#[oai(rename = "Status", rename_all = "snake_case")]
enum StatusName {
    /// All is well.
    Ok,
    /// It works, but something should be mended.
    Warning,
    /// It doesn't work.
    Failed,
}

impl From<Status> for StatusName {
    fn from(status: Status) -> Self {
        match status {
            Status::Ok => Self::Ok,
            Status::Warning => Self::Warning,
            Status::Failed => Self::Failed,
        }
    }
}

/// That the process runs.
#[derive(Object)]
struct Liveness {
    /// Always `ok`.
    status: StatusName,
}

/// Whether the service can do its work.
#[derive(Object)]
struct Readiness {
    /// The worst of the checks.
    status: StatusName,
    /// What was looked at.
    checks: Vec<CheckResponse>,
}

/// One thing that the service needs.
#[derive(Object)]
#[oai(rename = "Check")]
struct CheckResponse {
    /// What it is: `redis`, `database`, or `service` once that was told to stop.
    name: String,
    /// How it is.
    status: StatusName,
    /// What is wrong, and what to do about it.
    problems: Vec<String>,
}

#[derive(ApiResponse)]
enum LiveResponse {
    /// The process runs.
    #[oai(status = 200)]
    Ok(Json<Liveness>),
}

#[derive(ApiResponse)]
enum ReadyResponse {
    /// It can work, though something may have to be mended.
    #[oai(status = 200)]
    Ready(Json<Readiness>),
    /// It can't work now.
    #[oai(status = 503)]
    NotReady(Json<Readiness>),
}

#[OpenApi(tag = "Tag::Health")]
impl HealthApi {
    /// Is the process alive?
    ///
    /// Answers as long as the process can answer at all. Restart it when this fails.
    #[oai(path = "/livez", method = "get", operation_id = "livez")]
    async fn livez(&self) -> LiveResponse {
        LiveResponse::Ok(Json(Liveness { status: StatusName::Ok }))
    }

    /// Can it do its work?
    ///
    /// Asks Redis and the database, and looks at how Redis is configured. Send requests to another node while this fails.
    /// It fails as soon as the service is told to stop, which then serves on for a while (`http.drain_delay`).
    #[oai(path = "/readyz", method = "get", operation_id = "readyz")]
    async fn readyz(&self, Data(state): Data<&Arc<AppState>>, Draining(told): Draining) -> ReadyResponse {
        if told.is_cancelled() {
            let checks = vec![describe(readiness::stopping())];
            return ReadyResponse::NotReady(Json(Readiness { status: StatusName::Failed, checks }));
        }
        let checks: Vec<CheckResponse> = readiness::check(state).await.into_iter().map(describe).collect();
        let is = |status| checks.iter().any(|check| check.status == status);
        if is(StatusName::Failed) {
            return ReadyResponse::NotReady(Json(Readiness { status: StatusName::Failed, checks }));
        }
        let status = if is(StatusName::Warning) { StatusName::Warning } else { StatusName::Ok };
        ReadyResponse::Ready(Json(Readiness { status, checks }))
    }
}

fn describe(check: Check) -> CheckResponse {
    CheckResponse { name: check.name.to_owned(), status: check.status.into(), problems: check.problems }
}
