//! Lets whoever ends a session be answered only once the other nodes know of the end (I3).
//!
//! Nodes that remember sessions say on the channel, at each look (`poll.rs`), that they are here and for how long they
//! believe what they remember. A node that ends sessions names itself and a number in what is published; each of the
//! others, when it has forgotten those sessions, says the number on a channel of that node's own. The node that ended
//! them waits for all who are here, and at most until what the silent ones remember has lapsed by itself: a node that
//! died or hangs delays sign-outs for `cache.max_staleness` once, and is not waited for after that.
//!
//! A node that can't hear the channel doesn't believe what it remembers, says so, and isn't waited for; when it ends a
//! session itself it doesn't know who is here, and waits for as long as others could believe what they remember. So does one
//! that came to hear it only lately, at its start or after its connection broke: others may have said that they are here
//! before, for as long. A node that hears and has heard of no other for that long is by itself and waits for nobody.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fred::{
    clients::{Client, Pool},
    interfaces::PubsubInterface,
};
use tokio::sync::{Notify, mpsc};

/// How many acknowledgements wait to be sent; more are not sent.
const QUEUE: usize = 4096;
/// How many are sent at a time.
const BATCH: usize = 256;
/// How many other nodes are known at most.
const PEERS: usize = 1024;

/// See the module.
pub(in crate::store::redis) struct Acknowledgements {
    /// What this node is called on the channel.
    me: String,
    peers: Mutex<HashMap<String, Peer>>,
    waiting: Mutex<HashMap<u64, Waiting>>,
    numbers: AtomicU64,
    /// None while it can't hear.
    hearing: Mutex<Option<Hearing>>,
    /// How long nodes believe what they remember, where this one is to hear of the others.
    lease: Mutex<Option<Duration>>,
    queue: mpsc::Sender<Heard>,
    /// The other end of it, until somebody sends.
    queued: Mutex<Option<mpsc::Receiver<Heard>>>,
}

/// When this node heard what it said itself.
#[derive(Clone, Copy)]
struct Hearing {
    first: Instant,
    last: Instant,
}

/// A node that said that it is here.
#[derive(Clone, Copy)]
struct Peer {
    /// How long it believes what it remembers.
    lease: Duration,
    /// Until when it may believe what it remembered when it said so.
    until: Instant,
}

#[derive(Default)]
struct Waiting {
    heard_by: Vec<String>,
    changed: Arc<Notify>,
}

/// That this node has heard what `origin` published under `number`.
struct Heard {
    origin: String,
    number: u64,
}

/// Somebody waits for the other nodes to hear of something; until dropped.
pub(in crate::store::redis) struct PendingAck<'a> {
    number: u64,
    /// How long to wait because it isn't known who is here.
    unsure: Duration,
    of: &'a Acknowledgements,
}

