//! Restarts the embedded `redis-server` when it exits.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::child::{Launcher, Server};

/// The pause before the first restart. Each further restart doubles the pause, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// If a server ran for at least this long, the pause before its restart is [`FIRST_PAUSE`] again.
const STABLE_RUN: Duration = Duration::from_secs(60);

/// Keeps a server running until `stop` is cancelled, then stops the server.
pub(super) async fn supervise(launcher: Launcher, mut server: Server, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let status = tokio::select! {
            biased; // `stop` first
            () = stop.cancelled() => return server.stop().await,
            status = server.wait_for_exit() => status,
        };
        if started.elapsed() >= STABLE_RUN {
            pause = FIRST_PAUSE;
        }
        tracing::error!(%status, output = server.last_output(), "the embedded Redis exited, restarting it: requests get 503 until it runs. If the status is SIGKILL, look for the OOM killer in the \
             kernel's log");
        server = tokio::select! {
            biased;
            // A server that is being launched is killed when its `Child` is dropped.
            () = stop.cancelled() => return,
            server = restart(&launcher, &mut pause) => server,
        };
        tracing::info!("the embedded Redis is running again: requests are served");
    }
}

/// Starts the server again after `pause`, and retries until it runs. `pause` doubles with each attempt.
async fn restart(launcher: &Launcher, pause: &mut Duration) -> Server {
    loop {
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        match launcher.launch().await {
            Ok(server) => return server,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(tracing::field::display);
                tracing::error!(
                    %error,
                    cause,
                    "the embedded Redis does not start, retrying within 5 s; meanwhile requests get 503. The \
                     fields error and cause say what to correct"
                );
            }
        }
    }
}
