//! Measures how costs grow with the number of sessions, of sessions per account, and of nodes on one Redis or a Redis Cluster.

use std::{fs, thread, time::Duration};

use serde::Serialize;

use crate::{
    Arguments,
    host::{Host, RedisServer},
    measurement::{Sample, Scenario, Timing, measure},
    plot::{self, Series},
    resp::Resp,
    results::Spread,
    sizing::{self, Cost, Measured},
    target::{Common, Settings, Target, bare_argon2},
};

const ACCOUNTS: usize = 256;
const CONNECTIONS: usize = 64;
/// The largest number of sessions that the scenarios use.
const SESSIONS: usize = 100_000;
const ACCESS_TOKENS: usize = 1000;
const WARM_UP: Duration = Duration::from_millis(500);

/// Turns caches and the grace window off. With few sessions, each session is used far more often than in production: caches
/// would answer, and records would hold more superseded generations.
const WITHOUT_CACHES_AND_GRACE: Settings<'static> =
    &[("LATCHKEY_CACHE_MAX_STALENESS", "0s"), ("LATCHKEY_CACHE_MAX_TOKENS", "0"), ("LATCHKEY_SESSION_GRACE", "0s")];

const SCENARIOS: [Scenario; 3] = [Scenario::Refresh, Scenario::IntrospectCold, Scenario::Logout];

/// One row of the table.
#[derive(Debug, Serialize)]
struct Point {
    /// The number of sessions, the number of sessions per account, or the number of nodes and the kind of their Redis.
    #[serde(rename = "what")]
    scale: String,
    scenario: &'static str,
    per_second: f64,
    /// 99th percentile of the latency in milliseconds.
    p99: f64,
    /// CPU time per response of the node that responds, in µs.
    server_micros: f64,
    /// CPU time of Redis per response, in µs.
    redis_micros: f64,
    redis_bytes_per_session: Option<f64>,
    errors: u64,
}

/// Runs all growth measurements.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let host = Host::find(arguments.persistence)?;
    let common = Common::prepare(&host, ACCOUNTS)?;
    let mut points = measure_session_counts(&host, &common, arguments)?;
    let sessions_end = points.len();
    points.extend(measure_sessions_per_account(&host, &common, arguments)?);
    let per_account_end = points.len();
    points.extend(measure_node_counts(&host, &common, arguments)?);

    let out = host.root.join(&arguments.out);
    fs::create_dir_all(&out)?;
    let sizing = capacity_costs(&points, &host)?.map(|measured| sizing::table(&measured)).unwrap_or_default();
    let text = format!("{}\n{sizing}", table(&points));
    fs::write(out.join("growth.md"), &text)?;
    fs::write(out.join("growth.json"), serde_json::to_vec_pretty(&points)?)?;
    fs::write(out.join("growth-sessions.svg"), cpu_time_plot("live sessions", &points[..sessions_end]))?;
    fs::write(
        out.join("growth-accounts.svg"),
        cpu_time_plot("sessions of each account", &points[sessions_end..per_account_end]),
    )?;
    println!("{text}\nWritten to {}: growth.md, growth.json, growth-sessions.svg, growth-accounts.svg", out.display());
    Ok(())
}

/// Measures 1 thousand, 100 thousand and 1 million sessions.
fn measure_session_counts(host: &Host, common: &Common, arguments: &Arguments) -> anyhow::Result<Vec<Point>> {
    let mut target = start(host, common, "sessions", RedisKind::Single)?;
    let mut live = 0;
    let mut points = Vec::new();
    for count in [1_000_usize, 100_000, 1_000_000] {
        eprintln!("{count} sessions");
        // counts the memory of the added sessions only, because the sign-outs of earlier measurements have left events
        let memory_before = used_memory(&target)?;
        let added = count - live;
        let refresh_tokens = target.seed(added)?;
        let bytes_per_session = (used_memory(&target)? - memory_before) / as_f64(added);
        live = count;
        target.sessions.extend(refresh_tokens);
        // keeps the newest `SESSIONS`
        let excess = target.sessions.len().saturating_sub(SESSIONS);
        target.sessions.drain(..excess);
        points.extend(measure_scenarios(&mut target, &count.to_string(), bytes_per_session, arguments)?);
    }
    Ok(points)
}

