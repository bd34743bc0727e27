//! The goals and whether a run reaches them. Most goals are ratios of Latchkey to another target of the same run; [`Name`] describes the
//! targets, such as the floor, hello and the baseline.

use std::fmt::Write;

use crate::{
    footprint::Footprint,
    measurement::{Sample, Scenario},
    results::{Results, Spread},
    target::Name,
};

/// A goal and its direction.
#[derive(Clone, Copy)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// No goal: the row is for comparison.
    Compare,
}

/// A row of the table.
struct Line {
    /// The measured figure, and its reference if the figure is a ratio.
    what: String,
    goal: Goal,
    /// `None` if the run has not measured it.
    measured: Option<Spread>,
    /// The unit, with a space before it.
    unit: &'static str,
}

/// The smallest goal whose measured figures are printed without decimals.
const LARGE_GOAL: f64 = 20.0;

/// Number of connections of the compared measurements, unless a row names another.
const DEFAULT_CONNECTIONS: usize = 64;

/// Renders the table of goals.
pub fn table(results: &Results, footprint: Option<&Footprint>) -> String {
    let mut text = "| what | goal | measured: median (min to max) | |\n| --- | --- | --- | --- |\n".to_owned();
    for line in lines(results, footprint) {
        let Some(measured) = line.measured else { continue };
        let Line { what, unit, .. } = line;
        let Spread { median, min, max } = measured;
        let verdict_of = |reached| if reached { "reached" } else { "**missed**" };
        let decimals = |goal: f64| if goal >= LARGE_GOAL { 0 } else { 2 };
        let (goal, digits, verdict) = match line.goal {
            Goal::AtLeast(goal) => (format!("at least {goal}{unit}"), decimals(goal), verdict_of(median >= goal)),
            Goal::AtMost(goal) => (format!("at most {goal}{unit}"), decimals(goal), verdict_of(median <= goal)),
            Goal::Compare => (String::new(), 2, "for comparison"),
        };
        let _ =
            writeln!(text, "| {what} | {goal} | {median:.digits$} ({min:.digits$} to {max:.digits$}) | {verdict} |");
    }
    text
}

fn rate(sample: &Sample) -> f64 {
    sample.per_second
}

fn cpu(sample: &Sample) -> f64 {
    sample.server_micros
}

fn redis_cpu(sample: &Sample) -> f64 {
    sample.redis_micros
}

