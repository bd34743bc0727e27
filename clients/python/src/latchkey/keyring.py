"""Caches the issuer's keys: refreshed periodically, and when a token names an unknown ``kid``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import httpx

from .backoff import Backoff
from .errors import InvalidToken, ProtocolError, Unavailable
from .jwks import Key
from .settings import Settings

_LOG = logging.getLogger("latchkey")


class KeyRing:
    """Keeps keys while the issuer is unreachable, and drops keys that the issuer no longer publishes."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[dict[str, Key]]],
        is_retired: Callable[[str], bool],
        settings: Settings,
    ) -> None:
        """``is_retired`` reports keys that must not be used again, even if an HTTP cache still serves them."""
        self._fetch, self._is_retired, self._settings = fetch, is_retired, settings
        self._keys: dict[str, Key] = {}
        self._refreshing: asyncio.Task[bool] | None = None
        self._refresh_started = float("-inf")
        self._last_error = "not fetched yet"
        self._reachable = False
        self._refresh_requested = asyncio.Event()
        self.on_replaced: Callable[[], None] = lambda: None
        """Called when the keys were replaced by those that the issuer publishes now."""

    async def get(self, kid: str) -> Key:
        """Returns the key named ``kid``. An unknown name triggers a refresh, at most once per ``keys_cooldown``.

        Raises ``InvalidToken`` if the issuer publishes no such key, ``Unavailable`` if the issuer is unreachable.
        """
        if kid not in self._keys:
            cooled_down = time.monotonic() - self._refresh_started >= self._settings.keys_cooldown
            is_refreshing = self._refreshing is not None and not self._refreshing.done()
            # Waiting for a running refresh sends no further request, so the cooldown does not matter.
            if cooled_down or is_refreshing:
                await self._refresh()
        if kid in self._keys:
            return self._keys[kid]
        if not self._reachable:
            raise Unavailable(f"the issuer's keys cannot be fetched: {self._last_error}")
        raise InvalidToken("unknown_key")

    def __contains__(self, kid: object) -> bool:
        """Whether the key is known and not retired."""
        return kid in self._keys

    def retire(self, kid: str) -> None:
        """Drops a key that the issuer has retired, and requests a refresh."""
        self._keys.pop(kid, None)
        self.request_refresh()

    def request_refresh(self) -> None:
        """Makes :meth:`run` refresh the keys soon."""
        self._refresh_requested.set()

    async def run(self) -> None:
        """Refreshes the keys now and every ``keys_max_age`` seconds, until it is cancelled."""
        backoff = Backoff()
        while True:
            # Cleared first: a request that arrives during the refresh causes another one.
            self._refresh_requested.clear()
            if await self._refresh():
                backoff.reset()
                delay = self._settings.keys_max_age
            else:
                delay = backoff.next_delay()
            try:
                async with asyncio.timeout(delay):
                    await self._refresh_requested.wait()
            except TimeoutError:
                continue
            # The pause keeps repeated requests from causing a refresh each.
            await asyncio.sleep(backoff.next_delay())

    async def close(self) -> None:
        """Cancels a running refresh."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            # Unlike ``await self._refreshing``, this does not raise the task's ``CancelledError``.
            await asyncio.wait([self._refreshing])

    async def _refresh(self) -> bool:
        """Fetches the keys, and returns whether that succeeded."""
        # All callers share one refresh, and a caller that is cancelled does not cancel it.
        if self._refreshing is None or self._refreshing.done():
            self._refresh_started = time.monotonic()
            self._refreshing = asyncio.create_task(self._load(), name="latchkey keys")
        return await asyncio.shield(self._refreshing)

    async def _load(self) -> bool:
        """Replaces the keys by those that the issuer publishes. If that fails, logs the error and returns ``False``."""
        try:
            keys = await self._fetch()
        except (httpx.HTTPError, ProtocolError, TimeoutError, OSError) as error:
            self._last_error = str(error) or type(error).__name__
            self._reachable = False
            _LOG.warning("the issuer's keys cannot be fetched: %s", self._last_error)
            return False
        self._keys = {kid: key for kid, key in keys.items() if not self._is_retired(kid)}
        self._reachable = True
        self.on_replaced()
        return True
