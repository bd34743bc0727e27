"""Server-sent events from bytes (HTML, section 9.2.6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .errors import Malformed

MAX_EVENT_BYTES = 64 * 1024
"""An event that is longer is no event of a feed, and ends the connection."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``id`` is that of this very event, not the last one's: those without one are no place to resume at."""

    type: str
    data: str
    id: str | None = None


class Parser:
    """Takes bytes in pieces of any size and gives the events that are complete. One parser for one connection."""

    def __init__(self) -> None:
        """Begins with an empty buffer."""
        self._rest = b""
        self._first = True
        self._type = ""
        self._data: list[str] = []
        self._id: str | None = None
        self._bytes = 0

    def _clear(self) -> None:
        self._type, self._data, self._id, self._bytes = "", [], None, 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this piece completes.

        Raises ``Malformed`` where an event is too long or not UTF-8.
        """
        text = self._rest + chunk
        # the LF of a CR LF may be in the next piece
        end = len(text) - 1 if text.endswith(b"\r") else len(text)
        lines = text[:end].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + text[end:]
        for line in lines:
            event = self._line(line)
            if event is not None:
                yield event
        if self._bytes + len(self._rest) > MAX_EVENT_BYTES:
            raise Malformed("an event of the feed is too long")

    def _line(self, raw: bytes) -> Event | None:
        if self._first:
            self._first, raw = False, raw.removeprefix(b"\xef\xbb\xbf")
        if not raw:
            event = Event(self._type or "message", "\n".join(self._data), self._id) if self._data else None
            self._clear()
            return event
        self._bytes += len(raw)
        if self._bytes > MAX_EVENT_BYTES:
            raise Malformed("an event of the feed is too long")
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("the feed is not UTF-8") from None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        # comments, `retry` and what is unknown mean nothing here
        return None