/// The goals in the order of the table, also those that the run has not measured.
fn lines(results: &Results, footprint: Option<&Footprint>) -> Vec<Line> {
    use Name::{Argon2, Baseline, BaselineCold, FastApi, Fastify, Floor, Hello, Latchkey, LatchkeyCold, OidcProvider};
    use Scenario::{
        CodeFlow, IntrospectBesideLogins, IntrospectCold, IntrospectWarm, Login, Logout, Me, Page, Refresh,
        RefreshBesideLogins,
    };
    let ratio = |scenario, measured, reference, figure: fn(&Sample) -> f64| {
        results.ratio((scenario, DEFAULT_CONNECTIONS, measured), (scenario, DEFAULT_CONNECTIONS, reference), figure)
    };
    let line = |what: &str, goal, measured| Line { what: what.to_owned(), goal, measured, unit: " times" };
    let mut lines = vec![
        line("refresh: server CPU, against the floor", Goal::AtMost(1.15), ratio(Refresh, Latchkey, Floor, cpu)),
        line("refresh: requests/s, against FastAPI", Goal::AtLeast(7.0), ratio(Refresh, Latchkey, FastApi, rate)),
        line("refresh: requests/s, against Fastify", Goal::AtLeast(2.0), ratio(Refresh, Latchkey, Fastify, rate)),
        line("the floor's refresh: requests/s, against FastAPI", Goal::Compare, ratio(Refresh, Floor, FastApi, rate)),
        line("the floor's refresh: requests/s, against Fastify", Goal::Compare, ratio(Refresh, Floor, Fastify, rate)),
        line(
            "introspect, warm: requests/s, against hello",
            Goal::AtLeast(0.85),
            ratio(IntrospectWarm, Latchkey, Hello, rate),
        ),
        line(
            "introspect, warm: requests/s, against FastAPI",
            Goal::AtLeast(25.0),
            ratio(IntrospectWarm, Latchkey, FastApi, rate),
        ),
        line(
            "introspect, warm: requests/s, against Fastify",
            Goal::AtLeast(8.0),
            ratio(IntrospectWarm, Latchkey, Fastify, rate),
        ),
        line(
            "introspect, cold: server CPU, against the floor",
            Goal::AtMost(1.15),
            ratio(IntrospectCold, LatchkeyCold, Floor, cpu),
        ),
        line("login: sign-ins/s, against bare argon2", Goal::AtLeast(0.97), ratio(Login, Latchkey, Argon2, rate)),
        line("login: sign-ins/s, against FastAPI", Goal::AtLeast(1.3), ratio(Login, Latchkey, FastApi, rate)),
        line("login: sign-ins/s, against Fastify", Goal::AtLeast(1.3), ratio(Login, Latchkey, Fastify, rate)),
        line("logout: requests/s, against FastAPI", Goal::AtLeast(10.0), ratio(Logout, Latchkey, FastApi, rate)),
        line("logout: requests/s, against Fastify", Goal::AtLeast(2.0), ratio(Logout, Latchkey, Fastify, rate)),
        line("the floor's logout: requests/s, against FastAPI", Goal::Compare, ratio(Logout, Floor, FastApi, rate)),
        line("the floor's logout: requests/s, against Fastify", Goal::Compare, ratio(Logout, Floor, Fastify, rate)),
        line(
            "refresh beside a login flood, against alone",
            Goal::AtLeast(0.85),
            results.ratio(
                (RefreshBesideLogins, DEFAULT_CONNECTIONS, Latchkey),
                (Refresh, DEFAULT_CONNECTIONS, Latchkey),
                rate,
            ),
        ),
        line(
            "introspect beside a login flood, against alone",
            Goal::AtLeast(0.85),
            results.ratio(
                (IntrospectBesideLogins, DEFAULT_CONNECTIONS, Latchkey),
                (IntrospectWarm, DEFAULT_CONNECTIONS, Latchkey),
                rate,
            ),
        ),
        line(
            "refresh: p99, against the floor's",
            Goal::AtMost(1.3),
            ratio(Refresh, Latchkey, Floor, |sample| sample.p99),
        ),
        line(
            "refresh: Redis CPU, against the floor's script",
            Goal::AtMost(1.1),
            ratio(Refresh, Latchkey, Floor, redis_cpu),
        ),
        line(
            "code flow: sign-ins/s, against node-oidc-provider",
            Goal::Compare,
            ratio(CodeFlow, Latchkey, OidcProvider, rate),
        ),
        line(
            "code flow: server CPU, against node-oidc-provider",
            Goal::Compare,
            ratio(CodeFlow, Latchkey, OidcProvider, cpu),
        ),
        line(
            "sign-in page: median latency of one connection, against /v1/me",
            Goal::AtMost(1.2),
            results.ratio((Page, 1, Latchkey), (Me, 1, Latchkey), |sample| sample.p50),
        ),
    ];
    for (what, scenario, measured, baseline) in [
        ("refresh", Refresh, Latchkey, Baseline),
        ("introspect, warm", IntrospectWarm, Latchkey, Baseline),
        ("introspect, cold", IntrospectCold, LatchkeyCold, BaselineCold),
        ("logout", Logout, Latchkey, Baseline),
    ] {
        let mut add_cpu = |process: &str, goal, figure| {
            let what = format!("{what}: {process} CPU, against the baseline");
            lines.push(line(&what, goal, ratio(scenario, measured, baseline, figure)));
        };
        add_cpu("server", Goal::AtMost(1.03), cpu);
        if scenario == Refresh {
            add_cpu("Redis", Goal::AtMost(1.05), redis_cpu);
        }
    }
    if let Some(footprint) = footprint {
        // A footprint is measured once, so its spread is a single value.
        let mut add_at_most = |what: &str, goal, value: f64, unit| {
            let measured = Some(Spread { median: value, min: value, max: value });
            lines.push(Line { what: what.to_owned(), goal: Goal::AtMost(goal), measured, unit });
        };
        for (sessions, bytes) in &footprint.redis_bytes_per_session {
            add_at_most(&format!("Redis memory per session, at {sessions} sessions"), 300.0, *bytes, " bytes");
        }
        let without_hashing_mib = footprint.idle_mib - footprint.hashing_mib;
        add_at_most("server memory, idle, without the hashing buffers", 30.0, without_hashing_mib, " MiB");
        add_at_most("server memory, at 256 connections of the mix", 100.0, footprint.mix_mib, " MiB");
    }
    lines
}
