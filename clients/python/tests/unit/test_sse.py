"""The parser of server-sent events, with chunks of every size."""

import pytest
from latchkey.errors import ProtocolError
from latchkey.sse import MAX_EVENT_BYTES, Event, Parser


def parsed(text: bytes, chunk_size: int) -> list[Event]:
    """Parses the text in chunks of this size."""
    parser = Parser()
    events: list[Event] = []
    for start in range(0, len(text), chunk_size):
        events.extend(parser.feed(text[start : start + chunk_size]))
    return events


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 1000])
def test_chunk_size_and_line_ending_do_not_change_events(line_end: bytes, chunk_size: int) -> None:
    # A byte order mark, an event, a comment, an event with two lines and ignored fields, and a block without data.
    text = b"\xef\xbb\xbfevent: live\nid: 7\ndata: {}\n\n: hello\n\nevent:x\ndata:a\ndata: b\nretry: 1\nother\n\nx: y\n\n"
    # A CR at the end could be the first half of CR LF, so the parser needs the byte after it.
    text = text.replace(b"\n", line_end)
    if line_end == b"\r":
        text += b"\n"
    assert parsed(text, chunk_size) == [Event("live", "{}", "7"), Event("x", "a\nb", "7")]


def test_event_without_id_has_the_last_event_id() -> None:
    # The events a to f: an id that contains a NUL is ignored, a block without data sets the id, and an empty id clears it.
    events = parsed(b"data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: \0\ndata: d\n\nid: 2\n\ndata: e\n\nid\ndata: f\n\n", 1000)
    assert [event.id for event in events] == [None, "1", "1", "1", "2", ""]


def test_only_one_byte_order_mark_at_the_start_is_ignored() -> None:
    assert parsed("\ufeffdata: x\n\n".encode(), 1) == [Event("message", "x")]
    # A second mark belongs to the name of the field, so the field is unknown.
    assert parsed("\ufeff\ufeffdata: x\n\n".encode(), 1) == []
    assert parsed("\n\ufeffdata: x\n\n".encode(), 1) == []


def test_block_without_data_is_no_event() -> None:
    assert parsed(b"event: live\nid: 1\n\ndata: {}\n\n", 5) == [Event("message", "{}", "1")]
    assert parsed(b"data: never ended\n", 5) == []


@pytest.mark.parametrize("repeated", [b"x" * 100, b"data: " + b"x" * 100 + b"\n"], ids=["one line", "many lines"])
def test_event_over_the_limit_raises(repeated: bytes) -> None:
    with pytest.raises(ProtocolError):
        parsed(repeated * (MAX_EVENT_BYTES // 100 + 1), chunk_size=999)


def test_invalid_utf_8_raises() -> None:
    with pytest.raises(ProtocolError):
        parsed(b"data: \xff\n\n", 1000)
