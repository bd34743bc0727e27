//! The accept loop: how connections come in, how many at once, and how the server stops.
//!
//! What happens on one connection is in `connection`; what time it has is in `guard` and, while it answers, `progress`. Bodies and answers have limits of
//! their own, in `http::body` and `http::timeout`.

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
mod guard;
mod progress;
mod refusal;
mod service;
mod signal;

use accept::Backoff;
use connection::Context;
use signal::Signal;

/// How long a connection that was cut gets to notice. Nothing waits on a network then.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections that have been made and not yet accepted, at most: those of a moment at which everybody comes. Linux has
/// `net.core.somaxconn` as well.
const BACKLOG: u32 = 4096;

/// What the kernel may hold of answers that a connection's peer hasn't read, in bytes; it may take twice as much for it.
/// Linux would let it grow to megabytes, for each of those who don't read.
const SEND_BUFFER: usize = 64 * 1024;

/// Listens on an address.
///
/// # Errors
/// If that isn't possible: the address is in use, or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // else a restarted service would have to wait until the last connections are forgotten
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `endpoint` on `listener`, each connection on one of the `cores`, until `shutdown` completes, and then so that
/// nobody's request is lost:
///
/// 1. For `settings.drain_delay` it serves on, but isn't ready ([`Draining`](crate::http::shutdown::Draining)), and every
///    answer over HTTP/1 ends its connection: proxies find out and send their requests elsewhere, and those that keep
///    connections which they don't use have the time to close them.
/// 2. The listener closes, without a connection lost that had been made.
/// 3. Requests in flight are finished, idle connections closed; and what is left after `settings.shutdown_timeout` is cut.
///
/// Must be called inside a tokio runtime.
///
/// HTTP/1.1 and HTTP/2 with prior knowledge (RFC 9113, section 3.3) are told apart by their first bytes.
///
/// # Errors
///
/// When `listener` is not a listening socket. Failures to accept are waited out and logged, never returned.
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
    let address = listener.local_addr()?;
    let context = Arc::new(Context {
        endpoint: endpoint.into_endpoint(),
        settings: settings.clone(),
        drain: Signal::default(),
        stop: Signal::default(),
        cut: Signal::default(),
        tasks: TaskTracker::new(),
    });
    tracing::info!(%address, "listening");

    let permits = Arc::new(Semaphore::new(settings.max_connections));
    accept_until(&context, cores, &permits, &listener, shutdown).await;

    context.drain.trigger();
    if !settings.drain_delay.is_zero() {
        tracing::info!(delay = ?settings.drain_delay, "told to stop: not ready any more, and serving on for now");
        accept_until(&context, cores, &permits, &listener, tokio::time::sleep(settings.drain_delay)).await;
        if closing::refuse_new(&listener) {
            accept_until(&context, cores, &permits, &listener, tokio::time::sleep(closing::HANDSHAKES)).await;
        }
    }
    closing::close(listener, &permits, |permit, stream, remote| serve(&context, cores, permit, stream, remote));
    context.stop.trigger();
    context.tasks.close();
    tracing::info!(connections = context.tasks.len(), "stopping");
    if tokio::time::timeout(settings.shutdown_timeout, context.tasks.wait()).await.is_err() {
        tracing::warn!(connections = context.tasks.len(), "cutting connections that didn't finish in time");
        context.cut.trigger();
        let _ = tokio::time::timeout(CUT_TIMEOUT, context.tasks.wait()).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Accepts connections, never more than the settings allow at once, until `shutdown` completes.
async fn accept_until<E>(
    context: &Arc<Context<E>>,
    cores: &Cores,
    permits: &Arc<Semaphore>,
    listener: &TcpListener,
    shutdown: impl Future<Output = ()>,
) where
    E: poem::Endpoint + 'static,
{
    let mut backoff = Backoff::default();
    let mut shutdown = pin!(shutdown);
    loop {
        // The permit comes first: while there is none, connections wait in the kernel's backlog.
        let next = async {
            let permit = Arc::clone(permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, remote)) => {
                backoff.succeeded();
                if let Ok(permit) = permit {
                    serve(context, cores, permit, stream, remote);
                }
            }
            Err(error) => {
                if let Some(pause) = backoff.failed(&error) {
                    tokio::select! {
                        biased;
                        () = &mut shutdown => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }
}

/// Serves a connection beside the others.
fn serve<E>(
    context: &Arc<Context<E>>,
    cores: &Cores,
    permit: OwnedSemaphorePermit,
    stream: TcpStream,
    remote: SocketAddr,
) where
    E: poem::Endpoint + 'static,
{
    let stream = match prepare(&stream, &context.settings).and_then(|()| stream.into_std()) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a connection was gone before it was served");
            return;
        }
    };
    let (context, tasks, slot) = (Arc::clone(context), context.tasks.clone(), cores.assign());
    let runtime = slot.runtime().clone();
    let serving = async move {
        // there, so that the core's own runtime watches it
        match TcpStream::from_std(stream) {
            Ok(stream) => connection::serve(context, stream, remote).await,
            Err(error) => tracing::warn!(%error, "a connection can't be watched"),
        }
        drop((permit, slot));
    };
    tasks.spawn_on(serving, &runtime);
}

/// Answers are small and written whole: waiting to fill a packet would only delay them. And what the kernel has taken but
/// can't get rid of, since the peer is gone or doesn't read, ends the connection after a time (RFC 5482).
fn prepare(stream: &TcpStream, settings: &HttpSettings) -> io::Result<()> {
    let patience = settings.idle_timeout.max(settings.write_timeout).as_millis();
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(stream, u32::try_from(patience).unwrap_or(u32::MAX))?;
    #[cfg(not(target_os = "linux"))]
    let _ = patience;
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)?;
    stream.set_nodelay(true)
}
