//! Closes the listener without losing established connections.
//!
//! The kernel resets connections that a closing listener has not accepted, and those in the middle of a handshake. A proxy
//! that had already sent a request there can't know whether it was processed and won't repeat it. So new handshakes are
//! blocked first, those in progress are waited for, and every established connection is accepted. A client that connects
//! during that time gets no answer, retries after a second, is refused, and has not sent anything.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// How long to wait for handshakes in progress: longer than a round trip within a data centre takes.
pub(super) const HANDSHAKES: Duration = Duration::from_millis(250);

/// Makes the kernel drop the first packet of every new handshake. Returns whether that succeeded.
#[cfg(target_os = "linux")]
pub(super) fn refuse_new(listener: &TcpListener) -> bool {
    use socket2::SockFilter;

    // Instructions of the classic packet filter (Linux, Documentation/networking/filter.rst). A listener's filter sees the
    // TCP header first; its byte 13 holds the flags (RFC 9293, section 3.1).
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let only_syn_is_dropped = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    let attached = SockRef::from(listener).attach_filter(&only_syn_is_dropped);
    if let Err(error) = &attached {
        tracing::debug!(%error, "new handshakes can't be blocked: connections may be reset");
    }
    attached.is_ok()
}

/// Not implemented for this system.
#[cfg(not(target_os = "linux"))]
pub(super) fn refuse_new(_: &TcpListener) -> bool {
    false
}

/// Closes the listener after serving the connections that it still holds, as far as permits are available.
pub(super) fn close(
    listener: TcpListener,
    permits: &Arc<Semaphore>,
    mut serve: impl FnMut(OwnedSemaphorePermit, TcpStream, SocketAddr),
) {
    // tokio's reactor may not have reported them yet
    let Ok(listener) = listener.into_std() else { return };
    while let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        let Ok((stream, remote)) = listener.accept() else { return };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            serve(permit, stream, remote);
        }
    }
}
