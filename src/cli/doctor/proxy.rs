//! Compares what proxies send with `http.trusted_proxies` and `http.forwarded_header`, from the counters of a running node.
//!
//! The counters do not show the configuration of a proxy: whether it appends to the header or overwrites it, and whether
//! clients can reach the node without passing the proxy.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::Finding;
use crate::{
    config::Config,
    metrics::{FORWARDED_REQUESTS, forwarded},
};

const CHECK: &str = "proxy";

/// The time limit for connecting to the node, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a page of metrics is read.
const MAX_PAGE_BYTES: u64 = 1 << 20;

/// Compares the counters with the settings. Returns a finding of the status ok if no counters can be read.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.issuer.starts_with("https://") && config.http.trusted_proxies.is_empty() {
        let detail = "issuer is an https URL, so a proxy terminates TLS, but http.trusted_proxies is empty: all clients of \
                      the proxy share its address and rate limits. List the proxy's address";
        findings.push(Finding::warn(CHECK, detail));
    }
    findings.extend(match config.metrics.listen {
        None => vec![not_compared("metrics.listen is \"off\"")],
        Some(address) => match fetch_metrics(address) {
            Ok(page) => match Counts::parse(&page) {
                Some(counts) => compare(&counts, config),
                None => vec![not_compared(&format!("metrics.listen ({address}) is not a node of this release"))],
            },
            Err(error) => {
                let why =
                    format!("no node answers at metrics.listen ({address}: {error}); run doctor where a node runs");
                vec![not_compared(&why)]
            }
        },
    });
    findings
}

fn not_compared(why: &str) -> Finding {
    Finding::ok(CHECK, format!("not compared with what proxies send: {why}"))
}

/// The numbers of requests that a node has received since its start, by the label `result` of [`FORWARDED_REQUESTS`]. A proxy's headers
/// are `Forwarded` and `X-Forwarded-For`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// From a trusted proxy, with the configured header.
    read: u64,
    /// From a loopback, private or link-local address that is not a trusted proxy's, with a proxy's header.
    untrusted_peer: u64,
    /// From a trusted proxy, with a proxy's header, but not with the configured one.
    other_header: u64,
    /// From a trusted proxy, without a proxy's header.
    absent: u64,
}

impl Counts {
    /// Parses a page of metrics. `None` if it is not from a node of this release.
    fn parse(page: &str) -> Option<Self> {
        let count = |result: &str| {
            // such as `latchkey_forwarded_requests_total{result="read"} 7`
            let series = format!("{FORWARDED_REQUESTS}{{result=\"{result}\"}} ");
            page.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse().ok())
        };
        Some(Self {
            read: count(forwarded::READ)?,
            untrusted_peer: count(forwarded::UNTRUSTED_PEER)?,
            other_header: count(forwarded::OTHER_HEADER)?,
            absent: count(forwarded::ABSENT)?,
        })
    }
}

fn compare(counts: &Counts, config: &Config) -> Vec<Finding> {
    let Counts { read, untrusted_peer, other_header, absent } = *counts;
    let header = config.http.forwarded_header.name();
    let mut findings = Vec::new();
    if untrusted_peer > 0 {
        let detail = format!(
            "{untrusted_peer} requests with a proxy's header came from a loopback, private or link-local address that \
             http.trusted_proxies does not list: their clients share that address and its rate limits. The node's log names \
             the address (`a proxy's client addresses are ignored`); add it to http.trusted_proxies"
        );
        findings.push(Finding::warn(CHECK, detail));
    }
    if other_header > 0 {
        let detail = format!(
            "{other_header} requests of trusted proxies have another header than http.forwarded_header = \"{header}\": \
             their clients share the proxy's address and rate limits. Set http.forwarded_header to the header that the \
             proxy writes"
        );
        findings.push(Finding::warn(CHECK, detail));
    }
    if read == 0 && absent > 0 {
        let detail = format!(
            "none of {absent} requests from http.trusted_proxies has the header {header}: let the proxy write it, or remove \
             from http.trusted_proxies the addresses that are not a proxy's"
        );
        findings.push(Finding::warn(CHECK, detail));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            if read > 0 {
                format!(
                    "{read} requests of trusted proxies have the header {header}, as configured. This check can't see \
                     whether the proxy appends or overwrites it, or whether clients reach the node without the proxy"
                )
            } else {
                "no request came through a proxy yet: send one through it and run doctor again".to_owned()
            },
        ));
    }
    findings
}

/// Fetches the metrics of the node at `address`.
fn fetch_metrics(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // In HTTP/1.0 the page ends with the connection, and is not chunked.
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut page = String::new();
    stream.take(MAX_PAGE_BYTES).read_to_string(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::doctor::Status,
        config::{Sources, load},
        domain::entropy::Entropy,
    };

    #[test]
    fn counts_of_proxied_requests_are_compared_with_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let settings = [("LATCHKEY_HTTP_TRUSTED_PROXIES", "10.0.0.1")];
        let config = load(&Sources::from_environment(folder.path(), settings), &Entropy::system()).unwrap();
        let none = Counts::default();
        for (counts, status, text) in [
            (none, Status::Ok, "no request came through a proxy yet"),
            (
                Counts { read: 7, absent: 3, ..none },
                Status::Ok,
                "7 requests of trusted proxies have the header x-forwarded-for",
            ),
            (Counts { absent: 3, ..none }, Status::Warn, "none of 3 requests"),
            (Counts { read: 7, untrusted_peer: 1, ..none }, Status::Warn, "does not list"),
            (Counts { read: 7, other_header: 1, ..none }, Status::Warn, "http.forwarded_header = \"x-forwarded-for\""),
        ] {
            let findings = compare(&counts, &config);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].status == status, "{findings:?}");
            assert!(findings[0].detail.contains(text), "{findings:?}");
        }
    }

    #[test]
    fn counts_are_read_from_a_page_of_this_release_only() {
        let line = |result: &str, count: u64| format!("{FORWARDED_REQUESTS}{{result=\"{result}\"}} {count}\n");
        let page: String = [
            (forwarded::READ, 4),
            (forwarded::UNTRUSTED_PEER, 3),
            (forwarded::OTHER_HEADER, 2),
            (forwarded::ABSENT, 1),
        ]
        .iter()
        .map(|(result, count)| line(result, *count))
        .collect();
        let expected = Counts { read: 4, untrusted_peer: 3, other_header: 2, absent: 1 };
        assert_eq!(Counts::parse(&page), Some(expected));
        assert_eq!(Counts::parse("latchkey_build_info{version=\"0.1.0\"} 1\n"), None);
    }
}
