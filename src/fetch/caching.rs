//! The freshness of responses in a shared cache (RFC 9111, section 4.2).

use std::time::{Duration, SystemTime};

use hyper::header::{self, HeaderMap};

/// The remaining freshness of a response: its freshness lifetime less its age. `None` if the headers state no lifetime. Zero if the response
/// must not be stored, or must not be used without validation.
pub(super) fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let mut lifetime = None;
    // s-maxage takes precedence over max-age, whatever their order.
    let mut has_s_maxage = false;
    for value in headers.get_all(header::CACHE_CONTROL) {
        // an unreadable header might forbid storing the response
        for directive in value.to_str().unwrap_or("no-store").split(',') {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            // an invalid duration is zero (RFC 9111, section 4.2.1)
            let duration = argument.trim().trim_matches('"').parse().map(Duration::from_secs).unwrap_or_default();
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" | "private" => return Some(Duration::ZERO),
                "s-maxage" => {
                    lifetime = Some(duration);
                    has_s_maxage = true;
                }
                "max-age" if !has_s_maxage => lifetime = Some(duration),
                _ => {}
            }
        }
    }
    let header_text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let lifetime = lifetime.or_else(|| {
        // An `Expires` that is not a date is in the past (RFC 9111, section 5.3).
        let expires = httpdate::parse_http_date(header_text(header::EXPIRES)?).unwrap_or(SystemTime::UNIX_EPOCH);
        let date = header_text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok())?;
        Some(expires.duration_since(date).unwrap_or_default())
    })?;
    let age_secs = header_text(header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    Some(lifetime.saturating_sub(Duration::from_secs(age_secs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freshness_secs(pairs: &[(&'static str, &str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        freshness(&headers).map(|freshness| freshness.as_secs())
    }

    #[test]
    fn freshness_is_the_lifetime_less_the_age() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let ten_minutes_later = "Sun, 06 Nov 1994 08:59:37 GMT";
        assert_eq!(freshness_secs(&[]), None);
        assert_eq!(freshness_secs(&[("cache-control", "public, max-age=300")]), Some(300));
        assert_eq!(freshness_secs(&[("cache-control", "max-age=300"), ("age", "100")]), Some(200));
        assert_eq!(freshness_secs(&[("cache-control", "max-age=300"), ("age", "400")]), Some(0));
        assert_eq!(freshness_secs(&[("cache-control", "s-maxage=60, max-age=300")]), Some(60));
        assert_eq!(freshness_secs(&[("cache-control", "max-age=300, s-maxage=60")]), Some(60));
        assert_eq!(freshness_secs(&[("cache-control", "max-age=\"300\"")]), Some(300));
        // an invalid lifetime
        assert_eq!(freshness_secs(&[("cache-control", "max-age=-1")]), Some(0));
        assert_eq!(freshness_secs(&[("cache-control", "No-Store, max-age=300")]), Some(0));
        assert_eq!(freshness_secs(&[("cache-control", "max-age=300"), ("cache-control", "no-cache")]), Some(0));
        assert_eq!(freshness_secs(&[("expires", ten_minutes_later), ("date", date)]), Some(600));
        // not a date, so in the past
        assert_eq!(freshness_secs(&[("expires", "0"), ("date", date)]), Some(0));
        // max-age takes precedence over Expires
        assert_eq!(
            freshness_secs(&[("expires", ten_minutes_later), ("date", date), ("cache-control", "max-age=5")]),
            Some(5)
        );
    }
}
