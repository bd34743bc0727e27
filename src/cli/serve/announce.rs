//! What a node reports when it starts: a log line, a banner on a terminal, and its readiness.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    config::Config,
    service::readiness::{self, Check, Status},
    state::AppState,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Pause between readiness checks until the node is ready.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often problems that stay the same are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The addresses that the node listens on.
#[derive(Clone, Copy)]
pub(super) struct Endpoints {
    pub(super) api: SocketAddr,
    pub(super) metrics: Option<SocketAddr>,
}

/// Logs one line with everything that an operator needs to tell nodes and releases apart.
pub(super) fn started(config: &Config, endpoints: Endpoints) {
    let Endpoints { api, metrics } = endpoints;
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    let data_dir = uses_data_dir(config).then(|| config.data_dir.display().to_string());
    tracing::info!(
        version = VERSION,
        node = node_name(),
        pid = std::process::id(),
        api = format!("http://{api}"),
        metrics,
        issuer = config.issuer,
        redis = redis(config),
        database = database(config),
        data_dir,
        "started"
    );
}

/// Checks readiness until the node is ready, logs what is wrong, and prints the banner if standard output is a terminal.
pub(super) async fn report_readiness(state: &AppState, endpoints: Endpoints) {
    let mut ticks = tokio::time::interval(CHECK_INTERVAL);
    let mut reported: Option<(Vec<Check>, Instant)> = None;
    loop {
        ticks.tick().await;
        let checks = readiness::check(state).await;
        let ready = checks.iter().all(|check| check.status != Status::Failed);
        if reported.is_none() && io::stdout().is_terminal() {
            print_banner(&state.config, endpoints, ready);
        }
        let is_new = reported.as_ref().is_none_or(|(last, at)| *last != checks || at.elapsed() >= LOG_INTERVAL);
        if is_new {
            checks.iter().for_each(log_problems);
            if ready {
                tracing::info!("ready");
            } else {
                tracing::error!("not ready: /readyz fails; checking every second");
            }
            reported = Some((checks, Instant::now()));
        }
        if ready {
            return;
        }
    }
}

fn log_problems(check: &Check) {
    for problem in &check.problems {
        match check.status {
            Status::Failed => tracing::error!(what = check.name, "{problem}"),
            Status::Ok | Status::Warning => tracing::warn!(what = check.name, "{problem}"),
        }
    }
}

fn print_banner(config: &Config, endpoints: Endpoints, ready: bool) {
    let Endpoints { api, metrics } = endpoints;
    let state = if ready { "is ready." } else { "started, but is not ready; the log says why." };
    let mut text = format!("Latchkey {VERSION} {state}\n");
    let mut line = |name: &str, value: &str| text += &format!("  {name:<9} {value}\n");
    line("API", &format!("http://{api}"));
    line("Docs", &format!("http://{api}/docs"));
    if let Some(metrics) = metrics {
        line("Metrics", &format!("http://{metrics}/metrics"));
    }
    line("Issuer", &config.issuer);
    line("Sessions", &format!("Redis ({})", redis(config)));
    line("Accounts", database(config));
    if uses_data_dir(config) {
        line("Data", &config.data_dir.display().to_string());
    }
    // a closed terminal must not end the service
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

fn redis(config: &Config) -> &'static str {
    if config.redis.url.is_some() { "redis.url" } else { "embedded" }
}

fn database(config: &Config) -> &'static str {
    if config.database.url.expose().starts_with("sqlite:") { "SQLite" } else { "PostgreSQL" }
}

/// Whether anything of this node is kept in the data directory.
fn uses_data_dir(config: &Config) -> bool {
    config.redis.url.is_none() || config.data_dir.exists()
}

/// The machine's name, which is the pod's in Kubernetes.
fn node_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
