//! Bounded cache of the documents of clients. One request at a time fetches a document, which is used for as long as its response is fresh,
//! within bounds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{error::DocumentError, lock};
use crate::{
    domain::{
        bounded_map::BoundedMap,
        clock::{Clock, Timestamp},
    },
    fetch::FetchError,
};

/// The maximum number of documents that a node keeps.
pub(super) const MAX_DOCUMENTS: usize = 2048;
/// The shortest and the longest time for which a document is used, whatever its response says.
const FRESHNESS_BOUNDS: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(24));
/// The time for which a document is used if its response doesn't say.
const FRESH_BY_DEFAULT: Duration = Duration::from_hours(1);
/// The time after a failed fetch in which the document is not fetched again. Short, so that a developer who repairs it need not wait.
const FAILURE_BACKOFF: Duration = Duration::from_secs(10);

/// The content of a document, and for how long its response says that it may be used.
pub(super) type FetchOutcome<T> = Result<(T, Option<Duration>), DocumentError>;

/// Documents and failures by URL.
pub(super) struct DocumentCache<T> {
    documents: Mutex<BoundedMap<String, Document<T>>>,
    /// Fetches in progress by URL. The holder of the lock fetches; the others wait and find the result.
    in_progress: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// How long a document is used after its fetch while its host does not answer.
    stale: Duration,
    clock: Clock,
}

#[derive(Clone)]
struct Document<T> {
    outcome: Result<T, DocumentError>,
    /// When the last successful fetch was; if no fetch has succeeded, the time of the failure.
    fetched_at: Timestamp,
    /// The last attempt.
    tried_at: Timestamp,
    /// When the document is fetched again.
    until: Timestamp,
}

impl<T: Clone> DocumentCache<T> {
    /// A cache whose documents are used for `stale` after their fetch while their hosts do not answer.
    pub(super) fn new(stale: Duration, clock: &Clock) -> Self {
        Self {
            documents: Mutex::new(BoundedMap::new(MAX_DOCUMENTS)),
            in_progress: Mutex::default(),
            stale,
            clock: clock.clone(),
        }
    }

    /// The outcome of the last fetch, while it is fresh.
    pub(super) fn get(&self, url: &str) -> Option<Result<T, DocumentError>> {
        self.get_tried_after(url, Timestamp::from_millis(i64::MIN))
    }

    /// The outcome of the last fetch, while it is fresh and at most a minute old.
    pub(super) fn get_newer(&self, url: &str) -> Option<Result<T, DocumentError>> {
        self.get_tried_after(url, self.clock.now() - FRESHNESS_BOUNDS.0)
    }

    fn get_tried_after(&self, url: &str, after: Timestamp) -> Option<Result<T, DocumentError>> {
        let now = self.clock.now();
        let mut documents = lock(&self.documents);
        let found = documents.get(&url.to_owned()).filter(|it| now < it.until && after < it.tried_at);
        found.map(|document| document.outcome.clone())
    }

