//! Sends `PING` and `SHUTDOWN` to the embedded Redis server, without a client library, and kills a server that hangs.

use std::{io, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{Instant, timeout, timeout_at},
};

const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server may take to exit after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// The answer to a `PING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pong {
    /// The server is ready.
    Ready,
    /// The server loads its data, which can take long.
    Loading,
    /// There was no answer, or another process answered.
    Nothing,
}

/// Pings the server at `socket`, which must be the process `pid`; `None` stands for a process that has exited.
pub(super) async fn ping(socket: &Path, pid: Option<u32>) -> Pong {
    match timeout(PING_TIMEOUT, send_ping(socket, pid)).await {
        Ok(Ok(answer)) if answer.starts_with("+PONG") => Pong::Ready,
        Ok(Ok(answer)) if answer.starts_with("-LOADING") => Pong::Loading,
        _ => Pong::Nothing,
    }
}

async fn send_ping(socket: &Path, pid: Option<u32>) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    let peer = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
    // Some systems do not report the peer's id.
    if peer.is_some() && peer != pid {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    stream.write_all(b"PING\r\n").await?;
    let mut answer = String::new();
    // longer than any answer of Redis to `PING`
    let bounded = stream.take(512);
    BufReader::new(bounded).read_line(&mut answer).await?;
    Ok(answer)
}

/// The process id of the server at `socket`, even if the server does not answer; none if no server listens.
pub async fn server_process(socket: &Path) -> Option<i32> {
    UnixStream::connect(socket).await.ok()?.peer_cred().ok()?.pid()
}

/// Stops the server at `socket` by `SHUTDOWN`, or by SIGKILL if it still runs at `deadline`. Returns whether a server listened on
/// the socket.
///
/// SIGKILL is safe: every acknowledged write is on disk.
pub(super) async fn shut_down(socket: &Path, deadline: Instant) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return false };
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(Pid::from_raw);
    let shutdown = async {
        // The server syncs the append-only file and exits; the kernel then closes the connection.
        stream.write_all(b"SHUTDOWN\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await
    };
    if timeout_at(deadline, shutdown).await.is_err()
        && let Some(peer) = peer
    {
        tracing::warn!(
            pid = peer.as_raw_nonzero().get(),
            "a Redis server of an earlier run does not stop in time: killing it; no acknowledged write is lost"
        );
        let _ = kill_process(peer, Signal::KILL); // fails if the server has just exited
        // the end of the connection shows that the process has ended
        let mut rest = Vec::new();
        let _ = timeout(KILL_TIMEOUT, stream.read_to_end(&mut rest)).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt,
        process::{Command, Stdio},
    };

    use super::*;

    #[tokio::test]
    async fn shut_down_hung_server_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let mut server = Command::new("redis-server")
            // listens on the socket only, and writes no snapshots
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while ping(&socket, Some(server.id())).await != Pong::Ready {
            assert!(server.try_wait().unwrap().is_none(), "redis-server exited before it answered a ping");
            tokio::task::yield_now().await;
        }
        // the suspended server cannot answer `SHUTDOWN`
        kill_process(Pid::from_child(&server), Signal::STOP).unwrap();
        assert!(shut_down(&socket, Instant::now() + Duration::from_millis(100)).await);
        assert_eq!(server.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    #[tokio::test]
    async fn shut_down_without_listener_returns_false() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!shut_down(&dir.path().join("s"), Instant::now()).await);
    }
}
