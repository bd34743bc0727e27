"""The issuer's keys, kept at hand: fetched now and then, and when a token names one that isn't known."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

import httpx

from .backoff import BackOff
from .errors import InvalidToken, Malformed, Unavailable
from .jwks import Key
from .settings import Settings

_LOG = logging.getLogger("latchkey")


class KeyRing:
    """Keeps keys while the issuer is away, and lets go of those that it no longer publishes."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[dict[str, Key]]],
        is_retired: Callable[[str], bool],
        settings: Settings,
    ) -> None:
        """``is_retired`` tells of keys that must not come back, though a cache in between may still publish them."""
        self._fetch, self._is_retired, self._settings = fetch, is_retired, settings
        self._keys: dict[str, Key] = {}
        self._running: asyncio.Task[bool] | None = None
        self._began = float("-inf")
        self._reached = False
        self._wanted = asyncio.Event()

    async def require(self, kid: str) -> Mapping[str, Key]:
        """Keys among which is the one of this name. An unknown one has them fetched, so often and no more.

        Raises ``InvalidToken`` where the issuer has no such key, ``Unavailable`` where it can't be asked.
        """
        if kid not in self._keys:
            in_time = time.monotonic() - self._began >= self._settings.keys_cooldown
            if in_time or (self._running is not None and not self._running.done()):
                await self._refresh()
        if kid in self._keys:
            return self._keys
        if not self._reached:
            raise Unavailable("the issuer's keys can't be fetched")
        raise InvalidToken("its key is not one of the issuer's")

    def retire(self, kid: str) -> None:
        """Lets go of a key at once."""
        self._keys.pop(kid, None)
        self.look()

    def look(self) -> None:
        """Has the keys fetched soon."""
        self._wanted.set()

    async def keep(self) -> None:
        """Fetches the keys now, and again before they get old. Runs until it is cancelled."""
        back_off = BackOff()
        while True:
            self._wanted.clear()
            if await self._refresh():
                back_off.reset()
                wait = self._settings.keys_max_age
            else:
                wait = back_off.wait()
            try:
                async with asyncio.timeout(wait):
                    await self._wanted.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(back_off.wait())

    async def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _refresh(self) -> bool:
        # one for all who wait, and not ended when one of them goes away
        if self._running is None or self._running.done():
            self._began = time.monotonic()
            self._running = asyncio.create_task(self._load(), name="latchkey keys")
        return await asyncio.shield(self._running)

    async def _load(self) -> bool:
        try:
            keys = await self._fetch()
        except (httpx.HTTPError, Malformed, TimeoutError, OSError) as error:
            _LOG.warning("the issuer's keys can't be fetched: %s", str(error) or type(error).__name__)
            self._reached = False
            return False
        self._keys = {kid: key for kid, key in keys.items() if not self._is_retired(kid)}
        self._reached = True
        return True
