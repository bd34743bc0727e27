//! Splits a stream into records of bounded length: lines, CSV records or JSON objects. Memory use does not depend on the size of the stream.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The maximum length of a record, in bytes. An account usually has a few hundred.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// The maximum depth of nested arrays and objects in a JSON document.
const MAX_DEPTH: usize = 64;

/// The number of bytes to keep of a key. Only the key `users` matters, which is shorter.
const MAX_KEY_BYTES: usize = 16;

/// Reads records into one reused buffer.
pub(super) struct Records<R> {
    source: R,
    splitter: Splitter,
    /// The current record.
    buffer: Vec<u8>,
    /// Whether the current record is longer than [`MAX_RECORD_BYTES`].
    too_long: bool,
    /// The number of the current record.
    number: u64,
    /// The number of bytes consumed.
    bytes: u64,
}

/// How a stream is split.
pub(super) enum Splitter {
    /// At line ends.
    Lines,
    /// At line ends outside quotes (RFC 4180).
    Csv {
        /// Whether the current byte is inside quotes.
        quoted: bool,
    },
    /// At the objects of a JSON document.
    Json(JsonScanner),
}

/// The current record.
pub(super) enum RecordBytes<'a> {
    /// The content, without a line end.
    Bytes(&'a [u8]),
    /// The record has more than [`MAX_RECORD_BYTES`] bytes and was skipped.
    TooLong,
}

/// How a byte is handled.
enum Step {
    /// The byte belongs to no record.
    Skip,
    /// The byte belongs to the current record.
    Keep,
    /// The byte ends the record and belongs to it.
    KeepAndEnd,
    /// The byte ends the record and doesn't belong to it.
    DropAndEnd,
}

impl<R: AsyncBufRead + Unpin> Records<R> {
    pub(super) fn new(source: R, splitter: Splitter) -> Self {
        Self { source, splitter, buffer: Vec::new(), too_long: false, number: 0, bytes: 0 }
    }

    /// Reads the next record. Returns false at the end of the stream.
    pub(super) async fn advance(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        self.too_long = false;
        let mut has_begun = false;
        loop {
            let available = self.source.fill_buf().await?;
            if available.is_empty() {
                self.splitter.check_end()?;
                if has_begun {
                    // the last record, which no line end follows
                    self.number += 1;
                }
                return Ok(has_begun);
            }
            let mut used = 0;
            let mut ended = false;
            for &byte in available {
                used += 1;
                let step = self.splitter.step(byte)?;
                has_begun |= !matches!(step, Step::Skip);
                if matches!(step, Step::Keep | Step::KeepAndEnd) {
                    if self.buffer.len() == MAX_RECORD_BYTES {
                        self.too_long = true;
                    } else {
                        self.buffer.push(byte);
                    }
                }
                ended = matches!(step, Step::DropAndEnd | Step::KeepAndEnd);
                if ended {
                    break;
                }
            }
            self.source.consume(used);
            self.bytes += used as u64;
            if ended {
                self.number += 1;
                return Ok(true);
            }
        }
    }

    /// The record that was read last.
    pub(super) fn record(&self) -> RecordBytes<'_> {
        if self.too_long {
            return RecordBytes::TooLong;
        }
        // a line may end with CR LF
        let record = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
        // Some editors start a file with a byte order mark.
        let record = if self.number == 1 { record.strip_prefix(b"\xef\xbb\xbf").unwrap_or(record) } else { record };
        RecordBytes::Bytes(record)
    }

    /// The number of the last record, counted from 1; 0 before the first.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The number of bytes up to the end of the last record.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Splitter {
    /// Decides how the next byte is handled.
    fn step(&mut self, byte: u8) -> io::Result<Step> {
        Ok(match self {
            Self::Lines if byte == b'\n' => Step::DropAndEnd,
            Self::Lines => Step::Keep,
            Self::Csv { quoted } => {
                // A quote within a quoted field is doubled, so it toggles twice.
                if byte == b'"' {
                    *quoted = !*quoted;
                }
                if byte == b'\n' && !*quoted { Step::DropAndEnd } else { Step::Keep }
            }
            Self::Json(scanner) => scanner.step(byte)?,
        })
    }

    /// Checks that the stream may end here.
    fn check_end(&self) -> io::Result<()> {
        match self {
            Self::Json(scanner) if !scanner.stack.is_empty() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the JSON document is incomplete"))
            }
            Self::Csv { quoted: true } => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a quoted CSV field has no end"))
            }
            _ => Ok(()),
        }
    }
}

