//! Parses server-sent events (HTML Living Standard, section 9.2.6).

/// The maximum length of a line and of an event's data, in bytes. The feed's events have a few hundred bytes.
const MAX_BYTES: usize = 64 * 1024;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The type; `message` if the event has no `event` field.
    pub(crate) event: String,
    /// The data lines, joined with `\n`.
    pub(crate) data: String,
    /// The last event id, of this or an earlier event: the position to resume from.
    pub(crate) id: Option<String>,
}

/// A line or an event is too long or not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidStream;

/// Parses the chunks of one stream.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The incomplete line.
    line: Vec<u8>,
    /// Whether the last byte was a `\r`, after which a `\n` is ignored.
    after_cr: bool,
    /// Whether the first line has been parsed. Only this line may begin with a byte order mark.
    past_first_line: bool,
    /// The type and the data of the incomplete event.
    event: String,
    data: String,
    /// Whether the incomplete event has a `data` field, which may be empty. An event without one is dropped.
    has_data: bool,
    /// The last event id. Events without an `id` field do not change it.
    id: Option<String>,
}

impl Parser {
    /// Parses a chunk and passes the events that it completes to `emit`.
    pub(crate) fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(Message)) -> Result<(), InvalidStream> {
        for &byte in bytes {
            let after_cr = self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    if let Some(message) = self.end_line()? {
                        emit(message);
                    }
                }
                _ if self.line.len() == MAX_BYTES => return Err(InvalidStream),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Message>, InvalidStream> {
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).map_err(|_| InvalidStream)?;
        let text = if self.past_first_line { text } else { text.strip_prefix('\u{feff}').unwrap_or(text) };
        self.past_first_line = true;
        let message = if text.is_empty() {
            self.end_event()
        } else {
            self.parse_field(text)?;
            None
        };
        // Reuses the allocation.
        self.line = line;
        self.line.clear();
        Ok(message)
    }

    /// Parses a field. A comment is a field with an empty name. It is ignored, like `retry` and unknown fields.
    fn parse_field(&mut self, line: &str) -> Result<(), InvalidStream> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                // The data may need one more byte, for the line feed before this value.
                if self.data.len() + value.len() >= MAX_BYTES {
                    return Err(InvalidStream);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// Resets the incomplete event, and returns it if it has data.
    fn end_event(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        let has_data = std::mem::take(&mut self.has_data);
        let event = if event.is_empty() { "message".to_owned() } else { event };
        has_data.then(|| Message { event, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(chunks: &[&[u8]]) -> Result<Vec<Message>, InvalidStream> {
        let mut parser = Parser::default();
        let mut messages = Vec::new();
        for chunk in chunks {
            parser.push(chunk, |message| messages.push(message))?;
        }
        Ok(messages)
    }

    fn message(event: &str, data: &str, id: Option<&str>) -> Message {
        Message { event: event.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn line_ending_does_not_change_events() {
        for end in ["\n", "\r\n", "\r"] {
            let text =
                "event: live\nid: 7\ndata: {}\n\n: comment\nevent:x\ndata:a\ndata\ndata: b\nretry: 5\n\ndata: c\n\n"
                    .replace('\n', end);
            let expected = [
                message("live", "{}", Some("7")),
                message("x", "a\n\nb", Some("7")),
                message("message", "c", Some("7")),
            ];
            assert_eq!(parse(&[text.as_bytes()]).unwrap(), expected, "{end:?}");
        }
    }

    #[test]
    fn block_without_data_or_end_is_no_event() {
        assert_eq!(parse(&[b"event: live\n\n"]), Ok(vec![]));
        // no empty line ends the event
        assert_eq!(parse(&[b"event: live\ndata: {}\n"]), Ok(vec![]));
        // comments only
        assert_eq!(parse(&[b":\n\n\n: \n\n"]), Ok(vec![]));
        // a block without data still sets the last event id
        assert_eq!(parse(&[b"id: 1\n\ndata: x\n\n"]), Ok(vec![message("message", "x", Some("1"))]));
    }

    #[test]
    fn byte_order_mark_ids_and_values_follow_the_standard() {
        assert_eq!(parse(&["\u{feff}data: x\n\n".as_bytes()]), Ok(vec![message("message", "x", None)]));
        // only one byte order mark, and only at the start: here the field is unknown, and its block has no data
        assert_eq!(parse(&["\u{feff}\u{feff}data: x\n\n".as_bytes()]), Ok(vec![]));
        assert_eq!(parse(&["\n\u{feff}data: x\n\n".as_bytes()]), Ok(vec![]));
        // an id with NUL is ignored, and a field without a colon has an empty value
        assert_eq!(parse(&[b"id: a\0b\ndata: x\n\n"]), Ok(vec![message("message", "x", None)]));
        assert_eq!(parse(&[b"id\ndata: x\n\n"]), Ok(vec![message("message", "x", Some(""))]));
        // only one space after the colon is removed
        assert_eq!(parse(&[b"data:  x\n\n"]), Ok(vec![message("message", " x", None)]));
    }

    #[test]
    fn stream_over_the_limit_or_not_utf_8_is_invalid() {
        assert_eq!(parse(&[&vec![b'x'; MAX_BYTES + 1]]), Err(InvalidStream));
        let line_with_1000_data_bytes = format!("data: {}\n", "x".repeat(1000));
        assert_eq!(parse(&[line_with_1000_data_bytes.repeat(MAX_BYTES / 1000 + 1).as_bytes()]), Err(InvalidStream));
        assert_eq!(parse(&[b"data: \xff\n\n"]), Err(InvalidStream));
    }

    proptest! {
        #[test]
        fn chunk_boundaries_do_not_change_events(
            lines in prop::collection::vec(
                prop_oneof![Just(String::new()), "(data|event|id|retry|:)?:? ?[a-z: ]{0,6}", "\\PC{0,8}"], 0..40),
            ends in prop::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 40),
            cuts in prop::collection::vec(1..9_usize, 1..60),
        ) {
            let text: String = lines.iter().zip(ends).map(|(line, end)| format!("{line}{end}")).collect();
            let mut rest = text.as_bytes();
            let mut chunks = Vec::new();
            for cut in cuts.into_iter().cycle() {
                let (chunk, more) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(parse(&chunks), parse(&[text.as_bytes()]));
        }

        #[test]
        fn parser_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            drop(parse(&[&bytes]));
        }

        #[test]
        fn parser_returns_the_events_that_were_formatted(events in prop::collection::vec(("[a-z]{1,9}", "[^\\r\\n\u{0}]{0,30}", "[0-9a-z-]{0,9}"), 0..20)) {
            let text: String =
                events.iter().map(|(event, data, id)| format!("id: {id}\nevent: {event}\ndata: {data}\n\n")).collect();
            let expected: Vec<_> = events.iter().map(|(event, data, id)| message(event, data, Some(id))).collect();
            prop_assert_eq!(parse(&[text.as_bytes()]).unwrap(), expected);
        }
    }
}
