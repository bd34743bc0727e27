//! `latchkey serve`: runs the service until it is told to stop.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{
    Global, block_on,
    bootstrap::{PrivateRedis, Services},
};
use crate::{
    config::{Config, HttpSettings},
    domain::entropy::Entropy,
    http,
    runtime::Cores,
    server,
    service::readiness::{self, Status},
    state::AppState,
};

/// Arguments of `latchkey serve`.
#[derive(Args, Clone, Copy, Debug)]
pub struct ServeArgs {}

/// What is open beside the connections of callers: those to Redis and the database, and files.
const OTHER_FILES: u64 = 200;

/// `metrics.listen` where nobody has chosen.
const DEFAULT_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// Runs the service until SIGTERM or SIGINT; a second one ends it at once.
///
/// # Errors
/// If it can't start, or can't go on.
pub fn run(_args: &ServeArgs, global: &Global) -> anyhow::Result<()> {
    let (config, telemetry) = global.start_traced(&Entropy::system())?;
    let served = block_on(serve(config));
    if let Some(telemetry) = telemetry {
        telemetry.close();
    }
    served
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut stop = StopSignals::listen()?;
    allow_files(config.http.max_connections);
    let cores = Cores::start()?;
    let opened = tokio::select! {
        opened = Services::open(config, PrivateRedis::Own, &cores) => opened?,
        () = stop.wait() => return Ok(()),
    };
    let state = Arc::clone(&opened.state);
    let listener = server::listen(state.config.listen)
        .with_context(|| format!("listen: can't listen on {} (LATCHKEY_LISTEN)", state.config.listen))?;
    state.redis.revocation_log.start_replication();
    let metrics = listen_for_metrics(&state.config)?;
    announce(&state.config, listener.local_addr()?, metrics.as_ref().map(TcpListener::local_addr).transpose()?);
    let (read_to_the_end, metrics_end) = oneshot::channel::<()>();
    let telling = metrics.map(|listener| {
        let (endpoint, settings) = (http::metrics::endpoint(Arc::clone(&state)), of_metrics(&state.config.http));
        tokio::spawn(async move {
            server::run(endpoint, listener, &settings, &Cores::current_runtime(), async { drop(metrics_end.await) })
                .await
        })
    });

    let keeping_up = tokio::spawn({
        let state = Arc::clone(&state);
        async move { state.keys.run_reloader(&state.redis, state.config.keys.refresh_interval).await }
    });
    let following_clients = tokio::spawn({
        let state = Arc::clone(&state);
        async move { state.clients.run_reloader().await }
    });
    let looking = tokio::spawn({
        let state = Arc::clone(&state);
        async move { report_problems(&state).await }
    });
    let stopped = async {
        stop.wait().await;
        tokio::spawn(async move {
            stop.wait().await;
            tracing::warn!("told to stop twice: ending at once");
            std::process::exit(1);
        });
    };
    let served = server::run(http::endpoint(Arc::clone(&state)), listener, &state.config.http, &cores, stopped).await;
    keeping_up.abort();
    following_clients.abort();
    looking.abort();
    drop(read_to_the_end);
    if let Some(telling) = telling {
        telling.await??;
    }
    opened.close().await;
    Ok(served?)
}

/// Where the metrics are read. Another node on this machine may have the port already; where nobody chose one, that is no
/// reason not to start.
fn listen_for_metrics(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.metrics.listen else { return Ok(None) };
    match server::listen(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && address == DEFAULT_METRICS => {
            tracing::warn!(
                "metrics.listen: {address} is in use, by another node perhaps: nobody can read this one's metrics. Choose \
                 another port, or \"off\" (LATCHKEY_METRICS_LISTEN)"
            );
            Ok(None)
        }
        Err(error) => {
            Err(error).with_context(|| format!("metrics.listen: can't listen on {address} (LATCHKEY_METRICS_LISTEN)"))
        }
    }
}

/// The few who read metrics need few connections, and nobody waits for them.
fn of_metrics(http: &HttpSettings) -> HttpSettings {
    HttpSettings { max_connections: 16, max_requests: 16, drain_delay: Duration::ZERO, ..http.clone() }
}

/// Every connection is an open file, of which many systems let a program have 1024 unless it asks for more.
fn allow_files(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files < needed) {
        tracing::warn!(
            "only {files} files may be open at once (ulimit -Hn), too few for http.max_connections = {connections}; \
             connections that are too many wait"
        );
    }
}

/// Says where everything is.
fn announce(config: &Config, address: SocketAddr, metrics: Option<SocketAddr>) {
    let redis = if config.redis.url.is_some() { "the one of redis.url" } else { "a private one" };
    let sqlite = config.database.url.expose().starts_with("sqlite:");
    let data = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    println!("Latchkey {} is ready.", env!("CARGO_PKG_VERSION"));
    println!("  API       http://{address}");
    println!("  Docs      http://{address}/docs");
    if let Some(metrics) = metrics {
        println!("  Metrics   http://{metrics}/metrics");
    }
    println!("  Issuer    {}", config.issuer);
    println!("  Sessions  Redis, {redis}");
    println!("  Accounts  {}", if sqlite { "SQLite" } else { "the database of database.url" });
    println!("  Data      {}", data.display());
}

/// Logs, once Redis answers, what its operator should mend.
async fn report_problems(state: &AppState) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let checks = readiness::check(state).await;
        for check in &checks {
            for problem in &check.problems {
                match check.status {
                    Status::Warning => tracing::warn!(what = check.name, "{problem}"),
                    _ => tracing::error!(what = check.name, "{problem}"),
                }
            }
        }
        if checks.iter().all(|check| check.status != Status::Failed) {
            return;
        }
    }
}

/// SIGTERM and SIGINT.
struct StopSignals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
