"""Server-sent events, cut into pieces in every way."""

import pytest
from latchkey.errors import Malformed
from latchkey.sse import MAX_EVENT_BYTES, Event, Parser


def parsed(text: bytes, size: int) -> list[Event]:
    """The events, of pieces of this size."""
    parser = Parser()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_they_come(end: bytes, size: int) -> None:
    text = b"\xef\xbb\xbfevent: live\nid: 7\ndata: {}\n\n: hello\n\nevent:x\ndata:a\ndata: b\nretry: 1\nother\n\nx: y\n\n"
    text = text.replace(b"\n", end) + (b"\n" if end == b"\r" else b"")
    assert parsed(text, size) == [Event("live", "{}", "7"), Event("x", "a\nb")]


def test_the_id_is_the_events_own() -> None:
    events = parsed(b"id: 1\ndata: a\n\ndata: b\n\nid: \0\ndata: c\n\n", 1000)
    assert [event.id for event in events] == ["1", None, None]


def test_what_has_no_data_is_no_event() -> None:
    assert parsed(b"event: live\nid: 1\n\ndata: {}\n\n", 5) == [Event("message", "{}")]
    assert parsed(b"data: never ended\n", 5) == []


@pytest.mark.parametrize("line", [b"x" * 100, b"data: " + b"x" * 100 + b"\n"])
def test_an_event_without_an_end_ends_the_connection(line: bytes) -> None:
    with pytest.raises(Malformed):
        parsed(line * (MAX_EVENT_BYTES // 100 + 1), 999)


def test_what_is_no_utf_8_ends_the_connection() -> None:
    with pytest.raises(Malformed):
        parsed(b"data: \xff\n\n", 1000)
