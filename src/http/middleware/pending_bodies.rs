//! Bounds the request bodies that are still arriving: per connection, per client network and in all.
//!
//! A body that arrives together with its headers is never registered here, so only slow senders compete for the slots.
//! A new body is always admitted. If a bound is reached, the oldest body under that bound is evicted instead: a client
//! that leaves many bodies unfinished loses its own first, and never keeps others from being served.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::IntCounterVec;
use tokio::sync::oneshot;

use crate::{config::HttpSettings, metrics};

/// The bound that an evicted body exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The bound of a connection: `http.max_pending_bodies_per_connection`.
    Connection,
    /// The bound of a client's network: `http.max_pending_bodies_per_address`.
    Address,
    /// The bound of all clients together: `http.max_pending_bodies`.
    Total,
}

impl Bound {
    const ALL: [Self; 3] = [Self::Connection, Self::Address, Self::Total];

    /// The value of the metric's label `bound`.
    const fn label(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Address => "address",
            Self::Total => "total",
        }
    }

    /// The setting of the bound.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Connection => "http.max_pending_bodies_per_connection",
            Self::Address => "http.max_pending_bodies_per_address",
            Self::Total => "http.max_pending_bodies",
        }
    }
}

/// The sender of a body.
#[derive(Clone, Copy, Debug)]
pub struct BodySender {
    /// The peer's address and port, which identify the connection. `None` if the peer is a trusted proxy: its connections carry the bodies
    /// of many clients.
    pub connection: Option<SocketAddr>,
    /// The client's address, if it is known.
    pub address: Option<IpAddr>,
}

/// The request bodies that are still arriving.
#[derive(Debug)]
pub struct PendingBodies {
    per_connection: usize,
    per_address: usize,
    total: usize,
    slots: Mutex<Slots>,
    evictions: IntCounterVec,
}

/// The slots of the bodies. They are numbered in order of admission, so the slot with the smallest number is the oldest.
#[derive(Debug, Default)]
struct Slots {
    next_number: u64,
    all: BTreeMap<u64, Slot>,
    by_connection: HashMap<SocketAddr, BTreeSet<u64>>,
    by_network: HashMap<IpAddr, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Slot {
    connection: Option<SocketAddr>,
    network: Option<IpAddr>,
    /// Tells the request that its body is evicted.
    eviction: oneshot::Sender<Bound>,
}

impl PendingBodies {
    /// Uses the bounds of the settings.
    pub fn new(settings: &HttpSettings) -> Self {
        let evictions = metrics::counters(
            "latchkey_evicted_request_bodies_total",
            "Unfinished request bodies that were evicted for newer ones, by the bound that was reached.",
            &["bound"],
        );
        // creates each counter, so that it is exported as 0 before its first eviction
        for bound in Bound::ALL {
            evictions.with_label_values(&[bound.label()]);
        }
        // at least 1, because a new body is always admitted
        Self {
            per_connection: settings.max_pending_bodies_per_connection.max(1),
            per_address: settings.max_pending_bodies_per_address.max(1),
            total: settings.max_pending_bodies.max(1),
            slots: Mutex::default(),
            evictions,
        }
    }

    /// The counter of evictions.
    pub fn metrics(&self) -> &IntCounterVec {
        &self.evictions
    }

    /// Takes a slot for a body. Dropping the returned [`PendingBody`] frees the slot. If a bound is reached, evicts the oldest body under it.
    pub fn admit(self: &Arc<Self>, sender: BodySender) -> PendingBody {
        let (eviction, evicted) = oneshot::channel();
        let slot = Slot { connection: sender.connection, network: sender.address.map(client_network), eviction };
        let mut slots = self.slots();
        // The narrowest bound first: an eviction under it also makes room under the wider bounds.
        let oldest = slot.connection.and_then(|peer| oldest_if_full(&slots.by_connection, &peer, self.per_connection));
        self.evict(&mut slots, oldest, Bound::Connection);
        let oldest = slot.network.and_then(|network| oldest_if_full(&slots.by_network, &network, self.per_address));
        self.evict(&mut slots, oldest, Bound::Address);
        let oldest = if slots.all.len() >= self.total { slots.all.keys().next().copied() } else { None };
        self.evict(&mut slots, oldest, Bound::Total);
        let number = slots.insert(slot);
        PendingBody { bodies: Arc::clone(self), number, evicted }
    }

