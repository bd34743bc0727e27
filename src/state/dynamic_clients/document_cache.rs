//! Bounded cache of the documents of clients: metadata documents and key sets. One request at a time fetches a document. The document is
//! used for as long as its response is fresh, within bounds.

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
/// The shortest time for which a document is fresh, whatever its response says.
const MIN_FRESHNESS: Duration = Duration::from_mins(1);
/// The longest time for which a document is fresh, whatever its response says.
const MAX_FRESHNESS: Duration = Duration::from_hours(24);
/// The time for which a document is fresh if its response doesn't say.
const DEFAULT_FRESHNESS: Duration = Duration::from_hours(1);
/// The time after a failed fetch in which the document is not fetched again. Short, so that a developer who repairs the document
/// need not wait.
const FAILURE_BACKOFF: Duration = Duration::from_secs(10);

/// A time before every fetch: accepts the outcome of any fetch.
const BEFORE_ALL_FETCHES: Timestamp = Timestamp::from_millis(i64::MIN);

/// The content of a document, and the time for which its response says that the document is fresh.
pub(super) type FetchOutcome<T> = Result<(T, Option<Duration>), DocumentError>;

/// Documents and failures by URL.
pub(super) struct DocumentCache<T> {
    documents: Mutex<BoundedMap<String, Document<T>>>,
    /// The locks of the fetches in progress, by URL. The holder of a lock fetches; the others wait and find the result.
    in_progress: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// How long after its last successful fetch a document is used while its host does not answer (RFC 5861, section 4).
    stale_if_error: Duration,
    clock: Clock,
}

#[derive(Clone)]
struct Document<T> {
    outcome: Result<T, DocumentError>,
    /// The time of the last successful fetch. If no fetch has succeeded, the time of the failure.
    fetched_at: Timestamp,
    /// The time of the last fetch, successful or not.
    tried_at: Timestamp,
    /// The time from which a request fetches the document again.
    fresh_until: Timestamp,
}

impl<T: Clone> DocumentCache<T> {
    /// A cache whose documents are used for `stale_if_error` after their last successful fetch while their hosts do not answer.
    pub(super) fn new(stale_if_error: Duration, clock: &Clock) -> Self {
        Self {
            documents: Mutex::new(BoundedMap::new(MAX_DOCUMENTS)),
            in_progress: Mutex::default(),
            stale_if_error,
            clock: clock.clone(),
        }
    }

    /// The outcome of the last fetch, while it is fresh.
    pub(super) fn get(&self, url: &str) -> Option<Result<T, DocumentError>> {
        self.get_tried_after(url, BEFORE_ALL_FETCHES)
    }

    /// The outcome of the last fetch, while it is fresh and less than a minute old.
    pub(super) fn get_recent(&self, url: &str) -> Option<Result<T, DocumentError>> {
        self.get_tried_after(url, self.clock.now() - MIN_FRESHNESS)
    }

    /// The outcome of the last fetch, while it is fresh and if the fetch was later than `after`.
    fn get_tried_after(&self, url: &str, after: Timestamp) -> Option<Result<T, DocumentError>> {
        let now = self.clock.now();
        let mut documents = lock(&self.documents);
        let document = documents.get(url)?;
        let is_fresh = now < document.fresh_until;
        (is_fresh && after < document.tried_at).then(|| document.outcome.clone())
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
        self.get_or_fetch_after(url, BEFORE_ALL_FETCHES, fetch).await
    }

