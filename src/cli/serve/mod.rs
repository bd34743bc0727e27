//! `latchkey serve`: runs the service until SIGTERM or SIGINT.

mod announce;
mod reload;
pub(super) mod systemd;

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
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use self::{announce::Endpoints, reload::Reloader};
use super::{Global, block_on, bootstrap::Services};
use crate::{
    config::{Config, HttpSettings},
    domain::entropy::Entropy,
    http::{self, shutdown::Draining},
    logging,
    runtime::Cores,
    server,
    service::{delete_account, dynamic_clients, factors::reseal, mail_delivery, session_mark},
};

/// Arguments of `latchkey serve`.
#[derive(Args, Clone, Copy, Debug)]
pub struct ServeArgs {}

/// Number of file descriptors beside those of client connections: Redis, the database, files.
const OTHER_FILES: u64 = 200;

/// How long a stopping node waits for the background tasks of answered requests, and then again for mails that are being sent.
const BACKGROUND_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stopping node waits for scrapes in progress.
const METRICS_STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The default of `metrics.listen`.
const DEFAULT_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// Runs the service until SIGTERM or SIGINT; a second signal ends the process at once. SIGHUP reloads the configuration.
///
/// # Errors
/// If the service can't start or can't continue.
pub fn run(_args: &ServeArgs, global: &Global) -> anyhow::Result<()> {
    let started = global.start_service(&Entropy::system())?;
    let reloader = Reloader::new(global.clone(), started.log_filter)?;
    let is_json = logging::writes_json(&started.config.log);
    let served = block_on(serve(started.config, reloader));
    // The caller prints the error only as text, which collectors of JSON lines drop.
    if let Err(error) = &served
        && is_json
    {
        tracing::error!(
            error = logging::with_causes(error),
            "this node exits because of an error: it can't start, or can't continue"
        );
    }
    if let Some(telemetry) = started.telemetry {
        telemetry.close();
    }
    served
}