/// Finds the objects that are records: those of a `users` array, or those at the top level and in a top-level array.
#[derive(Default)]
pub(super) struct JsonScanner {
    /// Whether records are the elements of `users` in each top-level object.
    in_users: bool,
    /// The opening brackets that are not closed yet, outermost first.
    stack: Vec<u8>,
    /// The depth of the records in the array `users`; `None` outside this array.
    users_depth: Option<usize>,
    /// The depth of the record that is being read.
    record_depth: Option<usize>,
    /// Whether the current byte is inside a string.
    in_string: bool,
    /// Whether the previous byte was a backslash in a string.
    escaped: bool,
    /// The start of the last string outside records, which may be a key.
    string: Vec<u8>,
    /// The key of the value that follows, outside records.
    key: Vec<u8>,
}

impl JsonScanner {
    /// Scans for the objects at the top level or in a top-level array.
    pub(super) fn top_level() -> Self {
        Self::default()
    }

    /// Scans for the objects in the array `users` of the top-level object.
    pub(super) fn users() -> Self {
        Self { in_users: true, ..Self::default() }
    }

    fn step(&mut self, byte: u8) -> io::Result<Step> {
        let default_step = if self.record_depth.is_some() { Step::Keep } else { Step::Skip };
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            // the closing quote has ended the string, and is not a part of it
            if self.in_string && self.record_depth.is_none() && self.string.len() < MAX_KEY_BYTES {
                self.string.push(byte);
            }
            return Ok(default_step);
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.string.clear();
            }
            b':' => self.key = std::mem::take(&mut self.string), // the last string was a key
            b',' => self.key.clear(),
            b'{' | b'[' => return self.open(byte),
            b'}' | b']' => return self.close(byte, default_step),
            _ => {}
        }
        Ok(default_step)
    }

    /// Handles an opening bracket.
    fn open(&mut self, byte: u8) -> io::Result<Step> {
        if self.stack.len() == MAX_DEPTH {
            return Err(invalid("it is nested too deeply"));
        }
        if self.record_depth.is_none() && byte == b'{' && self.starts_record() {
            self.record_depth = Some(self.stack.len());
        }
        self.stack.push(byte);
        // `{[`: the top-level object. `[{[`: an object of a top-level array, as in a Keycloak export of several realms.
        if byte == b'['
            && self.record_depth.is_none()
            && self.key == b"users"
            && matches!(&self.stack[..], b"{[" | b"[{[")
        {
            self.users_depth = Some(self.stack.len());
        }
        self.key.clear();
        Ok(if self.record_depth.is_some() { Step::Keep } else { Step::Skip })
    }

    /// Whether an object that opens here is a record.
    fn starts_record(&self) -> bool {
        if self.in_users { self.users_depth == Some(self.stack.len()) } else { matches!(&self.stack[..], b"" | b"[") }
    }

    /// Handles a closing bracket.
    fn close(&mut self, byte: u8, default_step: Step) -> io::Result<Step> {
        let opened = self.stack.pop();
        let expected = if byte == b'}' { b'{' } else { b'[' };
        if opened != Some(expected) {
            return Err(invalid("its brackets don't match"));
        }
        if self.record_depth == Some(self.stack.len()) {
            self.record_depth = None;
            return Ok(Step::KeepAndEnd);
        }
        if self.users_depth.is_some_and(|depth| depth > self.stack.len()) {
            // the bracket has closed the array `users`
            self.users_depth = None;
        }
        Ok(default_step)
    }
}

/// The error of a document that is not valid JSON.
fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the file is not valid JSON: {why}"))
}