/// Measures 1, 10 and 50 sessions per account.
fn measure_sessions_per_account(host: &Host, common: &Common, arguments: &Arguments) -> anyhow::Result<Vec<Point>> {
    let mut points = Vec::new();
    for per_account in [1, 10, 50] {
        eprintln!("{per_account} sessions of each account");
        let mut target = start(host, common, &format!("accounts-{per_account}"), RedisKind::Single)?;
        target.per_account = per_account;
        let redis_micros =
            |target: &Target| target.redis.iter().map(|redis| redis.process.usage().cpu_micros).sum::<f64>();
        let memory_before = used_memory(&target)?;
        let micros_before = redis_micros(&target);
        target.sessions = target.seed(SESSIONS)?.into();
        let micros_per_session = (redis_micros(&target) - micros_before) / as_f64(SESSIONS);
        let bytes_per_session = (used_memory(&target)? - memory_before) / as_f64(SESSIONS);
        points.push(Point {
            scale: per_account.to_string(),
            scenario: "create",
            // the sessions are created directly in Redis, without requests to the server
            per_second: 0.0,
            p99: 0.0,
            server_micros: 0.0,
            redis_micros: micros_per_session,
            redis_bytes_per_session: Some(bytes_per_session),
            errors: 0,
        });
        points.extend(measure_scenarios(&mut target, &per_account.to_string(), bytes_per_session, arguments)?);
    }
    Ok(points)
}

/// Measures one, two and three nodes, on one Redis and on three masters.
fn measure_node_counts(host: &Host, common: &Common, arguments: &Arguments) -> anyhow::Result<Vec<Point>> {
    let mut points = Vec::new();
    for (redis, folder, redis_name) in
        [(RedisKind::Single, "nodes", "one Redis"), (RedisKind::Cluster, "nodes-cluster", "a cluster of three masters")]
    {
        let mut nodes = vec![start(host, common, folder, redis)?];
        let mut sessions = nodes[0].seed(SESSIONS)?;
        for count in 1..=3 {
            eprintln!("{count} nodes on {redis_name}");
            if count > nodes.len() {
                let node = nodes[0].another_node(&format!("node-{count}"), WITHOUT_CACHES_AND_GRACE)?;
                nodes.push(node);
            }
            let share = sessions.len() / nodes.len();
            for node in &mut nodes {
                node.sessions = sessions.split_off(sessions.len() - share).into();
                node.collect_access_tokens(ACCESS_TOKENS)?;
            }
            for scenario in [Scenario::Refresh, Scenario::IntrospectCold] {
                let mut rounds = Vec::new();
                for _ in 0..arguments.rounds {
                    rounds.push(measure_nodes(&mut nodes, scenario, timing(arguments))?);
                }
                let bytes_per_session = None;
                points.push(point(format!("{count} nodes on {redis_name}"), scenario, &rounds, bytes_per_session));
            }
            // takes the sessions back, to share them among one more node
            sessions.extend(nodes.iter_mut().flat_map(|node| std::mem::take(&mut node.sessions)));
        }
    }
    Ok(points)
}

#[derive(Clone, Copy)]
enum RedisKind {
    Single,
    /// A Redis Cluster of three masters.
    Cluster,
}

/// Starts Latchkey on a Redis of its own, with all files in `folder`.
fn start(host: &Host, common: &Common, folder: &str, redis: RedisKind) -> anyhow::Result<Target> {
    let host = &host.subfolder(folder)?;
    let (redis, url) = match redis {
        RedisKind::Cluster => RedisServer::start_cluster(host, "cluster")?,
        RedisKind::Single => {
            let redis = RedisServer::start(host, folder, host.persistence)?;
            let url = redis.url();
            (vec![redis], url)
        }
    };
    Target::latchkey_on(host, common, redis, &url, WITHOUT_CACHES_AND_GRACE)
}

fn timing(arguments: &Arguments) -> Timing {
    Timing { warm_up: WARM_UP, measured: Duration::from_secs_f64(arguments.seconds) }
}

fn measure_scenarios(
    target: &mut Target,
    scale: &str,
    bytes_per_session: f64,
    arguments: &Arguments,
) -> anyhow::Result<Vec<Point>> {
    target.collect_access_tokens(ACCESS_TOKENS)?;
    let mut points = Vec::new();
    for scenario in SCENARIOS {
        let mut rounds = Vec::new();
        for _ in 0..arguments.rounds {
            rounds.push(measure(target, scenario, CONNECTIONS, ACCOUNTS, timing(arguments))?);
        }
        points.push(point(scale.to_owned(), scenario, &rounds, Some(bytes_per_session)));
    }
    Ok(points)
}

