//! A minimal HTTP/1.1 response parser.

use std::sync::LazyLock;

use memchr::memmem;

/// A response.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The head: the status line and the headers.
    pub head: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// The status and the extent of a response at the start of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) status: u16,
    /// Where the body begins.
    pub(super) body_at: usize,
    /// Where the response ends.
    pub(super) end: usize,
}

impl<'a> Answer<'a> {
    /// The values of all headers of this name.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let lines = self.head.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        let pairs = lines.filter_map(|line| line.split_once(':'));
        pairs.filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers(name).next()
    }

    /// The value of the first JSON string member of this name, without unescaping.
    pub fn member(&self, name: &str) -> Option<&'a str> {
        let value_if_named = |quote_at: usize| {
            let after_name = self.body[quote_at + 1..].strip_prefix(name.as_bytes())?.strip_prefix(b"\"")?;
            let after_colon = after_name.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
            let value = after_colon.strip_prefix(b"\"")?;
            let end = memchr::memchr(b'"', value)?;
            std::str::from_utf8(&value[..end]).ok()
        };
        // quotation marks are rarer than any letter of the name, so a search for them stops less often
        memchr::memchr_iter(b'"', self.body).find_map(value_if_named)
    }

    /// Returns whether the body contains a text. Takes a prepared searcher, because building one takes longer than a search.
    pub fn holds(&self, text: &memmem::Finder<'_>) -> bool {
        text.find(self.body).is_some()
    }

    /// The error text for an unexpected response: the failed call, the status and the start of the body.
    pub fn unexpected(&self, call: &str) -> String {
        let start = &self.body[..self.body.len().min(300)];
        format!("{call}: {} {}", self.status, String::from_utf8_lossy(start))
    }
}

/// Parses the first response in the buffer; `None` while the response is incomplete.
pub(super) fn parse_frame(buffer: &[u8]) -> anyhow::Result<Option<Frame>> {
    const CONTENT_LENGTH: &[u8] = b"content-length:";
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    static FIND_BLANK_LINE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(BLANK_LINE));
    let Some(head_end) = FIND_BLANK_LINE.find(buffer) else { return Ok(None) };
    // the three digits after "HTTP/1.1 "
    let status = buffer
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or_else(|| anyhow::anyhow!("the response has no HTTP/1.1 status line"))?;
    // a response with 204 has neither a body nor a Content-Length
    let mut body_length = if status == 204 { Some(0) } else { None };
    let mut line_start = 0;
    // the last line ends where the blank line begins
    for line_end in memchr::memchr_iter(b'\n', &buffer[..head_end]).chain([head_end]) {
        let line = &buffer[line_start..line_end];
        line_start = line_end + 1;
        if line.len() > CONTENT_LENGTH.len() && line[..CONTENT_LENGTH.len()].eq_ignore_ascii_case(CONTENT_LENGTH) {
            let value = std::str::from_utf8(&line[CONTENT_LENGTH.len()..])?.trim();
            body_length = Some(value.parse::<usize>()?);
        }
    }
    let body_length = body_length.ok_or_else(|| anyhow::anyhow!("the response has no Content-Length"))?;
    let body_at = head_end + BLANK_LINE.len();
    let end = body_at + body_length;
    Ok((buffer.len() >= end).then_some(Frame { status, body_at, end }))
}
