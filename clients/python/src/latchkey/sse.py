"""Parses server-sent events from bytes (HTML Standard, section 9.2.6)."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ProtocolError

MAX_EVENT_BYTES = 64 * 1024
"""A longer event is a protocol error, which ends the connection."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``id`` is the latest id that the feed has sent, with this or an earlier event: the position to resume from."""

    type: str
    data: str
    id: str | None = None


class Parser:
    """Parses the chunks of one connection, whatever their size."""

    def __init__(self) -> None:
        """Starts with an empty buffer."""
        self._buffer = b""
        """The start of a line whose end has not arrived yet."""
        self._at_first_line = True
        """Only the first line may begin with a byte order mark."""
        self._type = ""
        self._data: list[str] = []
        self._id: str | None = None
        """The last event id. Events without an ``id`` field do not change it."""
        self._event_bytes = 0
        """The length of the current event's complete lines, without line ends."""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yields the events that the chunk completes.

        Raises ``ProtocolError`` if an event is too long or not UTF-8.
        """
        unparsed = self._buffer + chunk
        # A CR at the end stays in the buffer: its LF may be in the next chunk.
        end = len(unparsed) - 1 if unparsed.endswith(b"\r") else len(unparsed)
        # A line ends with CRLF, LF or CR.
        lines = unparsed[:end].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        unfinished_line = lines.pop()
        self._buffer = unfinished_line + unparsed[end:]
        for line in lines:
            event = self._parse_line(line)
            if event is not None:
                yield event
        if self._event_bytes + len(self._buffer) > MAX_EVENT_BYTES:
            raise ProtocolError("an event of the feed is too long")

    def _parse_line(self, raw: bytes) -> Event | None:
        if self._at_first_line:
            self._at_first_line = False
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if not raw:
            # An empty line ends the event. An event without data is dropped.
            event = Event(self._type or "message", "\n".join(self._data), self._id) if self._data else None
            self._reset_event()
            return event
        self._event_bytes += len(raw)
        if self._event_bytes > MAX_EVENT_BYTES:
            raise ProtocolError("an event of the feed is too long")
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ProtocolError("the feed is not UTF-8") from None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        # Comments, `retry` and unknown fields are ignored.
        return None

    def _reset_event(self) -> None:
        self._type, self._data, self._event_bytes = "", [], 0
