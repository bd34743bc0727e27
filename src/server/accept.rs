//! Pauses and log lines for failures to accept connections.

use std::{io, time::Duration};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Doubles the pause between attempts to accept while they fail. When the process has no file descriptor left, each `accept`
/// fails at once, and a loop without pauses would keep a core busy.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// The number of failures since the last accepted connection. These failures are a burst.
    failures: u32,
}

impl Backoff {
    /// Called when a connection was accepted. The next failure starts a new burst.
    pub(super) fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!(
                failures = self.failures,
                "accepting connections works again: connections that waited are served"
            );
            self.failures = 0;
        }
    }

    /// Called when accepting failed. Returns the pause before the next attempt, or `None` to retry at once. Logs the first
    /// failure of a burst.
    pub(super) fn failed(&mut self, error: &io::Error) -> Option<Duration> {
        if allows_retry_at_once(error) {
            tracing::debug!(%error, "accepting a connection failed, retrying at once: other connections are unaffected");
            return None;
        }
        if self.failures == 0 {
            tracing::error!(
                %error,
                "accepting connections failed, retrying within 1 s: new connections wait. If the process has too \
                 many open files, raise the limit (LimitNOFILE= in systemd) or lower http.max_connections"
            );
        }
        // Bounded, because a shift by 32 would overflow. A shift by 8 already exceeds the longest pause.
        let factor = 1_u32 << self.failures.min(16);
        let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        Some(pause)
    }
}

/// Whether the error concerns only one connection, or a signal interrupted the call. Linux reports errors of the new connection
/// through `accept`; see "Error handling" in accept(2).
pub(super) fn allows_retry_at_once(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EMFILE on Linux and macOS.
    fn out_of_descriptors() -> io::Error {
        io::Error::from_raw_os_error(24)
    }

    #[test]
    fn pauses_double_up_to_one_second() {
        let mut backoff = Backoff::default();
        for expected_ms in [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
            let pause = backoff.failed(&out_of_descriptors()).unwrap();
            assert_eq!(pause.as_millis(), expected_ms);
        }
    }

    #[test]
    fn pause_of_a_long_burst_stays_at_one_second() {
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.failed(&out_of_descriptors()), Some(LONGEST_PAUSE));
    }

    #[test]
    fn accepted_connection_resets_the_pause() {
        let mut backoff = Backoff { failures: 7 };
        backoff.succeeded();
        assert_eq!(backoff.failed(&out_of_descriptors()), Some(FIRST_PAUSE));
    }

    #[test]
    fn aborted_connection_causes_no_pause() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(&io::ErrorKind::ConnectionAborted.into()), None);
        assert_eq!(backoff.failures, 0);
    }
}
