//! Integration with systemd: socket activation (sd_listen_fds(3)), and notifications of the node's state and of its
//! watchdog (sd_notify(3)). Without systemd only [`listen`] has an effect.

use std::{future, io, net::SocketAddr, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpListener;

use crate::{
    server,
    service::readiness::{Check, Status, worst},
};

/// The socket that systemd has passed, or else a new one that listens on `address`.
///
/// # Errors
/// If the passed file descriptor is not a listening TCP socket, or its address can't be used.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let first_socket = 0;
    match ListenFd::from_env().take_tcp_listener(first_socket)? {
        Some(passed) => {
            passed.set_nonblocking(true)?;
            TcpListener::from_std(passed)
        }
        None => server::listen(address),
    }
}

/// Reports that the node serves requests, with the problems that its first checks found. A node whose stores are down counts
/// as started: the node answers 503 and recovers by itself.
pub(super) fn notify_ready(checks: &[Check]) {
    let status = if worst(checks) == Status::Failed {
        let failed = checks.iter().filter(|check| check.status == Status::Failed);
        let problems: Vec<&str> =
            failed.flat_map(|check| &check.problems).map(|problem| problem.text.as_str()).collect();
        format!("serving, not ready: {}", problems.join("; "))
    } else {
        "ready".to_owned()
    };
    notify(&[NotifyState::Ready, NotifyState::Status(&single_line(&status))]);
}

/// How long systemd waits for the next report of a node that is still starting.
const START_EXTENSION: Duration = Duration::from_secs(10);

/// Reports why the node has not started yet. If the start takes longer than `TimeoutStartSec=`, systemd ends a node that does
/// not report once per [`START_EXTENSION`].
pub(in crate::cli) fn notify_waiting(status: &str) {
    let extension = u32::try_from(START_EXTENSION.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::ExtendTimeoutUsec(extension), NotifyState::Status(&single_line(status))]);
}

/// Reports that the node is shutting down.
pub(super) fn notify_stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping: serving the requests in flight")]);
}

/// Sends the heartbeat for the watchdog, twice per `WatchdogSec=`; never returns. systemd restarts a node whose heartbeats
/// stop because its runtime is stuck.
pub(super) async fn run_watchdog() {
    // `None` without `WatchdogSec=`
    let Some(interval) = sd_notify::watchdog_enabled() else { return future::pending().await };
    let mut ticks = tokio::time::interval(interval / 2);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(
            %error,
            "notifying systemd failed: its status of this node may be out of date, and with WatchdogSec= it may \
             restart the node"
        );
    }
}

/// Replaces line breaks: each line of a message to systemd is an assignment of its own.
fn single_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_line_replaces_each_line_break_character_by_a_space() {
        assert_eq!(single_line("a\nREADY=1\r\nb"), "a READY=1  b");
    }
}
