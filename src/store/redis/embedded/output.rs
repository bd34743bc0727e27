//! The output of the embedded Redis server: copied to the log, with the last lines kept for error messages.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The number of lines that are kept for error messages.
const KEPT_LINES: usize = 10;

/// The last lines of the server's output. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Output(Arc<Mutex<VecDeque<String>>>);

impl Output {
    /// Logs an output stream of the server line by line until its end, and keeps the last lines.
    pub(super) async fn follow(self, stream: impl AsyncRead + Unpin) {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while stream.read_until(b'\n', &mut bytes).await.is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&bytes);
            let line = text.trim();
            if !line.is_empty() {
                log(line);
                let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT_LINES {
                    kept.pop_front();
                }
                kept.push_back(line.to_owned());
            }
            bytes.clear();
        }
    }

    /// The last lines, joined by line feeds.
    pub(super) fn last_lines(&self) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.make_contiguous().join("\n")
    }
}

/// Logs one line, such as `123:M 23 Nov 2026 02:00:00.000 * text`: process id, role, date, time, level, text. Lines of the highest level,
/// `#` (a warning), are logged at INFO, since "Redis is starting" is one of them. A line without a process id reports an error in the
/// server's arguments, and is logged at WARN.
fn log(line: &str) {
    // The words before the level: process id with role, day, month, year, time.
    let level = line.split(' ').nth(5);
    let has_pid = line.split_once(':').is_some_and(|(pid, _)| pid.bytes().all(|byte| byte.is_ascii_digit()));
    if !has_pid {
        tracing::warn!(target: "latchkey::redis_server", "redis-server: {line}");
    } else if level == Some("#") {
        tracing::info!(target: "latchkey::redis_server", "{line}");
    } else {
        tracing::debug!(target: "latchkey::redis_server", "{line}");
    }
}