    /// Evicts the body with this number, if there is one, because this bound is reached.
    fn evict(&self, slots: &mut Slots, number: Option<u64>, bound: Bound) {
        if let Some(slot) = number.and_then(|number| slots.remove(number)) {
            self.evictions.with_label_values(&[bound.label()]).inc();
            // sending fails if the request has just ended
            let _ = slot.eviction.send(bound);
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn insert(&mut self, slot: Slot) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        if let Some(connection) = slot.connection {
            self.by_connection.entry(connection).or_default().insert(number);
        }
        if let Some(network) = slot.network {
            self.by_network.entry(network).or_default().insert(number);
        }
        self.all.insert(number, slot);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Slot> {
        let slot = self.all.remove(&number)?;
        if let Some(connection) = &slot.connection {
            remove_from(&mut self.by_connection, connection, number);
        }
        if let Some(network) = &slot.network {
            remove_from(&mut self.by_network, network, number);
        }
        Some(slot)
    }
}

/// The number of the oldest slot of a key, if the key has as many slots as its limit allows.
fn oldest_if_full<K: Hash + Eq>(slots: &HashMap<K, BTreeSet<u64>>, key: &K, limit: usize) -> Option<u64> {
    let numbers = slots.get(key)?;
    if numbers.len() >= limit { numbers.first().copied() } else { None }
}

fn remove_from<K: Hash + Eq>(slots: &mut HashMap<K, BTreeSet<u64>>, key: &K, number: u64) {
    let Some(numbers) = slots.get_mut(key) else { return };
    numbers.remove(&number);
    if numbers.is_empty() {
        slots.remove(key);
    }
}

/// The network whose clients share a bound: an IPv4 address, or the /64 of an IPv6 address.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits((address.to_bits() >> 64) << 64).into(),
    }
}

/// A body that is arriving. It frees its slot when dropped.
#[derive(Debug)]
pub struct PendingBody {
    bodies: Arc<PendingBodies>,
    number: u64,
    evicted: oneshot::Receiver<Bound>,
}

impl PendingBody {
    /// Completes when the body is evicted.
    pub async fn evicted(&mut self) -> Bound {
        match (&mut self.evicted).await {
            Ok(bound) => bound,
            // unreachable: the sender is dropped only after it has sent, or when this `PendingBody` is dropped
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for PendingBody {
    fn drop(&mut self) {
        self.bodies.slots().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn bodies(per_connection: usize, per_address: usize, total: usize) -> Arc<PendingBodies> {
        let evictions = metrics::counters("latchkey_test_evicted_total", "Test.", &["bound"]);
        Arc::new(PendingBodies { per_connection, per_address, total, slots: Mutex::default(), evictions })
    }

    /// A bound that the test does not reach.
    const HIGH: usize = 10;

    fn sender(port: u16, address: &str) -> BodySender {
        let address: IpAddr = address.parse().unwrap();
        BodySender { connection: Some(SocketAddr::new(address, port)), address: Some(address) }
    }

    /// The bound for which the body was evicted, if it was.
    fn evicted(body: &mut PendingBody) -> Option<Bound> {
        body.evicted().now_or_never()
    }

    #[test]
    fn admission_above_connection_bound_evicts_oldest_of_that_connection() {
        let bodies = bodies(2, HIGH, HIGH);
        // the oldest, but of another connection
        let mut other = bodies.admit(sender(1, "192.0.2.1"));
        let mut own: Vec<_> = (0..4).map(|_| bodies.admit(sender(2, "192.0.2.1"))).collect();
        let evictions: Vec<_> = own.iter_mut().map(evicted).collect();
        assert_eq!(evictions, [Some(Bound::Connection), Some(Bound::Connection), None, None]);
        assert_eq!(evicted(&mut other), None);
    }

    #[test]
    fn admission_above_address_bound_evicts_oldest_of_that_network() {
        let bodies = bodies(HIGH, 2, HIGH);
        // the oldest, but of another /64
        let mut other = bodies.admit(sender(1, "2001:db8:0:1::1"));
        let mut own: Vec<_> = (0..3).map(|n| bodies.admit(sender(2 + n, &format!("2001:db8::{n}")))).collect();
        let evictions: Vec<_> = own.iter_mut().map(evicted).collect();
        assert_eq!(evictions, [Some(Bound::Address), None, None]);
        assert_eq!(evicted(&mut other), None);
    }

    #[test]
    fn admission_above_total_bound_evicts_oldest_of_all() {
        let bodies = bodies(HIGH, HIGH, 2);
        let mut all: Vec<_> = (1..=3).map(|n| bodies.admit(sender(n, &format!("192.0.2.{n}")))).collect();
        let evictions: Vec<_> = all.iter_mut().map(evicted).collect();
        assert_eq!(evictions, [Some(Bound::Total), None, None]);
    }

    #[test]
    fn finished_bodies_leave_no_slots() {
        let bodies = bodies(2, 2, 2);
        for port in 0..100 {
            let _body = bodies.admit(sender(port, "192.0.2.1"));
        }
        // The third of these bodies evicts the first, whose drop must then free no slot.
        let [first, second, third] = [(); 3].map(|()| bodies.admit(sender(1, "192.0.2.1")));
        drop(second);
        drop(third);
        drop(first);
        let slots = bodies.slots();
        assert!(slots.all.is_empty(), "{slots:?}");
        assert!(slots.by_connection.is_empty(), "{slots:?}");
        assert!(slots.by_network.is_empty(), "{slots:?}");
    }
}
