"""Follows the revocations of Latchkey: what has ended, and whether what is known here can be trusted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from . import revocations, strict_json
from .backoff import BackOff
from .claims import Claims
from .errors import Malformed
from .issuer import Issuer
from .revocations import Revocations
from .settings import Settings
from .sse import Event, Parser

_LOG = logging.getLogger("latchkey")


class Feed:
    """One follower. It keeps what it knows while it reconnects, and says for how long that can be trusted."""

    def __init__(self, issuer: Issuer, settings: Settings) -> None:
        """Knows nothing yet."""
        self._issuer, self._settings = issuer, settings
        self._known = Revocations(settings.max_revocations)
        self._incoming: Revocations | None = None
        self._stage: Literal["nothing", "catching up", "live"] = "nothing"
        self._place: str | None = None
        self._heard: float | None = None
        self._back_off = BackOff()
        self._live = asyncio.Event()
        self.on_key: Callable[[str], None] = lambda kid: None
        """Is told of keys that were taken out of use."""
        self.on_live: Callable[[], None] = lambda: None
        """Is told when a connection after the first has caught up."""

    def ends(self, kid: str, claims: Claims) -> bool:
        """Whether the token is known to have been revoked."""
        return self._known.ends(kid, claims)

    def ends_key(self, kid: str) -> bool:
        """Whether the key is known to have been taken out of use."""
        return self._known.ends_key(kid) or (self._incoming is not None and self._incoming.ends_key(kid))

    def trusted(self) -> bool:
        """Whether everything that was revoked longer ago than ``max_staleness`` is known here."""
        now = time.monotonic()
        fresh = self._heard is not None and now - self._heard < self._settings.max_staleness
        return fresh and self._known.complete(now)

    async def wait_live(self) -> None:
        """Waits until the first snapshot is complete."""
        await self._live.wait()

    async def follow(self) -> None:
        """Connects again and again. Runs until it is cancelled."""
        while True:
            try:
                await self._connect()
                _LOG.info("the feed has ended; connecting again")
            except Exception as error:  # whatever it was: without the feed there is no knowing what has ended
                _LOG.warning("the feed is interrupted: %s", str(error) or type(error).__name__)
            await asyncio.sleep(self._back_off.wait())

    async def _connect(self) -> None:
        loop, parser, patience = asyncio.get_running_loop(), Parser(), self._settings.max_staleness
        connecting = min(patience, self._settings.request_timeout)
        async with asyncio.timeout(connecting) as watch, self._issuer.feed(self._place) as chunks:
            self._stage, self._incoming = "nothing", None
            watch.reschedule(loop.time() + patience)
            async for chunk in chunks:
                for event in parser.feed(chunk):
                    self._take(event)
                    # comments don't count: only events show that the node is there and in step
                    watch.reschedule(loop.time() + patience)

    def _take(self, event: Event) -> None:
        try:
            self._apply(event)
        except (ValueError, Malformed) as error:
            self._distrust()
            raise Malformed(f"an event of type {event.type[:32]!r} that can't be understood: {error}") from None

    def _apply(self, event: Event) -> None:
        now = time.monotonic()
        match event.type:
            case "snapshot":
                # what was known goes on counting until the snapshot is complete
                self._stage, self._place = "catching up", None
                self._incoming = Revocations(self._settings.max_revocations, self._retain(event))
            case "resumed" if self._stage == "nothing" and self._place is not None:
                self._stage, self._incoming = "catching up", None
                self._known.retain = self._retain(event)
            case "revocation":
                self._revoke(revocations.read(strict_json.loads_object(event.data)), now)
            case "live" if self._stage == "catching up":
                self._catch_up()
                self._heard, self._place = now, event.id
            case "heartbeat" if self._stage == "live":
                self._heard, self._place = now, event.id
            case "resumed" | "live":
                raise Malformed("nothing led up to it")
            case "gap":
                self._stage = "nothing"
                _LOG.warning("the feed has a gap; waiting for a snapshot")
                self._distrust()

    def _catch_up(self) -> None:
        if self._incoming is not None:
            self._known, self._incoming = self._incoming, None
        self._stage = "live"
        self._back_off.reset()
        if self._live.is_set():
            self.on_live()
        self._live.set()

    def _revoke(self, revocation: revocations.Revocation, now: float) -> None:
        self._known.add(revocation, now)
        if self._incoming is not None:
            self._incoming.add(revocation, now)
        if isinstance(revocation, revocations.Key):
            self.on_key(revocation.kid)

    def _distrust(self) -> None:
        self._place = self._heard = None

    def _retain(self, event: Event) -> float:
        seconds: Any = strict_json.loads_object(event.data).get("retain_seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
            raise Malformed("retain_seconds is no time")
        return seconds + self._settings.leeway
