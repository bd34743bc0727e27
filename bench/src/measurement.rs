//! One measurement: a target, a scenario, a number of connections.

use std::{collections::VecDeque, thread, time::Duration};

use anyhow::Context;
use serde::Serialize;

use crate::{
    code_flow::{CodeFlow, SIGN_INS_PER_BROWSER},
    load::{self, Plan, Workload},
    passkeys::PasskeyLogin,
    procfs::{self, Usage},
    target::{Name, Target},
    workload::{DuringFlood, Get, Hello, Introspect, Login, Logout, Mix, Refresh, RefreshEnded},
};

/// The kind of requests that a measurement sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scenario {
    /// `POST /v1/refresh`
    Refresh,
    /// `POST /oauth2/introspect`, measured on targets without caches, such as [`Name::LatchkeyCold`] and [`Name::Floor`].
    IntrospectCold,
    /// `POST /oauth2/introspect`, measured on the other targets.
    IntrospectWarm,
    /// `POST /v1/login`
    Login,
    /// `POST /v1/login/passkey/options` and `POST /v1/login/passkey`: one sign-in.
    PasskeyLogin,
    /// `GET /oauth2/authorize` in a browser that has signed in, and `POST /oauth2/token`: one sign-in to an app.
    CodeFlow,
    /// `GET /v1/me`
    Me,
    /// `GET /account/sign-in` without cookies.
    Page,
    /// `POST /v1/logout`
    Logout,
    /// 90 % introspections, 8 % refreshes, 1 % sign-ins, 1 % sign-outs.
    Mix,
    /// Refreshes during a flood of sign-ins on [`FLOOD_CONNECTIONS`] further connections.
    RefreshBesideLogins,
    /// Introspections during the same flood.
    IntrospectBesideLogins,
}

/// An upper bound of sign-ins to apps per second. It determines how many browsers are prepared: each makes only
/// [`SIGN_INS_PER_BROWSER`] sign-ins.
const MAX_CODE_FLOWS_PER_SECOND: f64 = 10_000.0;

/// Number of different access tokens in the requests of `GET /v1/me`. Each is from a sign-in, because the sessions that
/// [`Target::seed`] creates belong to no account in the database.
const ME_TOKENS: usize = 64;

/// Number of sessions that exist for the sign-outs of [`Scenario::Mix`] when it starts. Its sign-ins add further ones.
const MIX_ENDING_SESSIONS: usize = 2000;

/// Number of connections of the sign-in flood.
pub const FLOOD_CONNECTIONS: usize = 16;

impl Scenario {
    /// The printed name.
    pub fn text(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::IntrospectCold => "introspect-cold",
            Self::IntrospectWarm => "introspect-warm",
            Self::Login => "login",
            Self::PasskeyLogin => "passkey-login",
            Self::CodeFlow => "code-flow",
            Self::Me => "me",
            Self::Page => "page",
            Self::Logout => "logout",
            Self::Mix => "mix",
            Self::RefreshBesideLogins => "refresh-beside-logins",
            Self::IntrospectBesideLogins => "introspect-beside-logins",
        }
    }
}

/// The figures of one measurement.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Correct responses per second, without the sign-in flood.
    pub per_second: f64,
    /// Median latency in milliseconds.
    pub p50: f64,
    /// 99th percentile in milliseconds.
    pub p99: f64,
    /// 99.9th percentile in milliseconds.
    pub p999: f64,
    /// Server CPU microseconds per response, including the work for the sign-in flood, for passkey options and for codes.
    pub server_micros: f64,
    /// Redis CPU microseconds per response.
    pub redis_micros: f64,
    /// Resident memory of the server at the end, MiB.
    pub resident_mib: f64,
    /// Wrong or missing responses and failed connections, warm-up included.
    pub errors: u64,
}

/// Time after the last sign-out within which Latchkey has written all rows of the audit log.
const AUDIT_WRITE_DELAY: Duration = Duration::from_millis(1500);

/// Durations of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Warm-up, not counted.
    pub warm_up: Duration,
    /// Measured time.
    pub measured: Duration,
}

