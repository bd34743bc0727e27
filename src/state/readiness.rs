//! Results of the readiness checks, cached for a moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

/// How long a result is reused: `/readyz` is public, and each check sends several commands to Redis and to the database.
const TTL: Duration = Duration::from_secs(1);

/// The state of one dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `redis` or `database`.
    pub name: &'static str,
    /// The status of the worst problem.
    pub status: Status,
    /// The problems, each with its remedy.
    pub problems: Vec<Problem>,
}

/// A problem of a dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A stable word, such as `persistence`.
    pub code: &'static str,
    /// The description for the operator. It names settings and addresses, never passwords.
    pub text: String,
}

/// The condition of a dependency, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// No problems.
    Ok,
    /// Works, with problems to fix.
    Warning,
    /// Does not work.
    Failed,
}

/// The last result of the readiness checks.
#[derive(Debug, Default)]
pub(crate) struct ReadinessCache {
    /// With the time at which the checks ended.
    last: Mutex<Option<(Instant, Arc<[Check]>)>>,
}

impl ReadinessCache {
    /// The last result if it is fresh, else the result of `check`. Callers that arrive while `check` runs wait for its result.
    pub(crate) async fn get_or_check(&self, check: impl Future<Output = Vec<Check>>) -> Arc<[Check]> {
        let mut last = self.last.lock().await;
        if let Some((checked_at, checks)) = &*last
            && checked_at.elapsed() < TTL
        {
            return Arc::clone(checks);
        }
        let checks: Arc<[Check]> = check.await.into();
        *last = Some((Instant::now(), Arc::clone(&checks)));
        checks
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn readiness_result_is_reused_until_its_ttl() {
        let cache = ReadinessCache::default();
        let runs = Cell::new(0);
        let check = || async {
            runs.set(runs.get() + 1);
            Vec::new()
        };
        tokio::join!(cache.get_or_check(check()), cache.get_or_check(check()), cache.get_or_check(check()));
        assert_eq!(runs.get(), 1, "two of three concurrent callers wait for the first");
        // makes the result as old as the TTL
        cache.last.lock().await.as_mut().unwrap().0 -= TTL;
        cache.get_or_check(check()).await;
        assert_eq!(runs.get(), 2);
    }
}
