//! Tests how [`Feed`] processes events, without a network.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use super::*;
use crate::{id::Id, key_store::Lookup, token::Session};

/// Two sessions of [`ACCOUNT`].
const ONE: &str = "01a20697-5375-7a3f-a5d0-8181bd56c321";
const OTHER: &str = "26f7a44c-4962-415a-8593-3e92483050f8";
const ACCOUNT: &str = "7d444840-9dc0-11d1-b245-5ffdce74fad2";

/// After how many seconds without an event the feed is no longer current.
const MAX_STALENESS: i64 = 5;

/// The tolerated clock skew, in seconds.
const LEEWAY: i64 = 5;

/// The `retain_seconds` of the fixture's feed.
const RETAIN: i64 = 310;

/// A change of the wall clock that is longer than every limit above.
const HOUR_MILLIS: i64 = 3_600_000;

/// A wall clock and a monotonic clock that tests move.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestClock {
    /// Milliseconds of the wall clock.
    pub(crate) unix: Arc<AtomicI64>,
    /// Milliseconds of the monotonic clock.
    elapsed: Arc<AtomicI64>,
}

impl TestClock {
    pub(crate) fn advance(&self, seconds: i64) {
        self.unix.fetch_add(seconds * 1000, Ordering::SeqCst);
        self.elapsed.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn unix_millis(&self) -> i64 {
        self.unix.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// A feed with one stream.
struct Fixture {
    feed: Feed,
    stream: StreamState,
    state: FeedState,
    keys: KeyStore,
    clock: TestClock,
}

impl Fixture {
    /// A feed whose limit of revocations is higher than any test needs.
    fn new() -> Self {
        Self::with_max_revocations(10)
    }

    fn with_max_revocations(max_revocations: usize) -> Self {
        let url: Url = "https://auth.example.com/v1/revocations".parse().unwrap();
        let max_staleness = Duration::from_secs(MAX_STALENESS.unsigned_abs());
        let leeway_millis = LEEWAY * 1000;
        let settings = Settings {
            url: url.clone(),
            client_id: "shop".to_owned(),
            authorization: HeaderValue::from_static("Basic x"),
            max_staleness,
            leeway: leeway_millis,
            max_revocations,
        };
        let registry = Arc::new(Registry::new(leeway_millis, max_staleness));
        let clock = TestClock::default();
        Self {
            feed: Feed::new(settings, registry, &clock),
            stream: StreamState::default(),
            state: FeedState::default(),
            keys: KeyStore::new(url, Duration::from_secs(1)),
            clock,
        }
    }

    /// Processes one event, as if the connection had been opened with the id of the last event, if there is one.
    fn process(&mut self, event: &str, data: &str, id: Option<&str>) -> Result<(), Disconnect> {
        let message = Message { event: event.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) };
        let resuming = self.state.last_event_id.is_some();
        self.feed.process(&message, resuming, &mut self.stream, &mut self.state, &self.keys, &self.clock)
    }

    /// Receives valid events from a list, separated by spaces: the names of events, and session ids. A session id stands for the
    /// revocation of that session.
    fn receive(&mut self, events: &str) {
        for event in events.split_whitespace() {
            let (event, data, id) = match event {
                "snapshot" | "resumed" => (event, format!(r#"{{"retain_seconds":{RETAIN}}}"#), None),
                "live" | "heartbeat" => (event, "{}".to_owned(), Some("7")),
                "gap" => (event, "{}".to_owned(), None),
                session => ("revocation", revocation_of(session), None),
            };
            // As in any stream of server-sent events, an event without an id has that of the event before.
            let last_id = self.state.last_event_id.clone();
            self.process(event, &data, id.or(last_id.as_deref())).unwrap();
        }
    }

    /// Starts a new connection.
    fn reconnect(&mut self) {
        self.stream = StreamState::default();
    }

    fn is_current(&self) -> bool {
        self.feed.is_current(self.clock.elapsed(), self.clock.unix_millis())
    }

    fn is_revoked(&self, session: &str) -> bool {
        let [id, account] = [session, ACCOUNT].map(|id| Id::parse(id).unwrap());
        // Revocations of sessions depend on the id alone.
        self.feed.revocations.contains(&Session { id, account, began: 0, claims_version: None, issued: 0 })
    }
}

fn revocation_of(session: &str) -> String {
    format!(r#"{{"kind":"session","account_id":"{ACCOUNT}","session_id":"{session}","at":"2026-11-23T04:08:30.325Z"}}"#)
}

#[test]
fn feed_is_current_from_live_on_until_it_is_silent() {
    let mut fixture = Fixture::new();
    assert!(!fixture.is_current());
    // A revocation has an effect at once, even while others may be missing.
    fixture.receive(&format!("snapshot {ONE}"));
    assert!(!fixture.is_current() && fixture.is_revoked(ONE));
    fixture.receive("live");
    assert!(fixture.is_current());
    fixture.clock.advance(MAX_STALENESS);
    assert!(fixture.is_current());
    fixture.clock.advance(1);
    assert!(!fixture.is_current());
    fixture.receive("heartbeat");
    assert!(fixture.is_current());
    // A revocation also ends the silence: without it, the two steps would exceed `MAX_STALENESS`.
    fixture.clock.advance(MAX_STALENESS - 1);
    fixture.receive(OTHER);
    fixture.clock.advance(MAX_STALENESS - 1);
    assert!(fixture.is_current() && fixture.is_revoked(OTHER));
}

#[test]
fn silence_is_measured_by_both_clocks() {
    let too_long_millis = (MAX_STALENESS + 1) * 1000;
    for millis_of in [|clock: &TestClock| clock.unix.clone(), |clock: &TestClock| clock.elapsed.clone()] {
        let mut fixture = Fixture::new();
        fixture.receive("snapshot live");
        millis_of(&fixture.clock).fetch_add(too_long_millis, Ordering::SeqCst);
        assert!(!fixture.is_current());
    }
    // a wall clock that was set back has no effect
    let mut fixture = Fixture::new();
    fixture.receive("snapshot live");
    fixture.clock.unix.fetch_sub(HOUR_MILLIS, Ordering::SeqCst);
    assert!(fixture.is_current());
    fixture.clock.elapsed.fetch_add(too_long_millis, Ordering::SeqCst);
    assert!(!fixture.is_current());
}

#[test]
fn events_before_live_do_not_make_the_feed_current() {
    let mut fixture = Fixture::new();
    fixture.receive("snapshot live");
    fixture.reconnect();
    fixture.clock.advance(MAX_STALENESS + 1);
    fixture.receive(&format!("resumed {ONE}"));
    assert!(!fixture.is_current() && fixture.is_revoked(ONE));
    fixture.receive("live");
    assert!(fixture.is_current());
}

#[test]
fn complete_snapshot_replaces_all_earlier_revocations() {
    let mut fixture = Fixture::new();
    fixture.receive(&format!("snapshot {ONE} live {OTHER}"));
    fixture.reconnect();
    // An incomplete snapshot replaces nothing.
    fixture.receive(&format!("snapshot {OTHER}"));
    assert!(fixture.is_revoked(ONE) && fixture.is_revoked(OTHER));
    fixture.receive("live");
    assert!(!fixture.is_revoked(ONE) && fixture.is_revoked(OTHER));
    // A resumption adds to the earlier revocations.
    fixture.reconnect();
    fixture.receive(&format!("resumed {ONE} live"));
    assert!(fixture.is_revoked(ONE) && fixture.is_revoked(OTHER));
}

#[test]
fn gap_makes_the_feed_stale_until_the_next_snapshot() {
    let mut fixture = Fixture::new();
    fixture.receive("snapshot live");
    fixture.receive("gap");
    assert!(!fixture.is_current() && fixture.state.last_event_id.is_none());
    fixture.receive("snapshot live");
    assert!(fixture.is_current() && fixture.state.last_event_id.is_some());
}

#[test]
fn unexpected_event_ends_the_stream() {
    let streams: [&[(&str, &str)]; 6] = [
        // A stream begins with `snapshot`, or with `resumed` if the client has sent the id of its last event.
        &[("live", "{}")],
        &[("heartbeat", "{}")],
        &[("resumed", r#"{"retain_seconds":310}"#)],
        // `retain_seconds` is missing.
        &[("snapshot", "{}")],
        // Neither the kind `planet` nor a body that is not JSON can be applied.
        &[
            ("snapshot", r#"{"retain_seconds":310}"#),
            ("revocation", r#"{"kind":"planet","at":"2026-11-23T04:08:30Z"}"#),
        ],
        &[("snapshot", r#"{"retain_seconds":310}"#), ("revocation", "x")],
    ];
    for events in streams {
        let mut fixture = Fixture::new();
        let outcomes: Vec<_> = events.iter().map(|(event, data)| fixture.process(event, data, None)).collect();
        assert!(matches!(outcomes.last(), Some(Err(Disconnect::Invalid(..)))), "{events:?}");
        assert!(!fixture.is_current());
    }
}

#[test]
fn unknown_event_is_ignored() {
    let mut fixture = Fixture::new();
    fixture.process("news", "x", None).unwrap();
    fixture.receive("snapshot live");
    fixture.clock.advance(MAX_STALENESS + 1);
    // An unknown event does not end the silence.
    fixture.process("news", "x", Some("8")).unwrap();
    assert!(!fixture.is_current());
}

#[test]
fn revocation_is_evicted_after_retain_and_leeway() {
    let mut fixture = Fixture::new();
    fixture.receive(&format!("snapshot {ONE} live"));
    fixture.clock.advance(RETAIN + LEEWAY);
    // a heartbeat evicts what is older than the sum
    fixture.receive("heartbeat");
    assert!(fixture.is_revoked(ONE));
    // adjusting the wall clock evicts nothing
    fixture.clock.unix.fetch_add(HOUR_MILLIS, Ordering::SeqCst);
    fixture.receive("heartbeat");
    assert!(fixture.is_revoked(ONE));
    // the next eviction is due `EVICTION_INTERVAL_MILLIS` after the previous one
    fixture.clock.advance(EVICTION_INTERVAL_MILLIS / 1000 + 1);
    fixture.receive("heartbeat");
    assert!(!fixture.is_revoked(ONE));
    assert_eq!(fixture.feed.revocations.len(), 0);
}

#[test]
fn revocations_over_the_limit_end_the_stream() {
    let mut fixture = Fixture::with_max_revocations(1);
    fixture.receive(&format!("snapshot {ONE} live"));
    assert!(matches!(fixture.process("revocation", &revocation_of(OTHER), None), Err(Disconnect::Invalid(..))));
    assert!(fixture.is_revoked(ONE));
}

#[test]
fn key_revocation_retires_the_key() {
    let mut fixture = Fixture::new();
    fixture.receive("snapshot live");
    fixture.process("revocation", r#"{"kind":"key","kid":"k","at":"2026-11-23T04:08:30Z"}"#, None).unwrap();
    assert!(matches!(fixture.keys.look_up("k"), Lookup::Retired));
}
