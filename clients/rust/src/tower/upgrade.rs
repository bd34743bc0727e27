//! Upgraded connections that close with their session: [`Tunnel`].

use std::{io, sync::Mutex};

use http::{Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, split},
    sync::oneshot,
};

use super::websocket_frames::{FrameTracker, close_frame};
use crate::{EndCause, VerifiedSession};

/// The size of the buffer of each direction, in bytes.
const BUFFER_SIZE: usize = 16 * 1024;
/// The request that makes hyper upgrade the handler's end of the tunnel; only this module sees it.
const TUNNEL_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: tunnel\r\nconnection: upgrade\r\nupgrade: tunnel\r\n\r\n";

/// Relays bytes between the caller's connection and the handler that upgrades it, and closes both when the session ends. hyper
/// gives an upgraded connection to the code that takes [`OnUpgrade`] from the request, and no layer can wrap that connection. The
/// tunnel therefore takes the caller's connection itself, and gives the handler the upgraded end of an HTTP connection in memory.
pub(super) struct Tunnel {
    /// The upgrade of the caller's connection.
    caller: OnUpgrade,
    /// The tunnel's end of the connection in memory; [`serve`] has the other end.
    near: DuplexStream,
    /// Makes [`serve`] answer 101, which upgrades the handler's end.
    accept: oneshot::Sender<()>,
    session: VerifiedSession,
}

impl Tunnel {
    /// Replaces the [`OnUpgrade`] of a request with the handler's end of a new tunnel. Returns `None` for a request without an
    /// upgrade, or if the connection in memory fails.
    pub(super) async fn open<B>(request: &mut Request<B>, session: &VerifiedSession) -> Option<Self> {
        let caller = request.extensions_mut().remove::<OnUpgrade>()?;
        let (mut near, far) = duplex(BUFFER_SIZE);
        let (accept, accepted) = oneshot::channel();
        let (send_upgrade, handler_upgrade) = oneshot::channel();
        tokio::spawn(serve(far, send_upgrade, accepted));
        near.write_all(TUNNEL_REQUEST).await.ok()?;
        request.extensions_mut().insert(handler_upgrade.await.ok()?);
        Some(Self { caller, near, accept, session: session.clone() })
    }

    /// Starts to relay if the handler's response accepts the upgrade. Otherwise drops the tunnel, which closes the handler's end.
    pub(super) fn connect<R>(self, response: &Response<R>) {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let upgrade = response.headers().get(header::UPGRADE);
        let is_websocket = upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
        tokio::spawn(async move {
            if let Err(error) = self.run(is_websocket).await {
                tracing::debug!(%error, "an upgraded connection ended with an error");
            }
        });
    }

    async fn run(mut self, is_websocket: bool) -> io::Result<()> {
        // fails if the connection in memory has ended already
        if self.accept.send(()).is_err() {
            return Ok(());
        }
        skip_head(&mut self.near).await?;
        let caller = self.caller.await.map_err(io::Error::other)?;
        let (mut from_caller, mut to_caller) = split(TokioIo::new(caller));
        let (mut from_handler, mut to_handler) = split(self.near);
        let mut frames_to_caller = FrameTracker::default();

        let upstream = async {
            copy(&mut from_caller, &mut to_handler).await?;
            to_handler.shutdown().await
        };
        let downstream = async {
            let mut buffer = vec![0; BUFFER_SIZE];
            loop {
                let length = from_handler.read(&mut buffer).await?;
                if length == 0 {
                    return to_caller.shutdown().await;
                }
                let mut written = 0;
                // Not `write_all`: a `write` that the session's end cancels has sent nothing, so the tracker sees every sent byte.
                while written < length {
                    let sent = to_caller.write(&buffer[written..length]).await?;
                    if sent == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    frames_to_caller.advance(&buffer[written..written + sent]);
                    written += sent;
                }
                to_caller.flush().await?;
            }
        };
        let mut watch = self.session.watch();
        // `watch.run` fails with the cause if the session ends before both directions have ended
        match watch.run(async { tokio::try_join!(upstream, downstream) }).await {
            Ok(relayed) => relayed.map(|_| ()),
            Err(cause) => {
                // Amid another frame, the caller would read a close frame as that frame's payload.
                let can_send_close_frame = is_websocket && frames_to_caller.is_between_frames();
                close(&mut to_caller, can_send_close_frame.then_some(cause)).await
            }
        }
    }
}

/// Serves [`TUNNEL_REQUEST`], the one request on the connection in memory: sends the request's upgrade to [`Tunnel::open`], and
/// answers 101 once the handler has accepted.
async fn serve(far: DuplexStream, send_upgrade: oneshot::Sender<OnUpgrade>, accepted: oneshot::Receiver<()>) {
    // hyper may call the service repeatedly, but each channel can be used once: the first call takes them.
    let channels = Mutex::new(Some((send_upgrade, accepted)));
    let service = service_fn(|mut request: Request<Incoming>| {
        let channels = channels.lock().ok().and_then(|mut channels| channels.take());
        let upgrade = hyper::upgrade::on(&mut request);
        async move {
            // Nobody reads this status: it is sent only if the tunnel has been dropped.
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::FORBIDDEN;
            if let Some((send_upgrade, accepted)) = channels
                && send_upgrade.send(upgrade).is_ok()
                && accepted.await.is_ok()
            {
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, header::HeaderValue::from_static("tunnel"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    // Ends with the upgrade or with an error. The tunnel notices an error as the end of the connection.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades().await;
}

/// Skips the head of the response of [`serve`].
async fn skip_head(near: &mut DuplexStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await?);
    }
    Ok(())
}

/// Closes the caller's connection, with a close frame if a cause is given.
async fn close(to_caller: &mut (impl AsyncWriteExt + Unpin), cause: Option<EndCause>) -> io::Result<()> {
    if let Some(cause) = cause {
        to_caller.write_all(&close_frame(cause)).await?;
    }
    to_caller.shutdown().await
}
