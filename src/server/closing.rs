//! The listener closes, and no connection is lost that had been made.
//!
//! What a listener hasn't accepted when it closes, the kernel resets, and so with what is half-way through its handshake:
//! a proxy that has sent a request there by then can't know whether it was carried out, and won't repeat it. So no new
//! handshake may begin first, those under way are waited for, and all that is there is accepted. Whoever tries meanwhile
//! gets no answer, tries again after a second, is refused, and hasn't sent anything.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// How long handshakes that are under way are waited for: more than a round trip takes anywhere near.
pub(super) const HANDSHAKES: Duration = Duration::from_millis(250);

/// Has the kernel drop the first packet of every new handshake; says whether it does.
#[cfg(target_os = "linux")]
pub(super) fn refuse_new(listener: &TcpListener) -> bool {
    use socket2::SockFilter;

    // Instructions of the classic packet filter (Linux, Documentation/networking/filter.rst). What a listener's filter
    // sees begins with TCP's header, and byte 13 of that has the flags (RFC 9293, section 3.1).
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
        tracing::debug!(%error, "handshakes under way can't be waited for");
    }
    attached.is_ok()
}

/// Not known how, here.
#[cfg(not(target_os = "linux"))]
pub(super) fn refuse_new(_: &TcpListener) -> bool {
    false
}

/// Closes the listener, after handing over the connections that it still held, as long as there are permits.
pub(super) fn close(
    listener: TcpListener,
    permits: &Arc<Semaphore>,
    mut serve: impl FnMut(OwnedSemaphorePermit, TcpStream, SocketAddr),
) {
    // tokio's own accept may not have heard of them yet
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