impl Acknowledgements {
    /// `me` is different for each node, without spaces.
    pub(in crate::store::redis) fn new(me: String) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE);
        Self {
            me,
            peers: Mutex::default(),
            waiting: Mutex::default(),
            numbers: AtomicU64::new(0),
            hearing: Mutex::default(),
            lease: Mutex::default(),
            queue,
            queued: Mutex::new(Some(queued)),
        }
    }

    /// From now on this node is to hear of the others, which believe what they remember for `lease`.
    pub(super) fn listen(&self, lease: Duration) {
        *lock(&self.lease) = Some(lease);
    }

    /// To be taken before something is published; none if there is no other node to wait for.
    pub(in crate::store::redis) fn ticket(&self) -> Option<PendingAck<'_>> {
        let lease = *lock(&self.lease);
        let unsure = lease.map_or(Duration::ZERO, |lease| self.unsure(lease));
        if unsure.is_zero() && lock(&self.peers).is_empty() {
            return None;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.waiting).insert(number, Waiting::default());
        Some(PendingAck { number, unsure, of: self })
    }

    /// How many other nodes are here.
    pub(super) fn peers(&self) -> usize {
        let now = Instant::now();
        lock(&self.peers).values().filter(|peer| now < peer.until).count()
    }

    /// Whether this node has heard within the last `moment` what it said.
    pub(super) fn hears(&self, moment: Duration) -> bool {
        lock(&self.hearing).is_some_and(|hearing| hearing.last.elapsed() < moment)
    }

    /// For how long others may still believe what they remember though this node hasn't heard that they are here.
    fn unsure(&self, lease: Duration) -> Duration {
        if !self.hears(lease) {
            return lease;
        }
        lock(&self.hearing).map_or(lease, |hearing| lease.saturating_sub(hearing.first.elapsed()))
    }

    /// What to say of how long this node believes what it remembers; zero if it doesn't, and nobody needs to wait for it.
    pub(super) fn here(&self, lease: Duration) -> String {
        format!("here {} {}", self.me, lease.as_millis())
    }

    /// The channel on which this node is told who has heard.
    pub(super) fn own_channel(&self, channel: &str) -> String {
        format!("{channel}:{}", self.me)
    }

    /// Takes in what a node said of itself. Says whether the others should hear of this one at once: it came to hear
    /// itself only now, or somebody is new.
    pub(super) fn hear_of(&self, node: &str, lease: Duration) -> bool {
        let now = Instant::now();
        if node == self.me {
            let mut hearing = lock(&self.hearing);
            let before = *hearing;
            *hearing = Some(Hearing { first: before.map_or(now, |hearing| hearing.first), last: now });
            return before.is_none();
        }
        let mut peers = lock(&self.peers);
        peers.retain(|name, peer| name == node || now < peer.until);
        if lease.is_zero() {
            peers.remove(node);
            drop(peers);
            self.wake_all();
            return false;
        }
        let peer = Peer { lease, until: now + lease };
        peers.len() < PEERS && peers.insert(node.to_owned(), peer).is_none()
    }

    /// This node can't be told who is here.
    pub(super) fn deaf(&self) {
        *lock(&self.hearing) = None;
    }

    /// This node has heard what was published `from` a node under a number.
    pub(super) fn heard(&self, from: &str) {
        let Some((origin, number)) = from.split_once(' ') else { return };
        let Ok(number) = number.parse() else { return };
        if origin != self.me {
            // one that is not sent costs its origin a moment
            drop(self.queue.try_send(Heard { origin: origin.to_owned(), number }));
        }
    }

    /// Takes in what a node has heard: its name and the numbers.
    pub(super) fn heard_by(&self, message: &str) {
        let mut words = message.split(' ');
        let Some(node) = words.next() else { return };
        let mut waiting = lock(&self.waiting);
        for number in words.filter_map(|word| word.parse::<u64>().ok()) {
            if let Some(waiting) = waiting.get_mut(&number) {
                waiting.heard_by.push(node.to_owned());
                waiting.changed.notify_one();
            }
        }
    }

    fn wake_all(&self) {
        for waiting in lock(&self.waiting).values() {
            waiting.changed.notify_one();
        }
    }
}

impl PendingAck<'_> {
    /// What to publish with it.
    pub(in crate::store::redis) fn from(&self) -> String {
        format!("{} {}", self.of.me, self.number)
    }

    /// Waits until every node that is here has heard, or doesn't believe any more what it remembered.
    pub(in crate::store::redis) async fn acknowledged(self) {
        let since = Instant::now();
        let changed = lock(&self.of.waiting).get(&self.number).map(|waiting| Arc::clone(&waiting.changed));
        let Some(changed) = changed else { return };
        while let Some(until) = self.silent_until(since) {
            drop(tokio::time::timeout_at(until.into(), changed.notified()).await);
        }
        tokio::time::sleep_until((since + self.unsure).into()).await;
    }

    /// Until when to wait for the first of those that haven't heard; none if there are none.
    fn silent_until(&self, since: Instant) -> Option<Instant> {
        let (peers, waiting) = (lock(&self.of.peers), lock(&self.of.waiting));
        let heard_by = &waiting.get(&self.number)?.heard_by;
        let silent = peers.iter().filter(|(name, _)| !heard_by.contains(name));
        // who says that it is here for longer than that has looked since, and so knows
        let until = silent.map(|(_, peer)| peer.until.min(since + peer.lease));
        let now = Instant::now();
        until.filter(|until| now < *until).min()
    }
}

impl Drop for PendingAck<'_> {
    fn drop(&mut self) {
        lock(&self.of.waiting).remove(&self.number);
    }
}

/// Says to the nodes concerned what was heard, for as long as it isn't aborted; many at a time where there are many.
pub(super) async fn send(me: Arc<Acknowledgements>, pool: Pool, channel: String) {
    let Some(mut queue) = lock(&me.queued).take() else { return };
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let mut by_origin: HashMap<String, String> = HashMap::new();
        for Heard { origin, number } in batch.drain(..) {
            let message = by_origin.entry(origin).or_insert_with(|| me.me.clone());
            message.push(' ');
            message.push_str(&number.to_string());
        }
        for (origin, message) in by_origin {
            publish(pool.next(), &format!("{channel}:{origin}"), message).await;
        }
    }
}

