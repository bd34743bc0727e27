//! One run: starts all targets, measures round by round, and writes the results.

use std::{
    fs,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::json;

use crate::{
    Arguments, footprint, goals,
    host::Host,
    measurement::{Sample, Scenario, Timing, measure},
    plot,
    results::Results,
    table,
    target::{Common, Name, Target, bare_argon2, make_database},
};

/// Number of accounts that sign in.
const ACCOUNTS: usize = 256;
/// Number of access tokens that are introspected.
const ACCESS_TOKENS: usize = 1000;
/// The number of concurrent connections that most goals use.
const GOAL_CONNECTIONS: usize = 64;
/// Numbers of concurrent connections, in the order of a round. A round measures [`GOAL_CONNECTIONS`] three times, because
/// the speed of a shared machine changes within seconds.
const CONNECTIONS: [usize; 6] = [GOAL_CONNECTIONS, 1, 16, GOAL_CONNECTIONS, 256, GOAL_CONNECTIONS];
/// Warm-up before each measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// Latchkey and the services with the same calls.
const SERVICES: [Name; 3] = [Name::Latchkey, Name::FastApi, Name::Fastify];

/// The scenarios of a round, each with its number of connections and its targets in measuring order. The order of the targets alternates
/// with the rounds and within [`CONNECTIONS`], because the pending disk writes of one measurement may slow the next.
fn full_plan(round: usize) -> Vec<(Scenario, usize, Vec<Name>)> {
    let mut plan = Vec::new();
    for (i, connections) in CONNECTIONS.into_iter().enumerate() {
        let at_goal = connections == GOAL_CONNECTIONS;
        // `limits` are the targets that show what is possible on this machine.
        let mut add = |scenario, limits: &[Name], services: &[Name]| {
            let mut names = [limits, services].concat();
            if (round + i).is_multiple_of(2) {
                names.reverse();
            }
            plan.push((scenario, connections, names));
        };
        add(Scenario::Refresh, &[Name::Floor], &SERVICES);
        if at_goal {
            add(Scenario::RefreshBesideLogins, &[], &SERVICES);
        }
        add(Scenario::IntrospectWarm, &[Name::Hello], &SERVICES);
        if at_goal {
            add(Scenario::IntrospectBesideLogins, &[], &SERVICES);
        }
        add(Scenario::IntrospectCold, &[Name::Floor], &[Name::LatchkeyCold]);
        add(Scenario::Logout, &[Name::Floor], &SERVICES);
        add(Scenario::Login, if at_goal { &[Name::Argon2] } else { &[] }, &SERVICES);
        add(Scenario::PasskeyLogin, &[], &[Name::Latchkey]);
        add(Scenario::CodeFlow, &[], &[Name::Latchkey, Name::OidcProvider]);
        add(Scenario::Me, &[], &[Name::Latchkey]);
        add(Scenario::Page, &[], &[Name::Latchkey]);
        add(Scenario::Mix, &[], &SERVICES);
    }
    plan
}

/// The plan of a round that compares Latchkey with an earlier version only. It measures each scenario three times, and
/// alternates the order of the two versions.
fn baseline_plan(round: usize) -> Vec<(Scenario, usize, Vec<Name>)> {
    let mut plan = Vec::new();
    for repetition in 0..3 {
        for scenario in [Scenario::Refresh, Scenario::IntrospectWarm, Scenario::IntrospectCold, Scenario::Logout] {
            let mut names = match scenario {
                Scenario::IntrospectCold => vec![Name::LatchkeyCold, Name::BaselineCold],
                _ => vec![Name::Latchkey, Name::Baseline],
            };
            if (round + repetition).is_multiple_of(2) {
                names.reverse();
            }
            plan.push((scenario, GOAL_CONNECTIONS, names));
        }
    }
    plan
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let begin = Instant::now();
    let host = Host::find(arguments.persistence)?;
    let cores = std::thread::available_parallelism()?.get();
    let words: Vec<&str> = arguments.only.split(',').filter(|word| !word.is_empty()).collect();
    let plan_round = if arguments.baseline.is_some() { baseline_plan } else { full_plan };
    let mut plan = Vec::new();
    for (scenario, connections, names) in (1..=arguments.rounds).flat_map(plan_round) {
        for name in names {
            let text = format!("{}/{}/{connections}", name.text(), scenario.text());
            if words.is_empty() || words.iter().any(|word| text.contains(word)) {
                plan.push((scenario, connections, name));
            }
        }
    }
    let names: Vec<Name> = plan.iter().map(|(_, _, name)| *name).collect();
    let mut targets = start(&host, &names, arguments, cores)?;
    let mut results = Results::default();
    for (i, &(scenario, connections, name)) in plan.iter().enumerate() {
        eprint!("\r\x1b[K{}/{}: {} {connections} {}", i + 1, plan.len(), scenario.text(), name.text());
        // A server hashes only about a hundred passwords per second, so the sign-ins that the goals use are measured three
        // times as long to get enough samples.
        let is_login_goal = scenario == Scenario::Login && connections == GOAL_CONNECTIONS;
        let seconds = if is_login_goal { 3.0 * arguments.seconds } else { arguments.seconds };
        let timing = Timing { warm_up: WARM_UP, measured: Duration::from_secs_f64(seconds) };
        let sample = if name == Name::Argon2 {
            let per_second = bare_argon2(&host, cores, seconds.ceil() as u64)?;
            // The hashing threads keep all cores busy.
            Sample { per_second, server_micros: cores as f64 * 1e6 / per_second, ..Sample::default() }
        } else {
            let target = targets
                .iter_mut()
                .find(|target| target.name == name)
                .with_context(|| format!("{} has not been started", name.text()))?;
            measure(target, scenario, connections, ACCOUNTS, timing)?
        };
        results.add((scenario, connections, name), sample);
    }
    eprintln!();
    let memory = footprint::servers(&targets);
    // Stops the servers, so that they do not disturb the measurement of the footprint.
    drop(targets);
    let measures_everything = words.is_empty() && arguments.baseline.is_none();
    let footprint = if measures_everything || words.contains(&"footprint") {
        Some(footprint::measure(&host, &memory)?)
    } else {
        None
    };

    let machine = footprint::machine(&host, arguments, cores, begin.elapsed())?;
    let report = [
        machine.text(),
        goals::table(&results, footprint.as_ref()),
        table::all(&results),
        footprint.as_ref().map(footprint::Footprint::table).unwrap_or_default(),
    ]
    .join("\n");
    let out = host.root.join(&arguments.out);
    fs::create_dir_all(&out)?;
    fs::write(out.join("bench.md"), &report)?;
    fs::write(out.join("bench.svg"), plot::rates(&results))?;
    let json = json!({ "machine": machine, "results": results.json(), "footprint": footprint });
    fs::write(out.join("bench.json"), serde_json::to_vec_pretty(&json)?)?;
    writeln!(std::io::stdout(), "{report}\nWritten to {}: bench.md, bench.json, bench.svg", out.display())?;
    Ok(())
}

/// Starts the targets with these names and creates their sessions and access tokens.
fn start(host: &Host, names: &[Name], arguments: &Arguments, cores: usize) -> anyhow::Result<Vec<Target>> {
    let common = Common::prepare(host, ACCOUNTS)?;
    let needs = |name: Name| names.contains(&name);
    let mut targets = Vec::new();
    if needs(Name::Hello) {
        targets.push(Target::hello(host)?);
    }
    if needs(Name::Floor) {
        targets.push(Target::floor(host)?);
    }
    if needs(Name::Latchkey) || needs(Name::LatchkeyCold) {
        targets.push(Target::latchkey(host, &common)?);
    }
    if let Some(program) = &arguments.baseline {
        targets.push(Target::baseline(host, &common, program)?);
    }
    if needs(Name::FastApi) || needs(Name::Fastify) {
        make_database(host, &common)?;
    }
    if needs(Name::FastApi) {
        targets.push(Target::fastapi(host, &common, cores)?);
    }
    if needs(Name::Fastify) {
        targets.push(Target::fastify(host, &common, cores)?);
    }
    if needs(Name::OidcProvider) {
        targets.push(Target::oidc_provider(host, &common, cores)?);
    }
    for target in &mut targets {
        // Hello holds no sessions.
        if target.redis.is_empty() {
            continue;
        }
        eprintln!(
            "{}: started in {:.0} ms; making sessions",
            target.name.text(),
            target.process.started_in.as_secs_f64() * 1e3
        );
        // The sessions of node-oidc-provider start in the measurement, when its browsers sign in.
        if target.name == Name::OidcProvider {
            continue;
        }
        target.sessions = target.seed(arguments.sessions)?.into();
        target.collect_access_tokens(ACCESS_TOKENS)?;
    }
    // A cold node gets the access tokens of its warm node, so it starts last.
    for (cold, warm_name) in [(Name::LatchkeyCold, Name::Latchkey), (Name::BaselineCold, Name::Baseline)] {
        if needs(cold) {
            let warm = targets
                .iter()
                .find(|target| target.name == warm_name)
                .with_context(|| format!("{} has not been started", warm_name.text()))?;
            targets.push(Target::cold(warm)?);
        }
    }
    Ok(targets)
}
