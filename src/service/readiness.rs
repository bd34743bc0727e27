//! Readiness: checks Redis and the database, and reports the problems that an operator should fix.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

pub use crate::state::readiness::{Check, Problem, Status};
use crate::{
    domain::clock::Clock,
    state::AppState,
    store::{
        redis::{Finding, RedisError, RedisHealth, Severity},
        sql::Sql,
    },
};

/// Interval at which a lasting failure is logged again.
const FAILURE_INTERVAL: Duration = Duration::from_mins(1);
/// Interval at which a lasting warning is logged again.
const WARNING_INTERVAL: Duration = Duration::from_hours(1);
/// Pause between two checks of [`run_reporter`] while the node is not ready.
const PAUSE_WHILE_NOT_READY: Duration = Duration::from_secs(1);
/// Pause between two checks of [`run_reporter`] while the node is ready.
const PAUSE_WHILE_READY: Duration = Duration::from_secs(15);

/// Problem code: Redis or the database does not answer.
const UNAVAILABLE: &str = "unavailable";

/// Checks Redis and the database. Returns results that are up to a second old.
pub async fn check(state: &AppState) -> Arc<[Check]> {
    let checks = async {
        let (redis, database) = tokio::join!(check_redis(state), check_database(&state.sql));
        vec![redis, database]
    };
    state.readiness.get_or_check(checks).await
}

/// The worst status among the checks.
pub fn worst(checks: &[Check]) -> Status {
    checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok)
}

async fn check_redis(state: &AppState) -> Check {
    let (status, problems) = match redis_findings(&state.redis.health, &state.clock).await {
        Err(error) => (Status::Failed, vec![Problem { code: UNAVAILABLE, text: error.to_string() }]),
        Ok(findings) => {
            let status = findings.iter().map(|finding| Status::from(finding.severity)).max().unwrap_or(Status::Ok);
            let to_problem = |finding: Finding| Problem { code: finding.code, text: finding.detail };
            (status, findings.into_iter().map(to_problem).collect())
        }
    };
    Check { name: "redis", status, problems }
}

impl From<Severity> for Status {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Warning => Self::Warning,
            Severity::Error => Self::Failed,
        }
    }
}

/// The problems of Redis, including a clock that differs from this node's.
///
/// # Errors
/// [`RedisError::Unavailable`]
pub async fn redis_findings(health: &RedisHealth, clock: &Clock) -> Result<Vec<Finding>, RedisError> {
    let mut findings = health.inspect().await?;
    findings.extend(health.inspect_clock(clock).await?);
    Ok(findings)
}

async fn check_database(sql: &Sql) -> Check {
    match sql.ping().await {
        Ok(()) => Check { name: "database", status: Status::Ok, problems: Vec::new() },
        Err(error) => {
            let problem = Problem { code: UNAVAILABLE, text: format!("{error} ({})", sql.label()) };
            Check { name: "database", status: Status::Failed, problems: vec![problem] }
        }
    }
}

/// Checks at intervals and logs problems, until the node stops.
pub async fn run_reporter(state: &AppState) {
    let mut log = ProblemLog::default();
    loop {
        let checks = check(state).await;
        log.report(&checks, Instant::now());
        let pause = if worst(&checks) == Status::Failed { PAUSE_WHILE_NOT_READY } else { PAUSE_WHILE_READY };
        tokio::time::sleep(pause).await;
    }
}

/// Logs each problem when it appears. While a problem lasts, logs a failure again once a minute and a warning once an hour.
#[derive(Default)]
struct ProblemLog {
    /// When each problem was last logged, by the check's name and the problem's code.
    logged: HashMap<(&'static str, &'static str), Instant>,
    /// When the node was last logged as not ready; `None` while it is ready.
    not_ready_at: Option<Instant>,
    /// Whether the node was last logged as ready.
    was_ready: bool,
}

impl ProblemLog {
    /// Logs the problems that are due, and each change of readiness. While the node is not ready, logs that again once a minute.
    fn report(&mut self, checks: &[Check], now: Instant) {
        for check in checks {
            for problem in &check.problems {
                if self.record_if_due(check, problem, now) {
                    let (name, code) = (check.name, problem.code);
                    match check.status {
                        Status::Failed => tracing::error!(check = name, code, "{}", problem.text),
                        _ => tracing::warn!(check = name, code, "{}", problem.text),
                    }
                }
            }
        }
        if worst(checks) != Status::Failed {
            if !self.was_ready {
                tracing::info!("ready");
            }
            self.was_ready = true;
            self.not_ready_at = None;
        } else if self.not_ready_at.is_none_or(|at| now.saturating_duration_since(at) >= FAILURE_INTERVAL) {
            let failed: Vec<_> =
                checks.iter().filter(|check| check.status == Status::Failed).map(|check| check.name).collect();
            tracing::error!(
                failed = failed.join(", "),
                "not ready: /readyz fails until these checks pass; they are repeated every second. `latchkey doctor` explains the problems"
            );
            self.was_ready = false;
            self.not_ready_at = Some(now);
        }
    }

    /// Returns whether a problem is due to be logged. If so, records that it is logged now.
    fn record_if_due(&mut self, check: &Check, problem: &Problem, now: Instant) -> bool {
        // The Redis connections log an outage themselves, at once.
        if (check.name, problem.code) == ("redis", UNAVAILABLE) {
            return false;
        }
        let interval = if check.status == Status::Failed { FAILURE_INTERVAL } else { WARNING_INTERVAL };
        let last = self.logged.get(&(check.name, problem.code));
        let is_due = last.is_none_or(|last| now.saturating_duration_since(*last) >= interval);
        if is_due {
            self.logged.insert((check.name, problem.code), now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_log_repeats_failures_once_a_minute() {
        let failed = |name| Check {
            name,
            status: Status::Failed,
            problems: vec![Problem { code: UNAVAILABLE, text: "connection refused".to_owned() }],
        };
        let (database, redis) = (failed("database"), failed("redis"));
        let (mut log, start) = (ProblemLog::default(), Instant::now());
        let mut is_due =
            |check: &Check, secs| log.record_if_due(check, &check.problems[0], start + Duration::from_secs(secs));
        assert!(is_due(&database, 0));
        assert!(!is_due(&database, 1));
        assert!(!is_due(&database, 59));
        assert!(is_due(&database, 60));
        assert!(!is_due(&database, 61));
        assert!(!is_due(&redis, 62), "the Redis connections log their own outages");
    }
}
