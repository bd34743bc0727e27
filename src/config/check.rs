//! Checks and parses single values: URLs, origins, prefixes, scopes, filters. An error is the rule that the value breaks, and never
//! quotes a secret.

use std::net::IpAddr;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use url::{Host, Url};

use super::store_url;

/// The argon2id parameters that OWASP recommends as equally strong: KiB of memory, and iterations (Password Storage Cheat Sheet, 2024).
const ARGON2_MINIMA: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

/// Checks an issuer identifier: an http(s) URL without query or fragment (RFC 8414, section 2), and without a slash at its end.
pub(super) fn issuer(text: &str) -> Result<(), String> {
    let rule = "must be an http:// or https:// URL without user, query, fragment or slash at its end";
    let url = Url::parse(text).map_err(|_| rule)?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    let has_suffix = url.query().is_some() || url.fragment().is_some() || text.ends_with('/');
    let has_blank = text.contains(|c: char| c.is_whitespace() || c.is_control());
    let is_valid = is_http(&url) && url.has_host() && !has_user && !has_suffix && !has_blank;
    if is_valid { Ok(()) } else { Err(rule.into()) }
}

/// Checks an origin as browsers send it: scheme, host, and any port but the scheme's default (RFC 6454, section 6.2).
pub(super) fn origin(text: &str) -> Result<String, String> {
    let rule = "must hold origins: http:// or https://, a host, optionally a port, and nothing else";
    let url = Url::parse(text).ok().filter(is_http).ok_or(rule)?;
    let origin = url.origin().ascii_serialization();
    if origin == text {
        return Ok(origin);
    }
    // probably an origin in another spelling, for example with a slash at its end or with the default port
    if url.path() == "/" && url.query().is_none() {
        return Err(format!("must hold origins as browsers send them: {origin}"));
    }
    Err(rule.into())
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// Whether tokens of this issuer cross a network in clear text.
pub(super) fn is_clear_text_issuer(issuer: &str) -> bool {
    let Ok(url) = Url::parse(issuer) else { return false };
    url.scheme() == "http" && !is_loopback(&url)
}

/// Whether commands to this Redis cross a network in clear text.
pub(super) fn is_clear_text_redis(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    // `redis-cluster` and `redis-sentinel` are without TLS, too. `rediss` has TLS, and `redis+unix` is a local socket.
    let base_scheme = url.scheme().split('-').next().unwrap_or_default();
    // Further nodes of a Redis Cluster, and further Sentinels, are parameters: `node=host:port`.
    let is_remote_node = |text: &str| !is_loopback_host(text.rsplit_once(':').map_or(text, |(host, _port)| host));
    let has_remote_node = url.query_pairs().any(|(name, value)| name == "node" && is_remote_node(&value));
    matches!(base_scheme, "redis" | "valkey") && (!is_loopback(&url) || has_remote_node)
}

/// Whether an attacker on the network can read the connection to this database or pose as the database.
pub(super) fn is_unverified_postgres(text: &str) -> bool {
    if is_sqlite(text) {
        return false;
    }
    // `Url` requires a host, which the URL of a local socket lacks.
    let Ok(url) = Url::parse(&store_url::insert_missing_host(text)) else { return false };
    let host = url.host_str().unwrap_or_default();
    // A host that is a path (`%2F…`, or the parameter `host`) names the folder of a local socket, which sqlx prefers to a host.
    let mut is_socket = host.starts_with("%2F");
    let mut is_remote_host = !host.is_empty() && !is_loopback(&url);
    let mut is_verified = false;
    // A parameter overrides the host and earlier parameters.
    for (name, value) in url.query_pairs() {
        match &*name {
            "host" if value.starts_with('/') => is_socket = true,
            "host" | "hostaddr" => is_remote_host = !is_loopback_host(&value),
            "sslmode" | "ssl-mode" => is_verified = value == "verify-ca" || value == "verify-full",
            _ => {}
        }
    }
    is_remote_host && !is_socket && !is_verified
}

/// Whether a URL leads to this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // For schemes other than http and https, `Url` parses an IP address as a domain.
        Some(Host::Domain(name)) => is_loopback_host(name),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Whether a host name or address is this machine.
pub(super) fn is_loopback_host(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a database URL is for SQLite.
pub(super) fn is_sqlite(url: &str) -> bool {
    url.starts_with("sqlite:")
}

/// Checks a prefix of Redis keys. Braces would change the cluster slot of a key.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let is_plain = text.chars().all(|c| c.is_ascii_graphic() && c != '{' && c != '}');
    if !is_plain || !(1..=64).contains(&text.len()) {
        return Err("must be 1 to 64 printable ASCII characters, without spaces and braces".into());
    }
    Ok(text.to_owned())
}

/// Checks a name in tokens: an audience, a `client_id`, or a member of `app_metadata`.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.trim() != text || text.contains(char::is_control) {
        return Err("must not be empty, contain control characters, or start or end with a space".into());
    }
    Ok(text.to_owned())
}

