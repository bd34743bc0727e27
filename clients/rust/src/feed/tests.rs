//! How the feed's events are taken in, without a network.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use super::*;
use crate::{id::Id, key_store::Lookup, token::Session};

const ONE: &str = "01a20697-5375-7a3f-a5d0-8181bd56c321";
const OTHER: &str = "26f7a44c-4962-415a-8593-3e92483050f8";
const ACCOUNT: &str = "7d444840-9dc0-11d1-b245-5ffdce74fad2";

#[derive(Clone, Debug, Default)]
struct Hands {
    unix: Arc<AtomicI64>,
    elapsed: Arc<AtomicI64>,
}

impl Hands {
    fn advance(&self, seconds: i64) {
        self.unix.fetch_add(seconds * 1000, Ordering::SeqCst);
        self.elapsed.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn unix_millis(&self) -> i64 {
        self.unix.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// A feed and one stream of it.
struct Stream {
    feed: Feed,
    reading: Reading,
    progress: Progress,
    keys: KeyStore,
    clock: Hands,
}

impl Stream {
    fn new(max_revocations: usize) -> Self {
        let url: Url = "https://auth.example.com/v1/revocations".parse().unwrap();
        let (authorization, staleness) = (HeaderValue::from_static("Basic x"), Duration::from_secs(5));
        Self {
            feed: Feed::new(url.clone(), authorization, staleness, 5000, max_revocations),
            reading: Reading::default(),
            progress: Progress::default(),
            keys: KeyStore::new(url, Duration::from_secs(1)),
            clock: Hands::default(),
        }
    }

    fn take(&mut self, event: &str, data: &str, id: Option<&str>) -> Result<(), Ended> {
        let message = Message { event: event.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) };
        let resuming = self.progress.last_id.is_some();
        self.feed.take(&message, resuming, &mut self.reading, &mut self.progress, &self.keys, &self.clock)
    }

    fn tell(&mut self, events: &str) {
        for event in events.split_whitespace() {
            let (event, data, id) = match event {
                "snapshot" | "resumed" => (event, r#"{"retain_seconds":310}"#.to_owned(), None),
                "live" | "heartbeat" => (event, "{}".to_owned(), Some("7")),
                "gap" => (event, "{}".to_owned(), None),
                session => ("revocation", revoked(session), None),
            };
            self.take(event, &data, id.or(self.progress.last_id.clone().as_deref())).unwrap();
        }
    }

    /// A new connection.
    fn reconnect(&mut self) {
        self.reading = Reading::default();
    }

    fn in_step(&self) -> bool {
        self.feed.in_step(self.clock.elapsed(), self.clock.unix_millis())
    }

    fn revoked(&self, session: &str) -> bool {
        let [id, account] = [session, ACCOUNT].map(|id| Id::parse(id).unwrap());
        self.feed.revocations.revoked(&Session { id, account, auth_time: 0 })
    }
}

fn revoked(session: &str) -> String {
    format!(r#"{{"kind":"session","account_id":"{ACCOUNT}","session_id":"{session}","at":"2026-11-23T04:08:30.325Z"}}"#)
}

#[test]
fn it_is_in_step_from_live_on_while_it_is_heard() {
    let mut stream = Stream::new(10);
    assert!(!stream.in_step());
    stream.tell(&format!("snapshot {ONE}"));
    assert!(!stream.in_step() && stream.revoked(ONE));
    stream.tell("live");
    assert!(stream.in_step());
    stream.clock.advance(5);
    assert!(stream.in_step());
    stream.clock.advance(1);
    assert!(!stream.in_step());
    stream.tell("heartbeat");
    assert!(stream.in_step());
    stream.clock.advance(4);
    stream.tell(OTHER);
    stream.clock.advance(4);
    assert!(stream.in_step() && stream.revoked(OTHER));
}

#[test]
fn either_clock_can_tell_that_it_was_silent() {
    for hand in [|clock: &Hands| clock.unix.clone(), |clock: &Hands| clock.elapsed.clone()] {
        let mut stream = Stream::new(10);
        stream.tell("snapshot live");
        hand(&stream.clock).fetch_add(6000, Ordering::SeqCst);
        assert!(!stream.in_step());
    }
    // the machine's clock is set back: nothing to go by
    let mut stream = Stream::new(10);
    stream.tell("snapshot live");
    stream.clock.unix.fetch_sub(3_600_000, Ordering::SeqCst);
    assert!(stream.in_step());
    stream.clock.elapsed.fetch_add(6000, Ordering::SeqCst);
    assert!(!stream.in_step());
}

#[test]
fn what_is_told_while_catching_up_does_not_count_as_being_in_step() {
    let mut stream = Stream::new(10);
    stream.tell("snapshot live");
    stream.reconnect();
    stream.clock.advance(6);
    stream.tell(&format!("resumed {ONE}"));
    assert!(!stream.in_step() && stream.revoked(ONE));
    stream.tell("live");
    assert!(stream.in_step());
}

#[test]
fn a_snapshot_takes_the_place_of_all_before_once_it_is_complete() {
    let mut stream = Stream::new(10);
    stream.tell(&format!("snapshot {ONE} live {OTHER}"));
    stream.reconnect();
    stream.tell(&format!("snapshot {OTHER}"));
    assert!(stream.revoked(ONE) && stream.revoked(OTHER));
    stream.tell("live");
    assert!(!stream.revoked(ONE) && stream.revoked(OTHER));
    stream.reconnect();
    stream.tell(&format!("resumed {ONE} live"));
    assert!(stream.revoked(ONE) && stream.revoked(OTHER));
}

#[test]
fn after_a_gap_nothing_is_known_until_the_next_snapshot() {
    let mut stream = Stream::new(10);
    stream.tell("snapshot live");
    stream.tell("gap");
    assert!(!stream.in_step() && stream.progress.last_id.is_none());
    stream.tell("snapshot live");
    assert!(stream.in_step() && stream.progress.last_id.is_some());
}

#[test]
fn what_makes_no_sense_is_given_up() {
    for events in [
        &[("live", "{}")][..],
        &[("heartbeat", "{}")],
        &[("resumed", r#"{"retain_seconds":310}"#)],
        &[("snapshot", "{}")],
        &[
            ("snapshot", r#"{"retain_seconds":310}"#),
            ("revocation", r#"{"kind":"planet","at":"2026-11-23T04:08:30Z"}"#),
        ],
        &[("snapshot", r#"{"retain_seconds":310}"#), ("revocation", "x")],
    ] {
        let mut stream = Stream::new(10);
        let outcomes: Vec<_> = events.iter().map(|(event, data)| stream.take(event, data, None)).collect();
        assert!(matches!(outcomes.last(), Some(Err(Ended::Useless(..)))), "{events:?}");
        assert!(!stream.in_step());
    }
}

#[test]
fn unknown_events_change_nothing() {
    let mut stream = Stream::new(10);
    stream.take("news", "x", None).unwrap();
    stream.tell("snapshot live");
    stream.clock.advance(6);
    stream.take("news", "x", Some("8")).unwrap();
    assert!(!stream.in_step());
}

#[test]
fn a_revocation_is_remembered_as_long_as_a_token_could_live_and_no_longer() {
    let mut stream = Stream::new(10);
    stream.tell(&format!("snapshot {ONE} live"));
    stream.clock.advance(315);
    stream.tell("heartbeat");
    assert!(stream.revoked(ONE));
    // set the machine's clock as you like: it is not what counts
    stream.clock.unix.fetch_add(3_600_000, Ordering::SeqCst);
    stream.tell("heartbeat");
    assert!(stream.revoked(ONE));
    stream.clock.advance(6);
    stream.tell("heartbeat");
    assert!(!stream.revoked(ONE) && stream.feed.revocations.len() == 0);
}

#[test]
fn too_many_are_never_forgotten_in_silence() {
    let mut stream = Stream::new(1);
    stream.tell(&format!("snapshot {ONE} live"));
    assert!(matches!(stream.take("revocation", &revoked(OTHER), None), Err(Ended::Useless(..))));
    assert!(stream.revoked(ONE));
}

#[test]
fn a_retired_key_is_told() {
    let mut stream = Stream::new(10);
    stream.tell("snapshot live");
    stream.take("revocation", r#"{"kind":"key","kid":"k","at":"2026-11-23T04:08:30Z"}"#, None).unwrap();
    assert!(matches!(stream.keys.look_up("k"), Lookup::Retired));
}
