//! Limits the open connections per client network, so that one client cannot take all of `http.max_connections`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use crate::{
    config::HttpSettings,
    http::{extract::client_address::ClientAddressResolver, middleware::pending_bodies::client_network},
    logging::LogLimit,
};

/// Counts the open connections of each client network: an IPv4 address, or the /64 of an IPv6 address. Trusted proxies are not
/// counted: they carry many clients.
#[derive(Debug)]
pub(super) struct PerAddress {
    limit: usize,
    /// Knows the trusted proxies.
    resolver: ClientAddressResolver,
    /// The number of open connections of each client network.
    open: Mutex<HashMap<IpAddr, usize>>,
    /// Limits the refusals that are logged at WARN.
    warning_limit: LogLimit,
}

impl PerAddress {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        Self {
            limit: settings.max_connections_per_address,
            resolver: ClientAddressResolver::new(settings),
            open: Mutex::default(),
            warning_limit: LogLimit::default(),
        }
    }

    /// Admits a connection and counts it until the admission is dropped. `None` if the network is at its limit: close the connection.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admission> {
        // At a socket for IPv6, the address of an IPv4 client is IPv4-mapped. `client_network` converts it itself.
        if self.resolver.is_trusted(address.to_canonical()) {
            return Some(Admission { counted: None });
        }
        let network = client_network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= self.limit {
            drop(open); // the log may be slow
            self.log_refusal(address);
            return None;
        }
        *count += 1;
        Some(Admission { counted: Some((Arc::clone(self), network)) })
    }

    /// Logs one refusal a minute at WARN and the others at DEBUG, since there may be thousands a second.
    fn log_refusal(&self, address: IpAddr) {
        let limit = self.limit;
        if self.warning_limit.record_if_due(Instant::now()) {
            tracing::warn!(
                %address,
                limit,
                "connection closed: http.max_connections_per_address is reached; if this is a proxy, add it to \
                 http.trusted_proxies. At most one such line a minute is logged, others at debug level"
            );
        } else {
            tracing::debug!(%address, limit, "connection closed: http.max_connections_per_address is reached");
        }
    }
}

/// An admitted connection, counted until this value is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    /// The counters and the client network; `None` for a trusted proxy.
    counted: Option<(Arc<PerAddress>, IpAddr)>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let Some((per_address, network)) = &self.counted else { return };
        let mut open = per_address.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(network) {
            *count -= 1;
            if *count == 0 {
                open.remove(network);
            }
        }
    }
}