/// Checks scopes, separated by single spaces (RFC 6749, section 3.3).
pub(super) fn scope(text: &str) -> Result<String, String> {
    let is_scope_char = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    let is_valid = text.split(' ').all(|scope| !scope.is_empty() && scope.chars().all(is_scope_char));
    if is_valid { Ok(text.to_owned()) } else { Err("must be one or more scopes, separated by single spaces".into()) }
}

/// Parses a network, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    text.parse().map_err(|_| "must hold addresses (10.0.0.7) and networks (10.0.0.0/8)".into())
}

/// Checks the length of a secret from which keys are derived.
pub(super) fn secret(text: &str) -> Result<(), String> {
    if text.len() < 32 {
        return Err("must be at least 32 bytes; make one with `openssl rand -base64 32`".into());
    }
    Ok(())
}

/// Parses a filter of log lines, by level and module.
pub(crate) fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let rule = "must be a level (off, error, warn, info, debug, trace) or levels by module, such as info,fred=warn";
    let mut parts: Vec<_> = text.split(',').map(str::trim).collect();
    for part in &parts {
        // tracing takes any other word for a module, enables all of its levels, and disables all other modules.
        let is_level = matches!(&*part.to_lowercase(), "off" | "error" | "warn" | "info" | "debug" | "trace");
        if !is_level && !part.contains(['=', '[']) {
            return Err(rule.into());
        }
    }
    // fred, the Redis client, warns of each attempt to connect; the service logs outages itself. webauthn_rs_core logs
    // invalid input of clients as errors; the service records refusals itself.
    for (module, quiet_part) in [("fred", "fred=error"), ("webauthn_rs_core", "webauthn_rs_core=off")] {
        if !parts.iter().any(|part| part.starts_with(module)) {
            parts.push(quiet_part);
        }
    }
    EnvFilter::builder().parse(parts.join(",")).map_err(|error| format!("{rule}: {error}"))
}

