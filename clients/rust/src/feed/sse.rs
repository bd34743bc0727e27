//! Server-sent events, taken out of a stream of bytes (HTML Living Standard, section 9.2.6).

/// The longest line and the most data of one event, in bytes. The feed's are some hundred bytes long.
const MAX_BYTES: usize = 64 * 1024;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// What kind of event it is; `message` where the stream doesn't say.
    pub(crate) event: String,
    /// Its data, lines with `\n` between them.
    pub(crate) data: String,
    /// Where to resume after it: the last id that the stream named, here or before.
    pub(crate) id: Option<String>,
}

/// A line or an event is longer than any that the feed sends, or isn't UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Takes the bytes of one stream as they come.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The line that isn't complete yet.
    line: Vec<u8>,
    /// Whether the last byte was a `\r`, after which a `\n` doesn't count.
    returned: bool,
    /// Whether the first line has been read: a byte order mark may stand before it.
    begun: bool,
    event: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl Parser {
    /// Takes some bytes, and gives the events that are complete with them to `take`.
    pub(crate) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Message)) -> Result<(), Unreadable> {
        for &byte in bytes {
            let returned = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' if returned => {}
                b'\n' | b'\r' => {
                    if let Some(message) = self.end_line()? {
                        take(message);
                    }
                }
                _ if self.line.len() == MAX_BYTES => return Err(Unreadable),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Message>, Unreadable> {
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).map_err(|_| Unreadable)?;
        let text = if std::mem::replace(&mut self.begun, true) { text } else { text.trim_start_matches('\u{feff}') };
        let message = if text.is_empty() { self.end_event() } else { self.field(text).map(|()| None)? };
        // its memory is used again
        self.line = line;
        self.line.clear();
        Ok(message)
    }

    /// A comment has no name.
    fn field(&mut self, line: &str) -> Result<(), Unreadable> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.data.len() + value.len() >= MAX_BYTES {
                    return Err(Unreadable);
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

    fn end_event(&mut self) -> Option<Message> {
        let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        let event = if event.is_empty() { "message".to_owned() } else { event };
        std::mem::take(&mut self.has_data).then(|| Message { event, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<Message>, Unreadable> {
        let (mut parser, mut messages) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.push(piece, |message| messages.push(message))?;
        }
        Ok(messages)
    }

    fn message(event: &str, data: &str, id: Option<&str>) -> Message {
        Message { event: event.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn events_are_read_whatever_ends_their_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let text =
                "event: live\nid: 7\ndata: {}\n\n: comment\nevent:x\ndata:a\ndata\ndata: b\nretry: 5\n\ndata: c\n\n"
                    .replace('\n', end);
            let expected = [
                message("live", "{}", Some("7")),
                message("x", "a\n\nb", Some("7")),
                message("message", "c", Some("7")),
            ];
            assert_eq!(all(&[text.as_bytes()]).unwrap(), expected, "{end:?}");
        }
    }

    #[test]
    fn what_has_no_data_or_no_end_is_no_event() {
        assert_eq!(all(&[b"event: live\n\n"]), Ok(vec![]));
        assert_eq!(all(&[b"event: live\ndata: {}\n"]), Ok(vec![]));
        assert_eq!(all(&[b":\n\n\n: \n\n"]), Ok(vec![]));
        // an event without data still says where to resume
        assert_eq!(all(&[b"id: 1\n\ndata: x\n\n"]), Ok(vec![message("message", "x", Some("1"))]));
    }

    #[test]
    fn ids_and_marks_as_the_standard_has_them() {
        assert_eq!(all(&["\u{feff}data: x\n\n".as_bytes()]), Ok(vec![message("message", "x", None)]));
        assert_eq!(all(&[b"id: a\0b\ndata: x\n\n"]), Ok(vec![message("message", "x", None)]));
        assert_eq!(all(&[b"id\ndata: x\n\n"]), Ok(vec![message("message", "x", Some(""))]));
        assert_eq!(all(&[b"data:  x\n\n"]), Ok(vec![message("message", " x", None)]));
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        assert_eq!(all(&[&vec![b'x'; MAX_BYTES + 1]]), Err(Unreadable));
        let long = format!("data: {}\n", "x".repeat(1000));
        assert_eq!(all(&[long.repeat(100).as_bytes()]), Err(Unreadable));
        assert_eq!(all(&[b"data: \xff\n\n"]), Err(Unreadable));
    }

    proptest! {
        /// However the stream is cut into pieces, the events are the same.
        #[test]
        fn pieces_make_no_difference(
            lines in prop::collection::vec(
                prop_oneof![Just(String::new()), "(data|event|id|retry|:)?:? ?[a-z: ]{0,6}", "\\PC{0,8}"], 0..40),
            ends in prop::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 40),
            cuts in prop::collection::vec(1..9_usize, 1..60),
        ) {
            let text: String = lines.iter().zip(ends).map(|(line, end)| format!("{line}{end}")).collect();
            let (mut rest, mut pieces) = (text.as_bytes(), Vec::new());
            for cut in cuts.into_iter().cycle() {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(all(&pieces), all(&[text.as_bytes()]));
        }

        /// Any bytes at all are read or refused.
        #[test]
        fn no_bytes_are_too_much_for_it(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            drop(all(&[&bytes]));
        }

        /// What was written as events is read as those events.
        #[test]
        fn what_is_written_is_read(events in prop::collection::vec(("[a-z]{1,9}", "[^\\r\\n\u{0}]{0,30}", "[0-9a-z-]{0,9}"), 0..20)) {
            let text: String =
                events.iter().map(|(event, data, id)| format!("id: {id}\nevent: {event}\ndata: {data}\n\n")).collect();
            let expected: Vec<_> = events.iter().map(|(event, data, id)| message(event, data, Some(id))).collect();
            prop_assert_eq!(all(&[text.as_bytes()]).unwrap(), expected);
        }
    }
}
