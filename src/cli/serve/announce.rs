//! The start-up reports of a node: a log line, a banner on a terminal, and the node's readiness.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
};

use super::systemd;
use crate::{
    config::{Config, MailTransport},
    service::readiness::{self, Check, Status},
    state::AppState,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The addresses that the node listens on.
#[derive(Clone, Copy)]
pub(super) struct Endpoints {
    pub(super) api: SocketAddr,
    pub(super) metrics: Option<SocketAddr>,
}

/// Logs one line with all facts by which operators distinguish nodes and releases.
pub(super) fn log_start(state: &AppState, endpoints: Endpoints) {
    let config = &state.config;
    let Endpoints { api, metrics } = endpoints;
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    let data_dir = config.uses_data_dir.then(|| config.data_dir.display().to_string());
    tracing::info!(
        version = VERSION,
        node = node_name(),
        pid = std::process::id(),
        api = format!("http://{api}"),
        metrics,
        issuer = config.issuer,
        redis = describe_redis(state),
        database = describe_database(state),
        mail = describe_mail(config),
        data_dir,
        "started"
    );
}

/// Reports the readiness to systemd, prints the banner if standard output is a terminal, and then logs problems for as long
/// as the service runs.
pub(super) async fn report_readiness(state: &AppState, endpoints: Endpoints) {
    let checks = readiness::check(state).await;
    systemd::notify_ready(&checks);
    if io::stdout().is_terminal() {
        print_banner(state, endpoints, &checks);
    }
    readiness::run_reporter(state).await;
}

fn print_banner(state: &AppState, endpoints: Endpoints, checks: &[Check]) {
    let config = &state.config;
    let Endpoints { api, metrics } = endpoints;
    let mut text = if readiness::worst(checks) == Status::Failed {
        let problems = checks.iter().filter(|check| check.status == Status::Failed).flat_map(|check| &check.problems);
        let lines: String = problems.map(|problem| format!("  {}\n", problem.text)).collect();
        format!("Latchkey {VERSION} started, but is not ready:\n{lines}")
    } else {
        format!("Latchkey {VERSION} is ready.\n")
    };
    let mut add_line = |name: &str, value: &str| text += &format!("  {name:<9} {value}\n");
    add_line("API", &format!("http://{api}"));
    if config.http.docs {
        add_line("Docs", &format!("http://{api}/docs"));
    }
    if let Some(metrics) = metrics {
        add_line("Metrics", &format!("http://{metrics}/metrics"));
    }
    add_line("Issuer", &config.issuer);
    add_line("Sessions", &format!("Redis ({})", describe_redis(state)));
    add_line("Accounts", &describe_database(state));
    add_line("Mail", &describe_mail(config));
    if config.uses_data_dir {
        add_line("Data", &config.data_dir.display().to_string());
    }
    // a closed terminal must not end the service
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// The address of Redis, without the password, or `embedded`.
fn describe_redis(state: &AppState) -> String {
    if state.config.redis.url.is_some() { location_of(&state.redis.label()) } else { "embedded".to_owned() }
}

/// The database. For PostgreSQL with its address, without the password.
fn describe_database(state: &AppState) -> String {
    if state.config.database.url.expose().starts_with("sqlite:") {
        "SQLite".to_owned()
    } else {
        format!("PostgreSQL, {}", location_of(state.sql.label()))
    }
}

/// The location in a label such as `redis.url, 127.0.0.1:6379`.
fn location_of(label: &str) -> String {
    label.split_once(", ").map_or(label, |(_, location)| location).to_owned()
}

/// The SMTP server, or the folder in which mails become files.
fn describe_mail(config: &Config) -> String {
    match &config.mail.transport {
        MailTransport::Smtp(smtp) => format!("SMTP ({}:{})", smtp.host, smtp.port),
        MailTransport::Files(folder) => format!("files in {}", folder.display()),
    }
}

/// The host name: in Kubernetes, the name of the pod.
fn node_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok())?;
    let name = name.trim();
    if name.is_empty() { None } else { Some(name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::location_of;

    #[test]
    fn location_of_a_label_omits_the_setting() {
        assert_eq!(location_of("redis.url, cluster at a:1, b:2"), "cluster at a:1, b:2");
        assert_eq!(location_of("database.url, db.internal:5432/latchkey"), "db.internal:5432/latchkey");
    }
}