/// Splits a CSV record into its fields (RFC 4180). `None` if a field is not UTF-8.
pub(super) fn csv_fields(record: &[u8]) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut field = Vec::new();
    let mut quoted = false;
    let mut bytes = record.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            // a doubled quote in a quoted field stands for one quote
            b'"' if quoted && bytes.peek() == Some(&b'"') => {
                bytes.next();
                field.push(b'"');
            }
            b'"' => quoted = !quoted,
            b',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(byte),
        }
    }
    fields.push(field);
    fields.into_iter().map(|field| String::from_utf8(field).ok()).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    /// Reads all records of an input in chunks of `capacity` bytes. A record that is too long is `None`.
    async fn read(input: &[u8], capacity: usize, splitter: Splitter) -> io::Result<Vec<Option<String>>> {
        let mut records = Records::new(BufReader::with_capacity(capacity, input), splitter);
        let mut all = Vec::new();
        while records.advance().await? {
            all.push(match records.record() {
                RecordBytes::Bytes(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
                RecordBytes::TooLong => None,
            });
            assert_eq!(records.number(), all.len() as u64);
        }
        assert_eq!(records.bytes(), input.len() as u64);
        Ok(all)
    }

    /// These records, as [`read`] returns them.
    fn expected_records(records: &[&str]) -> Vec<Option<String>> {
        records.iter().map(|record| Some((*record).to_owned())).collect()
    }

    #[tokio::test]
    async fn lines_end_with_lf_crlf_or_the_stream() {
        // chunks within and across lines, and the whole input as one chunk
        for capacity in [1, 2, 3, 100] {
            for (input, expected) in [
                ("", &[][..]),
                ("\n", &[""]),
                ("a\nb\r\n\nc", &["a", "b", "", "c"]),
                // a byte order mark is dropped only at the start of the stream
                ("\u{feff}a\n\u{feff}b\n", &["a", "\u{feff}b"]),
            ] {
                let lines = read(input.as_bytes(), capacity, Splitter::Lines).await.unwrap();
                assert_eq!(lines, expected_records(expected), "{input:?}, {capacity}");
            }
        }
    }

    #[tokio::test]
    async fn too_long_line_is_skipped_and_not_buffered() {
        let longest = "x".repeat(MAX_RECORD_BYTES);
        let input = format!("{longest}\n{longest}y\nshort\n{longest}{longest}");
        for capacity in [1000, MAX_RECORD_BYTES + 1, 10 * MAX_RECORD_BYTES] {
            let lines = read(input.as_bytes(), capacity, Splitter::Lines).await.unwrap();
            assert_eq!(lines, [Some(longest.clone()), None, Some("short".to_owned()), None]);
        }
        let mut records = Records::new(BufReader::with_capacity(1000, input.as_bytes()), Splitter::Lines);
        while records.advance().await.unwrap() {}
        // a vector that grows may reserve twice what it needs
        assert!(records.buffer.capacity() <= 2 * MAX_RECORD_BYTES);
    }

    #[tokio::test]
    async fn json_records_are_top_level_objects_or_array_elements() {
        // brackets in a string and a nested `users` do not split the record
        let (a, b) = (r#"{"a":"}]\"{","users":[{"x":1}]}"#, r#"{"b":[[1],{}]}"#);
        for input in [format!("[{a}, {b}]"), format!("{a}\n{b}\n"), format!("\u{feff} [ {a} ,\n{b} ]\n")] {
            for capacity in [1, 3, 1000] {
                let records = read(input.as_bytes(), capacity, Splitter::Json(JsonScanner::top_level())).await.unwrap();
                assert_eq!(records, expected_records(&[a, b]), "{input}");
            }
        }
    }

    #[tokio::test]
    async fn json_records_are_elements_of_users() {
        let (a, b) = (r#"{"a":"users","users":[{"x":1}]}"#, r#"{"b":[1]}"#);
        // Only the realm's own `users` has the accounts: a string and two nested arrays have the same name.
        let realm = format!(
            r#"{{"realm":"users","x":[{{"users":[{{"no":1}}]}}],"users":[{a},{b}],"roles":{{"users":[{{}}]}}}}"#
        );
        for input in [realm.clone(), format!("[{realm}]")] {
            let capacity = 7;
            let records = read(input.as_bytes(), capacity, Splitter::Json(JsonScanner::users())).await.unwrap();
            assert_eq!(records, expected_records(&[a, b]), "{input}");
        }
    }

    #[tokio::test]
    async fn incomplete_or_mismatched_json_is_an_error() {
        let too_deep = "[".repeat(MAX_DEPTH + 1);
        let capacity = 100;
        for input in [r#"[{"a":1}"#, r#"[{"a":1]"#, r#"{"a":"#, &too_deep] {
            assert!(
                read(input.as_bytes(), capacity, Splitter::Json(JsonScanner::top_level())).await.is_err(),
                "{input}"
            );
        }
    }

    #[tokio::test]
    async fn csv_records_may_contain_line_ends_in_quotes() {
        let capacity = 2;
        let records = read(b"id,x\r\n1,\"a\nb\"\n2,c", capacity, Splitter::Csv { quoted: false }).await.unwrap();
        assert_eq!(records, expected_records(&["id,x", "1,\"a\nb\"", "2,c"]));
        assert!(read(b"1,\"a", capacity, Splitter::Csv { quoted: false }).await.is_err(), "the quotes are not closed");
        assert_eq!(csv_fields(br#"1,"say ""hi"", then",,x"#).unwrap(), ["1", "say \"hi\", then", "", "x"]);
    }
}
