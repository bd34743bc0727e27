"""Follows Latchkey's revocation feed, and reports whether the local revocations are up to date."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from . import strict_json
from .backoff import Backoff
from .claims import Claims
from .errors import EndCause, ProtocolError
from .issuer import IssuerClient
from .revocations import Revocation, RevocationSet, parse_claims_change, parse_revocation
from .settings import Settings
from .sse import Event, Parser

_LOG = logging.getLogger("latchkey")

_RETAIN_LIMIT = 1e9
"""Seconds, about 31 years: no token is valid that long."""


class RevocationFeed:
    """One subscriber. It keeps its revocations across reconnects, and reports when they become stale."""

    def __init__(self, issuer: IssuerClient, settings: Settings) -> None:
        """Starts without revocations."""
        self._issuer, self._settings = issuer, settings
        self._revocations = RevocationSet(settings.max_revocations)
        self._snapshot: RevocationSet | None = None
        """A snapshot that is still being received."""
        self._stage: Literal["connecting", "catching up", "live"] = "connecting"
        self._last_event_id: str | None = None
        """The position to resume from; without it, the next connection gets a snapshot."""
        self._synced_at: float | None = None
        """When the feed last confirmed, by ``live`` or a heartbeat, that it has sent all revocations; None after a gap."""
        self._complete_at = time.monotonic()
        """When memory last held all revocations. A gap does not reset it. It starts as the creation time of this object."""
        self._backoff = Backoff()
        self._was_live = asyncio.Event()
        self.on_revocation: Callable[[Revocation], None] = lambda revocation: None
        """Called with every revocation and change of claims, also with those that do not fit into memory."""
        self.on_reconnected: Callable[[], None] = lambda: None
        """Called when a connection after the first has caught up."""

    def cause_of(self, kid: str | None, claims: Claims) -> EndCause | None:
        """Why the local revocations refuse the token; None if they do not."""
        return self._revocations.cause_of(kid, claims)

    def revokes_key(self, kid: str) -> bool:
        """Whether the local revocations, or those of a snapshot that is still being received, retire the signing key."""
        return self._revocations.revokes_key(kid) or (self._snapshot is not None and self._snapshot.revokes_key(kid))

    @property
    def silence(self) -> float:
        """The seconds since the verifier last had every revocation that the feed had sent."""
        return time.monotonic() - self._complete_at

    def is_current(self) -> bool:
        """Whether every revocation older than ``max_staleness`` is known locally."""
        now = time.monotonic()
        fresh = self._synced_at is not None and now - self._synced_at < self._settings.max_staleness
        return fresh and self._revocations.is_complete(now)

    async def wait_live(self) -> None:
        """Waits until the first snapshot is complete."""
        await self._was_live.wait()

    async def run(self) -> None:
        """Connects and reconnects until it is cancelled."""
        while True:
            try:
                await self._connect()
                _LOG.info("the revocation feed has ended; reconnecting")
            except Exception as error:  # after any failure the verifier gets no revocations, so it must reconnect
                _LOG.warning("the revocation feed is interrupted: %s", str(error) or type(error).__name__)
            await asyncio.sleep(self._backoff.next_delay())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        parser = Parser()
        max_silence = self._settings.max_staleness
        connect_timeout = min(max_silence, self._settings.request_timeout)
        async with asyncio.timeout(connect_timeout) as watchdog, self._issuer.open_feed(self._last_event_id) as chunks:
            # A snapshot of the former connection is incomplete.
            self._stage, self._snapshot = "connecting", None
            watchdog.reschedule(loop.time() + max_silence)
            async for chunk in chunks:
                for event in parser.feed(chunk):
                    self._process(event)
                    # Only events reset the watchdog. Comments do not show that the node is in sync.
                    watchdog.reschedule(loop.time() + max_silence)

    def _process(self, event: Event) -> None:
        try:
            self._apply(event)
        except (ValueError, ProtocolError) as error:
            self._invalidate()
            raise ProtocolError(f"the feed sent an unexpected {event.type[:32]!r} event: {error}") from None

    def _apply(self, event: Event) -> None:
        now = time.monotonic()
        match event.type:
            case "snapshot":
                # The old revocations stay in force until the snapshot is complete. An incomplete snapshot cannot be resumed.
                self._stage, self._last_event_id = "catching up", None
                self._snapshot = RevocationSet(self._settings.max_revocations, self._parse_retain(event))
            case "resumed" if self._stage == "connecting" and self._last_event_id is not None:
                self._stage, self._snapshot = "catching up", None
                self._revocations.retain = self._parse_retain(event)
            case "revocation":
                self._add(parse_revocation(strict_json.loads_object(event.data)), now)
            case "claims":
                self._add(parse_claims_change(strict_json.loads_object(event.data)), now)
            case "live" if self._stage == "catching up":
                self._complete()
                self._sync(now, event.id)
            case "heartbeat" if self._stage == "live":
                self._sync(now, event.id)
            case "resumed" | "live":
                raise ProtocolError("the event is out of order")
            case "gap":
                # Until the snapshot that follows, "resumed" and "live" are out of order.
                self._stage = "connecting"
                _LOG.warning("the revocation feed has a gap; waiting for a snapshot")
                self._invalidate()
            # Events of unknown types are ignored, as is a heartbeat before "live".

    def _complete(self) -> None:
        if self._snapshot is not None:
            self._revocations, self._snapshot = self._snapshot, None
        self._stage = "live"
        self._backoff.reset()
        if self._was_live.is_set():
            self.on_reconnected()
        self._was_live.set()

    def _sync(self, now: float, event_id: str | None) -> None:
        # An empty id resets the position (HTML, section 9.2.6).
        self._synced_at, self._last_event_id = now, event_id or None
        if self._revocations.is_complete(now):
            self._complete_at = now

    def _add(self, revocation: Revocation, now: float) -> None:
        # While a snapshot is being received, the old revocations still decide, so both sets get the revocation.
        self._revocations.add(revocation, now)
        if self._snapshot is not None:
            self._snapshot.add(revocation, now)
        self.on_revocation(revocation)

    def _invalidate(self) -> None:
        """Makes the revocations count as stale, and the next connection begin with a snapshot."""
        self._last_event_id = self._synced_at = None

    def _parse_retain(self, event: Event) -> float:
        """How long to keep a revocation, in seconds. No token that it concerns is valid longer, leeway included."""
        # `bool` is a subclass of `int`.
        seconds: Any = strict_json.loads_object(event.data).get("retain_seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < _RETAIN_LIMIT:
            raise ProtocolError("retain_seconds is not a duration")
        return seconds + self._settings.leeway
