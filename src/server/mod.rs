//! The accept loop, the limits on connections, and the shutdown.
//!
//! `connection` serves one connection, `timeout_stream` has its read timeouts and `write_timeout` its write timeouts. The limits on request
//! bodies and on the time of a request are in [`http::middleware`](crate::http::middleware).

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use poem::IntoEndpoint;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::task::TaskTracker;

use crate::{config::HttpSettings, runtime::Cores};

mod accept;
mod activity;
mod closing;
mod connection;
mod per_address;
mod refusal;
mod service;
mod signal;
mod timeout_stream;
mod write_timeout;

use accept::Backoff;
use connection::Context;
use per_address::PerAddress;
use signal::Signal;

/// How long to wait for the tasks of connections that were cut off. Short, because such a task does not wait for its peer.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// The listen backlog: connections that are established but not yet accepted. Linux limits it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// The kernel's send buffer per connection, in bytes; Linux allocates up to twice this size. Without a size, Linux lets the
/// buffer grow to megabytes for every peer that does not read.
const SEND_BUFFER: usize = 64 * 1024;

/// Listens on an address.
///
/// # Errors
/// If the address is in use or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // a restarted service need not wait for connections in TIME_WAIT
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `endpoint` on `listener`, each connection on one of the `cores`, until `shutdown` completes. Then it shuts down
/// without losing a request:
///
/// 1. For `settings.drain_delay` it still serves, but readiness fails ([`Draining`](crate::http::shutdown::Draining)), and
///    every HTTP/1 response closes its connection. Proxies switch to other nodes and have time to close the connections
///    that they keep idle.
/// 2. The listener closes. Connections that are established by then are served.
/// 3. Requests in flight finish and idle connections close. Connections that remain after `settings.shutdown_timeout` are
///    closed.
///
/// Must be called inside a tokio runtime. The first bytes of a connection select HTTP/1.1 or HTTP/2 with prior knowledge
/// (RFC 9113, section 3.3).
///
/// # Errors
///
/// If `listener` is not a listening socket. Failures to accept are logged and retried.
pub async fn run<E>(
    endpoint: E,
    listener: TcpListener,
    settings: &HttpSettings,
    cores: &Cores,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    E: IntoEndpoint,
    E::Endpoint: 'static,
{
    run_as("api", endpoint, listener, settings, cores, shutdown).await
}

/// Serves like [`run`]. `name` is the name of the listener in the log.
///
/// # Errors
///
/// See [`run`].
pub async fn run_as<E>(
    name: &'static str,
    endpoint: E,
    listener: TcpListener,
    settings: &HttpSettings,
    cores: &Cores,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    E: IntoEndpoint,
    E::Endpoint: 'static,
{
    let address = listener.local_addr()?;
    let context = Arc::new(Context {
        endpoint: endpoint.into_endpoint(),
        settings: settings.clone(),
        drain: Signal::default(),
        stop: Signal::default(),
        cut: Signal::default(),
        tasks: TaskTracker::new(),
        per_address: Arc::new(PerAddress::new(settings)),
    });
    tracing::info!(listener = name, %address, "listening");

    let permits = Arc::new(Semaphore::new(settings.max_connections));
    accept_until(&context, cores, &permits, &listener, shutdown).await;

    context.drain.trigger();
    if !settings.drain_delay.is_zero() {
        tracing::info!(listener = name, %address, delay = ?settings.drain_delay, "draining: /readyz now fails, requests are still served");
        accept_until(&context, cores, &permits, &listener, tokio::time::sleep(settings.drain_delay)).await;
        // handshakes in progress complete, so that closing the listener resets no connection
        if closing::block_new_handshakes(&listener) {
            accept_until(&context, cores, &permits, &listener, tokio::time::sleep(closing::HANDSHAKE_WAIT)).await;
        }
    }
    closing::close(listener, &permits, |permit, stream, remote| serve(&context, cores, permit, stream, remote));
    context.stop.trigger();
    context.tasks.close();
    tracing::info!(
        listener = name,
        %address,
        connections = context.tasks.len(),
        "stopping: no new connections, waiting at most http.shutdown_timeout for requests in flight"
    );
    if tokio::time::timeout(settings.shutdown_timeout, context.tasks.wait()).await.is_err() {
        tracing::warn!(
            listener = name,
            %address,
            connections = context.tasks.len(),
            "closing connections: http.shutdown_timeout has passed, and requests that are still in flight get no \
             response"
        );
        context.cut.trigger();
        // tasks that are still running then are abandoned
        let _ = tokio::time::timeout(CUT_TIMEOUT, context.tasks.wait()).await;
    }
    tracing::debug!(listener = name, %address, "the listener has stopped");
    Ok(())
}

/// Accepts connections, at most as many at once as there are `permits` (`http.max_connections`), until `until` completes.
async fn accept_until<E>(
    context: &Arc<Context<E>>,
    cores: &Cores,
    permits: &Arc<Semaphore>,
    listener: &TcpListener,
    until: impl Future<Output = ()>,
) where
    E: poem::Endpoint + 'static,
{
    let mut backoff = Backoff::default();
    let mut until = pin!(until);
    loop {
        // while no permit is free, new connections wait in the kernel's backlog
        let next = async {
            let permit = Arc::clone(permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = &mut until => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, remote)) => {
                backoff.succeeded();
                // the semaphore is never closed, so there is a permit
                if let Ok(permit) = permit {
                    serve(context, cores, permit, stream, remote);
                }
            }
            Err(error) => {
                if let Some(pause) = backoff.failed(&error) {
                    tokio::select! {
                        biased;
                        () = &mut until => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }
}

/// Serves a connection in a task of its own.
fn serve<E>(
    context: &Arc<Context<E>>,
    cores: &Cores,
    permit: OwnedSemaphorePermit,
    stream: TcpStream,
    remote: SocketAddr,
) where
    E: poem::Endpoint + 'static,
{
    // an early return drops the stream, which closes the connection
    let Some(admission) = context.per_address.admit(remote.ip()) else { return };
    let stream = match set_socket_options(&stream, &context.settings).and_then(|()| stream.into_std()) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(
                %error,
                "connection closed: setting up its socket failed, often because the client had disconnected; other \
                 connections are unaffected"
            );
            return;
        }
    };
    let (context, tasks, slot) = (Arc::clone(context), context.tasks.clone(), cores.assign());
    let runtime = slot.runtime().clone();
    let serving = async move {
        // inside the task, so that the stream belongs to the reactor of the core's own runtime
        match TcpStream::from_std(stream) {
            Ok(stream) => connection::serve(context, stream, remote).await,
            Err(error) => {
                tracing::warn!(
                    peer = %remote,
                    %error,
                    "connection closed: the kernel refused to watch its socket (epoll). Other connections are \
                     unaffected. If this repeats, check fs.epoll.max_user_watches and free memory"
                );
            }
        }
        // dropped only now, because each counts the connection towards a limit or a core
        drop((permit, slot, admission));
    };
    tasks.spawn_on(serving, &runtime);
}

/// Sets the size of a socket's send buffer and two TCP options: TCP_NODELAY, since responses are small and each is written at once, and
/// TCP_USER_TIMEOUT (RFC 5482), which ends the connection if its peer is gone or does not read.
fn set_socket_options(stream: &TcpStream, settings: &HttpSettings) -> io::Result<()> {
    // not shorter than the server's own timeouts, so that those end a connection first
    let user_timeout = settings.idle_timeout.max(settings.write_timeout).as_millis();
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(stream, u32::try_from(user_timeout).unwrap_or(u32::MAX))?;
    #[cfg(not(target_os = "linux"))]
    let _ = user_timeout;
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)?;
    stream.set_nodelay(true)
}
