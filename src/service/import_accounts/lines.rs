//! Lines of a stream, each of bounded length, so that no file needs more memory than another.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The longest line that is kept, in bytes. An account is a few hundred.
pub const MAX_LINE: usize = 64 * 1024;

/// Reads lines into one buffer that is used again and again.
pub(super) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    too_long: bool,
    number: u64,
    bytes: u64,
}

/// What a line holds, without its end.
pub(super) enum Line<'a> {
    Bytes(&'a [u8]),
    /// More than [`MAX_LINE`] bytes; they were read over.
    TooLong,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), too_long: false, number: 0, bytes: 0 }
    }

    /// Reads the next line, whether it ends in `\n`, `\r\n` or with the stream. False at the end.
    pub(super) async fn advance(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        self.too_long = false;
        let mut begun = false;
        loop {
            let available = self.source.fill_buf().await?;
            if available.is_empty() {
                self.number += u64::from(begun);
                return Ok(begun);
            }
            begun = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if self.too_long || self.buffer.len() + part.len() > MAX_LINE {
                self.too_long = true;
                self.buffer.clear();
            } else {
                self.buffer.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.source.consume(used);
            self.bytes += used as u64;
            if end.is_some() {
                self.number += 1;
                return Ok(true);
            }
        }
    }

    /// The line that was read last.
    pub(super) fn line(&self) -> Line<'_> {
        if self.too_long {
            return Line::TooLong;
        }
        let line = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
        // A byte order mark, as some editors begin a file with.
        let line = if self.number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        Line::Bytes(line)
    }

    /// Its number, counted from 1; 0 before the first.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of all lines so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn read(input: &[u8], capacity: usize) -> Vec<Option<String>> {
        let mut lines = Lines::new(BufReader::with_capacity(capacity, input));
        let mut all = Vec::new();
        while lines.advance().await.unwrap() {
            all.push(match lines.line() {
                Line::Bytes(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
                Line::TooLong => None,
            });
            assert_eq!(lines.number(), all.len() as u64);
        }
        assert_eq!(lines.bytes(), input.len() as u64);
        all
    }

    #[tokio::test]
    async fn lines_end_as_they_like() {
        for capacity in [1, 2, 3, 100] {
            for (input, expected) in [
                ("", vec![]),
                ("\n", vec![""]),
                ("a\nb\r\n\nc", vec!["a", "b", "", "c"]),
                ("\u{feff}a\n\u{feff}b\n", vec!["a", "\u{feff}b"]),
            ] {
                let expected: Vec<_> = expected.into_iter().map(|line| Some(line.to_owned())).collect();
                assert_eq!(read(input.as_bytes(), capacity).await, expected, "{input:?}, {capacity}");
            }
        }
    }

    #[tokio::test]
    async fn long_lines_are_read_over_and_not_kept() {
        let most = "x".repeat(MAX_LINE);
        let input = format!("{most}\n{most}y\nshort\n{most}{most}");
        for capacity in [1000, MAX_LINE + 1, 10 * MAX_LINE] {
            let lines = read(input.as_bytes(), capacity).await;
            assert_eq!(lines, [Some(most.clone()), None, Some("short".to_owned()), None]);
        }
        let mut lines = Lines::new(BufReader::with_capacity(1000, input.as_bytes()));
        while lines.advance().await.unwrap() {}
        assert!(lines.buffer.capacity() <= 2 * MAX_LINE);
    }
}