async fn serve(config: Config, mut reloader: Reloader) -> anyhow::Result<()> {
    // The handlers come first: each of these signals ends a process that has no handler for it.
    let mut stop = StopSignals::listen()?;
    let mut hangup = signal(SignalKind::hangup())?;
    raise_file_limit(config.http.max_connections);
    let cores = Cores::start()?;
    let services = tokio::select! {
        services = Services::open(config, &cores) => services?,
        () = stop.wait() => return Ok(()),
    };
    let state = Arc::clone(&services.state);
    let listener = systemd::listen(state.config.listen).with_context(|| {
        format!("listen: can't listen on {}; choose another address or port (LATCHKEY_LISTEN)", state.config.listen)
    })?;
    state.redis.revocation_log.start_replication();
    // Nodes regularly write a mark, the current time. If Redis' mark is too old, Redis was restored: all sessions end.
    let known_mark = session_mark::check_at_start(&state).await;
    let metrics = listen_for_metrics(&state.config)?;
    let metrics_address = metrics.as_ref().map(TcpListener::local_addr).transpose()?;
    let endpoints = Endpoints { api: listener.local_addr()?, metrics: metrics_address };
    announce::log_start(&state, endpoints);

    let draining = Draining::default();
    // The metrics and the mail delivery have stop signals of their own: they stop after the API. Dropping the sender stops them.
    let (stop_metrics, metrics_stop_signal) = oneshot::channel::<()>();
    let metrics_server = metrics.map(|listener| {
        let endpoint = http::metrics::endpoint(Arc::clone(&state), draining.clone());
        let settings = metrics_http_settings(&state.config.http);
        tokio::spawn(async move {
            let shutdown = async { drop(metrics_stop_signal.await) };
            server::run_as("metrics", endpoint, listener, &settings, &Cores::current_runtime(), shutdown).await
        })
    });
    // Tasks that may run until the node stops. The last one handles SIGHUP.
    let background = [
        tokio::spawn({
            let state = Arc::clone(&state);
            async move { state.keys.run_reloader(&state.redis, state.config.keys.refresh_interval).await }
        }),
        tokio::spawn({
            let state = Arc::clone(&state);
            async move { state.clients.run_reloader().await }
        }),
        tokio::spawn({
            let state = Arc::clone(&state);
            async move { delete_account::run_deletions(&state).await }
        }),
        tokio::spawn({
            let state = Arc::clone(&state);
            async move { dynamic_clients::run_pruning(&state).await }
        }),
        tokio::spawn({
            let state = Arc::clone(&state);
            async move { session_mark::run(&state, known_mark).await }
        }),
        tokio::spawn({
            let state = Arc::clone(&state);
            async move { announce::report_readiness(&state, endpoints).await }
        }),
        tokio::spawn({
            let state = Arc::clone(&state);
            async move { reseal::run(&state).await }
        }),
        tokio::spawn(systemd::run_watchdog()),
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reloader.reload();
            }
        }),
    ];
    let (stop_mail, mail_stop_signal) = oneshot::channel::<()>();
    let mail = tokio::spawn({
        let state = Arc::clone(&state);
        async move { mail_delivery::run(&state, async { drop(mail_stop_signal.await) }).await }
    });
    let shutdown = async {
        stop.wait().await;
        systemd::notify_stopping();
        draining.0.cancel(); // `/readyz` of the metrics' listener fails
        tokio::spawn(async move {
            stop.wait().await;
            tracing::warn!("second stop signal received: exiting at once; requests in flight get no response");
            std::process::exit(1);
        });
    };
    let api = http::endpoint(Arc::clone(&state));
    let served = server::run(api, listener, &state.config.http, &cores, shutdown).await;
    for task in &background {
        task.abort();
    }
    // Mail delivery stops after the background tasks of answered requests, which may still queue mails.
    state.finish_background(BACKGROUND_STOP_TIMEOUT).await;
    drop(stop_mail);
    if tokio::time::timeout(BACKGROUND_STOP_TIMEOUT, mail).await.is_err() {
        tracing::warn!(
            "mail: abandoned the delivery attempts that did not end within {} s: a node sends these mails again, so \
             a recipient may get one twice",
            BACKGROUND_STOP_TIMEOUT.as_secs()
        );
    }
    // The metrics stop last, so that the shutdown is visible in them.
    drop(stop_metrics);
    let metrics_served = match metrics_server {
        Some(server) => server.await,
        None => Ok(Ok(())),
    };
    services.close().await;
    tracing::info!("stopped");
    metrics_served??; // a panic, or an error of the server
    Ok(served?)
}

/// Listens for Prometheus. If the default address is in use, perhaps by another node, the service runs without metrics. Any
/// other address must be free.
fn listen_for_metrics(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.metrics.listen else { return Ok(None) };
    match server::listen(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && address == DEFAULT_METRICS => {
            tracing::warn!(
                "metrics.listen: {address} is in use, perhaps by another node: starting without metrics. Choose another \
                 port, or \"off\" (LATCHKEY_METRICS_LISTEN)"
            );
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| {
            format!(
                "metrics.listen: can't listen on {address}; choose another address or port (LATCHKEY_METRICS_LISTEN)"
            )
        }),
    }
}

/// Settings of the metrics listener, which only collectors call: few connections, no drain delay, and a short wait for scrapes.
fn metrics_http_settings(http: &HttpSettings) -> HttpSettings {
    HttpSettings {
        max_connections: 16,
        max_requests: 16,
        drain_delay: Duration::ZERO,
        shutdown_timeout: http.shutdown_timeout.min(METRICS_STOP_TIMEOUT),
        ..http.clone()
    }
}

/// Raises the soft limit of open files (usually 1024) to the hard limit, and warns if that is too low for the connections.
fn raise_file_limit(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "raising the limit of open files failed: the limit stays unchanged");
    }
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files < needed) {
        tracing::warn!(
            "the limit of open files is {files} (ulimit -Hn), too low for http.max_connections = {connections}, which needs \
             {needed}: further connections wait. Raise it (LimitNOFILE= in systemd), or lower http.max_connections"
        );
    }
}

/// SIGTERM and SIGINT, which both stop the node.
struct StopSignals {
    term: Signal,
    int: Signal,
}

impl StopSignals {
    fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