    /// The outcome of the last fetch, while it is fresh, else the outcome of `fetch`.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub(super) async fn get_or_fetch(
        &self,
        url: &str,
        fetch: impl AsyncFnOnce() -> FetchOutcome<T>,
    ) -> Result<T, DocumentError> {
        self.get_or_fetch_after(url, Timestamp::from_millis(i64::MIN), fetch).await
    }

    /// As [`Self::get_or_fetch`], but also fetches a document again whose last fetch is more than a minute ago: for a document that lacks
    /// something which its owner may have added just now.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub(super) async fn get_newer_or_fetch(
        &self,
        url: &str,
        fetch: impl AsyncFnOnce() -> FetchOutcome<T>,
    ) -> Result<T, DocumentError> {
        self.get_or_fetch_after(url, self.clock.now() - FRESHNESS_BOUNDS.0, fetch).await
    }

    async fn get_or_fetch_after(
        &self,
        url: &str,
        after: Timestamp,
        fetch: impl AsyncFnOnce() -> FetchOutcome<T>,
    ) -> Result<T, DocumentError> {
        let fetch_lock = Arc::clone(lock(&self.in_progress).entry(url.to_owned()).or_default());
        let outcome = {
            let _guard = fetch_lock.lock().await;
            match self.get_tried_after(url, after) {
                Some(outcome) => outcome,
                None => self.store(url, fetch().await),
            }
        };
        // Two owners: the map and this call.
        let mut in_progress = lock(&self.in_progress);
        if Arc::strong_count(&fetch_lock) <= 2 {
            in_progress.remove(url);
        }
        outcome
    }

    fn store(&self, url: &str, outcome: FetchOutcome<T>) -> Result<T, DocumentError> {
        let (url, now) = (url.to_owned(), self.clock.now());
        let mut documents = lock(&self.documents);
        let document = match outcome {
            Ok((value, freshness)) => {
                let lifetime = freshness.unwrap_or(FRESH_BY_DEFAULT).clamp(FRESHNESS_BOUNDS.0, FRESHNESS_BOUNDS.1);
                Document { outcome: Ok(value), fetched_at: now, tried_at: now, until: now + lifetime }
            }
            Err(error) => {
                let former = documents.get(&url).filter(|it| it.outcome.is_ok() && !error.is_final());
                let former = former.filter(|it| now.saturating_since(it.fetched_at) < self.stale).cloned();
                // This node has refused the fetch, not the host: the next request tries again.
                if error == DocumentError::Fetch(FetchError::Busy) {
                    return former.map_or(Err(error), |former| former.outcome);
                }
                let failed = Document { outcome: Err(error), fetched_at: now, tried_at: now, until: now };
                Document { tried_at: now, until: now + FAILURE_BACKOFF, ..former.unwrap_or(failed) }
            }
        };
        let outcome = document.outcome.clone();
        documents.insert(url, document);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const URL: &str = "https://app.example.com/jwks";
    const UNREACHABLE: DocumentError = DocumentError::Fetch(FetchError::Connect);
    const BUSY: DocumentError = DocumentError::Fetch(FetchError::Busy);
    const GONE: DocumentError = DocumentError::Fetch(FetchError::Status(410));

    #[tokio::test]
    async fn former_document_is_used_while_the_host_does_not_answer_and_not_when_it_is_gone() {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let cache = DocumentCache::new(Duration::from_hours(2), &clock);
        let fetched = async || cache.get_or_fetch(URL, async || Ok(("old", None))).await;
        let fails = async |error| cache.get_or_fetch(URL, async || Err(error)).await;
        assert_eq!(fails(UNREACHABLE).await, Err(UNREACHABLE));
        clock.advance(FAILURE_BACKOFF);
        assert_eq!(fetched().await, Ok("old"));
        clock.advance(FRESH_BY_DEFAULT);
        assert_eq!(fails(UNREACHABLE).await, Ok("old"));
        assert_eq!(fails(GONE).await, Ok("old"), "not fetched again yet");
        clock.advance(FAILURE_BACKOFF);
        assert_eq!(fails(GONE).await, Err(GONE));
        clock.advance(FAILURE_BACKOFF);
        assert_eq!(fetched().await, Ok("old"));
        clock.advance(Duration::from_hours(2));
        assert_eq!(fails(UNREACHABLE).await, Err(UNREACHABLE), "too stale");
    }

    #[tokio::test]
    async fn fetch_that_this_node_refuses_is_tried_again_at_once() {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let cache = DocumentCache::new(Duration::from_hours(2), &clock);
        let busy = async || cache.get_or_fetch(URL, async || Err(BUSY)).await;
        let fetched = async || cache.get_or_fetch(URL, async || Ok(("new", None))).await;
        assert_eq!(busy().await, Err(BUSY));
        assert_eq!(fetched().await, Ok("new"));
        clock.advance(FRESH_BY_DEFAULT);
        assert_eq!(busy().await, Ok("new"), "the former document");
        assert_eq!(cache.get(URL), None);
    }

    #[tokio::test]
    async fn newer_document_is_fetched_once_a_minute_at_most() {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let cache = DocumentCache::new(Duration::ZERO, &clock);
        let fetches = AtomicUsize::new(0);
        let fetch = async || Ok((fetches.fetch_add(1, Ordering::Relaxed) + 1, Some(Duration::from_hours(24))));
        assert_eq!(cache.get_or_fetch(URL, fetch).await, Ok(1));
        assert_eq!(cache.get_newer_or_fetch(URL, fetch).await, Ok(1));
        clock.advance(FRESHNESS_BOUNDS.0);
        assert_eq!(cache.get_or_fetch(URL, fetch).await, Ok(1));
        for _ in 0..3 {
            assert_eq!(cache.get_newer_or_fetch(URL, fetch).await, Ok(2));
        }
    }
}