    /// The outcome of the last fetch, while it is fresh and less than a minute old, else the outcome of `fetch`. For a document that
    /// lacks an item which its owner may have added just now.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub(super) async fn get_recent_or_fetch(
        &self,
        url: &str,
        fetch: impl AsyncFnOnce() -> FetchOutcome<T>,
    ) -> Result<T, DocumentError> {
        self.get_or_fetch_after(url, self.clock.now() - MIN_FRESHNESS, fetch).await
    }

    /// The outcome of the last fetch, while it is fresh and if the fetch was later than `after`, else the outcome of `fetch`.
    async fn get_or_fetch_after(
        &self,
        url: &str,
        after: Timestamp,
        fetch: impl AsyncFnOnce() -> FetchOutcome<T>,
    ) -> Result<T, DocumentError> {
        let fetch_lock = Arc::clone(lock(&self.in_progress).entry(url.to_owned()).or_default());
        let outcome = {
            let _guard = fetch_lock.lock().await;
            // The previous holder of the lock may have fetched meanwhile.
            match self.get_tried_after(url, after) {
                Some(outcome) => outcome,
                None => self.store(url, fetch().await),
            }
        };
        // If only the map and this call own the lock (2 owners), no other call waits for it.
        let mut in_progress = lock(&self.in_progress);
        if Arc::strong_count(&fetch_lock) <= 2 {
            in_progress.remove(url);
        }
        outcome
    }

    /// Stores the outcome of a fetch, and returns the outcome to use: the former document if the host does not answer.
    fn store(&self, url: &str, outcome: FetchOutcome<T>) -> Result<T, DocumentError> {
        let (url, now) = (url.to_owned(), self.clock.now());
        let mut documents = lock(&self.documents);
        let document = match outcome {
            Ok((value, freshness)) => {
                let lifetime = freshness.unwrap_or(DEFAULT_FRESHNESS).clamp(MIN_FRESHNESS, MAX_FRESHNESS);
                Document { outcome: Ok(value), fetched_at: now, tried_at: now, fresh_until: now + lifetime }
            }
            Err(error) => {
                let usable = documents.get(&url).filter(|former| {
                    let age = now.saturating_since(former.fetched_at);
                    former.outcome.is_ok() && !error.is_final() && age < self.stale_if_error
                });
                let former = usable.cloned();
                // The host got no request, because this node has too many fetches in progress. The failure is not stored, so that the next
                // request fetches.
                if error == DocumentError::Fetch(FetchError::Busy) {
                    return former.map_or(Err(error), |former| former.outcome);
                }
                let (outcome, fetched_at) = match former {
                    Some(former) => (former.outcome, former.fetched_at),
                    None => (Err(error), now),
                };
                Document { outcome, fetched_at, tried_at: now, fresh_until: now + FAILURE_BACKOFF }
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
    /// The host's response that a document no longer exists, after which the former document is not used.
    const GONE: DocumentError = DocumentError::Fetch(FetchError::Status(410));

    const STALE_IF_ERROR: Duration = Duration::from_hours(2);

    /// A manual clock at an arbitrary time.
    fn manual_clock() -> Clock {
        Clock::manual(Timestamp::from_millis(1_800_000_000_000))
    }

    #[tokio::test]
    async fn document_is_used_while_its_host_does_not_answer_and_refused_when_it_is_gone() {
        let clock = manual_clock();
        let cache = DocumentCache::new(STALE_IF_ERROR, &clock);
        // Requests whose fetch succeeds or fails, if they fetch. The response of a success does not say how long it is fresh.
        let get_if_served = async || cache.get_or_fetch(URL, async || Ok(("document", None))).await;
        let get_if_failing = async |error| cache.get_or_fetch(URL, async || Err(error)).await;
        assert_eq!(get_if_failing(UNREACHABLE).await, Err(UNREACHABLE));
        clock.advance(FAILURE_BACKOFF);
        assert_eq!(get_if_served().await, Ok("document"));
        clock.advance(DEFAULT_FRESHNESS);
        assert_eq!(get_if_failing(UNREACHABLE).await, Ok("document"));
        assert_eq!(get_if_failing(GONE).await, Ok("document"), "not fetched again before the end of the backoff");
        clock.advance(FAILURE_BACKOFF);
        assert_eq!(get_if_failing(GONE).await, Err(GONE));
        clock.advance(FAILURE_BACKOFF);
        assert_eq!(get_if_served().await, Ok("document"));
        clock.advance(STALE_IF_ERROR);
        assert_eq!(get_if_failing(UNREACHABLE).await, Err(UNREACHABLE), "too stale");
    }

    #[tokio::test]
    async fn fetch_that_this_node_refuses_is_repeated_by_the_next_request() {
        let clock = manual_clock();
        let cache = DocumentCache::new(STALE_IF_ERROR, &clock);
        let get_if_busy = async || cache.get_or_fetch(URL, async || Err(BUSY)).await;
        let get_if_served = async || cache.get_or_fetch(URL, async || Ok(("first", None))).await;
        assert_eq!(get_if_busy().await, Err(BUSY));
        assert_eq!(get_if_served().await, Ok("first"), "fetched without a backoff");
        clock.advance(DEFAULT_FRESHNESS);
        assert_eq!(get_if_busy().await, Ok("first"), "the former document");
        assert_eq!(cache.get(URL), None, "the next request fetches");
    }

    #[tokio::test]
    async fn recent_document_is_fetched_once_a_minute_at_most() {
        let clock = manual_clock();
        let cache = DocumentCache::new(Duration::ZERO, &clock);
        let fetches = AtomicUsize::new(0);
        // The document is the number of the fetch.
        let fetch = async || Ok((fetches.fetch_add(1, Ordering::Relaxed) + 1, Some(Duration::from_hours(24))));
        assert_eq!(cache.get_or_fetch(URL, fetch).await, Ok(1));
        assert_eq!(cache.get_recent_or_fetch(URL, fetch).await, Ok(1));
        clock.advance(MIN_FRESHNESS);
        assert_eq!(cache.get_or_fetch(URL, fetch).await, Ok(1));
        for _ in 0..3 {
            assert_eq!(cache.get_recent_or_fetch(URL, fetch).await, Ok(2));
        }
    }
}