/// Measures all nodes at once, each with an equal share of the connections.
fn measure_nodes(nodes: &mut [Target], scenario: Scenario, timing: Timing) -> anyhow::Result<Sample> {
    let connections = CONNECTIONS / nodes.len();
    let samples = thread::scope(|scope| {
        let running: Vec<_> = nodes
            .iter_mut()
            .map(|node| scope.spawn(move || measure(node, scenario, connections, ACCOUNTS, timing)))
            .collect();
        running
            .into_iter()
            .map(|measurement| measurement.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a panic while measuring"))))
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let per_second: f64 = samples.iter().map(|sample| sample.per_second).sum();
    // per-response figures, weighted by the number of responses
    let weighted = |figure: fn(&Sample) -> f64| {
        samples.iter().map(|sample| figure(sample) * sample.per_second).sum::<f64>() / per_second
    };
    Ok(Sample {
        per_second,
        p99: samples.iter().map(|sample| sample.p99).fold(0.0, f64::max),
        server_micros: weighted(|sample| sample.server_micros),
        // the nodes share Redis: `redis_micros` of a sample is Redis' CPU time for all nodes, divided by one node's responses
        redis_micros: samples.iter().map(|sample| sample.redis_micros * sample.per_second).fold(0.0, f64::max)
            / per_second,
        errors: samples.iter().map(|sample| sample.errors).sum(),
        ..Sample::default()
    })
}

/// The medians of the rounds, and the sum of their errors.
fn point(scale: String, scenario: Scenario, rounds: &[Sample], bytes_per_session: Option<f64>) -> Point {
    let median = |figure: fn(&Sample) -> f64| Spread::of(rounds.iter().map(figure)).map_or(0.0, |spread| spread.median);
    let point = Point {
        scale,
        scenario: scenario.text(),
        per_second: median(|sample| sample.per_second),
        p99: median(|sample| sample.p99),
        server_micros: median(|sample| sample.server_micros),
        redis_micros: median(|sample| sample.redis_micros),
        redis_bytes_per_session: bytes_per_session,
        errors: rounds.iter().map(|sample| sample.errors).sum(),
    };
    // printed at once: a later measurement may fail, and then no file is written
    eprint!("{}", row(&point));
    point
}

/// Costs for capacity planning: of the creation of a session at one session per account, and of everything else at a million
/// sessions. `None` if a figure was not measured.
fn capacity_costs(points: &[Point], host: &Host) -> anyhow::Result<Option<Measured>> {
    let at_a_million =
        |scenario: Scenario| points.iter().find(|p| p.scale == "1000000" && p.scenario == scenario.text());
    let cost =
        |scenario| at_a_million(scenario).map(|point| Cost { server: point.server_micros, redis: point.redis_micros });
    // the first point has one session per account
    let create_redis_micros = points.iter().find(|point| point.scenario == "create").map(|point| point.redis_micros);
    let (threads, seconds) = (1, 2);
    let hashes_per_second = bare_argon2(host, threads, seconds)?;
    let all_costs = || {
        Some(Measured {
            redis_bytes: at_a_million(Scenario::Refresh)?.redis_bytes_per_session?,
            refresh: cost(Scenario::Refresh)?,
            introspect: cost(Scenario::IntrospectCold)?,
            logout: cost(Scenario::Logout)?,
            create_redis_micros: create_redis_micros?,
            hash_micros: 1e6 / hashes_per_second,
        })
    };
    Ok(all_costs())
}

fn used_memory(target: &Target) -> anyhow::Result<f64> {
    let mut sum = 0;
    for redis in &target.redis {
        sum += Resp::connect(redis.port)?.info("used_memory")?;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(sum as f64)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn as_f64(number: usize) -> f64 {
    number as f64
}

fn table(points: &[Point]) -> String {
    let mut text = "| | | requests/s | p99 ms | server µs | Redis µs | bytes of Redis for each session | errors |\n\
                    | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for point in points {
        text.push_str(&row(point));
    }
    text
}

fn row(point: &Point) -> String {
    let Point { scale, scenario, per_second, p99, server_micros, redis_micros, errors, .. } = point;
    let bytes = point.redis_bytes_per_session.map_or_else(String::new, |bytes| format!("{bytes:.0}"));
    format!(
        "| {scale} | {scenario} | {per_second:.0} | {p99:.2} | {server_micros:.1} | {redis_micros:.1} | {bytes} | {errors} |\n"
    )
}

/// Plots CPU time per request, of the server and of Redis, as an SVG.
fn cpu_time_plot(x_axis: &str, points: &[Point]) -> String {
    let mut series = Vec::new();
    for (colour, scenario) in ["#1f6feb", "#1a7f37", "#bf8700"].into_iter().zip(SCENARIOS) {
        let line = |figure: fn(&Point) -> f64| {
            let of_scenario = points.iter().filter(|point| point.scenario == scenario.text());
            of_scenario.map(|point| (point.scale.clone(), figure(point))).collect()
        };
        let name = scenario.text();
        series.push(Series {
            name: format!("{name}: server"),
            colour,
            dashed: false,
            points: line(|p| p.server_micros),
        });
        series.push(Series { name: format!("{name}: Redis"), colour, dashed: true, points: line(|p| p.redis_micros) });
    }
    plot::lines(&format!("Processor time for each request, µs, by {x_axis}"), &series)
}
