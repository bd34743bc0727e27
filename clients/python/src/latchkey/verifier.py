"""The verifier: keys, feed and rules together."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import httpx

from . import claims, token
from .claims import Claims
from .errors import InvalidToken, Malformed, Unavailable
from .feed import Feed
from .issuer import Issuer
from .keyring import KeyRing
from .settings import Settings


class Latchkey:
    """Checks access tokens in memory while it follows what Latchkey revokes. One for each process and event loop.

    An asynchronous context manager: entering it starts following, leaving it stops. Entering doesn't wait for Latchkey; until
    the feed has caught up, tokens are treated as ``feed_lost`` says. See :class:`Settings` for what can be set.
    """

    def __init__(self, issuer: str, *, http: httpx.AsyncClient | None = None, **settings: Any) -> None:
        """Takes the fields of :class:`Settings` by name, and perhaps a client of the caller's, who closes it.

        Raises ``LatchkeyError`` for settings that can't work.
        """
        self.settings = Settings(issuer=issuer, **settings)
        self._own_http = http is None
        self._http = http or httpx.AsyncClient()
        self._issuer = Issuer(self.settings, self._http)
        self._feed = Feed(self._issuer, self.settings)
        self._keys = KeyRing(self._issuer.keys, self._feed.ends_key, self.settings)
        self._feed.on_key, self._feed.on_live = self._keys.retire, self._keys.look
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Latchkey({self.settings!r})"

    async def __aenter__(self) -> Self:
        """Starts following."""
        self._tasks = [
            asyncio.create_task(self._keys.keep(), name="latchkey keys"),
            asyncio.create_task(self._feed.follow(), name="latchkey feed"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._keys.close()
        if self._own_http:
            await self._http.aclose()

    @property
    def live(self) -> bool:
        """Whether tokens are checked in memory now; otherwise as ``feed_lost`` says."""
        return self._feed.trusted()

    async def wait_live(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Waits until the feed has caught up for the first time.

        Raises ``TimeoutError`` after that many seconds.
        """
        async with asyncio.timeout(timeout):
            await self._feed.wait_live()

    async def verify(self, text: str) -> Claims:
        """What the token says, if it is good and its session hasn't ended.

        Raises ``InvalidToken`` if it isn't, and ``Unavailable`` if that can't be known now.
        """
        unverified = token.parse(text)
        if self._feed.ends_key(unverified.kid):
            raise InvalidToken("its key was taken out of use")
        members = token.verify(unverified, await self._keys.require(unverified.kid))
        said = claims.read(members, self.settings, time.time())
        self._refuse_revoked(unverified.kid, said)
        if not self._feed.trusted():
            await self._without_feed(text)
            self._refuse_revoked(unverified.kid, said)
        return said

    def _refuse_revoked(self, kid: str, said: Claims) -> None:
        if self._feed.ends(kid, said):
            raise InvalidToken("it was revoked")

    async def _without_feed(self, text: str) -> None:
        if self.settings.feed_lost == "refuse":
            raise Unavailable("the feed of revocations is lost")
        try:
            active = await self._issuer.is_active(text)
        except (httpx.HTTPError, Malformed, TimeoutError, OSError) as error:
            raise Unavailable(f"Latchkey can't be asked: {str(error) or type(error).__name__}") from None
        if not active:
            raise InvalidToken("Latchkey says that it is not active")