/// Publishes; what isn't heard is made good by the looks at the streams.
pub(super) async fn publish(client: &Client, channel: &str, message: String) {
    if let Err(error) = client.publish::<(), _, _>(channel, message).await {
        tracing::debug!(%error, channel, "can't publish");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(100);

    fn node(name: &str) -> Acknowledgements {
        Acknowledgements::new(name.to_owned())
    }

    #[tokio::test]
    async fn who_is_alone_waits_for_nobody() {
        let one = node("one");
        assert!(one.ticket().is_none());
        assert!(one.hear_of("one", LEASE));
        assert!(!one.hear_of("one", LEASE));
        assert!(one.ticket().is_none());
    }

    #[tokio::test]
    async fn who_is_here_is_waited_for_until_it_has_heard() {
        let one = node("one");
        assert!(one.hear_of("two", LEASE) && one.hear_of("three", LEASE));
        assert!(!one.hear_of("two", LEASE));
        assert_eq!(one.peers(), 2);
        let (first, second) = (one.ticket().unwrap(), one.ticket().unwrap());
        assert_eq!((first.from(), second.from()), ("one 0".to_owned(), "one 1".to_owned()));
        let mut waits = Box::pin(first.acknowledged());
        one.heard_by("two 0 1");
        one.heard_by("three 1 77");
        assert!(futures_util::poll!(&mut waits).is_pending());
        second.acknowledged().await;
        one.heard_by("three 0");
        waits.await;
        assert!(lock(&one.waiting).is_empty());
    }

    #[tokio::test]
    async fn who_is_gone_is_not_waited_for() {
        let one = node("one");
        one.hear_of("two", LEASE);
        let mut waits = Box::pin(one.ticket().unwrap().acknowledged());
        assert!(futures_util::poll!(&mut waits).is_pending());
        one.hear_of("two", Duration::ZERO);
        waits.await;
        assert!(one.ticket().is_none());
    }

    #[tokio::test]
    async fn who_cannot_hear_waits_for_as_long_as_others_could_remember() {
        let one = node("one");
        one.listen(LEASE);
        let unsure = one.ticket().unwrap();
        assert_eq!(unsure.unsure, LEASE);
        one.hear_of("two", LEASE);
        let ticket = one.ticket().unwrap();
        one.heard_by("two 1");
        let mut waits = Box::pin(ticket.acknowledged());
        assert!(futures_util::poll!(&mut waits).is_pending());
    }

    #[tokio::test]
    async fn who_came_to_hear_lately_waits_for_those_it_may_have_missed() {
        const LEASE: Duration = Duration::from_secs(1);
        let one = node("one");
        one.listen(LEASE);
        one.hear_of("one", LEASE);
        let hearing = lock(&one.hearing).unwrap();
        assert!(one.ticket().is_some_and(|ticket| ticket.unsure > Duration::ZERO) || hearing.first.elapsed() >= LEASE);
        *lock(&one.hearing) =
            hearing.first.checked_sub(LEASE).map(|first| Hearing { first, last: Instant::now() + LEASE });
        assert!(one.ticket().is_none(), "it would have heard of them");
        one.hear_of("one", LEASE);
        assert!(lock(&one.hearing).unwrap().first < hearing.first, "since it came to hear, not since it heard last");
        one.deaf();
        assert_eq!(one.ticket().unwrap().unsure, LEASE);
    }

    #[tokio::test]
    async fn what_lapses_is_not_waited_for() {
        let one = node("one");
        one.hear_of("two", Duration::from_millis(5));
        one.ticket().unwrap().acknowledged().await;
        assert_eq!(one.peers(), 0);
    }

    #[tokio::test]
    async fn a_node_hears_itself_and_acknowledges_others() {
        let one = node("one");
        assert!(!one.hears(LEASE));
        one.hear_of("one", Duration::ZERO);
        assert!(one.hears(LEASE) && !one.hears(Duration::ZERO));
        one.deaf();
        assert!(!one.hears(LEASE));
        assert_eq!(one.here(LEASE), "here one 100000");
        one.heard("one 1");
        one.heard("");
        one.heard("two x");
        one.heard("two 7");
        let mut queue = lock(&one.queued).take().unwrap();
        let heard = queue.recv().await.unwrap();
        assert_eq!((heard.origin.as_str(), heard.number), ("two", 7));
        assert!(queue.try_recv().is_err());
    }
}
