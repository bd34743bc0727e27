//! Whether the service can do its work now, and what its operator should mend.

use crate::{
    domain::clock::Clock,
    state::AppState,
    store::redis::{Finding, RedisError, RedisHealth, Severity},
};

/// The state of one thing that the service needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `redis`, `database` or `service`.
    pub name: &'static str,
    /// How it is.
    pub status: Status,
    /// What is wrong, and what to do about it.
    pub problems: Vec<String>,
}

/// How something that is needed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All is well.
    Ok,
    /// It works, but something should be mended.
    Warning,
    /// It doesn't work.
    Failed,
}

/// Looks at everything that is needed.
pub async fn check(state: &AppState) -> Vec<Check> {
    let (redis, database) = tokio::join!(redis(state), database(state));
    vec![redis, database]
}

/// How the service is once it was told to stop.
pub fn stopping() -> Check {
    let problems = vec!["The service was told to stop, and is about to.".to_owned()];
    Check { name: "service", status: Status::Failed, problems }
}

async fn redis(state: &AppState) -> Check {
    let (status, problems) = match redis_findings(&state.redis.health, &state.clock).await {
        Err(error) => (Status::Failed, vec![error.to_string()]),
        Ok(findings) => {
            let status = if findings.iter().any(|finding| finding.severity == Severity::Error) {
                Status::Failed
            } else if findings.is_empty() {
                Status::Ok
            } else {
                Status::Warning
            };
            (status, findings.into_iter().map(|finding| finding.detail).collect())
        }
    };
    Check { name: "redis", status, problems }
}

/// What is wrong with Redis, its clock included: for `/readyz`, the log and `latchkey doctor`.
///
/// # Errors
/// [`RedisError::Unavailable`]
pub async fn redis_findings(health: &RedisHealth, clock: &Clock) -> Result<Vec<Finding>, RedisError> {
    let mut findings = health.inspect().await?;
    findings.extend(health.inspect_clock(clock).await?);
    Ok(findings)
}

async fn database(state: &AppState) -> Check {
    match state.sql.ping().await {
        Ok(()) => Check { name: "database", status: Status::Ok, problems: Vec::new() },
        Err(error) => Check { name: "database", status: Status::Failed, problems: vec![error.to_string()] },
    }
}
