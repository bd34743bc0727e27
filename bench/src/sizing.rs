//! Capacity planning: estimates memory and cores from measured costs, and shows the assumptions and the arithmetic.

use std::fmt::Write;

/// CPU time of one request, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// On the node.
    pub server: f64,
    /// In Redis.
    pub redis: f64,
}

/// Costs that the benchmark has measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Redis bytes per session.
    pub redis_bytes: f64,
    /// A refresh.
    pub refresh: Cost,
    /// An introspection that no cache answers.
    pub introspect: Cost,
    /// A sign-out.
    pub logout: Cost,
    /// CPU microseconds of Redis to store a new session.
    pub create_redis_micros: f64,
    /// CPU microseconds to hash one password. Each sign-in hashes one.
    pub hash_micros: f64,
}

/// Share of the live sessions that are in use at the busiest time.
const SHARE_IN_USE: f64 = 0.05;
/// Seconds between refreshes of a session in use.
const REFRESH_EVERY_S: f64 = 300.0;
/// Seconds between introspections of a session in use.
const INTROSPECT_EVERY_S: f64 = 30.0;
/// Lifetime of a session in seconds.
const SESSION_LIFETIME_S: f64 = 30.0 * 86_400.0;
/// Share of sessions that end by a sign-out.
const SHARE_SIGNED_OUT: f64 = 0.5;
/// Sign-ins at the busiest time, as a multiple of the average.
const PEAK_FACTOR: f64 = 10.0;
/// Planned utilisation of a core at the busiest time.
const UTILISATION: f64 = 0.6;
const MICROS_PER_SECOND: f64 = 1e6;

/// Renders the assumptions, and a table for 1 million, 100 million and 1 billion sessions.
pub fn table(measured: &Measured) -> String {
    let days = SESSION_LIFETIME_S / 86_400.0;
    let Measured { redis_bytes, refresh, introspect, logout, create_redis_micros, hash_micros } = *measured;
    let mut text = format!(
        "Assumed: {:.0} % of the sessions in use at the busiest time, each refreshed every {REFRESH_EVERY_S:.0} s and introspected every \
         {INTROSPECT_EVERY_S:.0} s; a session lasts {days:.0} days; {PEAK_FACTOR:.0} times as many sign-ins at the busiest time; cores filled to {:.0} %.\n\n\
         | | arithmetic | 1 million | 100 million | 1 billion |\n| --- | --- | ---: | ---: | ---: |\n",
        SHARE_IN_USE * 100.0,
        UTILISATION * 100.0,
    );
    let session_counts = [1e6, 1e8, 1e9];
    // `estimate` maps a number of sessions to the estimated figure.
    let mut row = |title: &str, arithmetic: &str, estimate: &dyn Fn(f64) -> f64| {
        let figures: Vec<String> = session_counts.iter().map(|count| short(estimate(*count))).collect();
        // Writing to a string never fails.
        let _ = writeln!(text, "| {title} | {arithmetic} | {} |", figures.join(" | "));
    };
    // Requests per second at the busiest time, with `n` live sessions.
    let refreshes = |n: f64| n * SHARE_IN_USE / REFRESH_EVERY_S;
    let introspections = |n: f64| n * SHARE_IN_USE / INTROSPECT_EVERY_S;
    // As many sessions start as end, so all `n` start within one lifetime.
    let logins = |n: f64| n / SESSION_LIFETIME_S * PEAK_FACTOR;
    let logouts = |n: f64| logins(n) * SHARE_SIGNED_OUT;
    row("refreshes/s", &format!("N × in use / {REFRESH_EVERY_S:.0} s"), &refreshes);
    row("introspections/s", &format!("N × in use / {INTROSPECT_EVERY_S:.0} s"), &introspections);
    row("sign-ins/s", &format!("N / {days:.0} d × {PEAK_FACTOR:.0}"), &logins);
    row("Redis memory, GB", &format!("N × {redis_bytes:.0} bytes"), &|n| n * redis_bytes / 1e9);
    let cores = |micros_per_second: f64| micros_per_second / MICROS_PER_SECOND / UTILISATION;
    let redis_cores = |n: f64| {
        cores(
            refreshes(n) * refresh.redis
                + introspections(n) * introspect.redis
                + logins(n) * create_redis_micros
                + logouts(n) * logout.redis,
        )
    };
    row(
        "Redis cores (masters)",
        &format!(
            "(refreshes × {:.0} + introspections × {:.0} + sign-ins × {create_redis_micros:.0} + sign-outs × {:.0} µs) / {UTILISATION}",
            refresh.redis, introspect.redis, logout.redis
        ),
        &redis_cores,
    );
    row(
        "node cores, without sign-ins",
        &format!(
            "(refreshes × {:.0} + introspections × {:.0} + sign-outs × {:.0} µs) / {UTILISATION}",
            refresh.server, introspect.server, logout.server
        ),
        &|n| cores(refreshes(n) * refresh.server + introspections(n) * introspect.server + logouts(n) * logout.server),
    );
    row("node cores, for hashing", &format!("sign-ins × {:.1} ms / {UTILISATION}", hash_micros / 1000.0), &|n| {
        cores(logins(n) * hash_micros)
    });
    // Each sign-out is one revocation.
    row("revocations published/s", &format!("sign-ins × {SHARE_SIGNED_OUT}"), &logouts);
    text
}

/// Formats a figure: the larger it is, the fewer decimals.
fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