/// Whether argon2id parameters are at least as strong as one of OWASP's recommendations.
pub(super) fn is_strong(memory_kib: u32, iterations: u32) -> bool {
    ARGON2_MINIMA.iter().any(|&(min_kib, min_iterations)| memory_kib >= min_kib && iterations >= min_iterations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_must_be_a_plain_url() {
        for good in ["https://id.example.com", "http://127.0.0.1:8080", "https://example.com/auth", "http://[::1]:1"] {
            assert_eq!(issuer(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "id.example.com",
            "ftp://example.com",
            "https://example.com/",
            "https://example.com?a",
            "https://example.com#a",
            "https://u@example.com",
            "https://u:p@example.com",
            "https:///",
            " https://example.com",
            "mailto:a@example.com",
        ] {
            assert!(issuer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn http_beyond_loopback_is_clear_text() {
        for safe in
            ["https://example.com", "http://localhost:1", "http://a.localhost", "http://127.1.2.3", "http://[::1]:80"]
        {
            assert!(!is_clear_text_issuer(safe), "{safe}");
        }
        for clear in ["http://example.com", "http://0.0.0.0:8080", "http://[::]:80", "http://10.0.0.1"] {
            assert!(is_clear_text_issuer(clear), "{clear}");
        }
    }

    #[test]
    fn remote_stores_without_tls_are_recognized() {
        for clear in [
            "redis://r",
            "redis://u:p@10.0.0.7:6379/1",
            "redis-cluster://a:1?node=b:2",
            "redis-cluster://127.0.0.1:1?node=10.0.0.7:2",
            "redis-cluster://127.0.0.1:1?node=localhost:2&node=r:3",
            "redis-sentinel://localhost:1?sentinelServiceName=m&node=s:2",
            "valkey-sentinel://s",
        ] {
            assert!(is_clear_text_redis(clear), "{clear}");
        }
        for safe in [
            "rediss://r",
            "valkeys-cluster://r",
            "redis+unix:///r",
            "redis://127.0.0.1:1",
            "redis://[::1]:1",
            "redis://localhost",
            "redis-cluster://127.0.0.1:1?node=127.0.0.1:2&node=localhost:3",
            "rediss-cluster://127.0.0.1:1?node=10.0.0.7:2",
        ] {
            assert!(!is_clear_text_redis(safe), "{safe}");
        }
        for clear in [
            "postgres://u:p@h/d",
            "postgresql://h/d?sslmode=require",
            "postgres://10.0.0.7/d?sslmode=prefer",
            "postgres://localhost/d?host=h",
            "postgres:///d?hostaddr=10.0.0.7",
            "postgres://h/d?sslmode=verify-full&sslmode=require",
        ] {
            assert!(is_unverified_postgres(clear), "{clear}");
        }
        for safe in [
            "postgres://h/d?sslmode=verify-full",
            "postgres://127.0.0.1:5432/d",
            "postgres:///d",
            "postgres://%2Frun/d",
            "postgres://h/d?host=/run",
            "postgres://h/d?host=127.0.0.1",
            "sqlite://x",
        ] {
            assert!(!is_unverified_postgres(safe), "{safe}");
        }
    }

    #[test]
    fn origin_must_have_the_form_that_browsers_send() {
        for good in ["https://app.example.com", "http://localhost:3000", "https://[::1]:8443"] {
            assert_eq!(origin(good), Ok(good.into()));
        }
        let other_spelling = Err("must hold origins as browsers send them: https://a.example".into());
        assert_eq!(origin("https://a.example/"), other_spelling);
        assert_eq!(origin("https://a.example:443"), other_spelling);
        for bad in ["*", "null", "app.example.com", "https://a.example/b", "https://*.example.com/?", "chrome://x"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefix_must_be_1_to_64_printable_characters_without_braces() {
        assert_eq!(prefix("lk:"), Ok("lk:".into()));
        for bad in ["", "lk{a}", "a b", "é", &"x".repeat(65)] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scope_with_characters_outside_of_rfc_6749_is_refused() {
        assert_eq!(scope("account mail:read"), Ok("account mail:read".into()));
        for bad in ["", " a", "a  b", "a\"b", "a\\b", "a\tb", "é"] {
            assert!(scope(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn name_that_is_empty_or_has_blanks_around_it_or_control_characters_is_refused() {
        for bad in ["", " a", "a\n", "a\u{7}b"] {
            let error = name(bad).unwrap_err();
            assert!(error.contains("control characters"), "{bad:?}: {error}");
        }
        assert_eq!(name("a b"), Ok("a b".into()));
    }

    #[test]
    fn single_address_is_a_network() {
        for (text, expected) in [("10.0.0.7", "10.0.0.7/32"), ("10.0.0.0/8", "10.0.0.0/8"), ("::1", "::1/128")] {
            assert_eq!(network(text).unwrap().to_string(), expected);
        }
        assert!(network("example.com").is_err());
    }

    #[test]
    fn filter_with_a_part_without_a_known_level_is_refused() {
        for good in ["info", "INFO", "off", "info,latchkey=debug,fred=warn", "warn, latchkey[request]=trace"] {
            assert!(log_filter(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "latchkey", "latchkey=loud", "info,,debug"] {
            assert!(log_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn argon2_settings_below_each_recommendation_are_weak() {
        for (memory_kib, iterations) in [(19_456, 2), (47_104, 1), (7_168, 5), (1_048_576, 9)] {
            assert!(is_strong(memory_kib, iterations), "{memory_kib} KiB, {iterations} iterations");
        }
        for (memory_kib, iterations) in [(19_455, 2), (19_456, 1), (7_167, 99)] {
            assert!(!is_strong(memory_kib, iterations), "{memory_kib} KiB, {iterations} iterations");
        }
    }
}
