//! Closes the listener without losing established connections.
//!
//! The kernel resets connections that a closing listener has not accepted, and those in the middle of a handshake. A proxy
//! that has already sent a request on such a connection can't know whether the request was processed, and doesn't repeat it.
//! The server therefore blocks new handshakes first, then waits for the handshakes in progress, and then accepts every
//! established connection. A client that connects meanwhile gets no answer. Its system retries after a second and is refused,
//! before the client has sent a request.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::accept::allows_retry_at_once;

/// How long to wait for handshakes in progress: longer than a round trip within a data centre takes.
pub(super) const HANDSHAKE_WAIT: Duration = Duration::from_millis(250);

/// Makes the kernel drop the first packet of every new handshake. Returns whether that succeeded.
#[cfg(target_os = "linux")]
pub(super) fn block_new_handshakes(listener: &TcpListener) -> bool {
    use socket2::SockFilter;

    // Instructions of the classic packet filter (Linux, Documentation/networking/filter.rst). A listener's filter sees the
    // TCP header first; its byte 13 holds the flags (RFC 9293, section 3.1).
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    // Arguments: instruction, instructions to skip if equal, instructions to skip if not, operand.
    let drop_first_packets = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        // SYN without ACK: keep 0 bytes of the packet, which drops it
        SockFilter::new(RETURN, 0, 0, 0),
        // any other packet: keep all of it
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    let attached = SockRef::from(listener).attach_filter(&drop_first_packets);
    if let Err(error) = &attached {
        tracing::debug!(
            %error,
            "blocking new handshakes at shutdown failed: connections that clients are just opening may be reset \
             when the listener closes"
        );
    }
    attached.is_ok()
}

/// Blocks nothing: this is implemented on Linux only.
#[cfg(not(target_os = "linux"))]
pub(super) fn block_new_handshakes(_: &TcpListener) -> bool {
    false
}

/// Serves the established connections that the listener still holds, one for each free permit of `http.max_connections`. Then
/// closes the listener, and the kernel resets the others.
pub(super) fn close(
    listener: TcpListener,
    permits: &Arc<Semaphore>,
    mut serve: impl FnMut(OwnedSemaphorePermit, TcpStream, SocketAddr),
) {
    // accepts without tokio, whose reactor may not have reported all of the connections yet
    let Ok(listener) = listener.into_std() else { return };
    while let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        let (stream, remote) = match listener.accept() {
            Ok(accepted) => accepted,
            // tokio made the listener non-blocking, so this means that no connection is left
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if allows_retry_at_once(&error) => continue,
            Err(error) => {
                tracing::warn!(
                    %error,
                    "accepting the last connections at shutdown failed: those that are not accepted yet are reset. If the process has \
                     too many open files, raise the limit (LimitNOFILE= in systemd) or lower http.max_connections"
                );
                return;
            }
        };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            serve(permit, stream, remote);
        }
    }
}