/// Runs one measurement. `accounts` is the number of accounts that the target has.
pub fn measure(
    target: &mut Target,
    scenario: Scenario,
    connections: usize,
    accounts: usize,
    timing: Timing,
) -> anyhow::Result<Sample> {
    let label = format!("{}, {}, {connections} connections", target.name.text(), scenario.text());
    let seconds = (timing.warm_up + timing.measured).as_secs_f64();
    // the refresh tokens of the sessions that the workload ends
    let to_sign_out = match scenario {
        Scenario::Logout => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, at most millions")]
            let enough = (seconds * max_logouts(target.name, connections)) as usize;
            target.seed(enough)?
        }
        Scenario::Mix => target.seed(MIX_ENDING_SESSIONS)?,
        _ => Vec::new(),
    };
    let mut browsers = match scenario {
        Scenario::CodeFlow => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, at most millions")]
            let enough = (seconds * MAX_CODE_FLOWS_PER_SECOND) as usize / SIGN_INS_PER_BROWSER;
            target.sign_in_browsers(enough.max(connections))?
        }
        _ => VecDeque::new(),
    };
    let tokens = if scenario == Scenario::Me { target.sign_in(ME_TOKENS.min(accounts))? } else { Vec::new() };
    let Target { name, process, address, redis_pids, authorization, sessions, access, authenticator, app, .. } = target;
    let has_flood = matches!(scenario, Scenario::RefreshBesideLogins | Scenario::IntrospectBesideLogins);
    let plan = Plan {
        connections: if has_flood { connections + FLOOD_CONNECTIONS } else { connections },
        warm_up: timing.warm_up,
        measured: timing.measured,
    };
    let read_usage = || UsageReading { server: process.usage(), redis: procfs::usage(redis_pids) };
    // read at the beginning and at the end of the measured time
    let mut edge_readings = Vec::with_capacity(2);
    let on_edge = || edge_readings.push(read_usage());
    // for sign-outs: read before the first request, and after the audit row of the last sign-out has been written
    let mut logout_readings = None;
    let introspect = |connections| Introspect::new(access, authorization, connections);
    let outcome = {
        let drive = |workload: &mut dyn Workload| load::drive(*address, plan, workload, on_edge);
        match scenario {
            // this target has one handler, for every scenario
            _ if *name == Name::Hello => drive(&mut Hello),
            Scenario::Refresh => drive(&mut Refresh::new(sessions, connections)),
            Scenario::IntrospectCold | Scenario::IntrospectWarm => drive(&mut introspect(connections)),
            Scenario::Login => drive(&mut Login::new(accounts)),
            Scenario::PasskeyLogin => {
                let authenticator = authenticator.as_ref().context("the target has no passkeys")?;
                drive(&mut PasskeyLogin::new(authenticator, connections))
            }
            Scenario::CodeFlow => {
                let app = app.as_ref().context("the target signs no users in to apps")?;
                drive(&mut CodeFlow::new(&mut browsers, app, connections))
            }
            Scenario::Me => drive(&mut Get::me(&tokens)),
            Scenario::Page => drive(&mut Get::sign_in_page()),
            Scenario::Logout => {
                let mut logout = Logout::new(to_sign_out);
                let before = read_usage();
                let outcome = drive(&mut logout);
                thread::sleep(AUDIT_WRITE_DELAY);
                logout_readings = Some((before, read_usage()));
                // the measurement fails if a session can be refreshed after its sign-out
                load::exhaust(*address, 1, &mut RefreshEnded(logout.ended)).context("after logout")?;
                outcome
            }
            Scenario::Mix => {
                let refresh = Refresh::new(sessions, connections);
                drive(&mut Mix::new(introspect(connections), refresh, Login::new(accounts), to_sign_out))
            }
            Scenario::RefreshBesideLogins => {
                let inner = &mut Refresh::new(sessions, connections);
                drive(&mut DuringFlood { inner, connections, login: Login::new(accounts) })
            }
            Scenario::IntrospectBesideLogins => {
                let inner = &mut introspect(connections);
                drive(&mut DuringFlood { inner, connections, login: Login::new(accounts) })
            }
        }
    };
    let mut outcome = outcome.with_context(|| label.clone())?;
    if let Some(error) = &outcome.first_error {
        eprintln!("{label}: {} errors, the first: {error}", outcome.errors);
    }
    let has_auxiliary_requests = has_flood || matches!(scenario, Scenario::PasskeyLogin | Scenario::CodeFlow);
    if has_auxiliary_requests {
        // Class 0 has the requests that are measured. Class 1 has the sign-in flood, the passkey options or the codes.
        outcome.latencies.truncate(1);
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = outcome.measured_count() as f64;
    let mut sorted: Vec<u32> = outcome.latencies.concat();
    sorted.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (server_micros, redis_micros) = match (logout_readings, &edge_readings[..]) {
        // these readings include the warm-up, and so does `Outcome::correct`
        (Some((before, after)), _) => micros_per_request(before, after, outcome.correct as f64),
        (None, &[begin, end]) => micros_per_request(begin, end, count),
        // does not happen: `load::drive` fails unless it has reached both edges
        (None, _) => anyhow::bail!("{label}: the usage was not read at both edges of the measured time"),
    };
    #[expect(clippy::cast_precision_loss, reason = "the memory of a machine is far below 2^52 bytes")]
    let resident_mib = edge_readings.last().map_or(0, |reading| reading.server.resident) as f64 / f64::from(1 << 20);
    Ok(Sample {
        per_second: count / outcome.seconds,
        p50: millis_at(&sorted, 0.5),
        p99: millis_at(&sorted, 0.99),
        p999: millis_at(&sorted, 0.999),
        server_micros,
        redis_micros,
        resident_mib,
        errors: outcome.errors,
    })
}

/// The usage of a target's processes up to one moment.
#[derive(Clone, Copy)]
struct UsageReading {
    server: Usage,
    redis: Usage,
}

/// The processor time of the server and of Redis per request, in microseconds.
fn micros_per_request(before: UsageReading, after: UsageReading, requests: f64) -> (f64, f64) {
    let server = after.server.cpu_micros - before.server.cpu_micros;
    let redis = after.redis.cpu_micros - before.redis.cpu_micros;
    (server / requests, redis / requests)
}

/// The quantile in milliseconds, by the nearest-rank method. 0 without latencies.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rank is at most the length of the list"
)]
fn millis_at(sorted_micros: &[u32], quantile: f64) -> f64 {
    let rank = (sorted_micros.len() as f64 * quantile).ceil() as usize;
    // ranks begin with 1
    let index = rank.saturating_sub(1);
    sorted_micros.get(index).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
}

/// An upper bound of sign-outs per second. It determines how many sessions are created for them.
fn max_logouts(name: Name, connections: usize) -> f64 {
    let max = match name {
        Name::Floor => 60_000.0,
        Name::FastApi => 8_000.0,
        Name::Fastify => 30_000.0,
        _ => 35_000.0,
    };
    // with one connection, the latency limits the rate: no target reaches a fifth of its bound
    if connections == 1 { max / 5.0 } else { max }
}
